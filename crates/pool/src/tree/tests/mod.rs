//! The ordered index against a map, under concurrency, and with clients that die.

mod costs;
mod format;
mod model;
mod raze;
mod stale;
mod threads;

use std::sync::Arc;

use artesian_bus::heap::HeapNodes;
use artesian_bus::Verbs;

use crate::client::Client;
use crate::namespace::{self, Kind, Limits};
use crate::tree::{tree_check, TreeReport};
use crate::{lifecycle, PoolConfig};

/// The namespace of the tests' tree.
pub const TREE: u16 = 1;

/// A pool on the heap with an ordered namespace.
pub struct TestPool {
    pub memory: Arc<HeapNodes>,
}

impl TestPool {
    pub fn new(nodes: u16, replicas: u8) -> TestPool {
        let bytes = 16 << 20;
        let memory = HeapNodes::new(nodes, bytes as usize);
        let config = PoolConfig::for_size(bytes, nodes, replicas);
        lifecycle::format(&memory.connect(9_999), &config).unwrap();
        let pool = TestPool { memory };
        let first = pool.client(9_998);
        let made = namespace::create(first.fabric(), "tree", Kind::Tree, Limits::default());
        assert_eq!(made.unwrap().id, TREE);
        first.leave().unwrap();
        pool
    }

    pub fn client(&self, pid: u32) -> Client {
        join(Box::new(self.memory.connect(pid)))
    }
}

pub fn join(verbs: Box<dyn Verbs>) -> Client {
    Client::with_cache(verbs, 1 << 16).unwrap()
}

/// A small deterministic generator.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The report on the tests' tree, without faults.
pub fn checked(client: &Client) -> TreeReport {
    let report = tree_check(client.fabric(), TREE, &mut |_, _| {}).unwrap();
    assert_eq!(report.faults, []);
    report
}
