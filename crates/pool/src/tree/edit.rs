//! Changing a node's bytes: record by record in place, or all of it anew.

use std::ops::Range;

use smallvec::SmallVec;

use super::node::{
    check_of, half, Bytes, Node, Record, TreeId, BOUNDED, CHECK, DEAD, FLAGS, GARBAGE, GENERATION,
    HEAD, HEAP, HIGH, LEVEL, LOW, NODE_CLASS, PREFIX, RECORDS, RECORD_HEAD, RIGHT, VERSION,
};
use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::object::{object_bytes, word, Header, Kind, HEADER_BYTES};

/// A record with its key in two parts, for building nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub prefix: &'a [u8],
    pub rest: &'a [u8],
    pub tag: u8,
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    pub fn new(key: &'a [u8], tag: u8, payload: &'a [u8]) -> Entry<'a> {
        Entry { prefix: &[], rest: key, tag, payload }
    }

    pub fn key(&self) -> Vec<u8> {
        [self.prefix, self.rest].concat()
    }

    /// The key from byte `from` on.
    fn tail(&self, from: usize) -> (&'a [u8], &'a [u8]) {
        match self.prefix.get(from..) {
            Some(prefix) => (prefix, self.rest),
            None => (&[], self.rest.get(from - self.prefix.len()..).unwrap_or_default()),
        }
    }
}

/// All records of a node.
pub(super) fn entries(node: Node<'_>) -> Result<Vec<Entry<'_>>> {
    let prefix = node.prefix();
    let entry = |index| {
        let Record { rest, tag, payload } = node.record(index)?;
        if node.level() > 0 && index == 0 {
            return Ok(Entry::new(node.low(), tag, payload));
        }
        Ok(Entry { prefix, rest, tag, payload })
    };
    (0..node.len()).map(entry).collect()
}

/// What a node is apart from its records.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub tree: TreeId,
    pub level: u8,
    pub version: u32,
    pub right: PoolAddr,
    pub low: &'a [u8],
    pub high: Option<&'a [u8]>,
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

impl Frame<'_> {
    fn prefix(&self) -> usize {
        self.high.map_or(0, |high| common(self.low, high))
    }

    /// Bytes of a node with these records, up to the check, if there were no limit.
    pub fn size(&self, entries: &[Entry<'_>]) -> usize {
        let prefix = self.prefix();
        let key = |(index, entry): (usize, &Entry<'_>)| {
            let keyless = self.level > 0 && index == 0;
            let key = (entry.prefix.len() + entry.rest.len()).saturating_sub(prefix);
            2 + RECORD_HEAD + entry.payload.len() + if keyless { 0 } else { key }
        };
        let fences = self.low.len() + self.high.map_or(0, |high| high.len() - prefix);
        HEAD + fences + entries.iter().enumerate().map(key).sum::<usize>()
    }

    /// Whether a node can have these records.
    pub fn fits(&self, entries: &[Entry<'_>]) -> bool {
        self.size(entries) <= CHECK
    }

    /// Builds the node; what lies behind the check stays as it was.
    pub fn build(&self, entries: &[Entry<'_>], into: &mut Bytes) -> Result<()> {
        if !self.fits(entries) {
            return Err(PoolError::Corrupt("tree node: its records outgrow it".into()));
        }
        let prefix = self.prefix();
        into[..CHECK].fill(0);
        let header = Header {
            kind: Kind::TreeNode,
            version: 0,
            namespace: self.tree.namespace,
            key_len: 0,
            value_len: (NODE_CLASS.bytes() - object_bytes(0, 0)) as u32,
            expires_ms: 0,
        };
        into[..HEADER_BYTES].copy_from_slice(&header.encode(&[], &[]));
        into[VERSION..VERSION + 4].copy_from_slice(&self.version.to_le_bytes());
        into[LEVEL] = self.level;
        into[FLAGS] = if self.high.is_some() { BOUNDED } else { 0 };
        into[RIGHT..RIGHT + 8].copy_from_slice(&self.right.0.to_le_bytes());
        put(into, GENERATION, self.tree.generation as usize);
        put(into, PREFIX, prefix);
        put(into, LOW, self.low.len());
        let rest = self.high.map_or(&[][..], |high| &high[prefix..]);
        put(into, HIGH, rest.len());
        let mut slots = HEAD + self.low.len();
        into[HEAD..slots].copy_from_slice(self.low);
        into[slots..slots + rest.len()].copy_from_slice(rest);
        slots += rest.len();
        let mut heap = CHECK;
        for (index, entry) in entries.iter().enumerate() {
            let keyless = self.level > 0 && index == 0;
            let (one, two) = if keyless { Default::default() } else { entry.tail(prefix) };
            heap = push(into, heap, one, two, entry.tag, entry.payload);
            put(into, slots + 2 * index, heap);
        }
        put(into, RECORDS, entries.len());
        put(into, HEAP, heap);
        Ok(())
    }
}

fn put(bytes: &mut Bytes, at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

/// Writes a record below `heap`; returns where it starts.
fn push(bytes: &mut Bytes, heap: usize, one: &[u8], two: &[u8], tag: u8, payload: &[u8]) -> usize {
    let rest = one.len() + two.len();
    let start = heap - RECORD_HEAD - rest - payload.len();
    put(bytes, start, rest);
    bytes[start + 2] = tag;
    let mut at = start + RECORD_HEAD;
    for part in [one, two, payload] {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    start
}

/// A node that is being changed. It was opened as a [`Node`], so its numbers are sane.
pub(super) struct Draft<'a>(pub &'a mut Bytes);

impl Draft<'_> {
    fn node(&self) -> Node<'_> {
        Node::of(self.0)
    }

    /// Adds a record before record `index`; false if there is no room.
    pub fn insert(&mut self, index: usize, rest: &[u8], tag: u8, payload: &[u8]) -> Result<bool> {
        let needed = RECORD_HEAD + rest.len() + payload.len();
        if !self.make_room(needed + 2)? {
            return Ok(false);
        }
        let (slots, end) = (self.node().slots(), self.node().slots_end());
        let heap = push(self.0, half(self.0, HEAP), rest, &[], tag, payload);
        let at = slots + 2 * index;
        self.0.copy_within(at..end, at + 2);
        put(self.0, at, heap);
        put(self.0, HEAP, heap);
        put(self.0, RECORDS, self.node().len() + 1);
        Ok(true)
    }

    /// Gives record `index` another payload; false, and nothing done, if there is no room.
    pub fn replace(&mut self, index: usize, tag: u8, payload: &[u8]) -> Result<bool> {
        let record = self.node().record(index)?;
        let at = self.node().slots() + 2 * index;
        if record.tag == tag {
            let start = half(self.0, at) + RECORD_HEAD + record.rest.len();
            self.0[start..start + payload.len()].copy_from_slice(payload);
            return Ok(true);
        }
        let (rest, before) = (record.rest.to_vec(), *self.0);
        self.remove(index)?;
        if self.insert(index, &rest, tag, payload)? {
            return Ok(true);
        }
        *self.0 = before;
        Ok(false)
    }

    /// Takes record `index` out.
    pub fn remove(&mut self, index: usize) -> Result<()> {
        let record = self.node().record(index)?;
        let bytes = RECORD_HEAD + record.rest.len() + record.payload.len();
        let (slots, end) = (self.node().slots(), self.node().slots_end());
        let at = slots + 2 * index;
        let start = half(self.0, at);
        self.0.copy_within(at + 2..end, at);
        put(self.0, end - 2, 0);
        if start == half(self.0, HEAP) {
            put(self.0, HEAP, start + bytes);
        } else {
            put(self.0, GARBAGE, half(self.0, GARBAGE).saturating_add(bytes).min(CHECK));
        }
        put(self.0, RECORDS, self.node().len() - 1);
        Ok(())
    }

    /// Makes sure that `bytes` are free between slots and heap.
    fn make_room(&mut self, bytes: usize) -> Result<bool> {
        let free = |draft: &Self| half(draft.0, HEAP) - draft.node().slots_end();
        if free(self) >= bytes {
            return Ok(true);
        }
        if free(self) + half(self.0, GARBAGE) < bytes {
            return Ok(false);
        }
        let old = *self.0;
        let node = Node::of(&old);
        let (slots, mut heap) = (node.slots(), CHECK);
        for index in 0..node.len() {
            let Record { rest, tag, payload } = node.record(index)?;
            let needed = RECORD_HEAD + rest.len() + payload.len();
            if heap < node.slots_end() + needed {
                return Err(PoolError::Corrupt("tree node: records overlap".into()));
            }
            heap = push(self.0, heap, rest, &[], tag, payload);
            put(self.0, slots + 2 * index, heap);
        }
        put(self.0, HEAP, heap);
        put(self.0, GARBAGE, 0);
        Ok(free(self) >= bytes)
    }

    /// Marks the node as unlinked.
    pub fn bury(&mut self) {
        self.0[FLAGS] |= DEAD;
    }

    /// Completes the change of the node at `addr`.
    pub fn seal(&mut self, addr: PoolAddr) {
        let version = (word(self.0, VERSION) as u32).wrapping_add(1);
        self.0[VERSION..VERSION + 4].copy_from_slice(&version.to_le_bytes());
        let check = check_of(self.0, addr);
        self.0[CHECK..CHECK + 8].copy_from_slice(&check.to_le_bytes());
    }
}

/// Equal words between two changes that are not worth a write of their own.
const GAP: usize = 4;

/// Where two images of a node differ, in whole words.
pub(super) fn changes(old: &Bytes, new: &Bytes) -> SmallVec<[Range<usize>; 8]> {
    let mut ranges: SmallVec<[Range<usize>; 8]> = SmallVec::new();
    for at in (0..CHECK + 8).step_by(8) {
        if word(old, at) == word(new, at) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if at - last.end <= GAP * 8 => last.end = at + 8,
            _ => ranges.push(at..at + 8),
        }
    }
    ranges
}

/// Bytes that a node's records and fences take, garbage left out.
pub(super) fn used(node: Node<'_>) -> usize {
    let heap = CHECK - half(node.bytes(), HEAP);
    node.slots_end() - HEAD + heap.saturating_sub(half(node.bytes(), GARBAGE))
}

/// The shortest key above `left` that is not above `right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let shared = common(left, right);
    right[..(shared + 1).min(right.len())].to_vec()
}
