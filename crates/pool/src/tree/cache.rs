//! A client's copies of inner nodes. Each was the truth once; what is found through one is checked
//! where it leads.

use super::node::{Bytes, Node, NODE_BYTES};
use crate::address::{PoolAddr, GRANULE};

const WAYS: usize = 4;

/// A copy.
struct Line {
    addr: PoolAddr,
    used: u64,
    bytes: Box<Bytes>,
}

/// The copies, in sets of a few.
pub(super) struct NodeCache {
    sets: Vec<Vec<Line>>,
    clock: u64,
}

impl NodeCache {
    /// Holds at most about `bytes` bytes; none with 0.
    pub fn new(bytes: usize) -> NodeCache {
        let sets = bytes / (WAYS * (NODE_BYTES + std::mem::size_of::<Line>()));
        NodeCache { sets: (0..sets).map(|_| Vec::new()).collect(), clock: 0 }
    }

    fn set(&mut self, addr: PoolAddr) -> Option<&mut Vec<Line>> {
        let mixed = (addr.0 / GRANULE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let count = self.sets.len() as u64;
        self.sets.get_mut((mixed % count.max(1)) as usize)
    }

    /// The copy of the node at `addr`.
    #[inline]
    pub fn get(&mut self, addr: PoolAddr) -> Option<Node<'_>> {
        self.clock += 1;
        let clock = self.clock;
        let line = self.set(addr)?.iter_mut().find(|line| line.addr == addr)?;
        line.used = clock;
        Some(Node::of(&line.bytes))
    }

    /// Keeps a node that has been opened.
    pub fn put(&mut self, addr: PoolAddr, bytes: &Bytes) {
        let clock = self.clock;
        let Some(set) = self.set(addr) else { return };
        let same = set.iter().position(|line| line.addr == addr);
        let place = same.or_else(|| {
            let oldest = (0..set.len()).min_by_key(|&at| set[at].used);
            oldest.filter(|_| set.len() == WAYS)
        });
        match place {
            Some(place) => {
                let line = &mut set[place];
                (line.addr, line.used) = (addr, clock);
                *line.bytes = *bytes;
            }
            None => set.push(Line { addr, used: clock, bytes: Box::new(*bytes) }),
        }
    }

    /// Forgets a copy that led astray.
    pub fn forget(&mut self, addr: PoolAddr) {
        if let Some(set) = self.set(addr) {
            set.retain(|line| line.addr != addr);
        }
    }
}
