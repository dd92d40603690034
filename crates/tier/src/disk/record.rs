//! A record of a segment: a page of header, then the bytes of a block.
//!
//! ```text
//! 0 magic | 8 state | 16 checksum of 24.. | 24 key (32 bytes) | 56 bytes | 64 bytes of a part
//! 72 room | 80 saved, ms since 1970 | 88 offset of the record | 96 checksum of each part
//! ```
//!
//! All little-endian words. `room` is what the record takes in the file, header included; `offset`
//! is its own place, so that bytes that were moved or copied elsewhere are no record. A block is
//! cut into equal parts, but for the last, and each verifies by itself: so its layers can be used
//! as they come.

use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::store::{Key, KEY_BYTES};

/// Headers, records and holes are made of whole pages.
pub const PAGE: u64 = 4096;
/// Bytes of a header.
pub const HEADER_BYTES: usize = PAGE as usize;
/// Where the state is.
pub const STATE: u64 = 8;

const MAGIC: u64 = u64::from_le_bytes(*b"ARTTIER2");
const SEALED: usize = 24;
const SUMS: usize = 96;
/// Checksums for which there is room; parts of a block with more layers take several of them.
pub const MOST_PARTS: u64 = (PAGE - SUMS as u64) / 8;
/// More than any block has: a header that says so is damaged.
const MOST_BYTES: u64 = 1 << 32;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its bytes are being written.
    Writing = 1,
    /// It can be read.
    Live = 2,
    /// It was taken away.
    Dead = 3,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub state: State,
    pub key: Key,
    pub bytes: u64,
    /// Of each part but the last.
    pub part_bytes: u64,
    /// A checksum for each part.
    pub sums: Arc<[u64]>,
    pub saved_ms: u64,
    pub offset: u64,
}

/// The checksum of a part's bytes.
fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Bytes that a block of so many takes in the file.
pub fn room(bytes: u64) -> u64 {
    PAGE + bytes.next_multiple_of(PAGE)
}

impl Header {
    /// Of a block that is to be written, cut where `layer_bytes` say, if there are not too many.
    pub fn of(key: &Key, bytes: &[u8], layer_bytes: u64, saved_ms: u64) -> Header {
        let num_bytes = bytes.len() as u64;
        let layer_bytes = layer_bytes.clamp(1, num_bytes.max(1));
        let layers = num_bytes.div_ceil(layer_bytes).div_ceil(MOST_PARTS).max(1);
        let part_bytes = layer_bytes * layers;
        let sums = bytes.chunks(part_bytes as usize).map(checksum).collect();
        let state = State::Writing;
        Header { state, key: *key, bytes: num_bytes, part_bytes, sums, saved_ms, offset: 0 }
    }

    /// What the record takes in the file.
    pub fn room(&self) -> u64 {
        room(self.bytes)
    }

    /// Whether a block's bytes from `offset` on can be verified: they are whole parts.
    pub fn has_parts(&self, offset: u64, bytes: u64) -> bool {
        let Some(end) = offset.checked_add(bytes) else { return false };
        let is_border = |at: u64| at.is_multiple_of(self.part_bytes) || at == self.bytes;
        end <= self.bytes && is_border(offset) && is_border(end)
    }

    /// Whether `bytes`, whole parts from `offset` on, are those that were saved.
    pub fn verifies(&self, offset: u64, bytes: &[u8]) -> bool {
        let parts = bytes.chunks(self.part_bytes as usize);
        let sums = self.sums.get((offset / self.part_bytes) as usize..).unwrap_or_default();
        parts.len() <= sums.len() && parts.zip(sums).all(|(part, &sum)| checksum(part) == sum)
    }

    /// The whole page.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let mut put = |at: usize, word: u64| out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(0, MAGIC);
        put(STATE as usize, self.state as u64);
        put(56, self.bytes);
        put(64, self.part_bytes);
        put(72, self.room());
        put(80, self.saved_ms);
        put(88, self.offset);
        for (index, &sum) in self.sums.iter().enumerate() {
            put(SUMS + 8 * index, sum);
        }
        out[24..24 + KEY_BYTES].copy_from_slice(&self.key);
        let sum = checksum(&out[SEALED..]);
        out[16..24].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// `None` if these bytes, found at `offset`, are no header.
    pub fn decode(bytes: &[u8; HEADER_BYTES], offset: u64) -> Option<Header> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let state = match word(STATE as usize) {
            1 => State::Writing,
            2 => State::Live,
            3 => State::Dead,
            _ => return None,
        };
        let (num_bytes, part_bytes) = (word(56), word(64));
        let is_whole = word(0) == MAGIC && word(16) == checksum(&bytes[SEALED..]);
        let is_possible = num_bytes < MOST_BYTES && word(88) == offset && part_bytes > 0;
        if !is_whole || !is_possible || word(72) != room(num_bytes) {
            return None;
        }
        let num_parts = num_bytes.div_ceil(part_bytes);
        if num_parts > MOST_PARTS {
            return None;
        }
        let sums = (0..num_parts as usize).map(|index| word(SUMS + 8 * index)).collect();
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&bytes[24..24 + KEY_BYTES]);
        Some(Header { state, key, bytes: num_bytes, part_bytes, sums, saved_ms: word(80), offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(offset: u64) -> Header {
        let header = Header::of(&[7; KEY_BYTES], &[9; 5_000], 300, 1_234);
        Header { state: State::Live, offset, ..header }
    }

    fn decode(bytes: &[u8], offset: u64) -> Option<Header> {
        Header::decode(bytes.try_into().unwrap(), offset)
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = header(8192);
        assert_eq!(decode(&header.encode(), 8192), Some(header.clone()));
        assert_eq!((header.room(), header.sums.len()), (3 * PAGE, 17));
        assert_eq!(decode(&header.encode(), 4096), None, "another place");
        assert_eq!(Header::decode(&[0; HEADER_BYTES], 0), None);
    }

    #[test]
    fn layers_share_parts_when_there_are_many() {
        for (bytes, layer_bytes) in [(1, 1), (5_000, 300), (100_000, 7), (3_000, 1 << 40), (0, 9)] {
            let block: Vec<u8> = (0..bytes).map(|at: u32| ((at * at) >> 3) as u8).collect();
            let header = Header::of(&[1; KEY_BYTES], &block, layer_bytes, 0);
            assert!(header.sums.len() as u64 <= MOST_PARTS);
            assert_eq!(decode(&header.encode(), 0), Some(header.clone()));
            assert!(header.has_parts(0, block.len() as u64) && header.verifies(0, &block));
            let part = header.part_bytes;
            assert_eq!(part % layer_bytes.min(u64::from(bytes).max(1)), 0);
            assert!(
                !header.has_parts(0, u64::from(bytes) + 1) && !header.has_parts(part, u64::MAX)
            );
            if part < block.len() as u64 {
                assert!(header.verifies(part, &block[part as usize..]));
                assert!(!header.verifies(0, &block[part as usize..]), "of another place");
                assert!(!header.has_parts(part / 2 + 1, part));
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..HEADER_BYTES * 8) {
            let mut bytes = header(0).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&bytes, 0);
            // The state stands outside of the checksum: it changes.
            let in_state = (STATE as usize..STATE as usize + 8).contains(&(bit / 8));
            prop_assert!(read.is_none() || in_state && read.unwrap().state != State::Live);
        }

        #[test]
        fn garbage_is_no_header(
            bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES), offset: u64,
        ) {
            prop_assert_eq!(decode(&bytes, offset), None);
        }
    }
}
