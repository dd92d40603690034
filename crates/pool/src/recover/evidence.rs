//! What a dead client's objects, their log entries and the slots say about its operations.

use std::collections::HashMap;

use artesian_bus::{GlobalAddr, Verb};

use super::{Index, Places};
use crate::address::{ClientId, PoolAddr};
use crate::alloc::{Announced, Announcements};
use crate::class::SizeClass;
use crate::config::MAX_REPLICAS;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::MAX_KEY_BYTES;
use crate::object::{log_addr, proposal, word, Header, LogEntry, Op, HEADER_BYTES, LOG_BYTES};
use crate::slot::{tag, Slot};
use crate::snapshot::{settle_many, walk, Fate};
use crate::txn;

/// Verbs and rounds of one batch at most.
pub(super) const AT_ONCE: usize = 512;
/// Numbers of the last operations among which are all that hold insert locks: a group of keys that
/// are changed together, whose rooms are used again in some tries.
const MOST_LOCKS: u64 = crate::store::GROUP as u64 * 8;
/// Bytes of what is read at once of an index.
const LINE: usize = 64;

/// Whether an operation took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did, over an object that is to be freed, if known and if there was one.
    Won { replaced: Option<(PoolAddr, SizeClass)> },
    /// It did not and never will.
    Lost,
    /// Nobody can tell.
    Unknown,
}

/// An operation that may be unfinished.
pub(super) struct Operation {
    pub(super) object: PoolAddr,
    class: SizeClass,
    entry: LogEntry,
    /// Slot and old value, as the log entry has them.
    link: Option<(PoolAddr, Slot)>,
    slot: Option<PoolAddr>,
    current: Slot,
    pub(super) fate: Verdict,
}

impl Operation {
    /// Pieces of large values and memory of indexes have no slot of their own.
    pub(super) fn is_for_slot(&self) -> bool {
        self.entry.op != Op::Part
    }
}

/// Posts many reads in batches of [`AT_ONCE`].
pub(super) fn read_many(fabric: &Fabric, mut reads: Vec<Verb<'_>>) -> Result<()> {
    for some in reads.chunks_mut(AT_ONCE) {
        fabric.batch(some)?;
    }
    Ok(())
}

/// The operations for which `dead` has written the announced objects.
pub(super) fn read(
    fabric: &Fabric,
    dead: ClientId,
    announced: &Announcements,
) -> Result<Vec<Operation>> {
    let objects = &announced.objects;
    let mut entries = vec![[0; LOG_BYTES]; objects.len()];
    let at = |object: &Announced| fabric.copy(log_addr(object.addr, object.class), 0).ok();
    let reads = objects.iter().zip(&mut entries);
    let reads = reads.filter_map(|(object, into)| Some(Verb::read(at(object)?, into)));
    read_many(fabric, reads.collect())?;
    let operation = |(object, bytes): (&Announced, &[u8; LOG_BYTES])| {
        let entry = LogEntry::decode(bytes)?;
        let link = proposal(bytes).filter(|(slot, _)| is_slot(fabric, *slot));
        let used = entry.client == dead && entry.sequence > announced.flushed;
        used.then_some(Operation {
            object: object.addr,
            class: object.class,
            entry,
            link,
            slot: link.map(|(slot, _)| slot),
            current: Slot::EMPTY,
            fate: Verdict::Lost,
        })
    };
    Ok(objects.iter().zip(&entries).filter_map(operation).collect())
}

/// Whether a slot can lie at an address that was found in memory.
fn is_slot(fabric: &Fabric, addr: PoolAddr) -> bool {
    addr.0.is_multiple_of(8) && !fabric.copies(addr).is_empty()
}

/// Finds the slots of operations whose log entry names none: that hold their object in some copy.
/// Returns insert locks that `dead` holds on the way, with what they shall become. Any operation
/// may hold one that does not know where its key lies, but only among the last ones, as a lock is
/// given back before the operation ends.
pub(super) fn trace(
    fabric: &Fabric,
    index: &mut dyn Index,
    dead: ClientId,
    operations: &mut [Operation],
) -> Result<Vec<(GlobalAddr, u64, u64)>> {
    let last = operations.iter().map(|operation| operation.entry.sequence).max().unwrap_or(0);
    let wanted = |operation: &&mut Operation| {
        operation.slot.is_none() || operation.entry.sequence + MOST_LOCKS > last
    };
    let mut traced: Vec<&mut Operation> = operations.iter_mut().filter(wanted).collect();
    let mut locks = Vec::new();
    for some in traced.chunks_mut(AT_ONCE / (4 * MAX_REPLICAS)) {
        let keys = read_keys(fabric, some)?;
        let mut lines = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let Some((header, key)) = key else { continue };
            for line in lines_of(&index.places(fabric, header, key)?) {
                let copies = fabric.copies(line.start).into_iter().enumerate();
                lines.extend(copies.map(|(copy, at)| (number, copy, at, line)));
            }
        }
        let mut bytes = vec![[0; LINE]; lines.len()];
        let reads = lines.iter().zip(&mut bytes);
        read_many(fabric, reads.map(|(line, into)| Verb::read(line.2, into)).collect())?;
        for (&(number, copy, at, line), bytes) in lines.iter().zip(&bytes) {
            for at in line.words(line.locks).filter(|_| copy == 0).map(|word| (at, word)) {
                locks.extend(lock_in(bytes, at, dead));
            }
            let operation = &mut *some[number];
            let mine = |at: &usize| names(Slot(word(bytes, at * 8)), operation.object);
            if let Some(at) = line.words(line.slots).find(mine) {
                operation.slot.get_or_insert(line.start.add(at as u64 * 8));
            }
        }
    }
    Ok(locks)
}

/// A lock word of `dead`, with where it is and what it becomes.
fn lock_in(
    bytes: &[u8; LINE],
    (line, at): (GlobalAddr, usize),
    dead: ClientId,
) -> Option<(GlobalAddr, u64, u64)> {
    let found = word(bytes, at * 8);
    let place = GlobalAddr::new(line.node(), line.offset() + at as u64 * 8);
    let held = ClientId::from_word(found) == dead;
    held.then_some((place, found, found & !u64::from(u32::MAX)))
}

/// Words that are read together.
#[derive(Clone, Copy)]
struct Line {
    start: PoolAddr,
    /// Which of its words are slots, and which are locks: a bit each.
    slots: u8,
    locks: u8,
}

impl Line {
    fn words(self, of: u8) -> impl Iterator<Item = usize> {
        (0..LINE / 8).filter(move |at| of >> at & 1 == 1)
    }
}

/// The lines in which places lie.
fn lines_of(places: &Places) -> Vec<Line> {
    let slots = places.slots.iter().map(|&at| (at, true));
    let mut words: Vec<(PoolAddr, bool)> = slots.collect();
    words.extend(places.locks.iter().map(|&at| (at, false)));
    words.sort_unstable();
    let mut lines: Vec<Line> = Vec::new();
    for (addr, is_slot) in words {
        let within = addr.0 % LINE as u64;
        let start = PoolAddr(addr.0 - within);
        if lines.last().is_none_or(|line| line.start != start) {
            lines.push(Line { start, slots: 0, locks: 0 });
        }
        if let Some(line) = lines.last_mut() {
            let of = if is_slot { &mut line.slots } else { &mut line.locks };
            *of |= 1 << (within / 8);
        }
    }
    lines
}

/// Whether a slot's value is of the operation that wrote the object at `object`.
fn names(value: Slot, object: PoolAddr) -> bool {
    value.0 != 0 && value.addr() == object
}

/// Header and key.
type Key = (Header, Vec<u8>);

type Object = (PoolAddr, SizeClass);

/// Headers and keys of the operations' objects; `None` for objects that are not whole.
fn read_keys(fabric: &Fabric, of: &[&mut Operation]) -> Result<Vec<Option<Key>>> {
    let mut objects = Vec::new();
    let mut heads: Vec<Vec<u8>> = Vec::new();
    for operation in of.iter() {
        let keyed = operation.keyed(fabric)?;
        let most = keyed.map_or(0, |(_, class)| class.bytes() - LOG_BYTES);
        heads.push(vec![0; most.min(HEADER_BYTES + MAX_KEY_BYTES)]);
        objects.push(keyed);
    }
    let reads = objects.iter().zip(&mut heads);
    let reads = reads.filter_map(|(object, into)| {
        let at = fabric.copy((*object)?.0, 0).ok()?;
        Some(Verb::read(at, into.as_mut_slice()))
    });
    read_many(fabric, reads.collect())?;
    let key = |(object, bytes): (&Option<Object>, &Vec<u8>)| {
        let header = Header::decode(bytes, (*object)?.1).ok()?;
        let key = bytes.get(HEADER_BYTES..HEADER_BYTES + header.key_len as usize)?;
        Some((header, key.to_vec()))
    };
    Ok(objects.iter().zip(&heads).map(key).collect())
}

/// Ends all rounds that may be open in the operations' slots, and reads what the log entries say
/// after that.
pub(super) fn settle(fabric: &Fabric, operations: &mut [Operation]) -> Result<()> {
    let mut slots: Vec<PoolAddr> = operations.iter().filter_map(|op| op.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    let mut current = HashMap::new();
    for some in slots.chunks(AT_ONCE / MAX_REPLICAS) {
        current.extend(some.iter().copied().zip(settle_many(fabric, some)?));
    }
    let mut entries = vec![[0; LOG_BYTES]; operations.len()];
    let reads = operations.iter().zip(&mut entries);
    let reads = reads.filter(|(operation, _)| operation.slot.is_some());
    let reads = reads.filter_map(|(operation, into)| {
        let log = log_addr(operation.object, operation.class);
        Some(Verb::read(fabric.copy(log, 0).ok()?, into))
    });
    read_many(fabric, reads.collect())?;
    for (operation, bytes) in operations.iter_mut().zip(&entries) {
        let Some(slot) = operation.slot else { continue };
        operation.current = current.get(&slot).copied().unwrap_or(Slot::EMPTY);
        if let Some(entry) = LogEntry::decode(bytes) {
            operation.entry = entry;
            operation.link = proposal(bytes).filter(|link| link.0 == slot);
        }
    }
    Ok(())
}

/// Takes the intents of the dead client's transactions out of their slots: a transaction that is
/// not committed is aborted. Whether there were any.
pub(super) fn end_transactions(fabric: &Fabric, operations: &[Operation]) -> Result<bool> {
    let mut any = false;
    for operation in operations {
        let held = operation.current;
        if let (Some(slot), true) = (operation.slot, held.kind() == tag::INTENT) {
            if names(held, operation.object) {
                txn::resolve(fabric, slot, held, true)?;
                any = true;
            }
        }
    }
    Ok(any)
}

/// Decides every operation.
pub(super) fn judge(fabric: &Fabric, operations: &mut [Operation]) -> Result<()> {
    let links = operations.iter().filter_map(|op| Some((op.object, op.link?)));
    let links: HashMap<PoolAddr, (PoolAddr, Slot)> = links.collect();
    for operation in operations.iter_mut() {
        let Some(slot) = operation.slot else { continue };
        let held = names(operation.current, operation.object);
        let undone = operation.entry.decided.is_some_and(|(_, old)| old == operation.current);
        let fate = if undone {
            // Decided on copies that were lost before the first one changed.
            let log = log_addr(operation.object, operation.class);
            fabric.write_all(log, &[0; LOG_BYTES / 2])?;
            Fate::Lost
        } else if held || operation.entry.decided.is_some() {
            Fate::Won
        } else if let Some((_, old)) = operation.link {
            let known = |value: Slot| links.get(&value.addr()).copied();
            walk(fabric, slot, operation.current, (old, operation.object), known)?
        } else {
            Fate::Lost
        };
        operation.fate = match fate {
            Fate::Won => Verdict::Won { replaced: operation.replaced(fabric)? },
            Fate::Lost => Verdict::Lost,
            Fate::Unknown => Verdict::Unknown,
        };
    }
    Ok(())
}

impl Operation {
    /// The object that it wrote.
    pub(super) fn own(&self) -> Object {
        (self.object, self.class)
    }

    /// The object that carries the key: an intent's is that of the value to come. `None` if the
    /// intent was not written whole.
    fn keyed(&self, fabric: &Fabric) -> Result<Option<Object>> {
        if self.entry.op != Op::Intend {
            return Ok(Some((self.object, self.class)));
        }
        let held = Slot::new(0, 0, tag::INTENT, self.object);
        match txn::read_intent(fabric, held) {
            Ok(intent) => Ok(intent.new.logged_class().map(|class| (intent.new.addr(), class))),
            Err(PoolError::Corrupt(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object that the operation's winning gave up. An intent gives up nothing; the value that
    /// follows it gives up what was there before the intent.
    fn replaced(&self, fabric: &Fabric) -> Result<Option<Object>> {
        let Some((_, mut old)) = self.link.filter(|_| self.entry.op != Op::Intend) else {
            return Ok(None);
        };
        if old.kind() == tag::INTENT {
            old = txn::read_intent(fabric, old)?.old;
        }
        let object = old.logged_class().map(|class| (old.addr(), class));
        Ok(object.filter(|(addr, _)| !addr.is_null()))
    }
}

/// Frees insert locks; after the slots under them are settled.
pub(super) fn release(fabric: &Fabric, locks: &[(GlobalAddr, u64, u64)]) -> Result<usize> {
    let mut released = 0;
    for some in locks.chunks(AT_ONCE) {
        let swap = |lock: &(GlobalAddr, u64, u64)| Verb::cas(lock.0, lock.1, lock.2);
        let mut swaps: Vec<Verb<'_>> = some.iter().map(swap).collect();
        fabric.batch(&mut swaps)?;
        released += swaps.iter().zip(some).filter(|(swap, lock)| swap.found() == lock.1).count();
    }
    Ok(released)
}
