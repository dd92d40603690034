//! One step of a resize: what happens in one change of the view.
//!
//! Everybody holds still, between two batches. For the piece that is copied now:
//! 1. Rounds that are open on slots in it are decided on the copies that there are, so that no
//!    entry says "decided" of a round that a further copy could turn.
//! 2. Its blocks in use are copied from the first copy; free ones are written whole when taken.
//!    Locks that only count on the first copy are free on the others.
//! 3. From the new view on, every write reaches the new copy up to there.
//!
//! When a region is whole, its open rounds are decided once more, with all copies, and the new copy
//! takes the place of the one that goes. A copy goes only if nobody pins anything in the region:
//! views without copies look at the bytes where they lie.

use artesian_bus::{GlobalAddr, Verb};

use super::goal::{self, Goal};
use crate::address::PoolAddr;
use crate::cache;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index;
use crate::membership;
use crate::object::word;
use crate::pin;
use crate::view::{Filling, NodeState, View};

/// Bytes read and written at once.
const PIECE: usize = 1 << 20;

/// What a step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes copied.
    pub bytes: u64,
    /// Copies completed.
    pub copies: u64,
    /// Copies still to be made.
    pub left: u64,
    /// Nothing is left to be done.
    pub is_done: bool,
    /// Pinned objects keep a copy from going.
    pub is_pinned: bool,
}

/// Works towards the goal until about `budget` bytes are copied, or a place was given up: nothing
/// may be written over that before the view that says so is stored, as whoever goes on after a
/// death in the middle of the change goes by the view before.
pub(super) fn advance(fabric: &Fabric, view: &mut View, goal: Goal, budget: u64) -> Result<Step> {
    let mut step = Step::default();
    while step.bytes < budget {
        let Some(filling) = view.filling else {
            let retired = view.retired.len();
            match goal.next(fabric, view) {
                Ok(Some(filling)) => view.filling = Some(filling),
                Ok(None) => {
                    step.is_done = true;
                    break;
                }
                // What was done counts; the next step meets the same.
                Err(PoolError::Invalid(_)) if step.copies > 0 => break,
                Err(error) => return Err(error),
            }
            fabric.adopt(view.clone());
            if view.retired.len() != retired {
                break;
            }
            continue;
        };
        if filling.upto < fabric.config().region_bytes() {
            extend(fabric, view, filling, budget - step.bytes, &mut step)?;
        } else if complete(fabric, view, filling)? {
            step.copies += 1;
            break;
        } else {
            step.is_pinned = true;
            break;
        }
    }
    step.left = goal.left(fabric.config(), view);
    fabric.adopt(view.clone());
    Ok(step)
}

/// Copies the next blocks.
fn extend(
    fabric: &Fabric,
    view: &mut View,
    filling: Filling,
    budget: u64,
    step: &mut Step,
) -> Result<()> {
    let config = fabric.config();
    let block_bytes = config.block_bytes();
    let start = PoolAddr(u64::from(filling.region) << config.region_shift);
    let mut table = vec![0; config.blocks_per_region() as usize * 8];
    fabric.read(start, &mut table)?;
    let is_used = |block: u64| block == 0 || word(&table, block as usize * 8) != 0;
    let (from, mut upto, mut bytes) = (filling.upto, filling.upto, 0);
    while upto < config.region_bytes() && bytes < budget {
        bytes += if is_used(upto / block_bytes) { block_bytes } else { 0 };
        upto += block_bytes;
    }
    let piece = start.0 + from..start.0 + upto;
    membership::decide_rounds(fabric, |addr| piece.contains(&addr.0))?;
    let target = fabric.layout().regions + (u64::from(filling.place) << config.region_shift);
    let mut buffer = vec![0; PIECE.min(block_bytes as usize)];
    for block in (from / block_bytes..upto / block_bytes).filter(|&block| is_used(block)) {
        for at in (0..block_bytes).step_by(buffer.len()) {
            let within = block * block_bytes + at;
            fabric.read(start.add(within), &mut buffer)?;
            let to = GlobalAddr::new(filling.node, target + within);
            fabric.batch(&mut [Verb::write(to, &buffer)])?;
        }
        membership::renew_lease(fabric)?;
    }
    let mut locks = index::held_locks(fabric, |addr| piece.contains(&addr.0))?;
    locks.extend(cache::held_locks(fabric, |addr| piece.contains(&addr.0))?);
    for (at, free) in locks {
        let to = GlobalAddr::new(filling.node, target + (at.0 - start.0));
        fabric.batch(&mut [Verb::write(to, &free.to_le_bytes())])?;
    }
    step.bytes += bytes;
    view.filling = Some(Filling { upto, ..filling });
    fabric.adopt(view.clone());
    Ok(())
}

/// Lets the copy, which is whole, count; false if the copy that it replaces is pinned.
fn complete(fabric: &Fabric, view: &mut View, filling: Filling) -> Result<bool> {
    let (config, region) = (fabric.config(), filling.region as usize);
    let new = (filling.node, filling.place);
    match goal::replaced(config, view, region) {
        None => view.regions[region].push(new),
        Some(goes) => {
            let shift = config.region_shift;
            let pinned = pin::pinned(fabric)?;
            if pinned.iter().any(|addr| addr.0 >> shift == u64::from(filling.region)) {
                return Ok(false);
            }
            membership::decide_rounds(fabric, |addr| addr.0 >> shift == u64::from(filling.region))?;
            for copy in view.regions[region].iter_mut().filter(|copy| copy.0 == goes) {
                *copy = new;
            }
        }
    }
    view.filling = None;
    fabric.adopt(view.clone());
    Ok(true)
}

/// Gives up a copy that was begun and that nobody wants any more: its node drains.
pub(super) fn drop_useless(fabric: &Fabric, view: &mut View) -> Result<()> {
    let Some(filling) = view.filling else { return Ok(()) };
    if view.nodes[filling.node.0 as usize] == NodeState::Live {
        return Ok(());
    }
    let shift = fabric.config().region_shift;
    membership::decide_rounds(fabric, |addr| addr.0 >> shift == u64::from(filling.region))?;
    view.filling = None;
    fabric.adopt(view.clone());
    Ok(())
}
