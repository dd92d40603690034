//! Several clients at once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::thread;

use super::{checked, Random, TestPool, TREE};

/// A key of client `pid`; the clients' keys lie among each other.
fn key(number: u64, pid: u32, long: bool) -> Vec<u8> {
    let mut key = number.to_be_bytes()[6..].to_vec();
    key.resize(if long { 180 } else { key.len() }, 7);
    key.push(pid as u8);
    key
}

/// Each thread has its own keys and knows their values; all share the leaves.
fn hammer(replicas: u8, num_keys: u64, steps: u32, long: bool) {
    let pool = TestPool::new(2, replicas);
    let models: Vec<BTreeMap<u64, Vec<u8>>> = thread::scope(|scope| {
        let handles: Vec<_> = (1..4u32)
            .map(|pid| {
                let mut client = pool.client(pid);
                scope.spawn(move || {
                    let mut random = Random(u64::from(pid) * 7919);
                    let (mut model, mut found) = (BTreeMap::new(), Vec::new());
                    for step in 0..steps {
                        let number = random.below(num_keys);
                        let key = key(number, pid, long);
                        // Waves of growth and of shrinking.
                        let grows = (step / (steps / 4)).is_multiple_of(2);
                        match random.below(8) {
                            0 => {
                                let there = client.tree_get(TREE, &key, &mut found).unwrap();
                                assert_eq!(there.then_some(&found), model.get(&number));
                            }
                            1..=5 if grows => {
                                let bytes = if step.is_multiple_of(16) { 200 } else { 4 };
                                let value = vec![step as u8; bytes];
                                client.tree_put(TREE, &key, &value).unwrap();
                                model.insert(number, value);
                            }
                            _ => {
                                let deleted = client.tree_delete(TREE, &key).unwrap();
                                assert_eq!(deleted, model.remove(&number).is_some());
                            }
                        }
                    }
                    client.leave().unwrap();
                    model
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let mut client = pool.client(9);
    let mut all = BTreeMap::new();
    for (pid, model) in (1u32..).zip(models) {
        all.extend(model.into_iter().map(|(number, value)| (key(number, pid, long), value)));
    }
    let mut shown = BTreeMap::new();
    let bounds = (Bound::Unbounded, Bound::Unbounded);
    let scan = client.tree_scan(TREE, bounds.0, bounds.1, usize::MAX, |key, value| {
        shown.insert(key.to_vec(), value.to_vec());
        true
    });
    assert_eq!(scan.unwrap(), all.len());
    assert_eq!(shown, all);
    checked(&client);
}

#[test]
fn clients_share_a_tree() {
    hammer(1, 400, 3_000, false);
    hammer(2, 300, 1_500, true);
}

#[test]
#[ignore = "slow: hundreds of thousands of operations"]
fn clients_share_a_tree_for_long() {
    for replicas in 1..=2 {
        hammer(replicas, 4_000, 100_000, false);
        hammer(replicas, 1_000, 50_000, true);
    }
}

#[test]
fn inserts_of_one_key_succeed_once() {
    let pool = TestPool::new(2, 2);
    let inserted: u64 = thread::scope(|scope| {
        let handles: Vec<_> = (1..4)
            .map(|pid| {
                let mut client = pool.client(pid);
                scope.spawn(move || {
                    let keys = 0..300u64;
                    let mut insert = |key: &u64| client.tree_insert(TREE, &key.to_be_bytes(), b"");
                    keys.filter(|key| insert(key).unwrap()).count() as u64
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    assert_eq!(inserted, 300);
}

#[test]
fn scans_miss_nothing_that_is_there_throughout() {
    let pool = TestPool::new(1, 1);
    let mut first = pool.client(1);
    for number in (0..600u64).step_by(3) {
        first.tree_put(TREE, &key(number, 0, true), b"stays").unwrap();
    }
    thread::scope(|scope| {
        let done = scope.spawn(|| {
            let mut client = pool.client(2);
            for round in 0..6 {
                for number in (0..600u64).filter(|number| !number.is_multiple_of(3)) {
                    let key = key(number, 0, true);
                    if round % 2 == 0 {
                        client.tree_put(TREE, &key, b"comes").unwrap();
                    } else {
                        client.tree_delete(TREE, &key).unwrap();
                    }
                }
            }
        });
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        while !done.is_finished() {
            for back in [false, true] {
                let mut keys = Vec::new();
                let mut stays = 0;
                let mut show = |key: &[u8], value: &[u8]| {
                    keys.push(key.to_vec());
                    stays += u32::from(value == b"stays");
                    true
                };
                if back {
                    first.tree_scan_back(TREE, from, to, usize::MAX, &mut show).unwrap();
                    keys.reverse();
                } else {
                    first.tree_scan(TREE, from, to, usize::MAX, &mut show).unwrap();
                }
                assert_eq!(stays, 200);
                assert!(keys.is_sorted_by(|one, other| one < other));
            }
        }
    });
    checked(&first);
}
