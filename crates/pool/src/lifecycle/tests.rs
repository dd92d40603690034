//! Making, joining and leaving, with all that can be wrong.

use std::sync::Arc;

use artesian_bus::heap::HeapNodes;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use super::{format, join, leave};
use crate::config::{meta, record, NodeLayout, PoolConfig};
use crate::object::word;

const BYTES: u64 = 16 << 20;

fn pool(nodes: u16, replicas: u8) -> (Arc<HeapNodes>, PoolConfig) {
    let config = PoolConfig::for_size(BYTES, nodes, replicas);
    let memory = HeapNodes::new(nodes, BYTES as usize);
    format(&memory.connect(900), &config).unwrap();
    (memory, config)
}

fn says(outcome: crate::Result<crate::Fabric>, part: &str) {
    let text = outcome.err().expect("an error").to_string();
    assert!(text.contains(part), "{text}");
}

#[test]
fn clients_get_places_of_their_own_and_give_them_back() {
    let (memory, config) = pool(3, 2);
    let places = config.max_clients - 1;
    let mut clients: Vec<_> =
        (0..places).map(|pid| join(Box::new(memory.connect(u32::from(pid)))).unwrap()).collect();
    for (at, client) in clients.iter().enumerate() {
        assert_eq!((client.me().index as usize, client.me().incarnation), (at + 1, 1));
    }
    says(join(Box::new(memory.connect(99))), "all 15 client places of the pool are taken (15 by");
    leave(clients.remove(4)).unwrap();
    let again = join(Box::new(memory.connect(99))).unwrap();
    assert_eq!((again.me().index, again.me().incarnation), (5, 2));
    for node in 0..3 {
        let at = NodeLayout::of(&config).meta + meta::CLIENT_TABLE + 5 * meta::CLIENT_RECORD;
        let mut bytes = [0; 64];
        let verbs = memory.connect(100);
        verbs.batch(&mut [Verb::read(GlobalAddr::new(NodeId(node), at), &mut bytes)]).unwrap();
        assert_eq!(record::split(word(&bytes, 0)), (record::LIVE, again.me()), "node {node}");
        assert_eq!((word(&bytes, 8), word(&bytes, 32), word(&bytes, 40)), (99, 1, 0));
        assert_eq!(word(&bytes, 48), 2, "the mailbox shows the first view");
    }
}

#[test]
fn many_threads_join_at_once() {
    let (memory, config) = pool(2, 2);
    let threads: Vec<_> = (1..config.max_clients)
        .map(|pid| {
            let memory = Arc::clone(&memory);
            std::thread::spawn(move || join(Box::new(memory.connect(u32::from(pid)))).unwrap().me())
        })
        .collect();
    let mut seen: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().index).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..config.max_clients).collect::<Vec<_>>());
}

#[test]
fn what_is_no_pool_is_refused() {
    let empty = HeapNodes::new(1, BYTES as usize);
    says(join(Box::new(empty.connect(1))), "memory node 0: not a pool yet");
    let write = |memory: &Arc<HeapNodes>, node, at, bytes: &[u8]| {
        let addr = GlobalAddr::new(NodeId(node), at);
        memory.connect(9).batch(&mut [Verb::write(addr, bytes)]).unwrap();
    };
    write(&empty, 0, 0, b"something else");
    says(join(Box::new(empty.connect(1))), "other bytes than a header");

    let (memory, _) = pool(1, 1);
    write(&memory, 0, 8, &[9, 0, 0, 0]);
    says(join(Box::new(memory.connect(1))), "format version 9; this program knows 1 only");

    let (memory, _) = pool(2, 1);
    write(&memory, 0, 20, &[1]);
    write(&memory, 1, 20, &[1]);
    says(join(Box::new(memory.connect(1))), "checksum differs");

    let (memory, config) = pool(2, 1);
    write(&memory, 1, 0, &[0; 64]);
    says(join(Box::new(memory.connect(1))), "node 1: not a pool yet");
    let other = PoolConfig { pool_id: 1, ..config };
    write(&memory, 1, 0, &super::header::encode(&other, NodeId(1)));
    says(join(Box::new(memory.connect(1))), "node 1 belongs to pool 0x1");

    let (memory, config) = pool(2, 1);
    for node in 0..2 {
        write(&memory, node, NodeLayout::of(&config).view, &[7; 8]);
    }
    says(join(Box::new(memory.connect(1))), "no view here");
}

#[test]
fn the_newest_good_view_counts() {
    let (memory, config) = pool(3, 2);
    let mut view = crate::View::first(&config);
    view.epoch = 5;
    let at = NodeLayout::of(&config).view;
    let verbs = memory.connect(9);
    verbs.batch(&mut [Verb::write(GlobalAddr::new(NodeId(2), at), &view.encode())]).unwrap();
    verbs.batch(&mut [Verb::write(GlobalAddr::new(NodeId(0), at), &[3; 100])]).unwrap();
    let client = join(Box::new(memory.connect(1))).unwrap();
    assert_eq!((client.view().epoch, client.asked()), (5, 10));
}

#[test]
fn a_pool_needs_its_nodes_and_their_bytes() {
    let config = PoolConfig::for_size(BYTES, 2, 1);
    let small = HeapNodes::new(2, BYTES as usize - 1);
    let text = format(&small.connect(1), &config).unwrap_err().to_string();
    assert!(text.contains("node 0 has 16777215 bytes; the pool needs 16777216"), "{text}");
    let few = HeapNodes::new(1, BYTES as usize);
    let text = format(&few.connect(1), &config).unwrap_err().to_string();
    assert!(text.contains("node 1 cannot be reached; the pool needs 2 nodes"), "{text}");
}
