//! What whoever meets an intent does with it.

use artesian_bus::Verb;

use super::format::{Intent, Status};
use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::Loss;
use crate::membership::{standing, Standing};
use crate::object::{LogEntry, LOG_BYTES};
use crate::slot::{Slot, INTENT_CLASS};
use crate::snapshot::{self, Round};

/// The intent behind the slot value `held`, and whose it is.
fn load(fabric: &Fabric, held: Slot) -> Result<(Intent, Option<LogEntry>)> {
    let mut bytes = vec![0; INTENT_CLASS.bytes()];
    fabric.read(held.addr(), &mut bytes)?;
    let entry = LogEntry::decode(&bytes[bytes.len() - LOG_BYTES..]);
    Ok((Intent::decode(&bytes)?, entry))
}

/// The intent behind the slot value `held`, which was read within this operation (or which is of a
/// dead client that is not recovered yet).
pub(crate) fn read_intent(fabric: &Fabric, held: Slot) -> Result<Intent> {
    Ok(load(fabric, held)?.0)
}

/// The value that a reader takes who finds the intent `held` in a slot: that of before as long as
/// the transaction is not committed.
pub(crate) fn as_read(fabric: &Fabric, held: Slot) -> Result<Slot> {
    let (intent, _) = load(fabric, held)?;
    let committed = read_status(fabric, intent.status)? == Status::Committed;
    Ok(if committed { intent.new } else { intent.old })
}

/// Takes the intent `held` out of the slot at `at` if the transaction is decided, or its owner is
/// dead, or `force`: then it is aborted first. False if it was left to its owner.
#[cold]
pub(crate) fn resolve(fabric: &Fabric, at: PoolAddr, held: Slot, force: bool) -> Result<bool> {
    let (intent, entry) = load(fabric, held)?;
    let mut status = read_status(fabric, intent.status)?;
    if status == Status::Pending {
        let dead = match entry {
            Some(entry) => standing(fabric, entry.client)? != Standing::Live,
            None => return Err(PoolError::Corrupt(format!("no log entry behind {held:?}"))),
        };
        if !dead && !force {
            return Ok(false);
        }
        status = decide(fabric, intent.status, Status::Aborted)?;
    }
    finish(fabric, &mut [replacement(at, held, &intent, status)])?;
    Ok(true)
}

/// The round that takes a decided transaction's intent out of its slot. Everybody proposes the
/// same.
pub(super) fn replacement(at: PoolAddr, held: Slot, intent: &Intent, status: Status) -> Round {
    if status == Status::Committed {
        let log = intent.new.log().unwrap_or(PoolAddr::NULL);
        Round::new(at, held, intent.new, log, intent.sequence)
    } else {
        Round::new(at, held, intent.back(held), PoolAddr::NULL, 0)
    }
}

/// Plays such rounds. Whether this client's or another one's proposal won does not matter.
pub(super) fn finish(fabric: &Fabric, rounds: &mut [Round]) -> Result<()> {
    match snapshot::write(fabric, rounds) {
        // The slot went on after somebody else had done it.
        Err(PoolError::Lost(_)) if rounds.iter().all(|round| round.current() != round.old) => {
            Ok(())
        }
        outcome => outcome,
    }
}

/// What the primary copy of a status word tells.
pub(super) fn read_status(fabric: &Fabric, at: PoolAddr) -> Result<Status> {
    Status::of(Slot(fabric.read_word(fabric.primary(at)?)?), at)
}

/// Decides a pending transaction; returns what was decided, by whomever.
pub(super) fn decide(fabric: &Fabric, at: PoolAddr, wanted: Status) -> Result<Status> {
    let (pending, wanted) = (Status::Pending.slot(at), wanted.slot(at));
    let mut rounds = [Round::new(at, pending, wanted, PoolAddr::NULL, 0)];
    snapshot::write(fabric, &mut rounds)?;
    Status::of(rounds[0].current(), at)
}

/// For the master, after the intent `held` was met in a slot and nodes were lost: the copies of its
/// transaction's status word are made equal.
pub(crate) fn reconcile_status(
    fabric: &Fabric,
    held: Slot,
    loss: impl Fn(PoolAddr) -> Loss,
) -> Result<()> {
    let mut bytes = vec![0; INTENT_CLASS.bytes()];
    let Ok(at) = fabric.primary(held.addr()) else { return Ok(()) };
    fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
    let intent = Intent::decode(&bytes)?;
    match loss(intent.status) {
        Loss::None | Loss::All => Ok(()),
        lost => snapshot::reconcile(fabric, intent.status, lost == Loss::Primary).map(drop),
    }
}
