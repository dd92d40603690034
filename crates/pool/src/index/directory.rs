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

/// All entries of the directory.
pub(super) fn read_entries(fabric: &Fabric, root: Root) -> Result<Vec<Entry>> {
    let mut bytes = vec![0; 8 << root.depth];
    fabric.read(root.entry(0), &mut bytes)?;
    let words = bytes.chunks_exact(8).map(|bytes| Entry::from_word(word(bytes, 0), root.depth));
    words.collect()
}

impl Directory {
    /// Reads the directory; `None` in a pool without index.
    pub fn load(fabric: &Fabric) -> Result<Option<Directory>> {
        let Some(root) = read_root(fabric)? else { return Ok(None) };
        Ok(Some(Directory { root, entries: read_entries(fabric, root)? }))
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
        let (mut root, mut bytes) = ([0; 8], [0; 8]);
        let at = fabric.primary(self.root.entry(hash.suffix(self.root.depth)))?;
        let meta = meta_word(fabric, meta::INDEX_ROOT)?;
        fabric.batch(&mut [Verb::read(meta, &mut root), Verb::read(at, &mut bytes)])?;
        let none = || PoolError::Corrupt("the index's root is gone".into());
        let root = Root::from_word(word(&root, 0))?.ok_or_else(none)?;
        if root != self.root {
            self.entries = read_entries(fabric, root)?;
            self.root = root;
        } else {
            let entry = Entry::from_word(word(&bytes, 0), root.depth)?;
            self.entries[hash.suffix(root.depth) as usize] = entry;
        }
        Ok(self.place(hash))
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
