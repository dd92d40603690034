//! Values that do not fit into a leaf: objects of their own, each written once.

use artesian_bus::Verb;

use super::node::{MAX_KEY_BYTES, REFERENCE_BYTES};
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::{self, word, Header, Kind, Op, HEADER_BYTES};
use crate::slot::Slot;
use crate::store::image::{build, Parts};

/// How a leaf refers to a value: slot u64, bytes u32, checksum of the object u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub slot: Slot,
    pub bytes: u32,
    pub sum: u32,
}

impl Reference {
    /// As it lies in a record.
    pub fn encode(self) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        bytes[..8].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    /// The reference in a record's payload.
    pub fn decode(payload: &[u8]) -> Result<Reference> {
        if payload.len() != REFERENCE_BYTES {
            return Err(PoolError::Corrupt("tree node: a cut reference".into()));
        }
        let numbers = word(payload, 8);
        let reference = Reference {
            slot: Slot(word(payload, 0)),
            bytes: numbers as u32,
            sum: (numbers >> 32) as u32,
        };
        reference.object()?;
        Ok(reference)
    }

    /// The object, whose class holds the value.
    pub fn object(self) -> Result<(PoolAddr, SizeClass)> {
        let class = self
            .slot
            .class()
            .filter(|class| object::object_bytes(0, self.bytes as usize) <= class.bytes());
        let none = || PoolError::Corrupt("tree node: a reference to no object".into());
        Ok((self.slot.addr(), class.ok_or_else(none)?))
    }

    /// Bytes of the object up to the end of the value of a key of `key` bytes.
    pub fn head_bytes(self, key: usize) -> Result<usize> {
        let (_, class) = self.object()?;
        let bytes = HEADER_BYTES + key + self.bytes as usize;
        if bytes > class.bytes() {
            return Err(PoolError::Corrupt("tree node: a value longer than its class".into()));
        }
        Ok(bytes)
    }

    /// The value, if `bytes` are the object's first ones.
    pub fn value_in<'b>(self, namespace: u16, key: &[u8], bytes: &'b [u8]) -> Option<&'b [u8]> {
        let (_, class) = self.object().ok()?;
        let (header, found, value) = object::parse(bytes, class).ok()?;
        let sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let same = header.kind == Kind::TreeValue
            && header.namespace == namespace
            && found == key
            && sum == self.sum
            && value.len() == self.bytes as usize;
        same.then_some(value)
    }

    /// Reads the value from another copy than the first, which does not verify.
    #[cold]
    pub fn read_other_copies(
        self,
        fabric: &Fabric,
        namespace: u16,
        key: &[u8],
        into: &mut [u8],
    ) -> Result<()> {
        let (addr, _) = self.object()?;
        for copy in fabric.copies(addr) {
            fabric.batch(&mut [Verb::read(copy, into)])?;
            if self.value_in(namespace, key, into).is_some() {
                return Ok(());
            }
        }
        let text = format!("no copy of the value at {addr:?} of an ordered key verifies");
        Err(PoolError::Corrupt(text))
    }
}

/// A value that is about to be stored: its object is in `image`.
pub(super) fn prepare(
    fabric: &Fabric,
    room: &Allocation,
    namespace: u16,
    key: &[u8],
    value: &[u8],
    image: &mut Vec<u8>,
) -> Reference {
    debug_assert!(key.len() <= MAX_KEY_BYTES);
    let header = Header {
        kind: Kind::TreeValue,
        version: 0,
        namespace,
        key_len: key.len() as u16,
        value_len: value.len() as u32,
        expires_ms: 0,
    };
    image.clear();
    build(fabric, room, &Parts { header, key, value, op: Op::Part, proposed: None }, image);
    let sum = u32::from_le_bytes([image[0], image[1], image[2], image[3]]);
    let slot = Slot::new(0, 0, room.class.0, room.addr);
    Reference { slot, bytes: value.len() as u32, sum }
}
