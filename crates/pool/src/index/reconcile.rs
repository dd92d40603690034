//! What the master does with the slots of subtables that lost a copy.

use artesian_bus::Verb;

use super::format::lock_offsets;
use super::layout::{self, BucketHeader, BUCKET, BUCKETS};
use super::walk::{read_table, slots_of, tables};
use crate::address::{ClientId, PoolAddr};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::slot::tag;
use crate::snapshot;
use crate::txn;

/// Which copies of a place in the pool went with the lost nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// None.
    None,
    /// The first copy: what was the second one is the first now.
    Primary,
    /// One of the others.
    Backup,
    /// All of them.
    All,
}

/// Makes the copies of all slots equal in subtables that lost some. Only for the master while all
/// others hold still. Copies are compared in bulk: few slots are in the middle of a round.
pub fn reconcile_tables(fabric: &Fabric, loss: impl Fn(PoolAddr) -> Loss) -> Result<()> {
    let mut found: Vec<PoolAddr> = tables(fabric)?;
    found.extend(super::split::planned(fabric)?);
    for table in found {
        let loss_here = loss(table);
        if loss_here == Loss::All {
            continue;
        }
        if loss_here != Loss::None {
            for slot in divergent(fabric, table)? {
                snapshot::reconcile(fabric, slot, loss_here == Loss::Primary)?;
            }
        }
        // A transaction is decided before the first of its intents goes.
        let bytes = read_table(fabric, table)?;
        for (_, slot) in slots_of(table, &bytes) {
            if slot.kind() == tag::INTENT {
                txn::reconcile_status(fabric, slot, &loss)?;
            }
        }
    }
    Ok(())
}

/// The insert locks `within` that somebody holds: the words, and what they are when free. Only the
/// first copy of a lock counts.
pub fn held_locks(
    fabric: &Fabric,
    within: impl Fn(PoolAddr) -> bool,
) -> Result<Vec<(PoolAddr, u64)>> {
    let mut found: Vec<PoolAddr> = tables(fabric)?;
    found.extend(super::split::planned(fabric)?);
    let mut held = Vec::new();
    for table in found.into_iter().filter(|&table| within(table)) {
        let bytes = read_table(fabric, table)?;
        for at in lock_offsets() {
            let header = BucketHeader::from_word(word(&bytes, at as usize));
            if header.owner != ClientId::NOBODY {
                let free = BucketHeader { owner: ClientId::NOBODY, ..header };
                held.push((layout::bucket_addr(table, 0).add(at), free.word()));
            }
        }
    }
    Ok(held)
}

/// Slots whose copies differ.
fn divergent(fabric: &Fabric, table: PoolAddr) -> Result<Vec<PoolAddr>> {
    let start = layout::bucket_addr(table, 0);
    let mut copies = Vec::new();
    for at in fabric.copies(start) {
        let mut bytes = vec![0; (BUCKETS * BUCKET) as usize];
        fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
        copies.push(bytes);
    }
    let Some((first, rest)) = copies.split_first() else { return Ok(Vec::new()) };
    let differs = |at: PoolAddr| {
        let within = (at.0 - start.0) as usize;
        let word = within..within + 8;
        rest.iter().any(|copy| copy[word.clone()] != first[word.clone()])
    };
    Ok(slots_of(table, first).map(|(at, _)| at).filter(|&at| differs(at)).collect())
}
