//! Who won long ago: the log entries of a slot's values lead from each to the one it replaced.

use artesian_bus::Verb;

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

/// Whether `new` ever replaced `old` in `slot`, which holds `current` now and held `old` within
/// this or a not yet recovered client's operation (so that no object since can have been reused).
pub fn walk(
    fabric: &Fabric,
    slot: PoolAddr,
    current: Slot,
    (old, new): (Slot, Slot),
) -> Result<Fate> {
    let mut at = current;
    for _ in 0..MAX_LINKS {
        if at == new {
            return Ok(Fate::Won);
        }
        if at == old {
            return Ok(Fate::Lost);
        }
        let Some(log) = at.log() else { return Ok(Fate::Unknown) };
        let mut bytes = [0; LOG_BYTES];
        fabric.batch(&mut [Verb::read(fabric.primary(log)?, &mut bytes)])?;
        match proposal(&bytes) {
            Some((place, before)) if place == slot && before != at => at = before,
            _ => return Ok(Fate::Unknown),
        }
    }
    Ok(Fate::Unknown)
}
