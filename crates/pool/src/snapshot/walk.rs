//! Who won long ago: the log entries of a slot's values lead from each to the one it replaced.

use artesian_bus::Verb;

use super::step::is_from;
use crate::address::PoolAddr;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::{proposal, LOG_BYTES};
use crate::slot::Slot;

/// Longest walk. Values behind it are older than the grace period in any pool that moves on.
const MAX_LINKS: usize = 1 << 16;

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The slot held it.
    Won,
    /// Another value replaced the old one.
    Lost,
    /// The trace is broken: the slot was moved or evicted since.
    Unknown,
}

/// Whether the proposal whose object lies at `object` ever replaced `old` in `slot`, which holds
/// `current` now and held `old` within the operation of this or of a not yet recovered client (so
/// that no object since can have been reused). `known` are links that need not be read.
pub fn walk(
    fabric: &Fabric,
    slot: PoolAddr,
    current: Slot,
    (old, object): (Slot, PoolAddr),
    known: impl Fn(Slot) -> Option<(PoolAddr, Slot)>,
) -> Result<Fate> {
    let mut at = current;
    for _ in 0..MAX_LINKS {
        if is_from(at, old) {
            return Ok(Fate::Lost);
        }
        let Some(log) = at.trail() else { return Ok(Fate::Unknown) };
        if at.addr() == object {
            return Ok(Fate::Won);
        }
        let link = match known(at) {
            Some(link) => Some(link),
            None => {
                let mut bytes = [0; LOG_BYTES];
                fabric.batch(&mut [Verb::read(fabric.primary(log)?, &mut bytes)])?;
                proposal(&bytes)
            }
        };
        match link {
            Some((place, before)) if place == slot && before != at => at = before,
            _ => return Ok(Fate::Unknown),
        }
    }
    Ok(Fate::Unknown)
}
