//! What clients learn from misses goes into weights that all share.

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use super::layout;
use super::policy::SHARED_WORDS;
use super::Cache;
use crate::client::Client;
use crate::error::Result;
use crate::object::word;

/// Tries to merge before it is left to the next time.
const ATTEMPTS: u32 = 4;

impl Client {
    /// Merges what this client has learnt into the weights that all share.
    #[cold]
    pub(super) fn sync_weights(&mut self, cache: &mut Cache) -> Result<()> {
        let at = cache.table.root.add(layout::WEIGHTS);
        for _ in 0..ATTEMPTS {
            let mut bytes = [0; 8 * SHARED_WORDS];
            self.fabric.read(at, &mut bytes)?;
            let found = shared_words(&bytes);
            let merged = cache.policy.merge(&found);
            let primary = self.fabric.primary(at)?;
            let words = (0u64..).zip(found.into_iter().zip(merged));
            let swap = |(number, (found, merged))| {
                let word = GlobalAddr::new(primary.node(), primary.offset() + 8 * number);
                Verb::cas(word, found, merged)
            };
            let mut swaps: SmallVec<[Verb<'_>; SHARED_WORDS]> = words.map(swap).collect();
            self.fabric.batch(&mut swaps)?;
            let swapped = swaps.iter().zip(found).all(|(swap, found)| swap.found() == found);
            drop(swaps);
            if swapped {
                cache.policy.adopt(&merged);
                return Ok(());
            }
        }
        // Others are at it: the penalties go with the next merge.
        Ok(())
    }
}

/// The experts' weights in their bytes.
pub(super) fn shared_words(bytes: &[u8; 8 * SHARED_WORDS]) -> [u64; SHARED_WORDS] {
    let mut words = [0; SHARED_WORDS];
    for (number, into) in words.iter_mut().enumerate() {
        *into = word(bytes, number * 8);
    }
    words
}
