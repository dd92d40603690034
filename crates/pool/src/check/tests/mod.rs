//! Checks of pools that are well, that are at work, that are damaged.

mod caches;
mod clean;
mod contents;
mod damage;
mod deaths;
mod hostile;
mod hostile_work;
mod trees;

use std::sync::Arc;
use std::time::Duration;

use artesian_bus::heap::HeapNodes;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use super::{run, Options, Report};
use crate::client::Client;
use crate::error::PoolError;
use crate::lifecycle;
use crate::store::Expiry::Never;
use crate::PoolConfig;

/// A small pool on the heap.
pub struct TestPool {
    pub memory: Arc<HeapNodes>,
    pub config: PoolConfig,
}

impl TestPool {
    pub fn new(node_bytes: u64, nodes: u16, replicas: u8) -> TestPool {
        let config = PoolConfig::for_size(node_bytes, nodes, replicas);
        TestPool::with(PoolConfig { lease_ms: 200, ..config })
    }

    /// A pool whose clients may be silent for long: threads of a busy machine.
    pub fn unhurried(node_bytes: u64, nodes: u16, replicas: u8) -> TestPool {
        let config = PoolConfig::for_size(node_bytes, nodes, replicas);
        TestPool::with(PoolConfig { lease_ms: 60_000, ..config })
    }

    pub fn with(config: PoolConfig) -> TestPool {
        config.validate().unwrap();
        let memory = HeapNodes::new(config.num_nodes, config.node_bytes as usize);
        lifecycle::format(&memory.connect(9_999), &config).unwrap();
        TestPool { memory, config }
    }

    pub fn client(&self, pid: u32) -> Client {
        Client::with_cache(Box::new(self.memory.connect(pid)), 1 << 16).unwrap()
    }

    /// The word at `offset` of a node becomes what `change` makes of it.
    pub fn change(&self, node: NodeId, offset: u64, change: impl FnOnce(u64) -> u64) {
        let (verbs, at) = (self.memory.connect(9_998), GlobalAddr::new(node, offset));
        let mut bytes = [0; 8];
        verbs.batch(&mut [Verb::read(at, &mut bytes)]).unwrap();
        let word = change(u64::from_le_bytes(bytes)).to_le_bytes();
        verbs.batch(&mut [Verb::write(at, &word)]).unwrap();
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

pub fn check(client: &mut Client, repair: bool) -> Report {
    run(client, Options { repair }, &mut |_| {}).unwrap()
}

/// Some puts and deletes of `keys` keys. A check that goes on meanwhile is one long operation: what
/// is freed comes back behind it, and clients that are quick enough find the pool full before.
pub fn work(client: &mut Client, random: &mut Random, keys: u64, steps: u32) {
    for step in 0..steps {
        let key = random.below(keys).to_le_bytes();
        let outcome = if random.below(4) == 0 {
            client.delete(0, &key).map(drop)
        } else {
            let value = vec![step as u8; random.below(500) as usize];
            client.put(0, &key, &value, Never)
        };
        match outcome {
            Err(PoolError::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
            outcome => outcome.unwrap(),
        }
    }
}
