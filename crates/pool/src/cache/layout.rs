//! The table's parts as they lie in the pool.
//!
//! ```text
//! root (one object): header 64 | limits 64 | algorithms 192 | history counter 64 | usage 64
//!     | weights 64 | addresses of the pieces, a word each
//! piece (an object): header 64 | buckets
//! bucket 448: lock word, 0 .. (64) | 8 slots of 48
//! slot 48: slot word | hash | insert | last | previous | freq
//! ```
//!
//! Slot words are the same on all copies but for open rounds. The lock word and the five words of
//! metadata count on the primary copy alone: losing them with a node costs nothing but quality.

use crate::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::config::{CacheConfig, MAX_ALGORITHM_BYTES};
use super::policy::{metadata, MOST_EXPERTS};
use crate::address::{PoolAddr, GRANULE};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::index::KeyHash;
use crate::object::{word, LOG_BYTES};
use crate::slot::Slot;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;
/// Bytes of a slot with its metadata.
pub(super) const SLOT: usize = 48;
/// Bytes of a bucket's slots.
pub(super) const BUCKET_SLOTS: usize = SLOTS * SLOT;
/// Bytes of a bucket before its slots.
pub(super) const BUCKET_HEAD: u64 = 64;
/// Bytes of a bucket.
pub(super) const BUCKET: u64 = BUCKET_HEAD + BUCKET_SLOTS as u64;
/// Bytes before the buckets of a piece: the object's header.
pub(super) const PIECE_HEAD: u64 = 64;

/// Where the metadata begins in a slot, in bytes.
pub(super) const METADATA: u64 = 8;
/// Where the word of insertion lies; in a history entry it holds [`history_word`].
pub(super) const INSERT: u64 = METADATA + 8 * metadata::INSERT as u64;
/// Where the two words that a hit writes begin.
pub(super) const LAST: u64 = METADATA + 8 * metadata::LAST as u64;
/// Where the word of accesses and bytes lies.
pub(super) const FREQ: u64 = METADATA + 8 * metadata::FREQ as u64;

/// Bytes of the root that never change.
pub(super) const FIXED_BYTES: usize = 256;
/// Where they begin in the root.
pub(super) const FIXED: u64 = 64;
/// Word of the root: evictions so far, of which the lower 40 bits count.
pub(super) const EVICTIONS: u64 = 320;
/// Word of the root: objects and bytes in use, see [`super::usage`].
pub(super) const USED: u64 = 384;
/// Word of the root: for which deaths and changes of the view the use has been counted anew.
pub(super) const COUNTED: u64 = 392;
/// Words of the root: the experts' weights.
pub(super) const WEIGHTS: u64 = 448;
/// The root's list of pieces.
pub(super) const PIECES: u64 = 512;

const MAGIC: u64 = 0x3163_6163_7472_6100;
/// A key's slot is found by its bucket alone, so a bucket must seldom be full: of eight slots this
/// many are used by objects and history entries,
const USED_SLOTS: u64 = 5;
/// and no more than this many by objects, which are given up less gladly.
const OBJECT_SLOTS: u64 = 3;
/// Fewest buckets.
const FEWEST: u64 = 4;
/// Most buckets of a table.
const MOST: u64 = 1 << 32;

/// What the root says of the table, and what never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The cache's parameters; history as it is, not 0 for the usual.
    pub config: CacheConfig,
    /// Buckets of the whole table.
    pub buckets: u64,
    /// Buckets of a piece; the last one may have fewer in use.
    pub per_piece: u64,
    /// The class of the pieces' objects.
    pub class: SizeClass,
}

impl Shape {
    /// The table for `config` in pieces of at most `most` bytes.
    pub(super) fn of(config: &CacheConfig, most: usize) -> Option<Shape> {
        let objects = config.expected();
        let buckets = (objects + config.remembered()).div_ceil(USED_SLOTS);
        let buckets = buckets.max(objects.div_ceil(OBJECT_SLOTS)).max(FEWEST);
        let whole = PIECE_HEAD + buckets * BUCKET + LOG_BYTES as u64;
        let bytes = whole.min(most as u64);
        let fits = |class: &SizeClass| class.bytes() <= most && per_piece(*class) > 0;
        let class = SizeClass::for_bytes(bytes as usize)
            .filter(fits)
            .or_else(|| (0..SizeClass::COUNT as u8).rev().map(SizeClass).find(fits))?;
        let config = CacheConfig { history: config.remembered(), ..config.clone() };
        Some(Shape { config, buckets, per_piece: per_piece(class), class })
    }

    /// Pieces of the table.
    pub(super) fn num_pieces(&self) -> u64 {
        self.buckets.div_ceil(self.per_piece)
    }

    /// The bucket of a key, by bits of its hash that its fingerprint does not have.
    #[inline]
    pub(super) fn bucket_of(&self, hash: KeyHash) -> u64 {
        ((u128::from(hash.0 << 8) * u128::from(self.buckets)) >> 64) as u64
    }

    /// The root's unchanging bytes.
    pub(super) fn encode(&self) -> [u8; FIXED_BYTES] {
        let CacheConfig { objects, bytes, history, sample, adaptive, .. } = self.config;
        let mut out = [0; FIXED_BYTES];
        let cut = self.per_piece << 8 | u64::from(self.class.0);
        let habits = u64::from(sample) << 8 | u64::from(adaptive);
        let words = [MAGIC, self.buckets, cut, objects, bytes, history, habits];
        for (at, number) in words.into_iter().enumerate() {
            out[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        let names = out[64..].chunks_exact_mut(MAX_ALGORITHM_BYTES);
        for (name, into) in self.config.algorithms.iter().zip(names) {
            into[..name.len()].copy_from_slice(name.as_bytes());
        }
        let sum = check(&out);
        out[56..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// What the bytes say, every number checked.
    pub(super) fn decode(bytes: &[u8; FIXED_BYTES]) -> Result<Shape> {
        let bad = |what: &str| PoolError::Corrupt(format!("cache table: {what}"));
        if word(bytes, 0) != MAGIC || word(bytes, 56) != check(bytes) {
            return Err(bad("its check differs"));
        }
        let (cut, habits) = (word(bytes, 16), word(bytes, 48));
        let class = SizeClass(cut as u8);
        let mut algorithms = Vec::new();
        for name in bytes[64..].chunks_exact(MAX_ALGORITHM_BYTES).take(MOST_EXPERTS) {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            let name = std::str::from_utf8(&name[..end]).map_err(|_| bad("a name is no text"))?;
            algorithms.extend((end > 0).then(|| name.to_owned()));
        }
        let config = CacheConfig {
            objects: word(bytes, 24),
            bytes: word(bytes, 32),
            algorithms,
            adaptive: habits & 1 != 0,
            sample: (habits >> 8) as u32,
            history: word(bytes, 40),
        };
        config.validate().map_err(|_| bad("impossible parameters"))?;
        let shape = Shape { config, buckets: word(bytes, 8), per_piece: cut >> 8, class };
        let sane = (class.0 as usize) < SizeClass::COUNT
            && (1..=MOST).contains(&shape.buckets)
            && shape.per_piece > 0
            && shape.per_piece == per_piece(class);
        if sane {
            Ok(shape)
        } else {
            Err(bad("impossible numbers"))
        }
    }
}

fn check(fixed: &[u8; FIXED_BYTES]) -> u64 {
    xxh3_64_with_seed(&fixed[64..], xxh3_64(&fixed[..56]))
}

fn per_piece(class: SizeClass) -> u64 {
    (class.bytes() as u64).saturating_sub(PIECE_HEAD + LOG_BYTES as u64) / BUCKET
}

/// Bytes of the root of a table of so many pieces.
pub(super) fn root_bytes(pieces: u64) -> usize {
    PIECES as usize + 8 * pieces as usize + LOG_BYTES
}

/// First byte of bucket `index` of the piece at `piece`: its lock word.
pub(super) const fn bucket_addr(piece: PoolAddr, index: u64) -> PoolAddr {
    piece.add(PIECE_HEAD + index * BUCKET)
}

/// The slots of the bucket at `bucket`, their first words.
pub(super) fn slots_of(bucket: PoolAddr) -> impl Iterator<Item = PoolAddr> {
    (0..SLOTS as u64).map(move |slot| bucket.add(BUCKET_HEAD + slot * SLOT as u64))
}

/// The object of `class` at `addr`, in a word.
pub(super) const fn place_word(class: SizeClass, addr: PoolAddr) -> u64 {
    1 << 63 | (class.0 as u64) << 40 | (addr.0 / GRANULE)
}

/// The object that such a word names; `None` if it is 0.
pub(super) fn place_of(place: u64) -> Result<Option<(PoolAddr, SizeClass)>> {
    if place == 0 {
        return Ok(None);
    }
    let addr = PoolAddr((place & ((1 << 40) - 1)) * GRANULE);
    let class = SizeClass((place >> 40) as u8);
    let sane = place == place_word(class, addr) && (class.0 as usize) < SizeClass::COUNT;
    if addr.is_null() || !sane {
        return Err(PoolError::Corrupt(format!("cache table: {place:#x} names no part of it")));
    }
    Ok(Some((addr, class)))
}

/// Evictions are numbered by 40 bits.
pub(super) const NUMBER: u64 = (1 << 40) - 1;

/// What stands in a history entry's word of insertion: the number of the eviction, and a part of
/// the slot's value by which one sees that it is of this eviction.
pub(super) fn history_word(slot: Slot, number: u64) -> u64 {
    (number & NUMBER) << 24 | mark(slot)
}

/// The number in a history entry's word of insertion; `None` if that is of something else.
pub(super) fn history_number(slot: Slot, insert: u64) -> Option<u64> {
    (insert & 0xff_ffff == mark(slot)).then_some(insert >> 24)
}

fn mark(slot: Slot) -> u64 {
    slot.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> CacheConfig {
        let algorithms = vec!["lru".into(), "x".repeat(MAX_ALGORITHM_BYTES)];
        CacheConfig { bytes: 1 << 30, algorithms, ..CacheConfig::of_objects(100_000) }
    }

    #[test]
    fn shapes_come_back_and_damage_is_noticed() {
        for most in [640, 4096, 1 << 16, 1 << 22] {
            let shape = Shape::of(&config(), most).unwrap();
            assert!(shape.class.bytes() <= most && shape.num_pieces() >= 1);
            assert!(shape.num_pieces() * shape.per_piece >= shape.buckets);
            let end = PIECE_HEAD + shape.per_piece * BUCKET + LOG_BYTES as u64;
            assert!(end as usize <= shape.class.bytes());
            let mut bytes = shape.encode();
            assert_eq!(Shape::decode(&bytes).unwrap(), shape);
            bytes[70] ^= 1;
            assert!(Shape::decode(&bytes).is_err());
        }
        assert_eq!(Shape::of(&config(), 448), None, "no bucket fits");
        assert_eq!(Shape::of(&CacheConfig::of_objects(1), 1 << 20).unwrap().buckets, FEWEST);
    }

    #[test]
    fn keys_spread_over_all_buckets() {
        let shape = Shape::of(&CacheConfig::of_objects(500), 1 << 20).unwrap();
        let mut counts = vec![0; shape.buckets as usize];
        for key in 0..20_000u32 {
            let hash = KeyHash::of(3, &key.to_le_bytes());
            counts[shape.bucket_of(hash) as usize] += 1;
        }
        let mean = 20_000 / shape.buckets as i32;
        assert!(counts.iter().all(|&count| (mean / 2..mean * 2).contains(&count)), "{counts:?}");
        assert_eq!(shape.bucket_of(KeyHash(u64::MAX)), shape.buckets - 1);
    }

    #[test]
    fn history_words_belong_to_their_slot() {
        let (one, two) = (Slot::history(1, 3, PoolAddr(640)), Slot::history(2, 3, PoolAddr(640)));
        let word = history_word(one, 77 | 1 << 40);
        assert_eq!((history_number(one, word), history_number(two, word)), (Some(77), None));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(
            words in proptest::collection::vec(any::<u64>(), FIXED_BYTES / 8), place: u64,
        ) {
            let mut bytes = [0; FIXED_BYTES];
            for (at, word) in words.into_iter().enumerate() {
                bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
            bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
            let sum = check(&bytes);
            bytes[56..64].copy_from_slice(&sum.to_le_bytes());
            let _ = Shape::decode(&bytes);
            if let Ok(Some((addr, class))) = place_of(place) {
                prop_assert_eq!(place_word(class, addr), place);
            }
        }
    }
}
