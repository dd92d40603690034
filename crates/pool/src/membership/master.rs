//! Who is the master.

use artesian_bus::Verb;

use super::death::{standing, Standing};
use super::{table, watch, words};
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

/// Pauses while the master is asked to hand over, and leases after which that is given up.
const FIRST_PAUSE_NS: u64 = 20_000;
const LONGEST_PAUSE_NS: u64 = 5_000_000;
const PATIENCE_LEASES: u64 = 3;

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

/// Makes this client the master: asks the one there is to hand over, which it does between two of
/// its batches, unless it is in a change of the view.
pub(super) fn claim(fabric: &Fabric) -> Result<()> {
    let (started, mut pause) = (fabric.verbs().now_ns(), FIRST_PAUSE_NS);
    loop {
        let Seat::Theirs(other) = seat(fabric)? else { return Ok(()) };
        words::write(fabric, meta::WANTED, fabric.me().word())?;
        nudge(fabric, other)?;
        fabric.verbs().relax(pause);
        pause = (pause * 2).min(LONGEST_PAUSE_NS);
        super::tick::renew_lease(fabric)?;
        match fabric.pass_gate() {
            Ok(()) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        let waited = fabric.verbs().now_ns().saturating_sub(started);
        if waited > watch::lease_ns(fabric) * PATIENCE_LEASES {
            let what = format!("{other:?}, the master, to hand over");
            return Err(PoolError::Timeout { what, waited_ms: waited / 1_000_000 });
        }
    }
}

/// Hands over to a live client that wants to be master, if there is one.
pub(super) fn hand_over(fabric: &Fabric) -> Result<()> {
    let me = fabric.me().word();
    let wanted = words::values(fabric, meta::WANTED)?[0].1;
    let other = ClientId::from_word(wanted);
    if wanted == 0 || wanted == me || other.word() != wanted {
        return Ok(());
    }
    words::write(fabric, meta::WANTED, 0)?;
    if standing(fabric, other)? != Standing::Live {
        return Ok(());
    }
    for (at, value) in words::values(fabric, meta::MASTER)? {
        if value == me {
            words::post(fabric, &mut [Verb::cas(at, me, wanted)])?;
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
