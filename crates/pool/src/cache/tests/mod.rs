//! The cache against a map that may forget, its policies, its costs, its bounds.

mod basic;
mod costs;
mod large;
mod nodes;
mod policies;
mod raze;
mod threads;

use std::sync::Arc;

use artesian_bus::heap::HeapNodes;

use super::{CacheConfig, CacheStats};
use crate::client::Client;
use crate::lifecycle;
use crate::slot::Slot;
use crate::{PoolAddr, PoolConfig};

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

/// All slots of all caches.
pub fn slots(client: &Client) -> Vec<(PoolAddr, Slot)> {
    let mut all = Vec::new();
    super::for_each_slot(client.fabric(), |at, slot| {
        all.push((at, slot));
        Ok(())
    })
    .unwrap();
    all
}

/// Objects in the cache, counted.
pub fn num_objects(client: &Client) -> u64 {
    slots(client).iter().filter(|(_, slot)| slot.class().is_some()).count() as u64
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

/// The statistics; they must agree with what is there.
pub fn checked_stats(client: &mut Client, id: u16) -> CacheStats {
    let stats = client.cache_stats(id).unwrap();
    assert_eq!(stats.objects, num_objects(client));
    let bytes = |(_, slot): &(PoolAddr, Slot)| slot.class().map_or(0, |class| class.bytes() as u64);
    assert_eq!(stats.bytes, slots(client).iter().map(bytes).sum::<u64>());
    stats
}
