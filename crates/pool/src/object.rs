//! Objects: what slots point to. Header, key, value, padding, and at the end of the class's bytes
//! the embedded log entry (FUSEE section 4.5), so that one WRITE brings both.
//!
//! ```text
//! 0 checksum u32 | 4 value_len u32 | 8 key_len u16 | 10 namespace u16 | 12 kind u8
//! 13 version u8 | 14 reserved u16 | 16 expires_ms u64 | 24 key | value | ... | log entry (32)
//! log entry: old u64 | slot 48 bits, check 16 | client 32, op 8, 0 8, check 16 | sequence u64
//! ```
//!
//! The log entry's first half is zero when the object is written and filled in by the round's
//! winner (or its helper) just before the primary slot changes: it says that the operation is
//! decided, over which old value, in which slot.

use crate::xxh3::xxh3_64_with_seed;

use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::slot::Slot;

/// Bytes before the key.
pub const HEADER_BYTES: usize = 24;
/// Bytes of the log entry at the end.
pub const LOG_BYTES: usize = 32;
/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// What an object is; part of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A key with its value.
    Value = 1,
    /// A key whose value lies in pieces, which the value bytes name.
    Manifest = 2,
    /// A piece of a large value: its key has the hash of the value's key.
    Chunk = 3,
    /// The log object of a deletion: a key without value.
    Deletion = 4,
    /// A transaction's intent on a slot, or its status word.
    Intent = 5,
    /// Memory of an index: its bytes change, so the checksum means nothing.
    Table = 6,
    /// The log object of an eviction from the cache: its key is the slot's address.
    Eviction = 7,
    /// A node of an ordered index: it changes, and has a check of its own.
    TreeNode = 8,
    /// A value of an ordered key that does not fit into its leaf.
    TreeValue = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Value,
            2 => Kind::Manifest,
            3 => Kind::Chunk,
            4 => Kind::Deletion,
            5 => Kind::Intent,
            6 => Kind::Table,
            7 => Kind::Eviction,
            8 => Kind::TreeNode,
            9 => Kind::TreeValue,
            _ => return None,
        })
    }
}

/// An object's header without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The slot version it was written for.
    pub version: u8,
    /// Namespace of the key.
    pub namespace: u16,
    /// Bytes of the key.
    pub key_len: u16,
    /// Bytes of the value.
    pub value_len: u32,
    /// Milliseconds of the bus's clock after which the value is gone; 0 for never.
    pub expires_ms: u64,
}

impl Header {
    /// The header's bytes, checksum over key and value included.
    #[inline]
    pub fn encode(&self, key: &[u8], value: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = self.encode_with(0);
        let sum = checksum(&bytes[4..], key, value);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header's bytes with a checksum that is known already.
    #[inline]
    pub fn encode_with(&self, sum: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.value_len.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.key_len.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.namespace.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[13] = self.version;
        bytes[16..24].copy_from_slice(&self.expires_ms.to_le_bytes());
        bytes
    }

    /// What goes into the checksum of a value beside its bytes: its hash with this seed is the
    /// checksum, of which the header has the lower half.
    #[inline]
    pub fn seed(&self, key: &[u8]) -> u64 {
        seed(&self.encode_with(0)[4..], key)
    }

    /// The header at the start of an object of `class`, its lengths checked against the class.
    pub fn decode(bytes: &[u8], class: SizeClass) -> Result<Header> {
        let corrupt = |what: &str| PoolError::Corrupt(format!("object header: {what}"));
        if bytes.len() < HEADER_BYTES {
            return Err(corrupt("cut short"));
        }
        let header = Header {
            kind: Kind::from_byte(bytes[12]).ok_or_else(|| corrupt("unknown kind"))?,
            version: bytes[13],
            namespace: u16::from_le_bytes([bytes[10], bytes[11]]),
            key_len: u16::from_le_bytes([bytes[8], bytes[9]]),
            value_len: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            expires_ms: word(bytes, 16),
        };
        if object_bytes(header.key_len as usize, header.value_len as usize) > class.bytes() {
            return Err(corrupt("longer than its class"));
        }
        Ok(header)
    }

    /// Whether the value has expired at `now_ms` of the bus's clock.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }
}

/// Header, key and value of an object of `class`, read whole; refused if the checksum differs.
pub fn parse(bytes: &[u8], class: SizeClass) -> Result<(Header, &[u8], &[u8])> {
    let header = Header::decode(bytes, class)?;
    let key_end = HEADER_BYTES + header.key_len as usize;
    let value_end = key_end + header.value_len as usize;
    if bytes.len() < value_end {
        return Err(PoolError::Corrupt("object: cut short".into()));
    }
    if !is_whole(bytes, &header) {
        return Err(PoolError::Corrupt("object: checksum differs".into()));
    }
    Ok((header, &bytes[HEADER_BYTES..key_end], &bytes[key_end..value_end]))
}

/// Whether the object in `bytes`, whose header is `header`, is what was written.
#[inline]
pub fn is_whole(bytes: &[u8], header: &Header) -> bool {
    let key_end = HEADER_BYTES + header.key_len as usize;
    let Some((start, value)) = bytes.split_at_checked(key_end) else { return false };
    let Some(value) = value.get(..header.value_len as usize) else { return false };
    let (head, key) = start.split_at(HEADER_BYTES);
    let sum = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    sum == checksum(&head[4..], key, value)
}

/// Checksum of an object whose parts lie apart.
pub fn checksum(header: &[u8], key: &[u8], value: &[u8]) -> u32 {
    xxh3_64_with_seed(value, seed(header, key)) as u32
}

fn seed(header: &[u8], key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, xxh3_64_with_seed(header, 0))
}

/// Bytes that an object needs, log entry included.
pub const fn object_bytes(key_len: usize, value_len: usize) -> usize {
    HEADER_BYTES + key_len + value_len + LOG_BYTES
}

/// Where the log entry of an object lies.
pub const fn log_addr(object: PoolAddr, class: SizeClass) -> PoolAddr {
    object.add((class.bytes() - LOG_BYTES) as u64)
}

/// What kind of operation wrote an object. Decides what a losing writer may conclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Overwrites whatever is there: two of them may be ordered either way.
    Put = 1,
    /// Creates a key that was absent.
    Insert = 2,
    /// Deletes.
    Delete = 3,
    /// Its value depends on the old one (compare-and-set, increment, transactions).
    Conditional = 4,
    /// Not for a slot: chunks and the like.
    Part = 5,
    /// Puts a transaction's intent into a slot.
    Intend = 6,
}

/// An embedded log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Who wrote the object.
    pub client: ClientId,
    /// For what.
    pub op: Op,
    /// The client's operation number.
    pub sequence: u64,
    /// Once decided: the slot's address and the value that was replaced.
    pub decided: Option<(PoolAddr, Slot)>,
}

impl LogEntry {
    /// The entry's bytes.
    pub fn encode(&self) -> [u8; LOG_BYTES] {
        let mut bytes = [0; LOG_BYTES];
        if let Some((slot, old)) = self.decided {
            bytes[..16].copy_from_slice(&decided_bytes(slot, old, self.sequence));
        }
        let who = self.client.word() | (self.op as u64) << 32;
        let check = xxh3_64_with_seed(&who.to_le_bytes(), self.sequence) << 48;
        bytes[16..24].copy_from_slice(&(who | check).to_le_bytes());
        bytes[24..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// The entry in `bytes`; `None` if they never were one.
    pub fn decode(bytes: &[u8]) -> Option<LogEntry> {
        if bytes.len() < LOG_BYTES {
            return None;
        }
        let (who, sequence) = (word(bytes, 16), word(bytes, 24));
        let named = who & ((1 << 48) - 1);
        if who >> 48 != xxh3_64_with_seed(&named.to_le_bytes(), sequence) & 0xffff {
            return None;
        }
        let op = match named >> 32 {
            1 => Op::Put,
            2 => Op::Insert,
            3 => Op::Delete,
            4 => Op::Conditional,
            5 => Op::Part,
            6 => Op::Intend,
            _ => return None,
        };
        let (old, place) = (word(bytes, 0), word(bytes, 8));
        let slot = PoolAddr(place & ((1 << 48) - 1));
        let whole = place != 0 && bytes[..16] == decided_bytes(slot, Slot(old), sequence);
        Some(LogEntry {
            client: ClientId::from_word(named),
            op,
            sequence,
            decided: whole.then_some((slot, Slot(old))),
        })
    }
}

/// The first 16 bytes of a decided log entry: what the winner or its helper writes. A torn write
/// does not pass the check.
pub fn decided_bytes(slot: PoolAddr, old: Slot, sequence: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&old.0.to_le_bytes());
    let check = xxh3_64_with_seed(&old.0.to_le_bytes(), sequence ^ slot.0) << 48;
    bytes[8..].copy_from_slice(&(slot.0 | check).to_le_bytes());
    bytes
}

/// The first 16 bytes of a log entry on a slot without copies: what the writer is about to swap.
/// There the swap itself decides, so that this says over which value it won, *if* it won.
pub fn proposed_bytes(slot: PoolAddr, old: Slot, sequence: u64) -> [u8; 16] {
    let mut bytes = decided_bytes(slot, old, sequence);
    bytes[15] ^= 0x80;
    bytes
}

/// The slot and the old value of [`proposed_bytes`] or [`decided_bytes`] in a log entry.
pub fn proposal(bytes: &[u8]) -> Option<(PoolAddr, Slot)> {
    let entry = LogEntry::decode(bytes)?;
    let (old, place) = (Slot(word(bytes, 0)), word(bytes, 8));
    let slot = PoolAddr(place & ((1 << 48) - 1));
    let whole = place != 0 && bytes[..16] == proposed_bytes(slot, old, entry.sequence);
    entry.decided.or(whole.then_some((slot, old)))
}

/// The little-endian word at byte `at`.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(key: &[u8], value: &[u8]) -> (Header, SizeClass, Vec<u8>) {
        let header = Header {
            kind: Kind::Value,
            version: 9,
            namespace: 3,
            key_len: key.len() as u16,
            value_len: value.len() as u32,
            expires_ms: 77,
        };
        let class = SizeClass::for_bytes(object_bytes(key.len(), value.len())).unwrap();
        let mut bytes = header.encode(key, value).to_vec();
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        bytes.resize(class.bytes(), 0);
        (header, class, bytes)
    }

    #[test]
    fn objects_come_back_and_any_flipped_bit_is_noticed() {
        let (header, class, mut bytes) = whole(b"key", &[7; 300]);
        let parsed = parse(&bytes, class).unwrap();
        assert_eq!(parsed, (header, &b"key"[..], &[7; 300][..]));
        for bit in 0..(HEADER_BYTES + 303) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes, class).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_log_entry_is_decided_only_when_whole() {
        let (slot, old) = (PoolAddr(0x1234_5678), Slot(0x0102_0304_0506_0708));
        let client = ClientId { index: 5, incarnation: 2 };
        let entry = LogEntry { client, op: Op::Put, sequence: 12, decided: None };
        let mut bytes = entry.encode();
        assert_eq!(LogEntry::decode(&bytes), Some(entry));
        let decided = decided_bytes(slot, old, 12);
        bytes[..8].copy_from_slice(&decided[..8]);
        assert_eq!(LogEntry::decode(&bytes).unwrap().decided, None);
        bytes[8..16].copy_from_slice(&decided[8..]);
        assert_eq!(LogEntry::decode(&bytes).unwrap().decided, Some((slot, old)));
        assert_eq!(proposal(&bytes), Some((slot, old)));
        bytes[..16].copy_from_slice(&proposed_bytes(slot, old, 12));
        assert_eq!(LogEntry::decode(&bytes).unwrap().decided, None);
        assert_eq!(proposal(&bytes), Some((slot, old)));
        assert_eq!(LogEntry::decode(&[0; LOG_BYTES]), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            class in 0u8..84,
        ) {
            let _ = parse(&bytes, SizeClass(class));
            let _ = LogEntry::decode(&bytes);
        }
    }
}
