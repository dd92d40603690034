//! New objects, as they are written.

use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::fabric::Fabric;
use crate::object::{log_addr, proposed_bytes};
use crate::object::{Header, LogEntry, Op, LOG_BYTES};
use crate::slot::Slot;

/// What an object is made of.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub header: Header,
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub op: Op,
    /// Where the round will propose it over what, if that is known and the slot has no copies.
    pub proposed: Option<(PoolAddr, Slot)>,
}

/// Adds the whole object of `room` to `image`.
#[inline]
pub(crate) fn build(fabric: &Fabric, room: &Allocation, parts: &Parts<'_>, image: &mut Vec<u8>) {
    let end = image.len() + room.class.bytes();
    image.extend_from_slice(&parts.header.encode(parts.key, parts.value));
    image.extend_from_slice(parts.key);
    image.extend_from_slice(parts.value);
    image.resize(end - LOG_BYTES, 0);
    let (client, sequence) = (fabric.me(), room.sequence);
    let mut log = LogEntry { client, op: parts.op, sequence, decided: None }.encode();
    if let Some((slot, old)) = parts.proposed {
        log[..16].copy_from_slice(&proposed_bytes(slot, old, sequence));
    }
    image.extend_from_slice(&log);
    debug_assert!(image.len() == end);
}

/// Where the log entry of `room` lies.
pub(crate) fn log_of(room: &Allocation) -> PoolAddr {
    log_addr(room.addr, room.class)
}
