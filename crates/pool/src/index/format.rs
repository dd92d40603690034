//! The first directory and subtable of a pool.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::directory::read_root;
use super::layout::{self, BucketHeader, Entry, Root, GROUPS, MAX_DEPTH, SUBTABLE_BYTES};
use super::lock::{lock_structure, unlock_structure, write_meta};
use crate::address::{ClientId, PoolAddr};
use crate::alloc::{Allocation, Allocator};
use crate::config::meta;
use crate::error::Result;
use crate::fabric::{steadily, Fabric};
use crate::object::{log_addr, object_bytes, Header, Kind, LogEntry, Op};

/// A directory for objects of 64 bytes takes this share of the pool at most.
const DIRECTORY_SHARE: u64 = 256;

/// Makes the index, unless there is one already. Safe to call by many clients at once.
pub fn format(fabric: &Fabric, alloc: &mut Allocator) -> Result<()> {
    steadily(|| {
        if read_root(fabric)?.is_some() {
            return Ok(());
        }
        lock_structure(fabric)?;
        let outcome = match read_root(fabric) {
            Ok(None) => make(fabric, alloc),
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error),
        };
        unlock_structure(fabric)?;
        outcome
    })
}

fn make(fabric: &Fabric, alloc: &mut Allocator) -> Result<()> {
    let max_depth = max_depth(fabric, alloc);
    let table = new_object(fabric, alloc, SUBTABLE_BYTES)?;
    let directory = match new_object(fabric, alloc, directory_bytes(max_depth)) {
        Ok(directory) => directory,
        Err(error) => {
            alloc.recycle(table);
            return Err(error);
        }
    };
    let root = Root { directory: directory.addr, depth: 0, max_depth };
    let outcome = publish(fabric, root, table.addr);
    // The view may have changed before the root was written or after that.
    if outcome.is_ok() || steadily(|| read_root(fabric))? == Some(root) {
        alloc.complete(table.sequence);
        alloc.complete(directory.sequence);
        return Ok(());
    }
    alloc.recycle(table);
    alloc.recycle(directory);
    outcome
}

/// Writes subtable and directory, then the root.
fn publish(fabric: &Fabric, root: Root, table: PoolAddr) -> Result<()> {
    let mut image = vec![0; (layout::BUCKETS * layout::BUCKET) as usize];
    write_headers(&mut image, 0, 0);
    fabric.write_all(layout::bucket_addr(table, 0), &image)?;
    let entry = Entry { table, depth: 0 };
    fabric.write_all(root.entry(0), &entry.word().to_le_bytes())?;
    write_meta(fabric, meta::INDEX_ROOT, &root.word().to_le_bytes())
}

/// Bytes of the object of a directory of that depth.
pub(crate) fn directory_bytes(depth: u8) -> usize {
    object_bytes(0, (8 << depth) + layout::TABLE_HEADER as usize)
}

fn max_depth(fabric: &Fabric, alloc: &Allocator) -> u8 {
    let pool = fabric.view().regions.len() as u64 * fabric.config().region_bytes();
    let fits = |depth: u8| {
        let bytes = directory_bytes(depth);
        bytes <= alloc.max_object_bytes() && bytes as u64 <= pool / DIRECTORY_SHARE
    };
    (0..=MAX_DEPTH).rev().find(|&depth| fits(depth)).unwrap_or(0)
}

/// Room for memory of the index, with the header and the log entry of an object.
pub(super) fn new_object(
    fabric: &Fabric,
    alloc: &mut Allocator,
    bytes: usize,
) -> Result<Allocation> {
    let room = alloc.allocate(fabric, bytes)?;
    let value_len = (room.class.bytes() - object_bytes(0, 0)) as u32;
    let (kind, namespace) = (Kind::Table, 0);
    let head = Header { kind, version: 0, namespace, key_len: 0, value_len, expires_ms: 0 };
    let head = head.encode(&[], &[]);
    let (client, sequence) = (fabric.me(), room.sequence);
    let log = LogEntry { client, op: Op::Part, sequence, decided: None }.encode();
    let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
    verbs.extend(fabric.copies(room.addr).iter().map(|&copy| Verb::write(copy, &head)));
    let logs = fabric.copies(log_addr(room.addr, room.class));
    verbs.extend(logs.iter().map(|&copy| Verb::write(copy, &log)));
    match fabric.batch(&mut verbs) {
        Ok(()) => Ok(room),
        Err(error) => {
            alloc.recycle(room);
            Err(error)
        }
    }
}

/// Puts unlocked headers into the bytes of a subtable's buckets. Only first combined buckets have
/// locks.
pub(super) fn write_headers(image: &mut [u8], depth: u8, suffix: u32) {
    let header = BucketHeader { depth, suffix, owner: ClientId::NOBODY }.word().to_le_bytes();
    for at in lock_offsets() {
        image[at as usize..at as usize + 8].copy_from_slice(&header);
    }
}

/// Where the lock words lie in a subtable, from its first bucket.
pub(crate) fn lock_offsets() -> impl Iterator<Item = u64> {
    (0..GROUPS).map(|combined| layout::main_bucket(combined) * layout::BUCKET)
}

/// The addresses of all lock words of the subtable at `table`.
pub(super) fn lock_words(table: PoolAddr) -> impl Iterator<Item = PoolAddr> {
    lock_offsets().map(move |at| layout::bucket_addr(table, 0).add(at))
}
