//! Clients of the store that die, and nodes that are lost under them.

use std::sync::Arc;
use std::time::Duration;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, NodeId, Verbs};

use crate::client::Client;
use crate::config::record;
use crate::lifecycle::format;
use crate::membership::table;
use crate::store::Expiry::Never;
use crate::PoolConfig;

const BYTES: u64 = 8 << 20;

fn pool(nodes: u16, replicas: u8, lease_ms: u32) -> Arc<HeapNodes> {
    let memory = HeapNodes::new(nodes, BYTES as usize);
    let config = PoolConfig { lease_ms, ..PoolConfig::for_size(BYTES, nodes, replicas) };
    format(&memory.connect(900), &config).unwrap();
    memory
}

fn client(memory: &Arc<HeapNodes>, pid: u32) -> Client {
    Client::with_cache(Box::new(memory.connect(pid)), 1 << 16).unwrap()
}

/// Ticks until the client at `index` has been recovered.
fn recover(client: &mut Client, index: u16) {
    for _ in 0..200 {
        client.tick().unwrap();
        if table::read_one(client.fabric(), index).unwrap().state == record::FREE {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the client at place {index} is not recovered");
}

/// Puts until the client dies; returns the value that was acknowledged last.
fn put_until_death(client: &mut Client, rounds: u32) -> u32 {
    (1..=rounds).take_while(|n| client.put(0, b"key", &n.to_le_bytes(), Never).is_ok()).count()
        as u32
}

#[test]
fn a_client_that_dies_at_any_verb_is_recovered_by_the_others() {
    for replicas in [1, 2] {
        let memory = pool(2, replicas, 40);
        let mut healthy = client(&memory, 1);
        let mut into = Vec::new();
        for after in 0..60 {
            let plan = FaultPlan { after, torn_words: 1, death: Death::Connection };
            let pid = 100 + after as u32;
            let verbs = Faulty::new(memory.connect(pid), plan);
            healthy.put(0, b"key", &0_u32.to_le_bytes(), Never).unwrap();
            let Ok(mut dying) = Client::with_cache(Box::new(verbs), 1 << 16) else {
                memory.connect(900).fence(Identity { pid, started: 0 });
                recover(&mut healthy, 2);
                continue;
            };
            let index = dying.fabric().me().index;
            let last = put_until_death(&mut dying, 20);
            memory.connect(900).fence(Identity { pid, started: 0 });
            recover(&mut healthy, index);
            assert!(healthy.get(0, b"key", &mut into).unwrap());
            let found = u32::from_le_bytes(into[..4].try_into().unwrap());
            assert!(found == last || found == last + 1, "{after}: {found} after {last}");
            assert!(healthy.delete(0, b"key").unwrap());
        }
    }
}

#[test]
fn the_store_goes_on_without_a_lost_node() {
    for (nodes, replicas, victims) in [(3, 2, &[0_u16][..]), (3, 2, &[1]), (4, 3, &[0, 2])] {
        // Nobody shall be declared dead here, however busy the machine is.
        let memory = pool(nodes, replicas, 1_000);
        std::thread::scope(|scope| {
            for pid in 1..4_u32 {
                let mut client = client(&memory, pid);
                scope.spawn(move || {
                    let mut into = Vec::new();
                    for round in 0..3_000_u32 {
                        let key = (u64::from(pid) << 32 | u64::from(round % 50)).to_le_bytes();
                        client.put(0, &key, &round.to_le_bytes(), Never).unwrap();
                        client.put(0, b"shared", &[pid as u8; 40], Never).unwrap();
                        assert!(client.get(0, &key, &mut into).unwrap(), "{round}");
                        assert_eq!(into, round.to_le_bytes());
                        client.tick().unwrap();
                    }
                });
            }
            for &victim in victims {
                std::thread::sleep(Duration::from_millis(100));
                memory.kill_node(NodeId(victim));
            }
        });
        let mut last = client(&memory, 9);
        let mut into = Vec::new();
        for pid in 1..4_u64 {
            for number in 0..50_u32 {
                let key = (pid << 32 | u64::from(number)).to_le_bytes();
                assert!(last.get(0, &key, &mut into).unwrap());
                assert_eq!(u32::from_le_bytes(into[..4].try_into().unwrap()) % 50, number);
            }
        }
    }
}
