//! Several clients at once.

use std::collections::HashSet;
use std::thread;

use super::{Random, TestPool};
use crate::store::Expiry::Never;

#[test]
fn inserts_of_one_key_succeed_once() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let winners: Vec<Vec<u32>> = thread::scope(|scope| {
        let handles: Vec<_> = (1..4)
            .map(|pid| {
                let mut client = pool.client(pid);
                scope.spawn(move || {
                    let keys = 0..300u32;
                    let insert = |key: &u32| {
                        client.insert(0, &key.to_le_bytes(), &pid.to_le_bytes(), Never).unwrap()
                    };
                    keys.filter(insert).collect()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let all: Vec<u32> = winners.iter().flatten().copied().collect();
    assert_eq!(all.len(), 300);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 300);
    let mut client = pool.client(9);
    let mut found = Vec::new();
    for (pid, keys) in (1u32..).zip(&winners) {
        for key in keys {
            assert!(client.get(0, &key.to_le_bytes(), &mut found).unwrap());
            assert_eq!(found, pid.to_le_bytes());
        }
    }
}

/// Each thread has its own keys and knows their values; all share the subtables.
fn hammer(replicas: u8, num_keys: u64, steps: u32) {
    let pool = TestPool::new(64 << 20, 2, replicas);
    thread::scope(|scope| {
        for pid in 1..4u32 {
            let mut client = pool.client(pid);
            scope.spawn(move || {
                let mut random = Random(u64::from(pid) * 7919);
                let mut values: Vec<Option<u32>> = vec![None; num_keys as usize];
                let mut found = Vec::new();
                for step in 0..steps {
                    let number = random.below(num_keys);
                    let key = (u64::from(pid) << 32 | number).to_le_bytes();
                    let value = &mut values[number as usize];
                    match random.below(8) {
                        0 => {
                            let deleted = client.delete(0, &key).unwrap();
                            assert_eq!(deleted, value.take().is_some());
                        }
                        1..=5 => {
                            client.put(0, &key, &step.to_le_bytes(), Never).unwrap();
                            *value = Some(step);
                        }
                        _ => {
                            let there = client.get(0, &key, &mut found).unwrap();
                            let expected = value.map(|step| step.to_le_bytes().to_vec());
                            assert_eq!(there.then(|| found.clone()), expected, "{pid} {number}");
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn splits_happen_under_load() {
    hammer(1, 3_000, 12_000);
    hammer(2, 3_000, 8_000);
}

#[test]
#[ignore = "slow: a hundred thousand keys of three clients"]
fn many_splits_happen_under_load() {
    hammer(2, 33_000, 200_000);
}

#[test]
fn puts_of_one_key_all_succeed_and_one_value_stays() {
    let pool = TestPool::new(16 << 20, 3, 3);
    thread::scope(|scope| {
        for pid in 1..4u32 {
            let mut client = pool.client(pid);
            scope.spawn(move || {
                let mut found = Vec::new();
                for round in 0..300u32 {
                    client.put(0, b"shared", &[pid as u8; 64], Never).unwrap();
                    assert!(client.get(0, b"shared", &mut found).unwrap(), "{round}");
                    assert!(found.len() == 64 && found.iter().all(|&byte| byte == found[0]));
                }
            });
        }
    });
}
