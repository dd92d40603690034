//! What every transport must do, as checks that a transport's tests run.
//!
//! A [`Rig`] makes fresh nodes and connections; [`sequential`] needs one connection at a time,
//! [`concurrent`] connections in several threads. A check panics where the transport is wrong.

mod concurrent;
mod sequential;

pub use concurrent::concurrent;
pub use sequential::sequential;

use crate::{GlobalAddr, NodeId, Verb, Verbs};

/// Bytes of each of a rig's nodes, at least; all are zero.
pub const NODE_BYTES: u64 = 64 << 10;

/// Two fresh memory nodes, 0 and 1, of one size.
pub trait Rig {
    /// A new client's connection.
    fn connect(&self) -> Box<dyn Verbs>;
    /// Loses a node.
    fn kill_node(&self, node: NodeId);
}

fn at(offset: u64) -> GlobalAddr {
    GlobalAddr::new(NodeId(0), offset)
}

fn word(verbs: &dyn Verbs, addr: GlobalAddr) -> u64 {
    let mut bytes = [0; 8];
    verbs.batch(&mut [Verb::read(addr, &mut bytes)]).unwrap();
    u64::from_le_bytes(bytes)
}

/// Seeded numbers; the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
