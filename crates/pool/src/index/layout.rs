//! Subtables, headers and directory entries, as they lie in the pool.

use crate::address::{ClientId, PoolAddr, GRANULE};
use crate::error::{PoolError, Result};

/// Bucket groups of a subtable. The group count fits the object classes without waste; twice
/// this many combined buckets can be chosen, so the table has room for all of them.
pub const GROUPS: u64 = 74;
/// Bytes of a bucket: a header word and seven slots.
pub const BUCKET: u64 = 64;
/// Slots of a bucket.
pub const SLOTS: u64 = 7;
/// Buckets of a subtable: [main, overflow, main] a group.
pub const BUCKETS: u64 = GROUPS * 3;
/// Bytes of a combined bucket: a main bucket and its overflow bucket, neighbours.
pub const COMBINED: usize = 2 * BUCKET as usize;
/// Bytes before the buckets: the object's header.
pub const TABLE_HEADER: u64 = 64;
/// Bytes of a subtable, object header and log entry included.
pub const SUBTABLE_BYTES: usize = (TABLE_HEADER + BUCKETS * BUCKET + 64) as usize;
/// Slots of a subtable.
pub const SLOTS_PER_TABLE: u64 = BUCKETS * SLOTS;
/// The deepest directory: suffixes have 26 bits.
pub const MAX_DEPTH: u8 = 26;

const ADDR_MASK: u64 = (1 << 40) - 1;
const ROOT_MARK: u64 = 0xa7;

/// First byte of bucket `index` (0 to [`BUCKETS`]) of the subtable at `table`.
pub const fn bucket_addr(table: PoolAddr, index: u64) -> PoolAddr {
    table.add(TABLE_HEADER + index * BUCKET)
}

/// Index of the first bucket of combined bucket `combined` (0 to 2 * [`GROUPS`]).
pub const fn first_bucket(combined: u64) -> u64 {
    combined / 2 * 3 + combined % 2
}

/// Index of the main bucket of combined bucket `combined`.
pub const fn main_bucket(combined: u64) -> u64 {
    combined / 2 * 3 + combined % 2 * 2
}

/// The header word of a bucket: which keys belong here, and who inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketHeader {
    /// How many bits of the hash the suffix has.
    pub depth: u8,
    /// The lower bits of all hashes in this subtable.
    pub suffix: u32,
    /// Who holds the bucket's insert lock.
    pub owner: ClientId,
}

impl BucketHeader {
    /// The word.
    pub const fn word(self) -> u64 {
        (self.depth as u64) << 58 | (self.suffix as u64) << 32 | self.owner.word()
    }

    /// The header in `word`.
    pub const fn from_word(word: u64) -> BucketHeader {
        BucketHeader {
            depth: (word >> 58) as u8,
            suffix: (word >> 32) as u32 & ((1 << 26) - 1),
            owner: ClientId::from_word(word),
        }
    }

    /// Whether it says `depth` and `suffix`, whoever holds the lock.
    pub const fn is_of(self, depth: u8, suffix: u32) -> bool {
        self.depth == depth && self.suffix == suffix
    }
}

/// The word at `meta::INDEX_ROOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The directory's object; its entries start [`TABLE_HEADER`] further.
    pub directory: PoolAddr,
    /// The directory has 2^depth entries now,
    pub depth: u8,
    /// and room for 2^max_depth.
    pub max_depth: u8,
}

impl Root {
    /// The word.
    pub const fn word(self) -> u64 {
        ROOT_MARK << 56
            | (self.depth as u64) << 48
            | (self.max_depth as u64) << 40
            | (self.directory.0 / GRANULE)
    }

    /// The root in `word`; `None` if there is no index yet.
    pub fn from_word(word: u64) -> Result<Option<Root>> {
        if word == 0 {
            return Ok(None);
        }
        let directory = PoolAddr((word & ADDR_MASK) * GRANULE);
        let root = Root { directory, depth: (word >> 48) as u8, max_depth: (word >> 40) as u8 };
        let sane = word >> 56 == ROOT_MARK
            && !directory.is_null()
            && root.depth <= root.max_depth
            && root.max_depth <= MAX_DEPTH;
        if !sane {
            return Err(PoolError::Corrupt(format!("index root {word:#x}")));
        }
        Ok(Some(root))
    }

    /// Where entry `index` lies.
    pub const fn entry(self, index: u32) -> PoolAddr {
        self.directory.add(TABLE_HEADER + index as u64 * 8)
    }
}

/// An entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The subtable.
    pub table: PoolAddr,
    /// The bits of the hash that all its keys share.
    pub depth: u8,
}

impl Entry {
    /// The word.
    pub const fn word(self) -> u64 {
        1 << 63 | (self.depth as u64) << 40 | (self.table.0 / GRANULE)
    }

    /// The entry in `word` of a directory that had the depth of `root` when that was read; `None`
    /// if it has been doubled since.
    pub fn from_word(word: u64, root: Root) -> Result<Option<Entry>> {
        let table = PoolAddr((word & ADDR_MASK) * GRANULE);
        let entry = Entry { table, depth: (word >> 40) as u8 };
        if table.is_null() || entry.word() != word || entry.depth > root.max_depth {
            return Err(PoolError::Corrupt(format!("index directory entry {word:#x}")));
        }
        Ok((entry.depth <= root.depth).then_some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtables_fill_their_class_and_all_buckets_lie_inside() {
        let class = crate::SizeClass::for_bytes(SUBTABLE_BYTES).unwrap();
        assert_eq!(class.bytes(), SUBTABLE_BYTES);
        for combined in 0..2 * GROUPS {
            let (first, main) = (first_bucket(combined), main_bucket(combined));
            assert!(first + 1 < BUCKETS && (first..first + 2).contains(&main));
            assert_ne!(main % 3, 1, "overflow buckets are in the middle");
        }
    }

    #[test]
    fn words_come_back_and_garbage_is_refused() {
        let owner = ClientId { index: 7, incarnation: 9 };
        let header = BucketHeader { depth: 26, suffix: (1 << 26) - 1, owner };
        assert_eq!(BucketHeader::from_word(header.word()), header);
        let root = Root { directory: PoolAddr(PoolAddr::LIMIT - 64), depth: 3, max_depth: 12 };
        assert_eq!(Root::from_word(root.word()).unwrap(), Some(root));
        assert_eq!(Root::from_word(0).unwrap(), None);
        assert!(Root::from_word(root.word() ^ 1 << 60).is_err());
        assert!(Root::from_word(Root { depth: 13, ..root }.word()).is_err());
        let entry = Entry { table: PoolAddr(0x1240), depth: 4 };
        let read = |word, depth| Entry::from_word(word, Root { depth, ..root });
        assert_eq!(read(entry.word(), 4).unwrap(), Some(entry));
        assert_eq!(read(entry.word(), 3).unwrap(), None);
        assert!(read(0, 3).is_err());
        assert!(read(entry.word() | 1 << 55, 12).is_err());
        assert!(read(Entry { depth: 13, ..entry }.word(), 12).is_err());
    }
}
