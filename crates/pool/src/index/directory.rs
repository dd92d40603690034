//! A client's copy of the directory.

use artesian_bus::{GlobalAddr, Verb};

use super::hash::KeyHash;
use super::layout::{self, Entry, Root};
use crate::address::PoolAddr;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::word;

/// Where a key belongs, as far as this client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The subtable.
    pub table: PoolAddr,
    /// Its depth.
    pub depth: u8,
    /// Its suffix.
    pub suffix: u32,
}

/// The client's copy: may lag behind, never ahead.
pub struct Directory {
    root: Root,
    entries: Vec<Entry>,
}

/// The primary copy of a word of the meta area.
pub(super) fn meta_word(fabric: &Fabric, offset: u64) -> Result<GlobalAddr> {
    let lost = || PoolError::Lost("no copy of the meta area is left".into());
    fabric.meta(offset).first().copied().ok_or_else(lost)
}

/// The index's root; `None` in a pool without index.
pub(super) fn read_root(fabric: &Fabric) -> Result<Option<Root>> {
    Root::from_word(fabric.read_word(meta_word(fabric, meta::INDEX_ROOT)?)?)
}

/// All entries of the directory; `None` if it has been doubled since `root` was read.
pub(super) fn read_entries(fabric: &Fabric, root: Root) -> Result<Option<Vec<Entry>>> {
    let mut bytes = vec![0; 8 << root.depth];
    fabric.read(root.entry(0), &mut bytes)?;
    bytes.chunks_exact(8).map(|bytes| Entry::from_word(word(bytes, 0), root)).collect()
}

/// The root and all entries; `None` in a pool without index.
pub(super) fn read_whole(fabric: &Fabric) -> Result<Option<(Root, Vec<Entry>)>> {
    doubling(|| {
        let Some(root) = read_root(fabric)? else { return Ok(Some(None)) };
        let entries = read_entries(fabric, root)?;
        Ok(entries.map(|entries| Some((root, entries))))
    })
}

/// Looks until the directory has not been doubled between two looks at it.
pub(super) fn doubling<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..=layout::MAX_DEPTH {
        if let Some(found) = look()? {
            return Ok(found);
        }
    }
    Err(PoolError::Corrupt("the index's directory is deeper than its root says".into()))
}

impl Directory {
    /// Reads the directory; `None` in a pool without index.
    pub fn load(fabric: &Fabric) -> Result<Option<Directory>> {
        Ok(read_whole(fabric)?.map(|(root, entries)| Directory { root, entries }))
    }

    /// Where a key with that hash belongs.
    #[inline]
    pub fn place(&self, hash: KeyHash) -> Place {
        let entry = self.entries[hash.suffix(self.root.depth) as usize];
        Place { table: entry.table, depth: entry.depth, suffix: hash.suffix(entry.depth) }
    }

    /// Reads the entry of `hash` again.
    #[cold]
    pub fn refresh(&mut self, fabric: &Fabric, hash: KeyHash) -> Result<Place> {
        doubling(|| self.refresh_once(fabric, hash))
    }

    fn refresh_once(&mut self, fabric: &Fabric, hash: KeyHash) -> Result<Option<Place>> {
        let (mut root, mut bytes) = ([0; 8], [0; 8]);
        let at = fabric.primary(self.root.entry(hash.suffix(self.root.depth)))?;
        let meta = meta_word(fabric, meta::INDEX_ROOT)?;
        fabric.batch(&mut [Verb::read(meta, &mut root), Verb::read(at, &mut bytes)])?;
        let none = || PoolError::Corrupt("the index's root is gone".into());
        let root = Root::from_word(word(&root, 0))?.ok_or_else(none)?;
        if root != self.root {
            let Some(entries) = read_entries(fabric, root)? else { return Ok(None) };
            (self.root, self.entries) = (root, entries);
        } else {
            let Some(entry) = Entry::from_word(word(&bytes, 0), root)? else { return Ok(None) };
            self.entries[hash.suffix(root.depth) as usize] = entry;
        }
        Ok(Some(self.place(hash)))
    }

    /// How many bits of the hash choose the entry.
    pub fn depth(&self) -> u8 {
        self.root.depth
    }

    /// Address of the main bucket that holds the insert lock of `hash` at `place`.
    pub fn lock_word(place: Place, hash: KeyHash) -> PoolAddr {
        layout::bucket_addr(place.table, layout::main_bucket(hash.buckets()[0]))
    }
}
