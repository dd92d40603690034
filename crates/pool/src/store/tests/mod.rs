//! The store against a map, its costs, and its behaviour under concurrency.

mod atomic;
mod basic;
mod batch;
mod costs;
mod expire;
mod full;
mod large;
mod pinned;
mod quota;
mod scan;
mod spaces;
mod threads;
mod wrecks;

use std::sync::Arc;

use artesian_bus::heap::HeapNodes;

use crate::client::Client;
use crate::lifecycle;
use crate::PoolConfig;

/// A pool on the heap.
pub struct TestPool {
    pub memory: Arc<HeapNodes>,
}

impl TestPool {
    pub fn new(node_bytes: u64, nodes: u16, replicas: u8) -> TestPool {
        let memory = HeapNodes::new(nodes, node_bytes as usize);
        let config = PoolConfig::for_size(node_bytes, nodes, replicas);
        lifecycle::format(&memory.connect(9_999), &config).unwrap();
        TestPool { memory }
    }

    pub fn client(&self, pid: u32) -> Client {
        Client::with_cache(Box::new(self.memory.connect(pid)), 1 << 20).unwrap()
    }

    pub fn uncached(&self, pid: u32) -> Client {
        Client::with_cache(Box::new(self.memory.connect(pid)), 0).unwrap()
    }
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
