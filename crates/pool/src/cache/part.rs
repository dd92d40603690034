//! New parts of a table.

use artesian_bus::Verb;
use smallvec::SmallVec;

use crate::address::PoolAddr;
use crate::alloc::{Allocation, Allocator};
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::object::{object_bytes, Header, Kind, LogEntry, Op, LOG_BYTES};
use crate::store::InUse;

/// A new object of at least `bytes` bytes, with `content` behind its header's 64 bytes and zeros
/// after that, on all copies. Whoever dies before it is part of a table leaves it to nobody.
pub(super) fn write(
    fabric: &Fabric,
    alloc: &mut Allocator,
    bytes: usize,
    content: &[u8],
) -> Result<Allocation> {
    loop {
        let room = match alloc.allocate(fabric, bytes) {
            Err(PoolError::Full { .. }) => {
                alloc.make_room(fabric, bytes, &InUse)?;
                continue;
            }
            Err(PoolError::ViewChanged) => continue,
            room => room?,
        };
        let image = image(fabric, &room, content);
        let written = steadily(|| fabric.write_all(room.addr, &image));
        if let Err(error) = written {
            alloc.recycle(room);
            return Err(error);
        }
        if !fabric.copies(room.addr).is_empty() {
            return Ok(room);
        }
        // Lost with its node, perhaps before it was written.
        alloc.complete(room.sequence);
    }
}

/// The bytes of such an object.
fn image(fabric: &Fabric, room: &Allocation, content: &[u8]) -> Vec<u8> {
    let value_len = (room.class.bytes() - object_bytes(0, 0)) as u32;
    let (kind, namespace) = (Kind::Table, 0);
    let header = Header { kind, version: 0, namespace, key_len: 0, value_len, expires_ms: 0 };
    let mut image = vec![0; room.class.bytes()];
    let head = header.encode(&[], &[]);
    image[..head.len()].copy_from_slice(&head);
    image[64..64 + content.len()].copy_from_slice(content);
    let (client, sequence) = (fabric.me(), room.sequence);
    let log = LogEntry { client, op: Op::Part, sequence, decided: None }.encode();
    let end = image.len();
    image[end - LOG_BYTES..].copy_from_slice(&log);
    image
}

/// Writes a word of a root on all copies but the primary, where it stands already.
pub(super) fn copy_word(fabric: &Fabric, at: PoolAddr, value: u64) -> Result<()> {
    let bytes = value.to_le_bytes();
    let copies = fabric.copies(at);
    let mut verbs: SmallVec<[Verb<'_>; 4]> =
        copies.iter().skip(1).map(|&copy| Verb::write(copy, &bytes)).collect();
    if verbs.is_empty() {
        return Ok(());
    }
    fabric.batch(&mut verbs)
}
