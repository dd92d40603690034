//! Declaring clients dead.

use super::table::{self, Record};
use super::words;
use crate::address::ClientId;
use crate::config::record;
use crate::error::Result;
use crate::fabric::Fabric;
use artesian_bus::{Fate, Identity};

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works, or may still work.
    Live,
    /// Fenced and declared dead; what it began is not finished yet.
    Dead,
    /// It has left, or died and everything it began is finished.
    Gone,
}

/// What became of `client`. One that is found ended, or silent beyond its lease, is fenced and
/// declared dead here.
pub fn standing(fabric: &Fabric, client: ClientId) -> Result<Standing> {
    if client == fabric.me() {
        return Ok(Standing::Live);
    }
    if client.is_nobody() || client.index >= fabric.config().max_clients {
        return Ok(Standing::Gone);
    }
    let record = table::read_one(fabric, client.index)?;
    if record.client != client {
        return Ok(Standing::Gone);
    }
    judge(fabric, &record)
}

/// What became of the client of `record`; see [`standing`].
pub(super) fn judge(fabric: &Fabric, found: &Record) -> Result<Standing> {
    match found.state {
        record::LIVE if found.client == fabric.me() => Ok(Standing::Live),
        record::JOINING => judge_joiner(fabric, found),
        record::LIVE => {
            let ended = !fabric.verbs().is_alive(found.identity);
            let silent = fabric.watch().has_expired(fabric, found.lease);
            if (ended || silent) && declare(fabric, found)? {
                return Ok(Standing::Dead);
            }
            Ok(Standing::Live)
        }
        record::DEAD | record::RECOVERING => Ok(Standing::Dead),
        _ => Ok(Standing::Gone),
    }
}

/// A joiner that died on the way had done nothing yet: its place is free again. Until it has
/// written who it is, the record names the place's client before; then its pid is all there is.
fn judge_joiner(fabric: &Fabric, found: &Record) -> Result<Standing> {
    let pid = (found.word >> 32) as u32 & 0xff_ffff;
    let introduced = pid == found.identity.pid & 0xff_ffff;
    let identity = if introduced { found.identity } else { Identity { pid, started: 0 } };
    if fabric.verbs().is_alive(identity) {
        return Ok(Standing::Live);
    }
    let free = record::state_word(record::FREE, found.client);
    words::swap(fabric, table::offset(found.client.index, record::STATE), found.word, free)?;
    Ok(Standing::Gone)
}

/// Fences the client and declares it dead, unless it is out of reach.
fn declare(fabric: &Fabric, found: &Record) -> Result<bool> {
    // A second client of this very process: fencing it would end the observer.
    let own = found.identity == fabric.verbs().identity();
    if own || fabric.verbs().fence(found.identity) == Fate::OutOfReach {
        fabric.watch().count_out_of_reach();
        return Ok(false);
    }
    let live = record::state_word(record::LIVE, found.client);
    let dead = record::state_word(record::DEAD, found.client);
    let at = table::offset(found.client.index, record::STATE);
    if words::swap(fabric, at, live, dead)? == live {
        fabric.watch().count_death();
    }
    Ok(true)
}
