//! What outsiders see.

use std::sync::Arc;

use artesian_bus::heap::HeapNodes;

use super::{clients, look, publish};
use crate::client::Client;
use crate::config::record;
use crate::lifecycle::format;
use crate::namespace::{self, Kind, Limits};
use crate::store::Expiry::Never;
use crate::PoolConfig;

fn pool(nodes: u16, replicas: u8) -> Arc<HeapNodes> {
    let memory = HeapNodes::new(nodes, 16 << 20);
    format(&memory.connect(900), &PoolConfig::for_size(16 << 20, nodes, replicas)).unwrap();
    memory
}

#[test]
fn an_outsider_sees_people_space_and_names() {
    let memory = pool(3, 2);
    let empty = look(Box::new(memory.connect(9))).unwrap();
    assert!(empty.clients.is_empty());
    assert_eq!(empty.namespaces.len(), 1, "the default one");
    assert_eq!((empty.free_bytes(), empty.regions.1), (empty.capacity_bytes(), 0));
    let one = Client::join(Box::new(memory.connect(1))).unwrap();
    let mut two = Client::join(Box::new(memory.connect(2))).unwrap();
    namespace::create(two.fabric(), "mine", Kind::Store, Limits::default()).unwrap();
    two.put(0, b"key", &[7; 1000], Never).unwrap();
    two.tick().unwrap();
    two.idle().unwrap();
    publish(two.fabric(), 5, 1).unwrap();
    let seen = look(Box::new(memory.connect(9))).unwrap();
    assert_eq!(seen.namespaces[1].0.name, "mine");
    assert!(seen.free_bytes() < seen.capacity_bytes() && seen.blocks.owned > 0);
    let nodes: Vec<_> = seen.nodes.iter().map(|node| (node.node.0, node.bytes)).collect();
    assert_eq!(nodes, [(0, 16 << 20), (1, 16 << 20), (2, 16 << 20)]);
    let copies: u64 = seen.nodes.iter().map(|node| node.regions).sum();
    assert_eq!(copies, seen.regions.0 * 2);
    let [first, second] = seen.clients[..] else { panic!("{:?}", seen.clients) };
    assert_eq!((first.client, second.client), (one.fabric().me(), two.fabric().me()));
    assert_eq!((first.state, first.identity.pid), (record::LIVE, 1));
    assert_eq!((first.reads, first.is_idle, first.is_master), (0, false, false));
    assert_eq!((second.reads, second.writes), (5, 1));
    assert!(second.is_idle && second.is_master && second.is_alive);
    assert!((1..=5_000).contains(&second.lease_left_ms));
    one.leave().unwrap();
    two.leave().unwrap();
    assert!(clients(Box::new(memory.connect(9))).unwrap().is_empty());
    // Whoever comes next at the place starts to count anew.
    let _three = Client::join(Box::new(memory.connect(3))).unwrap();
    let _four = Client::join(Box::new(memory.connect(4))).unwrap();
    let counts = clients(Box::new(memory.connect(9))).unwrap();
    assert!(counts.iter().all(|client| (client.reads, client.writes) == (0, 0)));
}

#[test]
fn a_lost_node_is_seen_and_nothing_is_done_about_it() {
    let memory = pool(3, 2);
    let mut client = Client::join(Box::new(memory.connect(1))).unwrap();
    client.put(0, b"key", b"value", Never).unwrap();
    memory.kill_node(artesian_bus::NodeId(2));
    let before = look(Box::new(memory.connect(9)));
    if let Ok(seen) = &before {
        assert_eq!((seen.view_epoch, seen.nodes[2].bytes), (1, 0));
    }
    let mut value = Vec::new();
    assert!(client.get(0, b"key", &mut value).unwrap());
    client.tick().unwrap();
    let after = look(Box::new(memory.connect(9))).unwrap();
    assert_eq!((after.view_epoch, after.nodes[2].regions), (2, 0));
}

#[test]
fn what_is_no_pool_is_an_error() {
    let memory = HeapNodes::new(1, 16 << 20);
    let text = look(Box::new(memory.connect(1))).unwrap_err().to_string();
    assert!(text.contains("not a pool yet"), "{text}");
}
