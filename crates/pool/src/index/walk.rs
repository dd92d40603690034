//! All slots, for checks, reconciliation and recovery.

use super::directory::{read_entries, read_root};
use super::hash::KeyHash;
use super::layout::{self, BUCKET, BUCKETS, SLOTS};
use crate::address::PoolAddr;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::slot::Slot;

/// The subtables that the directory names, each once.
pub(super) fn tables(fabric: &Fabric) -> Result<Vec<PoolAddr>> {
    let Some(root) = read_root(fabric)? else { return Ok(Vec::new()) };
    let entries = read_entries(fabric, root)?;
    let mut tables: Vec<PoolAddr> = entries.iter().map(|entry| entry.table).collect();
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}

/// The buckets of the subtable at `table`, as the primary holds them.
pub(super) fn read_table(fabric: &Fabric, table: PoolAddr) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (BUCKETS * BUCKET) as usize];
    fabric.read(layout::bucket_addr(table, 0), &mut bytes)?;
    Ok(bytes)
}

/// The slots in the bytes of [`read_table`].
pub(super) fn slots_of(
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
    let Some(root) = read_root(fabric)? else { return Ok(Vec::new()) };
    let entry = fabric.primary(root.entry(hash.suffix(root.depth)))?;
    let entry = layout::Entry::from_word(fabric.read_word(entry)?, root.depth)?;
    let buckets = hash.buckets().into_iter().flat_map(|combined| {
        let first = layout::first_bucket(combined);
        [first, first + 1].map(|bucket| layout::bucket_addr(entry.table, bucket))
    });
    let slots = buckets.flat_map(|bucket| (0..SLOTS).map(move |at| bucket.add(8 + at * 8)));
    Ok(slots.collect())
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
