//! Who is the master.

use artesian_bus::Verb;

use super::death::{standing, Standing};
use super::{table, words};
use crate::address::ClientId;
use crate::config::{meta, record};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Who changes the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// This client.
    Mine,
    /// That one.
    Theirs(ClientId),
}

/// Each round takes one copy or finds that another client took it.
const ATTEMPTS: usize = 64;

/// Who the master is; takes the seat if it is empty or its holder is dead. To be master is to hold
/// the word on all meta nodes that can be reached, taken in their order: so no two are, even when
/// the first node is lost in between.
pub(super) fn seat(fabric: &Fabric) -> Result<Seat> {
    let me = fabric.me().word();
    for _ in 0..ATTEMPTS {
        let copies = words::values(fabric, meta::MASTER)?;
        let Some(&(at, value)) = copies.iter().find(|(_, value)| *value != me) else {
            return Ok(Seat::Mine);
        };
        let other = ClientId::from_word(value);
        if value != 0 && standing(fabric, other)? == Standing::Live {
            return Ok(Seat::Theirs(other));
        }
        words::post(fabric, &mut [Verb::cas(at, value, me)])?;
    }
    Err(PoolError::Corrupt("the master's word changes for ever".into()))
}

/// Gives the seat up, so that the next one need not find out.
pub fn resign(fabric: &Fabric) -> Result<()> {
    let me = fabric.me().word();
    for (at, value) in words::values(fabric, meta::MASTER)? {
        if value == me {
            words::post(fabric, &mut [Verb::cas(at, me, 0)])?;
        }
    }
    Ok(())
}

/// Makes the master look at the nodes now: its mailbox asks for the epoch it already has.
pub(super) fn nudge(fabric: &Fabric, master: ClientId) -> Result<()> {
    let wanted = fabric.epoch() * 2 + 1;
    for (at, value) in words::values(fabric, table::offset(master.index, record::MAILBOX))? {
        // Not over what a newer master may just have asked of it.
        if value < wanted {
            words::post(fabric, &mut [Verb::cas(at, value, wanted)])?;
            fabric.verbs().wake_mailbox(at);
        }
    }
    Ok(())
}
