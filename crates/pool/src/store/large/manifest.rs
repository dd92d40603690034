//! The value of a manifest: where the pieces of a large value lie.
//!
//! ```text
//! 0 bytes of the value u64 | 8 bytes of every piece but the last u32 | 12 0 u32
//! 16 then for every piece: its slot u64 | its checksum u64
//! ```
//!
//! A piece is an object of [`Kind::Chunk`](crate::object::Kind). Its key is the hash of the value's
//! key and the piece's number, so that what a dead client has left is known to belong to a value or
//! to none, and so that a manifest may take over the pieces of another one of the same key.

use crate::xxh3::xxh3_64_with_seed;

use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::index::KeyHash;
use crate::object::{word, Header, Kind, HEADER_BYTES, LOG_BYTES};
use crate::slot::Slot;

/// Most bytes of a value.
pub const MAX_VALUE_BYTES: usize = 1 << 30;
/// Bytes of a piece's key: header and key are a cache line, so that pieces are aligned.
pub const KEY_BYTES: usize = 64 - HEADER_BYTES;
/// Bytes of a piece's object beside its part of the value.
pub const PIECE_EXTRA: usize = HEADER_BYTES + KEY_BYTES + LOG_BYTES;

const HEAD: usize = 16;
const PART: usize = 16;

/// A piece of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its object: address and class.
    pub slot: Slot,
    /// Checksum of its bytes, by its [`Piece`].
    pub sum: u64,
}

impl Part {
    /// Its object.
    pub fn object(&self) -> Option<(PoolAddr, SizeClass)> {
        Some((self.slot.addr(), self.slot.class()?))
    }
}

/// A large value's pieces in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Bytes of the value.
    pub bytes: usize,
    /// Bytes of every piece but the last.
    pub piece: usize,
    /// The pieces.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// How many bytes the manifest of a value of `bytes` has.
    pub const fn encoded_bytes(bytes: usize, piece: usize) -> usize {
        HEAD + bytes.div_ceil(piece) * PART
    }

    /// How many pieces a manifest of `len` bytes names.
    pub const fn pieces_in(len: usize) -> u64 {
        (len.saturating_sub(HEAD) / PART) as u64
    }

    /// The value of the manifest's object.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.parts.len() * PART);
        bytes.extend_from_slice(&(self.bytes as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.piece as u64).to_le_bytes());
        for part in &self.parts {
            bytes.extend_from_slice(&part.slot.0.to_le_bytes());
            bytes.extend_from_slice(&part.sum.to_le_bytes());
        }
        bytes
    }

    /// The manifest in the value of its object.
    pub fn decode(bytes: &[u8]) -> Result<Manifest> {
        let corrupt = |what: &str| Err(PoolError::Corrupt(format!("manifest: {what}")));
        if bytes.len() < HEAD || !(bytes.len() - HEAD).is_multiple_of(PART) {
            return corrupt("cut short");
        }
        let (total, piece) = (word(bytes, 0), word(bytes, 8));
        if total > MAX_VALUE_BYTES as u64 || piece == 0 || piece > u64::from(u32::MAX) {
            return corrupt("impossible lengths");
        }
        let (total, piece) = (total as usize, piece as usize);
        let parts: Vec<Part> = bytes[HEAD..]
            .chunks_exact(PART)
            .map(|bytes| Part { slot: Slot(word(bytes, 0)), sum: word(bytes, 8) })
            .collect();
        let manifest = Manifest { bytes: total, piece, parts };
        if manifest.parts.len() != total.div_ceil(piece) {
            return corrupt("pieces are missing");
        }
        let fits = |(number, part): (usize, &Part)| {
            part.object().is_some_and(|(addr, class)| {
                !addr.is_null() && manifest.len_of(number) + PIECE_EXTRA <= class.bytes()
            })
        };
        if !manifest.parts.iter().enumerate().all(fits) {
            return corrupt("a piece that cannot be");
        }
        Ok(manifest)
    }

    /// Bytes of the value in piece `number`.
    pub fn len_of(&self, number: usize) -> usize {
        self.bytes.saturating_sub(number * self.piece).min(self.piece)
    }

    /// Bytes that the pieces take in the pool.
    pub fn parts_bytes(&self) -> u64 {
        parts_bytes(&self.parts)
    }
}

/// Bytes that pieces take in the pool.
pub fn parts_bytes(parts: &[Part]) -> u64 {
    parts.iter().filter_map(Part::object).map(|(_, class)| class.bytes() as u64).sum()
}

/// Header and key of a piece's object.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    header: Header,
    key: [u8; KEY_BYTES],
}

impl Piece {
    /// Bytes of its object before those of the value.
    pub const HEAD_BYTES: u64 = (HEADER_BYTES + KEY_BYTES) as u64;

    /// Piece `number` of the value of a key, `len` bytes long.
    pub fn new(namespace: u16, hash: KeyHash, number: usize, len: usize) -> Piece {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&hash.0.to_le_bytes());
        key[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        let (kind, version, expires_ms) = (Kind::Chunk, 0, 0);
        let (key_len, value_len) = (KEY_BYTES as u16, len as u32);
        let header = Header { kind, version, namespace, key_len, value_len, expires_ms };
        Piece { header, key }
    }

    /// The checksum of its bytes; the lower half stands in its header.
    #[inline]
    pub fn sum(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.header.seed(&self.key))
    }

    /// The object's bytes before those of the value.
    pub fn head(&self, sum: u64) -> [u8; HEADER_BYTES + KEY_BYTES] {
        let mut bytes = [0; HEADER_BYTES + KEY_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.encode_with(sum as u32));
        bytes[HEADER_BYTES..].copy_from_slice(&self.key);
        bytes
    }

    /// The hash of the value's key in a piece's key.
    pub fn hash_in(key: &[u8]) -> Option<KeyHash> {
        (key.len() == KEY_BYTES).then(|| KeyHash(word(key, 0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(total: usize, piece: usize) -> Manifest {
        let class = SizeClass::for_bytes(piece + PIECE_EXTRA).unwrap();
        let slot = |at: u64| Slot::new(0, 0, class.0, PoolAddr(64 + at * 64));
        let parts = (0..total.div_ceil(piece) as u64).map(|at| Part { slot: slot(at), sum: at });
        Manifest { bytes: total, piece, parts: parts.collect() }
    }

    #[test]
    fn manifests_come_back() {
        for (total, piece) in [(1, 1), (100, 33), (99, 33), (1 << 30, 400_000)] {
            let manifest = manifest(total, piece);
            let bytes = manifest.encode();
            assert_eq!(bytes.len(), Manifest::encoded_bytes(total, piece));
            assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
            assert!(Manifest::decode(&bytes[..bytes.len() - PART]).is_err());
            let lens = (0..manifest.parts.len()).map(|number| manifest.len_of(number));
            assert_eq!(lens.sum::<usize>(), total);
        }
    }

    #[test]
    fn a_piece_is_an_object_that_parses() {
        let piece = Piece::new(3, KeyHash(77), 5, 100);
        let sum = piece.sum(&[9; 100]);
        let class = SizeClass::for_bytes(100 + PIECE_EXTRA).unwrap();
        let mut bytes = piece.head(sum).to_vec();
        bytes.extend_from_slice(&[9; 100]);
        bytes.resize(class.bytes(), 0);
        let (header, key, value) = crate::object::parse(&bytes, class).unwrap();
        assert_eq!((header.kind, value), (Kind::Chunk, &[9; 100][..]));
        assert_eq!(Piece::hash_in(key), Some(KeyHash(77)));
        assert_ne!(Piece::new(3, KeyHash(77), 6, 100).sum(&[9; 100]), sum);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            piece in 1usize..99,
        ) {
            let _ = Manifest::decode(&bytes);
            let mut bytes = bytes;
            if bytes.len() >= 16 {
                bytes.truncate(16 + (bytes.len() - 16) / 16 * 16);
                let total = (bytes.len() - 16) / 16 * piece;
                bytes[..8].copy_from_slice(&(total as u64).to_le_bytes());
                bytes[8..16].copy_from_slice(&(piece as u64).to_le_bytes());
                let _ = Manifest::decode(&bytes);
            }
        }
    }
}
