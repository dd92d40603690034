//! A record of a segment: a page of header, then the bytes of a block.
//!
//! ```text
//! 0 magic | 8 state | 16 checksum of 24..96 | 24 key (32 bytes) | 56 bytes | 64 checksum of them
//! 72 room | 80 saved, ms since 1970 | 88 offset of the record
//! ```
//!
//! All little-endian words. `room` is what the record takes in the file, header included; `offset`
//! is its own place, so that bytes that were moved or copied elsewhere are no record.

use twox_hash::XxHash3_64;

use crate::store::{Key, KEY_BYTES};

/// Headers, records and holes are made of whole pages.
pub const PAGE: u64 = 4096;
/// Bytes of a header that mean something.
pub const HEADER_BYTES: usize = 96;
/// Where the state is.
pub const STATE: u64 = 8;

const MAGIC: u64 = u64::from_le_bytes(*b"ARTTIER1");
const SEALED: usize = 24;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub state: State,
    pub key: Key,
    pub bytes: u64,
    pub checksum: u64,
    pub saved_ms: u64,
    pub offset: u64,
}

/// The checksum of a block's bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Bytes that a block of so many takes in the file.
pub fn room(bytes: u64) -> u64 {
    PAGE + bytes.next_multiple_of(PAGE)
}

impl Header {
    /// What the record takes in the file.
    pub fn room(&self) -> u64 {
        room(self.bytes)
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, word: u64| out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        put(0, MAGIC);
        put(STATE as usize, self.state as u64);
        put(56, self.bytes);
        put(64, self.checksum);
        put(72, self.room());
        put(80, self.saved_ms);
        put(88, self.offset);
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
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&bytes[24..24 + KEY_BYTES]);
        let header = Header {
            state,
            key,
            bytes: word(56),
            checksum: word(64),
            saved_ms: word(80),
            offset: word(88),
        };
        let is_whole = word(0) == MAGIC && word(16) == checksum(&bytes[SEALED..]);
        let is_possible = header.bytes < MOST_BYTES && header.offset == offset;
        (is_whole && is_possible && word(72) == header.room()).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(offset: u64) -> Header {
        let (key, checksum) = ([7; KEY_BYTES], 99);
        Header { state: State::Live, key, bytes: 5_000, checksum, saved_ms: 1_234, offset }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = header(8192);
        assert_eq!(Header::decode(&header.encode(), 8192), Some(header));
        assert_eq!(header.room(), 3 * PAGE);
        assert_eq!(Header::decode(&header.encode(), 4096), None, "another place");
        assert_eq!(Header::decode(&[0; HEADER_BYTES], 0), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..HEADER_BYTES * 8) {
            let mut bytes = header(0).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Header::decode(&bytes, 0);
            // The state stands outside of the checksum: it changes.
            let in_state = (STATE as usize..STATE as usize + 8).contains(&(bit / 8));
            prop_assert!(read.is_none() || in_state && read.unwrap().state != State::Live);
        }

        #[test]
        fn garbage_is_no_header(
            bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES), offset: u64,
        ) {
            prop_assert_eq!(Header::decode(&bytes.try_into().unwrap(), offset), None);
        }
    }
}
