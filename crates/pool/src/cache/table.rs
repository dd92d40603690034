//! Where the table's parts lie: what every client keeps a copy of.

use super::layout::{self, Shape, FIXED, FIXED_BYTES, PIECES, SLOT, SLOTS};
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::KeyHash;
use crate::object::word;
use crate::slot::Slot;

/// Words of metadata of a slot.
pub(super) type Words = [u64; super::policy::metadata::WORDS];

/// A slot with its metadata, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where it is.
    pub at: PoolAddr,
    /// Its word.
    pub slot: Slot,
    /// The words behind it.
    pub words: Words,
}

impl Entry {
    /// No slot.
    pub(super) const NONE: Entry =
        Entry { at: PoolAddr::NULL, slot: Slot::EMPTY, words: [0; super::policy::metadata::WORDS] };

    /// The slot at `at` in its bytes.
    #[inline]
    pub(super) fn parse(at: PoolAddr, bytes: &[u8]) -> Entry {
        let mut words = [0; super::policy::metadata::WORDS];
        for (number, into) in words.iter_mut().enumerate() {
            *into = word(bytes, 8 + number * 8);
        }
        Entry { at, slot: Slot(word(bytes, 0)), words }
    }
}

/// The slots of the bucket at `bucket`, of which `bytes` are the slots.
#[inline]
pub(super) fn entries(bucket: PoolAddr, bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let first = bucket.add(layout::BUCKET_HEAD);
    let slots = bytes.chunks_exact(SLOT).take(SLOTS).enumerate();
    slots.map(move |(number, bytes)| Entry::parse(first.add((number * SLOT) as u64), bytes))
}

/// A cache's table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The root object.
    pub root: PoolAddr,
    /// What never changes.
    pub shape: Shape,
    /// The pieces.
    pub pieces: Vec<PoolAddr>,
}

impl Table {
    /// Reads the table of the root that `place` names; [`PoolError::Lost`] if it is gone.
    pub(super) fn load(fabric: &Fabric, place: u64) -> Result<Table> {
        let none = || PoolError::Corrupt("cache table: no root".into());
        let (root, class) = layout::place_of(place)?.ok_or_else(none)?;
        if class.bytes() <= PIECES as usize {
            return Err(PoolError::Corrupt(format!(
                "cache table: a root of {} bytes",
                class.bytes()
            )));
        }
        let mut fixed = [0; FIXED_BYTES];
        fabric.read(root.add(FIXED), &mut fixed)?;
        let shape = Shape::decode(&fixed)?;
        if layout::root_bytes(shape.num_pieces()) > class.bytes() {
            return Err(PoolError::Corrupt("cache table: more pieces than its root has".into()));
        }
        let mut table = Table { root, shape, pieces: Vec::new() };
        table.load_pieces(fabric)?;
        Ok(table)
    }

    /// Reads the list of pieces again: lost ones may have been made anew.
    pub(super) fn load_pieces(&mut self, fabric: &Fabric) -> Result<()> {
        let mut bytes = vec![0; 8 * self.shape.num_pieces() as usize];
        fabric.read(self.root.add(PIECES), &mut bytes)?;
        let piece = |bytes: &[u8]| {
            let none = || PoolError::Corrupt("cache table: a piece is missing".into());
            let (addr, class) = layout::place_of(word(bytes, 0))?.ok_or_else(none)?;
            let same = class == self.shape.class;
            same.then_some(addr).ok_or_else(|| {
                PoolError::Corrupt(format!("cache table: a piece of class {}", class.0))
            })
        };
        self.pieces = bytes.chunks_exact(8).map(piece).collect::<Result<_>>()?;
        Ok(())
    }

    /// The object class of the pieces.
    pub(super) fn class(&self) -> SizeClass {
        self.shape.class
    }

    /// The bucket of a key.
    #[inline]
    pub(super) fn bucket_of(&self, hash: KeyHash) -> PoolAddr {
        self.bucket(self.shape.bucket_of(hash))
    }

    /// Bucket `index` of the whole table.
    #[inline]
    pub(super) fn bucket(&self, index: u64) -> PoolAddr {
        let piece = self.pieces[(index / self.shape.per_piece) as usize];
        layout::bucket_addr(piece, index % self.shape.per_piece)
    }

    /// Up to `most` buckets from bucket `index` on that lie one behind the other.
    #[inline]
    pub(super) fn run(&self, index: u64, most: u64) -> u64 {
        let per_piece = self.shape.per_piece;
        most.min(per_piece - index % per_piece).min(self.shape.buckets - index)
    }
}
