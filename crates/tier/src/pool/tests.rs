//! Pools of blocks: bounds, damage, lost memory, deaths, and several processes that share one.

use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{GlobalAddr, Identity, NodeId, Verb, Verbs};
use artesian_pool::{lifecycle, PoolConfig};

use super::*;
use crate::store::KEY_BYTES;

const BLOCK: usize = 100_000;
const NODE: usize = 20 << 20;

/// A pool on the heap. Clients are numbered.
struct Memory {
    nodes: Arc<HeapNodes>,
}

impl Memory {
    fn new(num_nodes: u16, replicas: u8) -> Memory {
        let nodes = HeapNodes::new(num_nodes, NODE);
        let config = PoolConfig::for_size(NODE as u64, num_nodes, replicas);
        lifecycle::format(&nodes.connect(9_999), &config).unwrap();
        Memory { nodes }
    }

    fn client(&self, pid: u32) -> Client {
        Client::join(Box::new(self.nodes.connect(pid))).unwrap()
    }

    /// The store of process `number`.
    fn store(&self, number: u32, capacity_bytes: u64) -> PoolStore {
        let clients = (0..3).map(|client| self.client(10 * number + client)).collect();
        open(clients, capacity_bytes).unwrap()
    }

    /// Where a copy of a block lies, and some of its bytes there.
    fn find(&self, number: u8) -> (GlobalAddr, Vec<u8>) {
        let verbs = self.nodes.connect(5_000);
        let pattern = block(number)[40_000..40_064].to_vec();
        let mut bytes = vec![0; NODE];
        for (node, _) in verbs.nodes() {
            verbs.batch(&mut [Verb::read(GlobalAddr::new(node, 0), &mut bytes)]).unwrap();
            if let Some(at) = bytes.windows(64).position(|window| window == pattern) {
                return (GlobalAddr::new(node, at as u64), pattern);
            }
        }
        panic!("block {number} is nowhere");
    }

    /// Flips a bit of a block, behind everybody's back.
    fn damage(&self, number: u8) {
        let (at, bytes) = self.find(number);
        self.nodes.connect(5_000).batch(&mut [Verb::write(at, &[bytes[0] ^ 4])]).unwrap();
    }
}

fn open(clients: Vec<Client>, capacity_bytes: u64) -> Result<PoolStore> {
    PoolStore::open(PoolOptions { name: "test".into(), capacity_bytes }, clients)
}

fn key(number: u8) -> Key {
    [number; KEY_BYTES]
}

fn block(number: u8) -> Vec<u8> {
    let start = u64::from(number) << 32 | 1;
    let words = (0..BLOCK as u64 / 8).map(|at| (start + at).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

fn load(store: &PoolStore, number: u8) -> Loaded {
    let mut into = vec![0; BLOCK];
    let loaded = store.load(&key(number), &mut into).unwrap();
    assert!(loaded != Loaded::Hit || into == block(number), "wrong bytes");
    loaded
}

fn save(store: &PoolStore, number: u8) -> Saved {
    store.save(&key(number), &block(number)).unwrap()
}

#[test]
fn a_block_is_there_once_for_all() {
    let memory = Memory::new(1, 1);
    let (one, other) = (memory.store(1, 1 << 30), memory.store(2, 1 << 30));
    assert_eq!(load(&one, 1), Loaded::Absent);
    assert_eq!(save(&one, 1), Saved::New);
    assert!(other.contains(&key(1)), "at once");
    assert_eq!(save(&other, 1), Saved::Known);
    assert_eq!(load(&other, 1), Loaded::Hit);
    let used = one.stats().used_bytes;
    assert!((BLOCK as u64..2 * BLOCK as u64).contains(&used), "{used}");
    assert!(other.remove(&key(1)).unwrap() && !other.remove(&key(1)).unwrap());
    assert!(!one.contains(&key(1)));
    assert_eq!((load(&one, 1), load(&one, 1)), (Loaded::Vanished, Loaded::Absent));
    assert_eq!((one.stats().num_vanished, one.stats().num_corrupt), (1, 0));
}

#[test]
fn parts_come_one_by_one() {
    let memory = Memory::new(1, 1);
    let store = memory.store(1, 1 << 30);
    assert_eq!(store.part_bytes(&key(1), 1_000), 1_000);
    let part = store.part_bytes(&key(1), BLOCK);
    assert!(part < BLOCK / 2, "{part}");
    save(&store, 1);
    let mut into = vec![0; BLOCK];
    for (number, some) in into.chunks_mut(part).enumerate() {
        assert_eq!(store.load_part(&key(1), number * part, some).unwrap(), Loaded::Hit);
    }
    assert!(into == block(1));
    memory.damage(1);
    let outcomes: Vec<Loaded> = into
        .chunks_mut(part)
        .enumerate()
        .map(|(number, some)| store.load_part(&key(1), number * part, some).unwrap())
        .collect();
    let bad = 40_000 / part;
    assert!(outcomes[..bad].iter().all(|loaded| *loaded == Loaded::Hit), "{outcomes:?}");
    assert_eq!(outcomes[bad], Loaded::Corrupt);
    assert!(outcomes[bad + 1..].iter().all(|loaded| *loaded == Loaded::Absent), "{outcomes:?}");
    save(&store, 2);
    let mut beyond = vec![0; part];
    assert_eq!(store.load_part(&key(2), BLOCK - 10, &mut beyond).unwrap(), Loaded::Corrupt);
}

#[test]
fn blocks_outlive_the_processes() {
    let memory = Memory::new(1, 1);
    let store = memory.store(1, 1 << 30);
    for number in 0..9 {
        save(&store, number);
    }
    drop(store);
    let store = memory.store(2, 1 << 30);
    assert_eq!(store.stats().num_blocks, 9);
    let entries = store.entries();
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    assert!(bytes >= store.stats().used_bytes, "{bytes} for {:?}", store.stats());
    assert!((0..9).all(|number| load(&store, number) == Loaded::Hit));
}

#[test]
fn damage_and_other_lengths_are_misses() {
    let memory = Memory::new(1, 1);
    let store = memory.store(1, 1 << 30);
    for number in 0..3 {
        save(&store, number);
    }
    memory.damage(1);
    assert_eq!([0, 1, 2].map(|n| load(&store, n)), [Loaded::Hit, Loaded::Corrupt, Loaded::Hit]);
    assert_eq!(load(&store, 1), Loaded::Absent);
    assert_eq!(save(&store, 1), Saved::New, "can be saved again");
    assert_eq!(load(&store, 1), Loaded::Hit);
    for wrong in [BLOCK - 1, BLOCK + 1] {
        save(&store, 2);
        assert_eq!(store.load(&key(2), &mut vec![0; wrong]).unwrap(), Loaded::Corrupt);
        assert!(!store.contains(&key(2)));
    }
    assert_eq!(store.stats().num_corrupt, 3);
}

#[test]
fn copies_make_up_for_damage_and_loss() {
    let memory = Memory::new(3, 2);
    let store = memory.store(1, 1 << 30);
    for number in 0..20 {
        save(&store, number);
    }
    memory.damage(1);
    memory.nodes.kill_node(NodeId(0));
    assert!((0..20).all(|number| load(&store, number) == Loaded::Hit));
}

#[test]
fn lost_memory_is_misses() {
    let memory = Memory::new(3, 1);
    let store = memory.store(1, 1 << 30);
    for number in 0..20 {
        save(&store, number);
    }
    memory.nodes.kill_node(memory.find(7).0.node());
    let found: Vec<Loaded> = (0..20).map(|number| load(&store, number)).collect();
    assert!(found.iter().all(|found| *found != Loaded::Corrupt), "{found:?}");
    assert!(matches!(found[7], Loaded::Absent | Loaded::Vanished), "{found:?}");
    // What can be saved again is there; a part of the index may be lost for good.
    for number in 0..40 {
        match store.save(&key(number), &block(number)) {
            Ok(_) => assert_eq!(load(&store, number), Loaded::Hit),
            Err(error) => assert!(error.to_string().contains("data lost"), "{error}"),
        }
    }
    // Without any memory every call ends.
    (0..3).for_each(|node| memory.nodes.kill_node(NodeId(node)));
    assert!(!store.contains(&key(1)));
    let mut into = vec![0; BLOCK];
    assert!(!matches!(store.load(&key(1), &mut into), Ok(Loaded::Hit)));
    assert!(store.save(&key(1), &block(1)).is_err() && store.refresh().is_err());
}

#[test]
fn the_bound_holds_and_room_comes_back() {
    let memory = Memory::new(1, 1);
    let (one, other) = (memory.store(1, 1_000_000), memory.store(2, 1_000_000));
    let mut saved = 0;
    let full = loop {
        let store = if saved % 2 == 0 { &one } else { &other };
        match store.save(&key(saved), &block(saved)) {
            Ok(_) => saved += 1,
            Err(error) => break error,
        }
        one.refresh().and(other.refresh()).unwrap();
    };
    assert!(matches!(full, TierError::Full { .. }), "{full}");
    assert!((7..10).contains(&saved), "{saved} blocks of a tenth");
    assert!(other.remove(&key(0)).unwrap() && other.remove(&key(1)).unwrap());
    assert_eq!(save(&one, 100), Saved::New);
}

#[test]
fn a_pool_without_room_is_full_until_blocks_go() {
    let memory = Memory::new(1, 1);
    let store = memory.store(1, 1 << 30);
    let all = (0..=255).take_while(|&number| store.save(&key(number), &block(number)).is_ok());
    let num_saved = all.count() as u8;
    assert!(num_saved > 100, "{num_saved}");
    assert!(matches!(store.save(&key(254), &block(254)), Err(TierError::Full { .. })));
    for number in 0..20 {
        store.remove(&key(number)).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(20);
    while store.save(&key(254), &block(254)).is_err() {
        assert!(Instant::now() < until, "room comes back");
        store.refresh().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(load(&store, 254), Loaded::Hit);
}

#[test]
fn others_blocks_become_known_and_forgotten() {
    let memory = Memory::new(1, 1);
    let (one, other) = (memory.store(1, 1 << 30), memory.store(2, 1 << 30));
    save(&other, 1);
    save(&other, 2);
    while !one.learn().unwrap() {}
    assert_eq!(one.entries().len(), 2);
    other.remove(&key(1)).unwrap();
    while !one.learn().unwrap() {}
    let entries = one.entries();
    assert_eq!(entries.iter().map(|entry| entry.key).collect::<Vec<_>>(), [key(2)]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(entries[0].saved_ms.abs_diff(now.as_millis() as u64) < 60_000);
}

/// A process dies after every verb of a save, in the middle of a write too.
#[test]
fn what_a_killed_process_wrote_halfway_never_shows() {
    let count = |after| {
        let memory = Memory::new(1, 1);
        let clients = vec![memory.client(10), dying(&memory, 11, u64::MAX)];
        let store = open(clients, 1 << 30).unwrap();
        drop(store);
        let plan = FaultPlan { after, torn_words: 3, death: Death::Connection };
        let verbs = Faulty::new(memory.nodes.connect(12), plan);
        let Ok(client) = Client::join(Box::new(verbs)) else { return None };
        let Ok(store) = open(vec![memory.client(13), client], 1 << 30) else { return None };
        let is_saved = store.save(&key(1), &block(1)).is_ok();
        memory.nodes.connect(14).fence(Identity { pid: 12, started: 0 });
        let other = memory.store(2, 1 << 30);
        let found = load(&other, 1);
        assert!(matches!(found, Loaded::Hit | Loaded::Absent), "{found:?} after {after}");
        assert!(!is_saved || found == Loaded::Hit);
        other.refresh().unwrap();
        assert_eq!(save(&other, 1) == Saved::Known, found == Loaded::Hit);
        assert_eq!(load(&other, 1), Loaded::Hit);
        Some((is_saved, found))
    };
    let (mut absent, mut after) = (0, 0);
    loop {
        let outcome = count(after);
        absent += u32::from(matches!(outcome, Some((false, Loaded::Absent))));
        if matches!(outcome, Some((true, _))) {
            break;
        }
        after += 1;
        assert!(after < 5_000);
    }
    assert!(absent > 3, "{absent} deaths before the block was there");
}

fn dying(memory: &Memory, pid: u32, after: u64) -> Client {
    let plan = FaultPlan { after, torn_words: 3, death: Death::Connection };
    Client::join(Box::new(Faulty::new(memory.nodes.connect(pid), plan))).unwrap()
}

#[test]
fn threads_save_load_and_take_away_at_once() {
    let memory = Memory::new(1, 1);
    let stores = [memory.store(1, 1 << 30), memory.store(2, 1 << 30)];
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let stores = &stores;
            scope.spawn(move || {
                let mut random = u64::from(thread) + 1;
                for _ in 0..150 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
                    let number = (random >> 33) as u8 % 12;
                    let store = &stores[usize::from(thread % 2)];
                    match random >> 60 {
                        0..5 => drop(store.save(&key(number), &block(number)).unwrap()),
                        5..7 => drop(store.remove(&key(number)).unwrap()),
                        7 => store.refresh().unwrap(),
                        _ => assert_ne!(load(store, number), Loaded::Corrupt),
                    }
                }
            });
        }
    });
    assert_eq!(stores[0].stats().num_corrupt + stores[1].stats().num_corrupt, 0);
}

#[test]
fn one_client_is_too_few() {
    let memory = Memory::new(1, 1);
    let error = open(vec![memory.client(1)], 1 << 30).err().unwrap().to_string();
    assert!(error.contains("2 are needed"), "{error}");
}

/// Somebody who waits for a change of the nodes holds one client; the change waits for the others.
#[test]
fn a_client_in_use_does_not_keep_the_others_from_being_attended_to() {
    let memory = Memory::new(1, 1);
    let clients = Arc::new(Clients::new((0..3).map(|pid| memory.client(pid)).collect()));
    let (end, held) = std::sync::mpsc::channel::<()>();
    let (told, entered) = std::sync::mpsc::channel::<()>();
    let holder = {
        let clients = clients.clone();
        std::thread::spawn(move || {
            clients
                .asking(|_| {
                    told.send(()).unwrap();
                    let _ = held.recv();
                    Ok(())
                })
                .unwrap();
        })
    };
    entered.recv().unwrap();
    let (told, attended) = std::sync::mpsc::channel();
    let attending = clients.clone();
    let attender = std::thread::spawn(move || told.send(attending.attend()).unwrap());
    let outcome = attended.recv_timeout(Duration::from_secs(20));
    end.send(()).unwrap();
    holder.join().unwrap();
    attender.join().unwrap();
    outcome.expect("it waits for the client that is in use").unwrap();
}

/// Three clients of a process, two threads that attend, as a mover has them: none of the clients
/// may wait for another.
#[test]
fn a_lost_node_is_taken_out_while_nobody_asks() {
    let memory = Memory::new(3, 2);
    let stores = [memory.store(1, 1 << 30), memory.store(2, 1 << 30)].map(Arc::new);
    save(&stores[0], 1);
    memory.nodes.kill_node(NodeId(0));
    let (told, done) = std::sync::mpsc::channel();
    for store in stores.iter().chain(&stores) {
        let (store, told) = (store.clone(), told.clone());
        std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(2);
            let mut outcome = Ok(());
            while Instant::now() < until && outcome.is_ok() {
                outcome = store.refresh();
                std::thread::sleep(REFRESH);
            }
            told.send(outcome).unwrap();
        });
    }
    for _ in 0..2 * stores.len() {
        // Those who wait for each other lose their leases, after some seconds.
        done.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    }
    assert_eq!((load(&stores[0], 1), load(&stores[1], 1)), (Loaded::Hit, Loaded::Hit));
}
