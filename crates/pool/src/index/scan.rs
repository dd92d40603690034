//! Going through all slots in pieces, while others change them.
//!
//! A subtable holds the keys whose hashes end in its suffix. In the order of the reversed hashes
//! that is an interval; a split cuts it in two and leaves every slot at its place in its table. So
//! a position (start of an interval, bucket) stays meaningful: what a split moves away from behind
//! it comes again in the later half, and nothing that stays in the index is passed over.

use artesian_bus::Verb;

use super::bucket::Candidate;
use super::directory::{Directory, Place};
use super::hash::KeyHash;
use super::layout::{self, BucketHeader, BUCKET, BUCKETS, MAX_DEPTH, SLOTS};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::word;
use crate::slot::Slot;

/// Buckets of one piece at most.
pub const PIECE: u64 = 37;
/// Looks at a subtable that is being split.
const ATTEMPTS: u32 = 64;

/// Where a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The lower bits of the hash, reversed.
    position: u32,
    bucket: u64,
}

impl Cursor {
    /// Before everything.
    pub const START: Cursor = Cursor { position: 0, bucket: 0 };

    /// The start of the subtable that these lower bits of a hash fall in.
    pub fn at(bits: u32) -> Cursor {
        Cursor { position: bits & ((1 << MAX_DEPTH) - 1), bucket: 0 }
    }

    /// The number that callers keep; 0 is the start.
    pub fn to_word(self) -> u64 {
        u64::from(self.position) << 8 | self.bucket
    }

    /// The cursor of a number; any number is harmless.
    pub fn from_word(word: u64) -> Cursor {
        let position = (word >> 8) as u32 & ((1 << MAX_DEPTH) - 1);
        Cursor { position, bucket: (word & 0xff).min(BUCKETS) }
    }

    fn hash(self) -> KeyHash {
        KeyHash(u64::from(self.position.reverse_bits() >> (32 - MAX_DEPTH)))
    }

    /// What comes after the subtable at `place`.
    fn behind(self, place: Place) -> Option<Cursor> {
        let length = 1u32 << (MAX_DEPTH - place.depth.min(MAX_DEPTH));
        let position = (self.position & !(length - 1)) + length;
        (position < 1 << MAX_DEPTH).then_some(Cursor { position, bucket: 0 })
    }
}

/// A piece of the index.
pub struct Piece {
    /// Its slots that hold something.
    pub slots: Vec<Candidate>,
    /// Its vacant slots that still name a deletion's object.
    pub deleted: Vec<Candidate>,
    /// The subtable's depth: one in 2^depth of all keys belongs there.
    pub depth: u8,
    /// Whether it was the subtable's last piece.
    pub is_last: bool,
    /// Where to go on; `None` at the end of the index.
    pub next: Option<Cursor>,
}

/// The slots from `cursor` on, up to [`PIECE`] buckets.
pub fn piece(fabric: &Fabric, directory: &mut Directory, cursor: Cursor) -> Result<Piece> {
    let hash = cursor.hash();
    let first = cursor.bucket.min(BUCKETS);
    let count = PIECE.min(BUCKETS - first);
    let mut bytes = vec![0; (count * BUCKET) as usize];
    for attempt in 0..ATTEMPTS {
        let place = directory.place(hash);
        let start = layout::bucket_addr(place.table, first);
        let mut header = [0; 8];
        let head = fabric.primary(layout::bucket_addr(place.table, 0))?;
        let mut verbs = [Verb::read(head, &mut []), Verb::read(head, &mut header)];
        if count > 0 {
            verbs[0] = Verb::read(fabric.primary(start)?, &mut bytes);
        }
        // The header is read last: if it is the expected one, no slot had been emptied.
        fabric.batch(&mut verbs[usize::from(count == 0)..])?;
        let found = BucketHeader::from_word(u64::from_le_bytes(header));
        let stands = found.is_of(place.depth, place.suffix);
        if !stands && directory.refresh(fabric, hash)? != place {
            fabric.verbs().relax(200 << attempt.min(10));
            continue;
        }
        let all = (0..count * SLOTS).map(|number| {
            let within = number / SLOTS * BUCKET + 8 + number % SLOTS * 8;
            Candidate { at: start.add(within), slot: Slot(word(&bytes, within as usize)) }
        });
        let (vacant, slots): (Vec<Candidate>, Vec<Candidate>) =
            all.filter(|seen| seen.slot != Slot::EMPTY).partition(|seen| seen.slot.is_vacant());
        let named = |seen: &Candidate| seen.slot.names().is_some_and(|addr| !addr.is_null());
        let deleted = vacant.into_iter().filter(named).collect();
        let is_last = first + count == BUCKETS;
        let next = match is_last {
            true => cursor.behind(place),
            false => Some(Cursor { bucket: first + count, ..cursor }),
        };
        return Ok(Piece { slots, deleted, depth: place.depth, is_last, next });
    }
    let what = "a subtable of the hash index that stays".into();
    Err(PoolError::Timeout { what, waited_ms: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::PoolAddr;

    #[test]
    fn cursors_come_back_and_cover_all_hashes_once() {
        for word in [0, 1, 77 << 8 | 5, u64::MAX] {
            let cursor = Cursor::from_word(word);
            assert_eq!(Cursor::from_word(cursor.to_word()), cursor);
        }
        // A tree of subtables: suffix 0 of depth 1, suffixes 01 and 11 of depth 2.
        let place_of = |hash: KeyHash| {
            let depth = if hash.suffix(1) == 0 { 1 } else { 2 };
            Place { table: PoolAddr(64), depth, suffix: hash.suffix(depth) }
        };
        let mut seen = Vec::new();
        let mut at = Some(Cursor::START);
        while let Some(cursor) = at {
            let place = place_of(cursor.hash());
            seen.push((place.depth, place.suffix));
            at = cursor.behind(place);
        }
        assert_eq!(seen, [(1, 0b0), (2, 0b01), (2, 0b11)]);
    }
}
