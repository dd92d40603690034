//! All slots of all caches: for recovery, for the master, for those who ask what is in use.

use artesian_bus::Verb;

use super::layout::{self, bucket_addr, slots_of, BUCKET, BUCKET_HEAD, BUCKET_SLOTS};
use super::open::ROOT;
use super::table::{entries, Entry, Table};
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{KeyHash, Loss};
use crate::namespace::{self, Kind, Namespace};
use crate::object::word;
use crate::recover::Places;
use crate::slot::Slot;
use crate::snapshot;

/// The table of a cache; `None` if it has none yet, or if its root was lost.
fn table_of(fabric: &Fabric, namespace: &Namespace) -> Result<Option<(u64, Table)>> {
    let place = fabric.read_word(namespace::spare(fabric, namespace, ROOT)[0])?;
    if place == 0 {
        return Ok(None);
    }
    match Table::load(fabric, place) {
        Ok(table) => Ok(Some((place, table))),
        Err(PoolError::Lost(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All caches' tables.
fn tables(fabric: &Fabric) -> Result<Vec<(u64, Table)>> {
    let caches = namespace::list(fabric)?.into_iter().filter(|known| known.kind == Kind::Cache);
    let tables = caches.map(|namespace| table_of(fabric, &namespace));
    tables.filter_map(Result::transpose).collect()
}

/// The parts of a cache's table, for those who look at all of it.
pub struct TableParts {
    /// The cache.
    pub namespace: u16,
    /// The objects that the table consists of.
    pub objects: Vec<(PoolAddr, SizeClass)>,
    table: Table,
}

impl TableParts {
    /// All caches'. Tables of which the root was lost are left out.
    pub fn of_all(fabric: &Fabric) -> Result<Vec<TableParts>> {
        let mut found = Vec::new();
        for space in namespace::list(fabric)?.iter().filter(|known| known.kind == Kind::Cache) {
            let Some((place, table)) = table_of(fabric, space)? else { continue };
            let mut objects: Vec<_> = layout::place_of(place)?.into_iter().collect();
            objects.extend(table.pieces.iter().map(|&piece| (piece, table.class())));
            found.push(TableParts { namespace: space.id, objects, table });
        }
        Ok(found)
    }

    /// Pieces of the table.
    pub fn num_pieces(&self) -> usize {
        self.table.pieces.len()
    }

    /// Where the buckets of a piece begin, and their bytes.
    pub fn piece(&self, number: usize) -> (PoolAddr, usize) {
        let len = self.buckets(number).count() * BUCKET as usize;
        (bucket_addr(self.table.pieces[number], 0), len)
    }

    /// The buckets of a piece: their lock words.
    pub fn buckets(&self, number: usize) -> impl Iterator<Item = PoolAddr> {
        let (per_piece, piece) = (self.table.shape.per_piece, self.table.pieces[number]);
        let count = self.table.run(number as u64 * per_piece, per_piece);
        (0..count).map(move |index| bucket_addr(piece, index))
    }

    /// The slots of a bucket.
    pub fn slots(bucket: PoolAddr) -> impl Iterator<Item = PoolAddr> {
        slots_of(bucket)
    }

    /// The bucket of a key.
    pub fn bucket_of(&self, hash: KeyHash) -> PoolAddr {
        self.table.bucket_of(hash)
    }
}

/// Tells `f` every slot of a table with its metadata, as the primary has them. Lost pieces are
/// left out.
pub(super) fn for_each_entry(
    fabric: &Fabric,
    table: &Table,
    mut f: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut bytes = vec![0; (table.shape.per_piece * BUCKET) as usize];
    let mut number = 0;
    for &piece in &table.pieces {
        let buckets = table.run(number, table.shape.per_piece);
        number += buckets;
        let Ok(at) = fabric.primary(bucket_addr(piece, 0)) else { continue };
        let bytes = &mut bytes[..(buckets * BUCKET) as usize];
        fabric.batch(&mut [Verb::read(at, bytes)])?;
        for (index, bytes) in (0..).zip(bytes.chunks_exact(BUCKET as usize)) {
            let slots = &bytes[BUCKET_HEAD as usize..BUCKET_HEAD as usize + BUCKET_SLOTS];
            entries(bucket_addr(piece, index), slots).try_for_each(&mut f)?;
        }
    }
    Ok(())
}

/// Tells `f` every slot of every cache, empty ones included, with what its primary holds.
pub fn for_each_slot(
    fabric: &Fabric,
    mut f: impl FnMut(PoolAddr, Slot) -> Result<()>,
) -> Result<()> {
    for (_, table) in tables(fabric)? {
        for_each_entry(fabric, &table, |entry| f(entry.at, entry.slot))?;
    }
    Ok(())
}

/// Where the value of a key can be if `namespace` is a cache: its bucket's slots, and the lock of
/// whoever inserts there. Nowhere if it is none.
pub fn candidates(fabric: &Fabric, namespace: u16, key: &[u8]) -> Result<Places> {
    slots_of_hash(fabric, namespace, KeyHash::of(namespace, key))
}

/// [`candidates`] of any key of that hash.
pub fn slots_of_hash(fabric: &Fabric, namespace: u16, hash: KeyHash) -> Result<Places> {
    let known = namespace::list(fabric)?;
    let cache = known.iter().find(|known| known.id == namespace && known.kind == Kind::Cache);
    let table = cache.map(|namespace| table_of(fabric, namespace)).transpose()?.flatten();
    let Some((_, table)) = table else { return Ok(Places::default()) };
    let bucket = table.bucket_of(hash);
    Ok(Places { slots: slots_of(bucket).collect(), locks: vec![bucket] })
}

/// The objects that caches' tables consist of.
pub fn memory(fabric: &Fabric) -> Result<Vec<PoolAddr>> {
    let mut memory = Vec::new();
    for (place, table) in tables(fabric)? {
        memory.extend(layout::place_of(place)?.map(|(root, _)| root));
        memory.extend(table.pieces);
    }
    Ok(memory)
}

/// Whether the object at `addr` is a part of a cache's table. A table of a dead client that no
/// namespace names was never used.
pub fn is_table_memory(fabric: &Fabric, addr: PoolAddr) -> Result<bool> {
    Ok(memory(fabric)?.contains(&addr))
}

/// Takes note that a client was recovered: what it had not told of the use is to be counted.
pub fn note_death(fabric: &Fabric) -> Result<()> {
    let mut verbs: Vec<Verb<'_>> =
        fabric.meta(meta::DEATHS).iter().map(|&copy| Verb::faa(copy, 1)).collect();
    fabric.batch(&mut verbs)
}

/// Makes the copies of all slots equal in pieces that lost some. Only for the master while all
/// others hold still.
pub fn reconcile_tables(fabric: &Fabric, loss: impl Fn(PoolAddr) -> Loss) -> Result<()> {
    for (_, table) in tables(fabric)? {
        for &piece in &table.pieces {
            let lost_primary = match loss(piece) {
                Loss::None | Loss::All => continue,
                Loss::Primary => true,
                Loss::Backup => false,
            };
            for slot in divergent(fabric, &table, piece)? {
                snapshot::reconcile(fabric, slot, lost_primary)?;
            }
        }
    }
    Ok(())
}

/// The locks of buckets `within` that somebody holds: the words, and what they are when free. Only
/// the first copy of a lock counts.
pub fn held_locks(
    fabric: &Fabric,
    within: impl Fn(PoolAddr) -> bool,
) -> Result<Vec<(PoolAddr, u64)>> {
    let mut held = Vec::new();
    for (_, table) in tables(fabric)? {
        for &piece in table.pieces.iter().filter(|&&piece| within(piece)) {
            let start = bucket_addr(piece, 0);
            let mut bytes = vec![0; (table.shape.per_piece * BUCKET) as usize];
            fabric.read(start, &mut bytes)?;
            let buckets = bytes.chunks_exact(BUCKET as usize).zip(0..);
            let locked = buckets.filter(|(bucket, _)| word(bucket, 0) != 0);
            held.extend(locked.map(|(_, index)| (bucket_addr(piece, index), 0)));
        }
    }
    Ok(held)
}

/// Slots whose copies differ.
fn divergent(fabric: &Fabric, table: &Table, piece: PoolAddr) -> Result<Vec<PoolAddr>> {
    let start = bucket_addr(piece, 0);
    let mut copies = Vec::new();
    for at in fabric.copies(start) {
        let mut bytes = vec![0; (table.shape.per_piece * BUCKET) as usize];
        fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
        copies.push(bytes);
    }
    let Some((first, rest)) = copies.split_first() else { return Ok(Vec::new()) };
    let buckets = (0..table.shape.per_piece).map(|number| bucket_addr(piece, number));
    let differs = |at: &PoolAddr| {
        let within = (at.0 - start.0) as usize;
        let word = within..within + 8;
        rest.iter().any(|copy| copy[word.clone()] != first[word.clone()])
    };
    Ok(buckets.flat_map(slots_of).filter(differs).collect())
}
