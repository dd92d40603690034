//! Nodes that come, go and are lost.

mod deaths;
mod quiet;
mod work;

use std::collections::HashMap;
use std::sync::Arc;

use artesian_bus::heap::HeapNodes;
use artesian_bus::NodeId;

use super::{add_node, drain_node, restore_replicas, status, Progress};
use crate::check;
use crate::client::Client;
use crate::error::Result;
use crate::lifecycle;
use crate::store::Expiry::Never;
use crate::view::NodeState;
use crate::PoolConfig;

const BYTES: u64 = 6 << 20;

/// A pool on the heap, and nodes that are not in it.
pub struct TestPool {
    pub memory: Arc<HeapNodes>,
    pub config: PoolConfig,
}

impl TestPool {
    pub fn new(nodes: u16, spare: u16, replicas: u8) -> TestPool {
        let config = PoolConfig {
            max_clients: 16,
            region_shift: 18,
            block_shift: 14,
            lease_ms: 60_000,
            ..PoolConfig::for_size(BYTES, nodes, replicas)
        };
        config.validate().unwrap();
        let memory = HeapNodes::new(nodes + spare, BYTES as usize);
        lifecycle::format(&memory.connect(9_999), &config).unwrap();
        TestPool { memory, config }
    }

    pub fn client(&self, pid: u32) -> Client {
        Client::with_cache(Box::new(self.memory.connect(pid)), 1 << 16).unwrap()
    }
}

/// Keys and their values.
pub type Model = HashMap<u32, Vec<u8>>;

pub fn fill(client: &mut Client, keys: u32) -> Model {
    let mut model = Model::new();
    for key in 0..keys {
        let value = vec![key as u8; key as usize % 400];
        client.put(0, &key.to_le_bytes(), &value, Never).unwrap();
        model.insert(key, value);
    }
    model
}

pub fn assert_holds(client: &mut Client, model: &Model) {
    let mut value = Vec::new();
    for (key, expected) in model {
        assert!(client.get(0, &key.to_le_bytes(), &mut value).unwrap(), "{key} is gone");
        assert_eq!(value, *expected, "{key}");
    }
}

/// A client that joins now finds all of it.
pub fn assert_found(pool: &TestPool, model: &Model) {
    let mut client = pool.client(99);
    assert_holds(&mut client, model);
    client.leave().unwrap();
}

/// A check finds nothing, other than what a pool with too few copies must have.
pub fn assert_well(client: &mut Client, few_copies: bool) {
    let report = check::run(client, check::Options::default(), &mut |_| {}).unwrap();
    let mut findings = report.findings;
    findings.retain(|finding| finding.what != check::What::SpareNode);
    findings.retain(|finding| !few_copies || finding.what != check::What::FewCopies);
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{texts:#?}");
}

pub fn node(number: u16) -> NodeId {
    NodeId(number)
}

pub fn quietly(work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<Progress>) -> Progress {
    work(&mut |_| {}).unwrap()
}
