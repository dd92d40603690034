//! Addresses on the bus.

use std::fmt;

/// A memory node of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// A byte on a memory node: 16 bits of node, 48 of offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GlobalAddr(u64);

impl GlobalAddr {
    /// Largest offset on a node, in bytes.
    pub const MAX_OFFSET: u64 = (1 << 48) - 1;

    /// The byte `offset` of `node`. Offsets beyond 48 bits are cut: check sizes where they enter.
    pub const fn new(node: NodeId, offset: u64) -> Self {
        GlobalAddr(((node.0 as u64) << 48) | (offset & Self::MAX_OFFSET))
    }

    /// The memory node.
    pub const fn node(self) -> NodeId {
        NodeId((self.0 >> 48) as u16)
    }

    /// The offset on the node, in bytes.
    pub const fn offset(self) -> u64 {
        self.0 & Self::MAX_OFFSET
    }

    /// The address `bytes` further on the same node.
    pub const fn add(self, bytes: u64) -> Self {
        GlobalAddr::new(self.node(), self.offset() + bytes)
    }
}

impl fmt::Debug for GlobalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.node().0, self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_node_and_offset() {
        let addr = GlobalAddr::new(NodeId(0xabcd), 0x1234_5678_9abc).add(4);
        assert_eq!((addr.node(), addr.offset()), (NodeId(0xabcd), 0x1234_5678_9ac0));
    }
}
