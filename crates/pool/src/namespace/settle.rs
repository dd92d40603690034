//! Making the copies of the table equal after the death of who was changing it: what is on the
//! first copy has happened, and others have seen it.

use artesian_bus::Verb;

use super::{read_copy, record, COUNT};
use crate::config::meta;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;

const RECORD: usize = meta::NAMESPACE_RECORD as usize;
/// Verbs of a batch.
const BATCH: usize = 64;

/// Swaps every word that differs from the first copy's. Words that others are changing (base and
/// spare words need no lock) stay theirs: the first copy is read last, and who swaps a word there
/// has the others follow, so nothing newer is ever replaced.
pub(super) fn settle(fabric: &Fabric) -> Result<()> {
    let copies = fabric.meta(meta::NAMESPACE_TABLE);
    let mut others = Vec::new();
    for &copy in copies.iter().skip(1) {
        others.push((copy, read_copy(fabric, copy)?));
    }
    let Some(&first) = copies.first().filter(|_| !others.is_empty()) else { return Ok(()) };
    let first = read_copy(fabric, first)?;
    for (copy, other) in others {
        let mut swaps = Vec::new();
        for start in (0..COUNT as usize).map(|id| id * RECORD) {
            for at in in_order(&first[start..start + RECORD]).map(|at| start + at) {
                let (found, wanted) = (word(&other, at), word(&first, at));
                if found != wanted {
                    swaps.push(Verb::cas(copy.add(at as u64), found, wanted));
                }
            }
        }
        for some in swaps.chunks_mut(BATCH) {
            fabric.batch(some)?;
        }
    }
    Ok(())
}

/// Places of a record's words in the order in which it is made or, if it is vacant, dropped.
fn in_order(record: &[u8]) -> impl Iterator<Item = usize> {
    let is_vacant = record[0] == 0;
    let (first, last) = (is_vacant.then_some(0), (!is_vacant).then_some(0));
    first.into_iter().chain((record::HEAD..RECORD).step_by(8)).chain(last)
}
