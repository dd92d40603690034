//! All slots, for checks, reconciliation and recovery.

use super::directory::{doubling, read_root, read_whole};
use super::hash::KeyHash;
use artesian_bus::Verb;

use super::layout::{self, Entry, BUCKET, BUCKETS, COMBINED, SLOTS};
use crate::address::PoolAddr;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::slot::{tag, Slot};
use crate::txn;

/// The subtables that the directory names, each once.
pub(crate) fn tables(fabric: &Fabric) -> Result<Vec<PoolAddr>> {
    let Some((_, entries)) = read_whole(fabric)? else { return Ok(Vec::new()) };
    let mut tables: Vec<PoolAddr> = entries.iter().map(|entry| entry.table).collect();
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}

/// The buckets of the subtable at `table`, as the primary holds them.
pub(crate) fn read_table(fabric: &Fabric, table: PoolAddr) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (BUCKETS * BUCKET) as usize];
    fabric.read(layout::bucket_addr(table, 0), &mut bytes)?;
    Ok(bytes)
}

/// The slots in the bytes of [`read_table`].
pub(crate) fn slots_of(
    table: PoolAddr,
    bytes: &[u8],
) -> impl Iterator<Item = (PoolAddr, Slot)> + '_ {
    (0..BUCKETS).flat_map(move |bucket| {
        (0..SLOTS).map(move |number| {
            let within = bucket * BUCKET + 8 + number * 8;
            let at = layout::bucket_addr(table, 0).add(within);
            (at, Slot(word(bytes, within as usize)))
        })
    })
}

/// Tells `f` every slot of the index, empty ones included, with what its primary holds.
pub fn for_each_slot(
    fabric: &Fabric,
    mut f: impl FnMut(PoolAddr, Slot) -> Result<()>,
) -> Result<()> {
    for table in tables(fabric)? {
        let bytes = read_table(fabric, table)?;
        for (at, slot) in slots_of(table, &bytes) {
            f(at, slot)?;
        }
    }
    Ok(())
}

/// Addresses of all slots in which the key of `hash` can be.
pub fn candidates(fabric: &Fabric, hash: KeyHash) -> Result<Vec<PoolAddr>> {
    let table = doubling(|| {
        let Some(root) = read_root(fabric)? else { return Ok(Some(None)) };
        let at = fabric.primary(root.entry(hash.suffix(root.depth)))?;
        let entry = Entry::from_word(fabric.read_word(at)?, root)?;
        Ok(entry.map(|entry| Some(entry.table)))
    })?;
    Ok(table.into_iter().flat_map(|table| slots_in(table, hash)).collect())
}

/// The slots of both combined buckets of `hash` in a subtable.
fn slots_in(table: PoolAddr, hash: KeyHash) -> impl Iterator<Item = PoolAddr> {
    let buckets = hash.buckets().into_iter().flat_map(move |combined| {
        let first = layout::first_bucket(combined);
        [first, first + 1].map(|bucket| layout::bucket_addr(table, bucket))
    });
    buckets.flat_map(|bucket| (0..SLOTS).map(move |at| bucket.add(8 + at * 8)))
}

/// The key's subtable and all that it was ever split off from: tombstones stay where they are when
/// a split moves their key. A table keeps the suffix that goes on in zeros.
fn lineage(fabric: &Fabric, hash: KeyHash) -> Result<Vec<PoolAddr>> {
    doubling(|| lineage_once(fabric, hash))
}

fn lineage_once(fabric: &Fabric, hash: KeyHash) -> Result<Option<Vec<PoolAddr>>> {
    let Some(root) = read_root(fabric)? else { return Ok(Some(Vec::new())) };
    let mut words = vec![[0; 8]; usize::from(root.depth) + 1];
    let mut verbs = Vec::with_capacity(words.len());
    for (depth, into) in words.iter_mut().enumerate() {
        let entry = fabric.primary(root.entry(hash.suffix(depth as u8)))?;
        verbs.push(Verb::read(entry, into));
    }
    fabric.batch(&mut verbs)?;
    drop(verbs);
    let entries = words.iter().map(|word| Entry::from_word(u64::from_le_bytes(*word), root));
    let entries: Option<Vec<Entry>> = entries.collect::<Result<_>>()?;
    Ok(entries.map(|entries| {
        let mut tables: Vec<PoolAddr> = entries.iter().map(|entry| entry.table).collect();
        tables.dedup();
        tables
    }))
}

/// Whether a slot in which a key of `hash` can be, or can have been when it was deleted, names the
/// object at `addr`.
pub fn is_named(fabric: &Fabric, hash: KeyHash, addr: PoolAddr) -> Result<bool> {
    let mut tables = lineage(fabric, hash)?;
    loop {
        let mut bytes = vec![[[0; COMBINED]; 2]; tables.len()];
        let mut verbs = Vec::with_capacity(tables.len() * 2);
        for (&table, sides) in tables.iter().zip(&mut bytes) {
            for (combined, into) in hash.buckets().into_iter().zip(sides) {
                let first = layout::bucket_addr(table, layout::first_bucket(combined));
                verbs.push(Verb::read(fabric.primary(first)?, into));
            }
        }
        fabric.batch(&mut verbs)?;
        drop(verbs);
        let words = bytes.iter().flatten().flat_map(|side| side.as_chunks::<8>().0);
        let slots = words.enumerate().filter(|(at, _)| !(*at as u64).is_multiple_of(SLOTS + 1));
        for slot in slots.map(|(_, word)| Slot(u64::from_le_bytes(*word))) {
            if slot.names() == Some(addr) || is_intended(fabric, slot, addr)? {
                return Ok(true);
            }
        }
        // A split may have moved the key meanwhile, out of the buckets that were read.
        let now = lineage(fabric, hash)?;
        if now == tables {
            return Ok(false);
        }
        tables = now;
    }
}

/// The header word of the bucket in which a slot lies.
pub fn header_of(slot: PoolAddr) -> PoolAddr {
    PoolAddr(slot.0 & !(BUCKET - 1))
}

/// The objects that the index consists of: the directory and all subtables.
pub fn memory(fabric: &Fabric) -> Result<Vec<PoolAddr>> {
    let Some(root) = read_root(fabric)? else { return Ok(Vec::new()) };
    let mut memory = tables(fabric)?;
    memory.push(root.directory);
    Ok(memory)
}

/// Whether the object at `addr` is the directory or a subtable in use. An index object of a dead
/// client that is neither was never published.
pub fn is_index_memory(fabric: &Fabric, addr: PoolAddr) -> Result<bool> {
    let Some(root) = read_root(fabric)? else { return Ok(false) };
    let planned = super::split::planned(fabric)?;
    Ok(root.directory == addr || planned == Some(addr) || tables(fabric)?.contains(&addr))
}

/// Whether a transaction holds the slot, and the object at `addr` is in it before or after.
fn is_intended(fabric: &Fabric, slot: Slot, addr: PoolAddr) -> Result<bool> {
    if slot.kind() != tag::INTENT {
        return Ok(false);
    }
    let intent = txn::read_intent(fabric, slot)?;
    Ok(intent.old.names() == Some(addr) || intent.new.names() == Some(addr))
}
