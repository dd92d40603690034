//! Nodes under their lock, and the writing of nodes.

use smallvec::SmallVec;

use super::edit::{changes, Entry, Frame};
use super::node::{check_of, Bytes, Node, CHECK, NODE_BYTES, NODE_CLASS};
use super::seek::Seek;
use super::walk::{Route, Sight, Walk};
use crate::address::PoolAddr;
use crate::alloc::{Allocation, Allocator};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::namespace::Spaces;
use crate::object::{LogEntry, Op, LOG_BYTES};
use crate::rtx::{Image, Logs, Rtx, Target};

/// Right neighbours that one who came for a lock passes.
const MOST_RIGHT: usize = 1 << 16;

/// One operation that may change a tree.
pub(super) struct Tree<'a> {
    pub walk: Walk<'a>,
    pub alloc: &'a mut Allocator,
    pub logs: &'a Logs,
    pub spaces: &'a mut Spaces,
}

impl<'a> Tree<'a> {
    /// Room for `count` nodes that the namespace's quota admits.
    pub fn rooms<const N: usize>(&mut self) -> Result<[Allocation; N]> {
        let (fabric, namespace) = (self.walk.fabric, self.walk.known.tree.namespace);
        self.spaces.admit(fabric, namespace, (N * NODE_BYTES) as u64)?;
        let mut rooms: SmallVec<[Allocation; 2]> = SmallVec::new();
        while rooms.len() < N {
            match room(fabric, self.alloc) {
                Ok(room) => rooms.push(room),
                Err(error) => {
                    rooms.into_iter().for_each(|room| self.alloc.recycle(room));
                    return Err(error);
                }
            }
        }
        Ok(std::array::from_fn(|at| rooms[at]))
    }

    /// Counts nodes and values that the tree has got, or with a negative number has lost.
    pub fn count(&mut self, bytes: i64) {
        self.spaces.count(self.walk.known.tree.namespace, bytes);
    }

    /// Whether the node at `addr` is the root.
    pub fn is_root(&self, addr: PoolAddr) -> bool {
        addr == self.walk.known.root
    }

    /// Locks the node of `level` at `seek`, to which `route` should lead, and reads it into the
    /// page: lock and read are one round trip, and a new object may be written in it. None if the
    /// route led astray: look again.
    pub fn lock(
        &mut self,
        mut route: Route,
        seek: Seek<'_>,
        level: u8,
        mut new: Option<Image<'_>>,
    ) -> Result<Option<(Rtx<'a>, PoolAddr)>> {
        for _ in 0..MOST_RIGHT {
            let mut rtx = Rtx::begin(self.walk.fabric, self.logs)?;
            let target = Target::Pool(route.addr);
            rtx.lock_beside(target, &mut self.walk.trees.page[..], new.take())?;
            match self.walk.judge(route.addr, seek, level)? {
                Sight::Here => return Ok(Some((rtx, route.addr))),
                Sight::Right(next) => {
                    rtx.abort()?;
                    self.walk.miss(level, route);
                    route.turn_right(next);
                }
                Sight::Astray => {
                    rtx.abort()?;
                    self.walk.astray(route)?;
                    return Ok(None);
                }
            }
        }
        Err(PoolError::Corrupt("an ordered index without end".into()))
    }

    /// Remembers the present state of a node that this client has changed.
    pub fn remember(&mut self, addr: PoolAddr, bytes: &Bytes) {
        let level = Node::of(bytes).level();
        if self.is_root(addr) {
            self.walk.set_flat(level == 0);
        }
        if level > 0 {
            self.walk.trees.cache.put(addr, bytes);
        } else {
            self.walk.trees.cache.forget(addr);
        }
    }
}

/// Notes what of a node changes. Only the words that differ are written, if they are few.
pub(super) fn write_changes(
    rtx: &mut Rtx<'_>,
    addr: PoolAddr,
    old: &Bytes,
    new: &Bytes,
) -> Result<()> {
    let ranges = changes(old, new);
    let bytes: usize = ranges.iter().map(|range| range.len() + 16).sum();
    if bytes > CHECK {
        return rtx.write(Target::Pool(addr), &new[..CHECK + 8]);
    }
    for range in ranges {
        rtx.write(Target::Pool(addr.add(range.start as u64)), &new[range])?;
    }
    Ok(())
}

/// Completes a node that was built for `addr`.
pub(super) fn stamp(bytes: &mut Bytes, addr: PoolAddr) {
    let check = check_of(bytes, addr);
    bytes[CHECK..CHECK + 8].copy_from_slice(&check.to_le_bytes());
}

/// A new node, which nobody takes for one until [`link`] is committed.
pub(super) struct Fresh {
    pub room: Allocation,
    pub bytes: Box<Bytes>,
}

/// Builds a new node.
pub(super) fn fresh(
    fabric: &Fabric,
    room: Allocation,
    frame: &Frame<'_>,
    records: &[Entry<'_>],
) -> Result<Fresh> {
    let mut bytes = Box::new([0; NODE_BYTES]);
    frame.build(records, &mut bytes)?;
    let (client, sequence) = (fabric.me(), room.sequence);
    let log = LogEntry { client, op: Op::Part, sequence, decided: None }.encode();
    bytes[NODE_BYTES - LOG_BYTES..].copy_from_slice(&log);
    let check = !check_of(&bytes, room.addr);
    bytes[CHECK..CHECK + 8].copy_from_slice(&check.to_le_bytes());
    Ok(Fresh { room, bytes })
}

/// Writes a new node to all copies and takes its lock, then notes that it becomes part of the tree.
/// The lock keeps those who reach it off until the transaction is over: a repair would otherwise
/// write its check over what they changed.
pub(super) fn link(rtx: &mut Rtx<'_>, node: &mut Fresh) -> Result<()> {
    let addr = node.room.addr;
    rtx.lock_beside(Target::Pool(addr), &mut [0; 8], Some((addr, &node.bytes[..])))?;
    stamp(&mut node.bytes, addr);
    let at = addr.add(CHECK as u64);
    rtx.write(Target::Pool(at), &node.bytes[CHECK..CHECK + 8])
}

/// Room for a node.
pub(super) fn room(fabric: &Fabric, alloc: &mut Allocator) -> Result<Allocation> {
    alloc.allocate(fabric, NODE_CLASS.bytes())
}

/// What becomes of new objects after the transaction that was to link them: nobody has seen them
/// if it was rolled back. After another error they may be linked.
pub(super) fn settle(
    alloc: &mut Allocator,
    rooms: impl Iterator<Item = Allocation>,
    outcome: &Result<()>,
) {
    for room in rooms {
        match outcome {
            Err(PoolError::ViewChanged) => alloc.recycle(room),
            _ => alloc.complete(room.sequence),
        }
    }
}
