//! What a client leaves beside slots: posted with the next batch that goes to the cache anyway.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::layout::{FREQ, LAST};
use super::policy::{metadata, Flush};
use crate::address::PoolAddr;
use crate::fabric::Fabric;

/// Notes after which a batch of its own is due. Every operation posts what the last one left, so
/// this is only met by operations that end early.
const MOST: usize = 16;

/// Metadata that is not written yet. Losing it, or writing it beside another object that has come
/// into the slot, costs quality only.
#[derive(Default)]
pub(super) struct Notes {
    hits: SmallVec<[(PoolAddr, [u8; 16]); 4]>,
    accesses: SmallVec<[(PoolAddr, u64); 4]>,
}

impl Notes {
    /// The times of the last two accesses of the slot at `slot`, as words.
    #[inline]
    pub(super) fn hit(&mut self, slot: PoolAddr, words: [u64; 2]) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&words[0].to_le_bytes());
        bytes[8..].copy_from_slice(&words[1].to_le_bytes());
        match self.hits.last_mut() {
            Some(last) if last.0 == slot => last.1 = bytes,
            _ => self.hits.push((slot, bytes)),
        }
    }

    /// Accesses that were counted.
    #[inline]
    pub(super) fn count(&mut self, flush: Option<Flush>) {
        let counted = flush.map(|flush| {
            (PoolAddr(flush.at), u64::from(flush.accesses).wrapping_mul(metadata::ACCESS))
        });
        self.accesses.extend(counted);
    }

    /// Whether there is so much that it should not wait for the next operation.
    #[inline]
    pub(super) fn are_many(&self) -> bool {
        self.hits.len() + self.accesses.len() >= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty() && self.accesses.is_empty()
    }

    /// Adds the verbs. What lies on lost nodes is left out.
    #[inline]
    pub(super) fn post<'a>(&'a self, fabric: &Fabric, verbs: &mut impl Extend<Verb<'a>>) {
        verbs.extend(self.hits.iter().filter_map(|(slot, bytes)| {
            let at = fabric.primary(slot.add(LAST)).ok()?;
            Some(Verb::write(at, bytes))
        }));
        verbs.extend(self.accesses.iter().filter_map(|&(slot, add)| {
            let at = fabric.primary(slot.add(FREQ)).ok()?;
            Some(Verb::faa(at, add))
        }));
    }

    /// They were posted.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.hits.clear();
        self.accesses.clear();
    }
}
