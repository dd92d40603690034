//! A node as it lies in the pool: a slotted page in an object of [`NODE_CLASS`].
//!
//! ```text
//! 0 object header (24) | 24 version u32 | 28 level u8, flags u8, records u16 | 32 right node u64
//! 40 generation u16, prefix u16, low u16, rest of high u16 | 48 heap u16, garbage u16, 0 u32
//! 56 low fence | rest of the high fence | a u16 a record, in the order of keys | free | records
//! 984 check u64 | 992 log entry (32)
//! ```
//!
//! A node holds the keys from its low fence up to below its high fence. What the two begin with in
//! common, all keys begin with: it is stored once, in the low fence. A record is
//! `rest of the key u16 | tag u8 | rest of the key | payload`. The first record of an inner node
//! has no key: its child begins where the node does.
//!
//! The check covers all before it and the node's address. A node that is written and not linked
//! yet carries the complement: nobody takes it for a part of the tree, whatever led there.

use crate::xxh3::xxh3_64_with_seed;

use crate::address::{PoolAddr, GRANULE};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::object::{word, Kind, HEADER_BYTES, LOG_BYTES};

/// Bytes of a node.
pub const NODE_BYTES: usize = 1024;
/// Its class.
pub const NODE_CLASS: SizeClass = SizeClass(11);
const _: () = assert!(NODE_CLASS.bytes() == NODE_BYTES);

/// A node's bytes.
pub type Bytes = [u8; NODE_BYTES];

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// The deepest tree: every level at least doubles what lies below it, nearly.
pub const MAX_LEVELS: u8 = 40;

pub(super) const VERSION: usize = HEADER_BYTES;
pub(super) const LEVEL: usize = 28;
pub(super) const FLAGS: usize = 29;
pub(super) const RECORDS: usize = 30;
pub(super) const RIGHT: usize = 32;
pub(super) const GENERATION: usize = 40;
pub(super) const PREFIX: usize = 42;
pub(super) const LOW: usize = 44;
pub(super) const HIGH: usize = 46;
pub(super) const HEAP: usize = 48;
pub(super) const GARBAGE: usize = 50;
/// Bytes before the fences.
pub(super) const HEAD: usize = 56;
/// Where the check lies, behind everything that it covers.
pub(super) const CHECK: usize = NODE_BYTES - LOG_BYTES - 8;
/// Bytes of a record before its key.
pub(super) const RECORD_HEAD: usize = 3;

/// The node was unlinked; whoever comes here is to look again.
pub(super) const DEAD: u8 = 1;
/// The node has a high fence.
pub(super) const BOUNDED: u8 = 2;

/// Tag of a payload that lies elsewhere: a [`Reference`](super::value::Reference).
pub(super) const STORED: u8 = 0xff;
/// Bytes of such a payload.
pub(super) const REFERENCE_BYTES: usize = 16;
/// Largest payload that lies in the record; its tag is its length.
pub const MAX_INLINE: usize = 128;
/// Bytes of an inner node's payload: a child's address in granules.
pub(super) const CHILD_BYTES: usize = 5;

/// Which tree a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeId {
    /// The namespace.
    pub namespace: u16,
    /// The namespace's generation.
    pub generation: u16,
}

impl TreeId {
    /// None: for nodes that are only measured.
    pub(super) const NONE: TreeId = TreeId { namespace: 0, generation: 0 };
}

/// Why bytes are no node that a reader may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Another object, or a node of another tree.
    Foreign,
    /// The check differs: somebody is writing, or died while writing.
    Torn,
    /// Written, but not linked.
    Unlinked,
    /// Whole, but its numbers cannot be.
    Corrupt,
}

pub(super) fn half(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]) as usize
}

/// The check of the node in `bytes`, which is to lie at `addr`.
pub(super) fn check_of(bytes: &Bytes, addr: PoolAddr) -> u64 {
    xxh3_64_with_seed(&bytes[..CHECK], addr.0)
}

/// A node that has been read whole.
#[derive(Clone, Copy)]
pub struct Node<'a>(&'a Bytes);

/// A record: what its key ends with, and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key without the node's prefix.
    pub rest: &'a [u8],
    /// [`STORED`], or the bytes of the payload.
    pub tag: u8,
    /// The value, its reference, or the child.
    pub payload: &'a [u8],
}

/// Where a key belongs, seen from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To a node before this one.
    Before,
    /// Here.
    Here,
    /// Behind the high fence: to the right node or one behind it.
    Behind,
}

impl<'a> Node<'a> {
    /// The node in `bytes`, which were read at `addr`.
    pub fn open(
        bytes: &'a Bytes,
        addr: PoolAddr,
        tree: TreeId,
    ) -> std::result::Result<Node<'a>, Flaw> {
        let foreign = bytes[12] != Kind::TreeNode as u8
            || half(bytes, 10) != tree.namespace as usize
            || half(bytes, GENERATION) != tree.generation as usize;
        if foreign {
            return Err(Flaw::Foreign);
        }
        let (found, wanted) = (word(bytes, CHECK), check_of(bytes, addr));
        if found != wanted {
            return Err(if found == !wanted { Flaw::Unlinked } else { Flaw::Torn });
        }
        let node = Node(bytes);
        let bounded = bytes[FLAGS] & BOUNDED != 0;
        let heap = half(bytes, HEAP);
        let sane = bytes[LEVEL] < MAX_LEVELS
            && half(bytes, LOW) <= MAX_KEY_BYTES
            && half(bytes, PREFIX) + half(bytes, HIGH) <= MAX_KEY_BYTES
            && half(bytes, PREFIX) <= half(bytes, LOW)
            && (bounded || half(bytes, PREFIX) + half(bytes, HIGH) == 0)
            && node.slots_end() <= heap
            && heap <= CHECK
            && (node.level() == 0 || !node.is_empty())
            && (bounded || node.right().is_null());
        sane.then_some(node).ok_or(Flaw::Corrupt)
    }

    /// The node in bytes that have been opened before.
    pub(super) fn of(bytes: &'a Bytes) -> Node<'a> {
        Node(bytes)
    }

    /// Its distance from the leaves.
    pub fn level(self) -> u8 {
        self.0[LEVEL]
    }

    /// Goes up with each change.
    pub fn version(self) -> u32 {
        word(self.0, VERSION) as u32
    }

    /// Whether it was unlinked.
    pub fn is_dead(self) -> bool {
        self.0[FLAGS] & DEAD != 0
    }

    /// The next node of its level; null behind the last one.
    pub fn right(self) -> PoolAddr {
        PoolAddr(word(self.0, RIGHT))
    }

    /// How many records it has.
    pub fn len(self) -> usize {
        half(self.0, RECORDS)
    }

    /// Whether it has no record.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The smallest key that belongs here.
    pub fn low(self) -> &'a [u8] {
        &self.0[HEAD..HEAD + half(self.0, LOW)]
    }

    /// What all keys here begin with.
    pub fn prefix(self) -> &'a [u8] {
        &self.0[HEAD..HEAD + half(self.0, PREFIX)]
    }

    fn rest_of_high(self) -> &'a [u8] {
        let start = HEAD + half(self.0, LOW);
        &self.0[start..start + half(self.0, HIGH)]
    }

    /// The smallest key that belongs behind this node, in two parts; `None` in the last node.
    pub fn high(self) -> Option<(&'a [u8], &'a [u8])> {
        (self.0[FLAGS] & BOUNDED != 0).then(|| (self.prefix(), self.rest_of_high()))
    }

    /// [`Node::high`] in one part.
    pub fn high_key(self) -> Option<Vec<u8>> {
        self.high().map(|(prefix, rest)| [prefix, rest].concat())
    }

    /// Where `key` belongs.
    pub fn side(self, key: &[u8]) -> Side {
        if key < self.low() {
            return Side::Before;
        }
        let prefix = self.prefix();
        let behind = self.0[FLAGS] & BOUNDED != 0
            && match key.get(..prefix.len()) {
                Some(start) if start == prefix => key[prefix.len()..] >= *self.rest_of_high(),
                // Not below the low fence, so above all that begins with the prefix.
                _ => true,
            };
        if behind {
            Side::Behind
        } else {
            Side::Here
        }
    }

    /// Where the array of records lies.
    pub(super) fn slots(self) -> usize {
        HEAD + half(self.0, LOW) + half(self.0, HIGH)
    }

    /// Where it ends.
    pub(super) fn slots_end(self) -> usize {
        self.slots() + 2 * self.len()
    }

    /// Record `index`.
    #[inline]
    pub fn record(self, index: usize) -> Result<Record<'a>> {
        self.try_record(index)
            .ok_or_else(|| PoolError::Corrupt(format!("tree node: record {index} lies outside")))
    }

    #[inline]
    fn try_record(self, index: usize) -> Option<Record<'a>> {
        if index >= self.len() {
            return None;
        }
        let start = half(self.0, self.slots() + 2 * index);
        let heap = self.0.get(..CHECK)?.get(start..)?;
        if start < self.slots_end() || heap.len() < RECORD_HEAD {
            return None;
        }
        let (rest, tag) = (half(heap, 0), heap[2]);
        let payload = payload_bytes(tag)?;
        let body = heap.get(RECORD_HEAD..RECORD_HEAD + rest + payload)?;
        let (rest, payload) = body.split_at(rest);
        Some(Record { rest, tag, payload })
    }

    /// The number of the record with `key`, which belongs here, or `Err` with that of the first
    /// one behind it.
    #[inline]
    pub fn find(self, key: &[u8]) -> Result<std::result::Result<usize, usize>> {
        let rest = key.get(half(self.0, PREFIX)..).unwrap_or_default();
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = (from + to) / 2;
            match self.record(middle)?.rest.cmp(rest) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Ok(middle)),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(Err(from))
    }

    /// The number of the child under which `key` lies.
    #[inline]
    pub fn find_child(self, key: &[u8]) -> Result<usize> {
        let behind = match self.find(key)? {
            Ok(exact) => exact + 1,
            Err(behind) => behind,
        };
        Ok(behind.saturating_sub(1))
    }

    /// Child `index` of an inner node.
    #[inline]
    pub fn child(self, index: usize) -> Result<PoolAddr> {
        let record = self.record(index)?;
        if record.payload.len() != CHILD_BYTES {
            return Err(PoolError::Corrupt("tree node: a child without address".into()));
        }
        let mut word = [0; 8];
        word[..CHILD_BYTES].copy_from_slice(record.payload);
        Ok(PoolAddr(u64::from_le_bytes(word) * GRANULE))
    }

    /// The key of record `index`; in an inner node, where its child begins.
    pub fn key(self, index: usize) -> Result<Vec<u8>> {
        if self.level() > 0 && index == 0 {
            return Ok(self.low().to_vec());
        }
        Ok([self.prefix(), self.record(index)?.rest].concat())
    }

    /// The bytes.
    pub fn bytes(self) -> &'a Bytes {
        self.0
    }
}

/// The payload of a child.
pub(super) fn child_payload(addr: PoolAddr) -> [u8; CHILD_BYTES] {
    let word = (addr.0 / GRANULE).to_le_bytes();
    std::array::from_fn(|at| word[at])
}

/// Bytes of a payload of that tag.
pub(super) fn payload_bytes(tag: u8) -> Option<usize> {
    match tag as usize {
        small if small <= MAX_INLINE => Some(small),
        _ if tag == STORED => Some(REFERENCE_BYTES),
        _ => None,
    }
}
