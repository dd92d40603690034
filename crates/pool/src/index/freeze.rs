//! The part of a split that stops the moving slots.

use artesian_bus::Verb;

use super::hash::KeyHash;
use super::layout::SLOTS_PER_TABLE;
use super::split::Plan;
use super::walk::{read_table, slots_of};
use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::{Header, HEADER_BYTES};
use crate::rtx::Wait;
use crate::slot::{tag, Slot};
use crate::snapshot::{self, Round};
use crate::txn;

/// Objects looked at, or rounds played, at once.
const BATCH: usize = 64;
/// Pauses after which transactions that hold slots are aborted.
const PATIENCE: u32 = 16;
/// Bytes read of an object at first: enough for most keys.
const PEEK: usize = 128;

/// Freezes all slots of `plan.old` whose keys move, while no insert is possible. Returns what they
/// hold, by number of the slot in the table.
pub(super) fn freeze(fabric: &Fabric, plan: &Plan) -> Result<Vec<(usize, Slot)>> {
    let mut moves: Vec<Option<bool>> = vec![None; SLOTS_PER_TABLE as usize];
    let mut wait = Wait::new();
    loop {
        let bytes = read_table(fabric, plan.old)?;
        let slots: Vec<(PoolAddr, Slot)> = slots_of(plan.old, &bytes).collect();
        let force = wait.rounds() >= PATIENCE;
        let intents = sort_out(fabric, plan, &slots, &mut moves, force)?;
        let mut rounds: Vec<Round> = Vec::new();
        for (number, &(at, slot)) in slots.iter().enumerate() {
            if moves[number] == Some(true) && slot.class().is_some() {
                rounds.push(Round::new(at, slot, slot.frozen(), PoolAddr::NULL, 0));
            }
        }
        if rounds.is_empty() && intents == 0 {
            let frozen = |(number, &(_, slot)): (usize, &(PoolAddr, Slot))| {
                (number, slot.thawed().filter(|_| moves[number] == Some(true)))
            };
            let frozen = slots.iter().enumerate().map(frozen);
            return Ok(frozen.filter_map(|(number, slot)| Some((number, slot?))).collect());
        }
        for some in rounds.chunks_mut(BATCH) {
            snapshot::write(fabric, some)?;
        }
        if intents > 0 {
            wait.pause(fabric, "transactions on slots that a split moves")?;
        }
    }
}

/// Finds out which keys move. A slot keeps its key while no insert is possible, so each is looked
/// at once. Returns how many slots transactions hold: those are looked at later, with `force` after
/// aborting them.
fn sort_out(
    fabric: &Fabric,
    plan: &Plan,
    slots: &[(PoolAddr, Slot)],
    moves: &mut [Option<bool>],
    force: bool,
) -> Result<usize> {
    let mut unknown = Vec::new();
    let mut intents = 0;
    for (number, &(at, slot)) in slots.iter().enumerate() {
        if slot.is_vacant() || moves[number] == Some(false) {
            continue;
        }
        let object = slot.thawed().unwrap_or(slot);
        if slot.kind() == tag::INTENT {
            // Looked at again, whether the intent is gone now or not; one may also come to a slot
            // that is known to move and not frozen yet.
            intents += 1;
            txn::resolve(fabric, at, slot, force)?;
        } else if object.class().is_some() && moves[number].is_none() {
            unknown.push((number, object));
        }
    }
    for some in unknown.chunks(BATCH) {
        let mut peeks = vec![[0; PEEK]; some.len()];
        let mut verbs = Vec::with_capacity(some.len());
        for ((_, slot), peek) in some.iter().zip(&mut peeks) {
            let bytes = slot.class().map_or(0, |class| class.bytes()).min(PEEK);
            if let Ok(at) = fabric.primary(slot.addr()) {
                verbs.push(Verb::read(at, &mut peek[..bytes]));
            }
        }
        fabric.batch(&mut verbs)?;
        for (&(number, slot), peek) in some.iter().zip(&peeks) {
            moves[number] = Some(is_moving(fabric, plan, slot, peek)?);
        }
    }
    Ok(intents)
}

/// Whether the key of the object moves. One that cannot be read stays: nobody can find it anyway.
fn is_moving(fabric: &Fabric, plan: &Plan, slot: Slot, peek: &[u8]) -> Result<bool> {
    let Some(class) = slot.class() else { return Ok(false) };
    let Ok(header) = Header::decode(peek, class) else { return Ok(false) };
    let end = HEADER_BYTES + header.key_len as usize;
    let mut long;
    let key = if end <= peek.len() {
        &peek[HEADER_BYTES..end]
    } else {
        long = vec![0; header.key_len as usize];
        match fabric.read(slot.addr().add(HEADER_BYTES as u64), &mut long) {
            Ok(()) => &long[..],
            Err(PoolError::Lost(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    };
    let hash = KeyHash::of(header.namespace, key);
    let belongs =
        hash.suffix(plan.depth) == plan.suffix && hash.fingerprint() == slot.fingerprint();
    Ok(belongs && hash.suffix(plan.depth + 1) == plan.moving_suffix())
}
