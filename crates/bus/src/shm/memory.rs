//! A node's bytes in this address space, for code that reaches them without verbs.

use std::ptr::NonNull;
use std::sync::Arc;

use super::ShmNodes;
use crate::{BusError, NodeId};

/// The memory of one node, mapped as long as this lives.
///
/// It is for the process that owns what lies there: kernels that compute in it, or a thread that
/// shares out parts of it. Peers may change the bytes by their verbs at any time, so whoever makes
/// references of the pointer must know, by a protocol of its own, which bytes nobody else touches.
/// Once the node is lost the bytes are zeros that nobody shares any more.
#[derive(Clone)]
pub struct ShmMemory {
    /// Keeps the mapping.
    nodes: Arc<ShmNodes>,
    node: NodeId,
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is a pointer to memory that is not bound to a thread; whoever uses the pointer answers
// for the accesses.
unsafe impl Send for ShmMemory {}
// SAFETY: as above.
unsafe impl Sync for ShmMemory {}

impl ShmMemory {
    pub(super) fn new(nodes: Arc<ShmNodes>, node: NodeId) -> Result<ShmMemory, BusError> {
        let mapped = nodes.find(node)?;
        if mapped.is_dead() {
            return Err(BusError::NodeLost(node));
        }
        let bytes = mapped.bytes();
        let at = mapped.at(0, bytes).ok_or(BusError::NodeLost(node))?;
        Ok(ShmMemory { nodes, node, at, bytes: bytes as usize })
    }

    /// The first byte; nodes of 2 MiB and more begin at a multiple of that.
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether the node was declared dead.
    pub fn is_lost(&self) -> bool {
        self.nodes.find(self.node).map_or(true, |node| node.is_dead())
    }
}
