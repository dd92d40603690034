//! What the master does with a slot whose copies differ after a node was lost, while all others
//! hold still.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::rules;
use crate::address::PoolAddr;
use crate::config::MAX_COPIES;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::{decided_bytes, LogEntry, LOG_BYTES};
use crate::slot::Slot;

/// Makes all live copies of `slot` equal and returns their value. The fabric goes by the view
/// without the lost node; `lost_primary` says that the slot's primary was on it, so that what is
/// the primary now was a backup. Only for the master while all others hold still.
///
/// A value that somebody was told of is never undone: all backups held it before the primary did,
/// so a live backup holds it or a proposal to replace it.
pub fn reconcile(fabric: &Fabric, slot: PoolAddr, lost_primary: bool) -> Result<Slot> {
    let copies = fabric.copies(slot);
    let mut words = [[0; 8]; MAX_COPIES];
    let mut reads: SmallVec<[Verb<'_>; MAX_COPIES]> = SmallVec::new();
    reads.extend(copies.iter().zip(&mut words).map(|(&at, into)| Verb::read(at, into)));
    fabric.batch(&mut reads)?;
    drop(reads);
    let held: SmallVec<[u64; MAX_COPIES]> =
        words[..copies.len()].iter().map(|word| u64::from_le_bytes(*word)).collect();
    let Some(&first) = held.first() else {
        return Err(PoolError::Lost(format!("no copy of slot {slot:?} is left")));
    };
    if held.iter().all(|&value| value == first) {
        return Ok(Slot(first));
    }
    let old = if lost_primary { oldest(&held) } else { Some(first) };
    let proposed = held.iter().copied().filter(|&value| Some(value) != old);
    let proposed: SmallVec<[u64; MAX_COPIES]> = proposed.collect();
    let chosen = Slot(rules::winner(&proposed));
    decide(fabric, slot, old.map_or(Slot::UNKNOWN, Slot), chosen)?;
    fabric.write_all(slot, &chosen.0.to_le_bytes())?;
    Ok(chosen)
}

/// The value over which all the others were proposed, if it is among them: they are one version
/// further.
fn oldest(held: &[u64]) -> Option<u64> {
    let next = |value: u64| Slot(value).next_version();
    let newer = |value: u64| held.iter().any(|&other| Slot(other).version() == next(value));
    held.iter().copied().find(|&value| newer(value))
}

/// Writes into the log entry behind `chosen` that it won.
fn decide(fabric: &Fabric, slot: PoolAddr, old: Slot, chosen: Slot) -> Result<()> {
    let Some(log) = chosen.log() else { return Ok(()) };
    let mut bytes = [0; LOG_BYTES];
    fabric.read(log, &mut bytes)?;
    let Some(entry) = LogEntry::decode(&bytes) else {
        let text = format!("slot {slot:?}: no log entry behind the proposal {chosen:?}");
        return Err(PoolError::Corrupt(text));
    };
    let (slot, old) = entry.decided.unwrap_or((slot, old));
    fabric.write_all(log, &decided_bytes(slot, old, entry.sequence))
}
