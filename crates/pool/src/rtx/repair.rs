//! Finishing what dead clients, or a lost node, left half done.

use artesian_bus::{BusError, GlobalAddr, NodeId, Verb};
use smallvec::SmallVec;

use crate::address::ClientId;
use crate::alloc::free_once;
use crate::config::{meta, record, META_REPLICAS, NUM_LOCKS};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::words;
use crate::membership::EPOCH_JUMP;
use crate::object::word;
use crate::rtx::log::{
    place_offset, Log, Name, DONE, HEAD, MARKS, NUM_PLACES, PLACE_BYTES, REPAIRER,
};
use crate::rtx::owner::{is_dead, Wait};
use crate::rtx::target::is_lock_word;

/// Frees the lock word `lock`, which the transaction `name` of a dead client holds: finishes the
/// transaction if it had committed.
pub fn release_dead(fabric: &Fabric, lock: GlobalAddr, name: Name) -> Result<()> {
    let index = name.owner().index;
    if let (Some(place), true) = (name.place(), index < fabric.config().max_clients) {
        with_place(fabric, index, place, || settle(fabric, index, place, |log| log == name))?;
    }
    fabric.cas(lock, name.0, 0).map(drop)
}

/// Frees the lock word `lock` if a dead client holds it. Returns whether nobody held it.
pub fn release_if_dead(fabric: &Fabric, lock: GlobalAddr) -> Result<bool> {
    let held = Name(fabric.read_word(lock)?);
    if held.0 != 0 && is_dead(fabric, held.owner())? {
        release_dead(fabric, lock, held)?;
    }
    Ok(held.0 == 0)
}

/// Finishes all committed transactions of the dead client `dead`, gives up what they gave up, and
/// frees every lock it holds. Returns how many transactions and how many locks there were. Only
/// for the one who recovers that client.
pub fn repair_all(fabric: &Fabric, dead: ClientId) -> Result<(usize, usize)> {
    let mut finished = 0;
    for place in 0..NUM_PLACES {
        finished += with_place(fabric, dead.index, place, || {
            let settled = settle(fabric, dead.index, place, |log| log.owner() == dead)?;
            free_rest(fabric, dead, place)?;
            Ok(usize::from(settled))
        })?;
    }
    let mut freed = 0;
    for (node, _) in fabric.verbs().nodes() {
        freed += free_locks(fabric, node, dead)?;
    }
    Ok((finished, freed))
}

/// For the master, while all clients hold still: finishes all committed transactions, also of
/// clients that live, before the view changes. They find their logs marked as done.
pub fn replay_committed(fabric: &Fabric) -> Result<usize> {
    let mut finished = 0;
    for index in 1..fabric.config().max_clients {
        for place in open_places(fabric, index)? {
            finished +=
                usize::from(settle(fabric, index, place, |log| log.owner().index == index)?);
        }
    }
    Ok(finished)
}

/// Runs `work` while no other client repairs that log place.
fn with_place<T>(
    fabric: &Fabric,
    index: u16,
    place: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if fabric.governs() {
        // Whoever is at it holds still, and begins anew afterwards.
        return work();
    }
    let me = fabric.me().word() << 32;
    let mut wait = Wait::new();
    let mut expected = 0;
    let copies = || fabric.client_area(index, place_offset(place) + REPAIRER);
    loop {
        let found = fabric.cas(first(&copies())?, expected, me)?;
        if found == expected || found == me {
            break;
        }
        // Who holds still while the master works looks at everything again.
        if found == 0 || fabric.governs() || is_dead(fabric, Name(found).owner())? {
            expected = found;
            continue;
        }
        expected = 0;
        wait.pause(fabric, "another client's repair of a log")?;
    }
    let outcome = work();
    // A failure here leaves the word to this client's next repair, or to its own repairer.
    match (outcome, words::swap_each(fabric, &copies(), me, 0)) {
        (Ok(result), Ok(())) => Ok(result),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn first(copies: &[GlobalAddr]) -> Result<GlobalAddr> {
    let lost = || PoolError::Lost("no copy of the client areas is left".into());
    copies.first().copied().ok_or_else(lost)
}

/// Finishes the log in a place if its transaction is one of those `wanted`, whose owner does
/// nothing any more. Returns whether there was anything to finish.
fn settle(
    fabric: &Fabric,
    index: u16,
    place: usize,
    wanted: impl Fn(Name) -> bool,
) -> Result<bool> {
    let copies = fabric.client_area(index, place_offset(place));
    let mut bytes = vec![0; PLACE_BYTES * copies.len()];
    {
        let reads = copies.iter().zip(bytes.chunks_exact_mut(PLACE_BYTES));
        let mut batch: SmallVec<[Verb<'_>; META_REPLICAS]> =
            reads.map(|(&copy, into)| Verb::read(copy, into)).collect();
        on_all_left(fabric, &mut batch)?;
    }
    let places = || bytes.chunks_exact(PLACE_BYTES);
    let done: SmallVec<[u64; META_REPLICAS]> =
        places().map(|place| word(place, DONE as usize)).collect();
    // Copies differ if the client died while it wrote its last log.
    let mut logs: SmallVec<[Log<'_>; META_REPLICAS]> = SmallVec::new();
    for log in places().filter_map(Log::parse).filter(|log| wanted(log.name)) {
        if logs.iter().all(|known| known.name != log.name) {
            logs.push(log);
        }
    }
    let mut open = None;
    for log in &logs {
        if !done.contains(&log.name.0) && !was_finished(fabric, log)? {
            open = Some(log);
        }
    }
    let Some(log) = open else {
        let newest = logs.iter().map(|log| log.name).reduce(Name::newer);
        // A mark that is not on all copies may be lost with its node: who comes here then would
        // write old images over newer ones.
        if let Some(name) = newest.filter(|name| done.iter().any(|&done| done != name.0)) {
            mark_done(fabric, &copies, name)?;
        }
        return Ok(false);
    };
    let mut batch: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().map(|copy| Verb::write(copy.add(MARKS as u64), log.sealed)).collect();
    on_all_left(fabric, &mut batch)?;
    for (target, image) in log.writes.clone() {
        let copies = target.copies(fabric);
        let mut batch: SmallVec<[Verb<'_>; 4]> =
            copies.iter().map(|&copy| Verb::write(copy, image)).collect();
        on_all_left(fabric, &mut batch)?;
    }
    mark_done(fabric, &copies, log.name)?;
    let locks = log.locks.iter().filter(|&&lock| is_lock_word(fabric, lock));
    let mut batch: SmallVec<[Verb<'_>; 8]> =
        locks.map(|&lock| Verb::cas(lock, log.name.0, 0)).collect();
    on_all_left(fabric, &mut batch)?;
    Ok(true)
}

/// Gives up the objects of the transaction in a place that its client may have died before giving
/// up. A log that is whole has committed; whoever finished it otherwise left this to recovery.
fn free_rest(fabric: &Fabric, dead: ClientId, place: usize) -> Result<()> {
    let mut bytes = vec![0; PLACE_BYTES];
    let at = first(&fabric.client_area(dead.index, place_offset(place)))?;
    fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
    let Some(log) = Log::parse(&bytes).filter(|log| log.name.owner() == dead) else {
        return Ok(());
    };
    if log.frees.is_empty() || !is_intact(fabric, dead, log.reported)? {
        return Ok(());
    }
    for (addr, class) in log.frees {
        match free_once(fabric, addr, class) {
            // What cannot be an object is nobody's to free.
            Ok(()) | Err(PoolError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the free bits that `dead` set after it had reported epoch `reported` still stand. They
/// were seen at that epoch or later, so they go at two more; and if the epoch came that far, `dead`
/// has reported again, which it does only with all its frees done. The epoch jumps when the first
/// copy of it is lost, but only while everybody holds still.
fn is_intact(fabric: &Fabric, dead: ClientId, reported: u64) -> Result<bool> {
    // A master has done all this already; the others go by an epoch since that may have jumped.
    let flushed = first(&fabric.client_record(dead.index, record::FLUSHED))?;
    if fabric.read_word(flushed)? == record::ALL_FLUSHED {
        return Ok(false);
    }
    let epoch = fabric.read_word(first(&fabric.meta(meta::EPOCH))?)?;
    let passed = epoch.saturating_sub(reported);
    if passed <= 1 {
        return Ok(true);
    }
    let last = first(&fabric.client_record(dead.index, record::REPORTED))?;
    Ok(passed % EPOCH_JUMP <= 1 && fabric.read_word(last)? == reported)
}

/// Locks go only after all data is written: if one is free, everything was.
fn was_finished(fabric: &Fabric, log: &Log<'_>) -> Result<bool> {
    let mut words = [[0; 8]; crate::rtx::log::MAX_LOCKS];
    let left = fabric.verbs().nodes();
    let is_left = |lock: &GlobalAddr| left.iter().any(|&(node, _)| node == lock.node());
    let locks = || log.locks.iter().filter(|lock| is_left(lock) && is_lock_word(fabric, **lock));
    let count = locks().count();
    {
        let mut batch: SmallVec<[Verb<'_>; 8]> =
            locks().zip(&mut words).map(|(&lock, into)| Verb::read(lock, into)).collect();
        fabric.batch(&mut batch)?;
    }
    Ok(words[..count].iter().any(|&word| u64::from_le_bytes(word) != log.name.0))
}

fn mark_done(fabric: &Fabric, copies: &[GlobalAddr], name: Name) -> Result<()> {
    let name = name.0.to_le_bytes();
    let mut batch: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().map(|copy| Verb::write(copy.add(DONE), &name)).collect();
    on_all_left(fabric, &mut batch)
}

/// A batch of the master may meet the node whose loss it is settling.
fn on_all_left(fabric: &Fabric, batch: &mut [Verb<'_>]) -> Result<()> {
    match fabric.batch(batch) {
        Err(PoolError::Bus(BusError::NodeLost(_))) => Ok(()),
        outcome => outcome,
    }
}

/// The log places of a client whose last log is not marked as done, by their heads alone.
fn open_places(fabric: &Fabric, index: u16) -> Result<SmallVec<[usize; NUM_PLACES]>> {
    let mut heads = [[[0; HEAD]; META_REPLICAS]; NUM_PLACES];
    {
        let mut batch: SmallVec<[Verb<'_>; 24]> = SmallVec::new();
        for (place, heads) in heads.iter_mut().enumerate() {
            let copies = fabric.client_area(index, place_offset(place));
            let reads = copies.iter().zip(heads);
            batch.extend(reads.map(|(&copy, head)| Verb::read(copy, head)));
        }
        on_all_left(fabric, &mut batch)?;
    }
    let is_open = |head: &[u8; HEAD]| word(head, 24) != word(head, DONE as usize);
    Ok((0..NUM_PLACES).filter(|&place| heads[place].iter().any(is_open)).collect())
}

/// Frees the lock words of `node` that `dead` holds.
fn free_locks(fabric: &Fabric, node: NodeId, dead: ClientId) -> Result<usize> {
    const AT_ONCE: usize = 4096;
    let mut bytes = vec![0; AT_ONCE * 8];
    let mut freed = 0;
    for chunk in (0..NUM_LOCKS).step_by(AT_ONCE) {
        let start = GlobalAddr::new(node, fabric.layout().locks + chunk * 8);
        fabric.batch(&mut [Verb::read(start, &mut bytes)])?;
        for (i, held) in bytes.chunks_exact(8).enumerate() {
            let name = Name(word(held, 0));
            if name.0 != 0 && name.owner() == dead {
                freed += usize::from(fabric.cas(start.add(i as u64 * 8), name.0, 0)? == name.0);
            }
        }
    }
    Ok(freed)
}
