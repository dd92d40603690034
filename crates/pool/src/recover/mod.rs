//! Recovery of a dead client: what its unfinished operations did is found out, finished or
//! dropped, and what they replaced is freed.
//!
//! The client is fenced: nothing of it happens any more. It holds the reclamation epoch, so no
//! object that it might have replaced has been reused, and the free bits tell what it had freed.
//! Its announcements name every object of an operation that is not flushed; those objects and
//! their log entries are read in a few large batches ([`evidence`]), open rounds are settled, and
//! what remains is to free the replaced objects ([`frees`]). The client's own objects lie in its
//! own blocks, which become wrecks: who adopts those finds out what is in use.
//!
//! Every step can be done again: a repairer that dies is replaced by another one.

mod evidence;
mod frees;
#[cfg(test)]
mod tests;

use crate::address::{ClientId, PoolAddr};
use crate::alloc::{abandon_blocks, announced};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::Header;
use crate::slot::Slot;

/// How often a recovery is begun again because the membership changed.
const ATTEMPTS: u32 = 16;

/// Where the operation of an object can have left something.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Slots in which its value can be.
    pub slots: Vec<PoolAddr>,
    /// Words of which the lower half names the client that inserts into such slots; it is 0 when
    /// nobody does.
    pub locks: Vec<PoolAddr>,
}

/// What recovery asks the index about.
pub trait Index {
    /// Where to look for what the operation that wrote an object of this header and key did.
    fn places(&mut self, fabric: &Fabric, header: &Header, key: &[u8]) -> Result<Places>;

    /// The pieces that the value of a manifest names.
    fn parts(&self, manifest: &[u8]) -> Vec<Slot>;
}

/// What a recovery found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Objects that the client had announced and not flushed.
    pub announced: usize,
    /// Those of them that were written for an operation.
    pub used: usize,
    /// Operations that had taken effect, or do now.
    pub won: usize,
    /// Operations that never took effect.
    pub lost: usize,
    /// Operations whose slot has changed too much to tell: nothing is freed for them.
    pub unknown: usize,
    /// Replaced objects (pieces of large values included) that were not freed yet.
    pub freed: usize,
    /// Insert locks released.
    pub locks: usize,
    /// Blocks that lost their owner.
    pub blocks: u64,
    /// Nanoseconds for reading what there is.
    pub read_ns: u64,
    /// Nanoseconds for settling slots and judging.
    pub settle_ns: u64,
    /// Nanoseconds for freeing and giving up blocks and pins.
    pub free_ns: u64,
}

/// Finishes what the fenced client `dead` began. Only for the one client that may recover it.
pub fn recover(fabric: &Fabric, index: &mut dyn Index, dead: ClientId) -> Result<Recovered> {
    for _ in 0..ATTEMPTS {
        match recover_once(fabric, index, dead) {
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::ViewChanged)
}

fn recover_once(fabric: &Fabric, index: &mut dyn Index, dead: ClientId) -> Result<Recovered> {
    let now = || fabric.verbs().now_ns();
    let (started, view) = (now(), fabric.epoch());
    let announced = announced(fabric, dead)?;
    let mut done = Recovered { announced: announced.objects.len(), ..Recovered::default() };
    let mut operations = evidence::read(fabric, dead, &announced)?;
    done.used = operations.len();
    operations.retain(|operation| operation.is_for_slot());
    let mut locks = evidence::trace(fabric, index, dead, &mut operations)?;
    let read = now();
    evidence::settle(fabric, &mut operations)?;
    if evidence::end_transactions(fabric, &operations)? {
        // What was to come may be in its slot only now.
        locks.extend(evidence::trace(fabric, index, dead, &mut operations)?);
        evidence::settle(fabric, &mut operations)?;
    }
    evidence::judge(fabric, &mut operations)?;
    // Rounds go on over a change of the view, after which everything lies elsewhere.
    if fabric.epoch() != view {
        return Err(PoolError::ViewChanged);
    }
    done.locks = evidence::release(fabric, &locks)?;
    let settled = now();
    let replaced = operations.iter().filter_map(|operation| match operation.fate {
        evidence::Verdict::Won { replaced } => Some((operation.own(), replaced?)),
        _ => None,
    });
    done.freed = frees::free(fabric, index, replaced)?;
    for operation in &operations {
        match operation.fate {
            evidence::Verdict::Won { .. } => done.won += 1,
            evidence::Verdict::Lost => done.lost += 1,
            evidence::Verdict::Unknown => done.unknown += 1,
        }
    }
    frees::clear_pins(fabric, dead)?;
    done.blocks = abandon_blocks(fabric, dead)?;
    done.read_ns = read - started;
    done.settle_ns = settled - read;
    done.free_ns = now() - settled;
    Ok(done)
}
