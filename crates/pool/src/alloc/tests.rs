//! Allocators against an obvious model: a set of what is handed out.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use artesian_bus::heap::HeapNodes;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};
use proptest::prelude::*;

use super::table::{read_region, BlockState};
use super::{abandon_blocks, announced, Allocation, Allocator, Geometry, Liveness};
use crate::config::{area, NodeLayout};
use crate::lifecycle::{format, join, leave};
use crate::pin::Pins;
use crate::{Fabric, PoolAddr, PoolConfig, PoolError, Result, SizeClass};

const BYTES: u64 = 16 << 20;

fn pool(nodes: u16, replicas: u8) -> Arc<HeapNodes> {
    let memory = HeapNodes::new(nodes, BYTES as usize);
    format(&memory.connect(900), &PoolConfig::for_size(BYTES, nodes, replicas)).unwrap();
    memory
}

fn client(memory: &Arc<HeapNodes>, pid: u32) -> (Fabric, Allocator) {
    let fabric = join(Box::new(memory.connect(pid))).unwrap();
    let allocator = Allocator::new(&fabric).unwrap();
    (fabric, allocator)
}

/// Enough quiescent moments for one turn.
fn turn(fabric: &Fabric, allocator: &mut Allocator) {
    for _ in 0..super::quiesce::CALLS {
        allocator.quiesce(fabric).unwrap();
    }
}

/// Nothing is in use but what the set holds.
struct InUse(RefCell<HashSet<PoolAddr>>);

impl Liveness for InUse {
    fn is_live(&self, _: &Fabric, addr: PoolAddr, _: SizeClass) -> Result<bool> {
        Ok(self.0.borrow().contains(&addr))
    }
}

fn nothing() -> InUse {
    InUse(RefCell::default())
}

/// Allocates until the pool is full.
fn fill(fabric: &Fabric, allocator: &mut Allocator, bytes: usize) -> Vec<Allocation> {
    let mut all = Vec::new();
    loop {
        match allocator.allocate(fabric, bytes) {
            Ok(allocation) => all.push(allocation),
            Err(PoolError::Full { .. }) => return all,
            Err(error) => panic!("{error}"),
        }
        allocator.complete(all[all.len() - 1].sequence);
        allocator.quiesce(fabric).unwrap();
    }
}

/// No two objects share a byte, and none lies in a table or outside the pool.
fn assert_apart(fabric: &Fabric, objects: impl IntoIterator<Item = (PoolAddr, SizeClass)>) {
    let geometry = Geometry::of(fabric.config());
    let limit = (fabric.view().regions.len() as u64) << fabric.config().region_shift;
    let mut by_start = BTreeMap::new();
    for (addr, class) in objects {
        geometry.place(addr, class).unwrap();
        assert!(addr.0 + class.bytes() as u64 <= limit);
        assert!(by_start.insert(addr, class.bytes() as u64).is_none(), "{addr:?} twice");
    }
    let mut end = 0;
    for (addr, bytes) in by_start {
        assert!(addr.0 >= end, "{addr:?} overlaps");
        end = addr.0 + bytes;
    }
}

#[test]
fn clients_get_objects_that_nobody_else_has() {
    let memory = pool(3, 2);
    let handed = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..4)
        .map(|pid| {
            let (memory, handed) = (Arc::clone(&memory), Arc::clone(&handed));
            std::thread::spawn(move || {
                let (fabric, mut allocator) = client(&memory, pid);
                let mut mine = Vec::new();
                for round in 0..600_usize {
                    let bytes = [60, 100, 700, 5_000][(round + pid as usize) % 4];
                    let got = allocator.allocate(&fabric, bytes).unwrap();
                    assert!(got.class.bytes() >= bytes);
                    allocator.complete(got.sequence);
                    allocator.quiesce(&fabric).unwrap();
                    mine.push((got.addr, got.class));
                }
                handed.lock().unwrap().extend(mine);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (fabric, _) = client(&memory, 50);
    assert_apart(&fabric, handed.lock().unwrap().iter().copied());
}

#[test]
fn threads_that_free_each_others_objects_never_share_one() {
    let memory = pool(2, 2);
    let live: Arc<Mutex<HashSet<PoolAddr>>> = Arc::default();
    let shelf: Arc<Mutex<Vec<Allocation>>> = Arc::default();
    let threads: Vec<_> = (0..3_u32)
        .map(|pid| {
            let (memory, live, shelf) =
                (Arc::clone(&memory), Arc::clone(&live), Arc::clone(&shelf));
            std::thread::spawn(move || {
                let (fabric, mut allocator) = client(&memory, pid);
                for _ in 0..6_000 {
                    // A few thousand objects of 8 KiB are many times what the pool holds.
                    let got = match allocator.allocate(&fabric, 8_000) {
                        Err(PoolError::Full { bytes }) => {
                            allocator.make_room(&fabric, bytes, &nothing()).ok();
                            continue;
                        }
                        got => got.unwrap(),
                    };
                    assert!(live.lock().unwrap().insert(got.addr), "{got:?} is in use");
                    let old = {
                        let mut shelf = shelf.lock().unwrap();
                        shelf.push(got);
                        let at = (got.addr.0 / 8192) as usize % shelf.len();
                        (shelf.len() > 200).then(|| shelf.swap_remove(at))
                    };
                    if let Some(old) = old {
                        assert!(live.lock().unwrap().remove(&old.addr));
                        allocator.free(old.addr, old.class);
                    }
                    allocator.complete(got.sequence);
                    allocator.quiesce(&fabric).unwrap();
                }
                allocator.give_back(&fabric).unwrap();
                leave(fabric).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (fabric, mut allocator) = client(&memory, 60);
    let rest = fill(&fabric, &mut allocator, 8_000);
    let shelf = shelf.lock().unwrap();
    let objects = rest.iter().chain(shelf.iter()).map(|got| (got.addr, got.class));
    assert_apart(&fabric, objects.collect::<Vec<_>>());
}

#[test]
fn a_freed_object_comes_back_after_grace_and_not_before() {
    let memory = pool(2, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let (reader_fabric, mut reader) = client(&memory, 2);
    let bytes = allocator.max_object_bytes();
    let all = fill(&fabric, &mut allocator, bytes);
    let victim = all[all.len() / 2];
    allocator.free(victim.addr, victim.class);
    for _ in 0..10 {
        turn(&fabric, &mut allocator);
        let outcome = allocator.allocate(&fabric, bytes);
        assert_eq!(outcome, Err(PoolError::Full { bytes }), "the reader has not been quiescent");
    }
    assert!(allocator.make_room(&fabric, bytes, &nothing()).is_err());
    for _ in 0..4 {
        turn(&reader_fabric, &mut reader);
        turn(&fabric, &mut allocator);
    }
    let back = allocator.allocate(&fabric, bytes).unwrap();
    assert_eq!((back.addr, back.class), (victim.addr, victim.class));
    assert!(back.sequence > victim.sequence);
}

#[test]
fn nobody_waits_for_the_idle_but_for_those_who_resumed() {
    let memory = pool(1, 1);
    let (fabric, mut allocator) = client(&memory, 1);
    let (reader_fabric, mut reader) = client(&memory, 2);
    let bytes = allocator.max_object_bytes();
    let all = fill(&fabric, &mut allocator, bytes);
    reader.idle(&reader_fabric).unwrap();
    allocator.free(all[0].addr, all[0].class);
    allocator.make_room(&fabric, bytes, &nothing()).unwrap();
    let again = allocator.allocate(&fabric, bytes).unwrap();
    reader.resume(&reader_fabric).unwrap();
    allocator.free(again.addr, again.class);
    assert!(allocator.make_room(&fabric, bytes, &nothing()).is_err());
    turn(&reader_fabric, &mut reader);
    reader.idle(&reader_fabric).unwrap();
    allocator.make_room(&fabric, bytes, &nothing()).unwrap();
}

#[test]
fn pinned_objects_stay() {
    let memory = pool(3, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let (reader_fabric, mut reader) = client(&memory, 2);
    let bytes = allocator.max_object_bytes();
    let all = fill(&fabric, &mut allocator, bytes);
    let mut pins = Pins::default();
    let pin = pins.pin(&reader_fabric, all[3].addr).unwrap();
    reader.idle(&reader_fabric).unwrap();
    allocator.free(all[3].addr, all[3].class);
    allocator.free(all[4].addr, all[4].class);
    allocator.make_room(&fabric, bytes, &nothing()).unwrap();
    assert_eq!(allocator.allocate(&fabric, bytes).unwrap().addr, all[4].addr);
    assert!(allocator.make_room(&fabric, bytes, &nothing()).is_err());
    pins.unpin(&reader_fabric, pin).unwrap();
    allocator.make_room(&fabric, bytes, &nothing()).unwrap();
    assert_eq!(allocator.allocate(&fabric, bytes).unwrap().addr, all[3].addr);
}

#[test]
fn memory_moves_between_classes_and_clients() {
    let memory = pool(2, 1);
    let (fabric, mut allocator) = client(&memory, 1);
    let (other_fabric, mut other) = client(&memory, 2);
    other.idle(&other_fabric).unwrap();
    let small = fill(&fabric, &mut allocator, 500);
    let most = small.len();
    assert!(most * 512 > 14 << 20, "only {most} objects fit");
    for object in small {
        allocator.free(object.addr, object.class);
        allocator.quiesce(&fabric).unwrap();
    }
    allocator.make_room(&fabric, 30_000, &nothing()).unwrap();
    let large = fill(&fabric, &mut allocator, 30_000);
    assert!(large.len() * 32_768 > 11 << 20, "only {} objects fit", large.len());
    for object in large {
        allocator.free(object.addr, object.class);
    }
    for _ in 0..40 {
        turn(&fabric, &mut allocator);
    }
    allocator.give_back(&fabric).unwrap();
    other.resume(&other_fabric).unwrap();
    assert!(fill(&other_fabric, &mut other, 500).len() >= most);
}

#[test]
fn what_was_never_seen_is_used_again() {
    let memory = pool(1, 1);
    let (fabric, mut allocator) = client(&memory, 1);
    let got = allocator.allocate(&fabric, 100).unwrap();
    allocator.recycle(got);
    let again = allocator.allocate(&fabric, 100).unwrap();
    assert_eq!((again.addr, again.class), (got.addr, got.class));
    assert!(again.sequence > got.sequence);
    let most = allocator.max_object_bytes();
    assert!(allocator.allocate(&fabric, most).is_ok());
    let text = allocator.allocate(&fabric, most + 1).unwrap_err().to_string();
    assert!(text.contains(&format!("at most {most} bytes")), "{text}");
}

#[test]
fn freeing_twice_is_noticed_and_harms_nobody() {
    let memory = pool(2, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let objects: Vec<_> = (0..8).map(|_| allocator.allocate(&fabric, 100).unwrap()).collect();
    let flushed = |allocator: &mut Allocator, objects: &[Allocation]| {
        objects.iter().for_each(|object| allocator.free(object.addr, object.class));
        allocator.flush(&fabric)
    };
    flushed(&mut allocator, &objects[1..2]).unwrap();
    let text = flushed(&mut allocator, &objects[1..3]).unwrap_err().to_string();
    assert!(text.contains("freed twice"), "{text}");
    assert!(flushed(&mut allocator, &[objects[3], objects[3]]).is_err());
    let word = super::Geometry::of(fabric.config()).place(objects[0].addr, objects[0].class);
    for copy in fabric.copies(word.unwrap().word()) {
        assert_eq!(fabric.read_word(copy).unwrap(), 0b1110);
    }
}

#[test]
fn a_recovery_learns_what_was_announced_and_not_finished() {
    let memory = pool(3, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let (watcher, _) = client(&memory, 2);
    let mut open = HashSet::new();
    for round in 0..9_000_usize {
        let got = allocator.allocate(&fabric, [100, 1_000, 3_000][round % 3]).unwrap();
        let finished = round % 1_000 != 999;
        if finished {
            // Freed at once, as its only user was this operation.
            allocator.free(got.addr, got.class);
            allocator.complete(got.sequence);
        } else {
            open.insert(got.addr);
        }
        allocator.quiesce(&fabric).unwrap();
        if round % 500 == 0 {
            let seen = announced(&watcher, fabric.me()).unwrap().objects;
            let current = seen.iter().find(|object| object.addr == got.addr);
            if let Some(object) = current {
                assert_eq!(object.class, got.class);
            }
            assert!(finished || current.is_some());
            assert!(seen.windows(2).all(|pair| pair[0].place < pair[1].place));
        }
        if !finished {
            let seen: HashSet<_> = announced(&watcher, fabric.me())
                .unwrap()
                .objects
                .iter()
                .map(|object| object.addr)
                .collect();
            assert!(open.is_subset(&seen), "{round}");
            if open.len() == 2 {
                // Both come to their end, late.
                (0..=got.sequence).for_each(|sequence| allocator.complete(sequence));
                open.clear();
            }
        }
    }
}

#[test]
fn objects_that_lie_about_unused_do_not_hold_finished_operations() {
    let memory = pool(3, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let (watcher, _) = client(&memory, 2);
    let mut last = 0;
    for round in 0..40 {
        // Each class is announced in batches, of which few are used.
        let got = allocator.allocate(&fabric, 100 + round * 64).unwrap();
        allocator.complete(got.sequence);
        last = got.sequence;
    }
    turn(&fabric, &mut allocator);
    let seen = announced(&watcher, fabric.me()).unwrap();
    assert_eq!(seen.flushed, last);
    assert!(seen.objects.len() > 100);
}

#[test]
fn an_operation_with_too_many_objects_is_refused_and_others_go_on() {
    let memory = pool(2, 1);
    let (fabric, mut allocator) = client(&memory, 1);
    let mut held = Vec::new();
    let error = loop {
        match allocator.allocate(&fabric, 64) {
            Ok(got) => held.push(got.sequence),
            Err(error) => break error.to_string(),
        }
    };
    assert!(held.len() >= area::NUM_ANNOUNCED as usize - 64, "{}", held.len());
    assert!(error.contains("objects in one operation"), "{error}");
    held.into_iter().for_each(|sequence| allocator.complete(sequence));
    (0..5_000).for_each(|_| {
        let got = allocator.allocate(&fabric, 64).unwrap();
        allocator.complete(got.sequence);
    });
}

#[test]
fn a_dead_clients_memory_is_found_by_asking_the_index() {
    let memory = pool(3, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let bytes = allocator.max_object_bytes() / 8;
    let all = fill(&fabric, &mut allocator, bytes);
    let live = InUse(RefCell::new(all.iter().step_by(2).map(|got| got.addr).collect()));
    // Some are freed and flushed, some freed in operations whose bits were never set.
    for got in all.iter().skip(1).step_by(4) {
        allocator.free(got.addr, got.class);
    }
    allocator.flush(&fabric).unwrap();
    let (heir_fabric, mut heir) = client(&memory, 2);
    assert!(heir.make_room(&heir_fabric, bytes, &live).is_err());
    let dead = fabric.me();
    let blocks = abandon_blocks(&heir_fabric, dead).unwrap();
    assert!(blocks > 100 && abandon_blocks(&heir_fabric, dead).unwrap() == 0);
    // The dead client's record still holds the grace period, until its place is free.
    assert!(heir.make_room(&heir_fabric, bytes, &live).is_err());
    leave(fabric).unwrap();
    let mut found = Vec::new();
    while heir.make_room(&heir_fabric, bytes, &live).is_ok() {
        while let Ok(got) = heir.allocate(&heir_fabric, bytes) {
            assert!(live.0.borrow_mut().insert(got.addr), "{got:?} is in use");
            heir.complete(got.sequence);
            found.push(got);
        }
    }
    assert_eq!(found.len(), all.len() / 2);
    assert_apart(&heir_fabric, found.iter().map(|got| (got.addr, got.class)));
}

#[test]
fn blocks_left_behind_by_a_leaver_need_no_index() {
    struct Never;
    impl Liveness for Never {
        fn is_live(&self, _: &Fabric, addr: PoolAddr, _: SizeClass) -> Result<bool> {
            panic!("{addr:?} looked up")
        }
    }
    let memory = pool(2, 2);
    let (fabric, mut allocator) = client(&memory, 1);
    let all = fill(&fabric, &mut allocator, 1_000);
    all.iter().skip(1).step_by(2).for_each(|got| allocator.free(got.addr, got.class));
    allocator.give_back(&fabric).unwrap();
    leave(fabric).unwrap();
    let (fabric, mut allocator) = client(&memory, 1);
    let states: HashSet<_> = (0..fabric.view().regions.len())
        .flat_map(|region| read_region(&fabric, region).unwrap())
        .map(|(_, word)| word.state as u8)
        .collect();
    // Some free blocks are kept back.
    assert_eq!(states, HashSet::from([BlockState::Orphan as u8, BlockState::Free as u8]));
    let mut found = 0;
    while allocator.make_room(&fabric, 1_000, &Never).is_ok() {
        while let Ok(got) = allocator.allocate(&fabric, 1_000) {
            allocator.complete(got.sequence);
            found += 1;
        }
    }
    assert_eq!(found, all.len() / 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn garbage_in_tables_bitmaps_and_rings_never_panics(
        words in proptest::collection::vec((0_u64..1 << 15, any::<u64>()), 1..60),
        ring in proptest::collection::vec(any::<u64>(), 1..60),
    ) {
        let memory = pool(1, 1);
        let (fabric, mut allocator) = client(&memory, 1);
        let verbs = memory.connect(7);
        for _ in 0..100 {
            let got = allocator.allocate(&fabric, 400).unwrap();
            allocator.complete(got.sequence);
        }
        let layout = NodeLayout::of(fabric.config());
        let shift = fabric.config().block_shift;
        for (at, word) in words {
            // Words of block tables, and words at the start of blocks.
            let within = (at >> 4) << shift | (at & 15) << 3;
            let addr = GlobalAddr::new(NodeId(0), layout.regions + within % (8 << 20));
            verbs.batch(&mut [Verb::write(addr, &word.to_le_bytes())]).unwrap();
        }
        for (at, word) in ring.into_iter().enumerate() {
            let addr = fabric.client_area(1, area::RING + at as u64 * 8)[0];
            verbs.batch(&mut [Verb::write(addr, &word.to_le_bytes())]).unwrap();
        }
        announced(&fabric, fabric.me()).unwrap();
        let mut handed = Vec::new();
        for _ in 0..3_000 {
            match allocator.allocate(&fabric, 400) {
                Ok(got) => {
                    allocator.complete(got.sequence);
                    handed.push(got.addr);
                }
                Err(PoolError::Full { .. } | PoolError::Corrupt(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match allocator.quiesce(&fabric) {
                Ok(()) | Err(PoolError::Corrupt(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let geometry = Geometry::of(fabric.config());
        let class = SizeClass::for_bytes(400).unwrap();
        for addr in handed {
            prop_assert!(geometry.place(addr, class).is_ok());
        }
        let _ = allocator.make_room(&fabric, 400, &nothing());
        let _ = allocator.give_back(&fabric);
        let _ = leave(fabric);
    }
}
