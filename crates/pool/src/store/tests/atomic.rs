//! Increments, compare-and-set, append: alone and by many clients.

use std::thread;

use super::TestPool;
use crate::store::Expiry::{self, Never};

#[test]
fn increments_add_up() {
    for replicas in [1, 2, 3] {
        let pool = TestPool::new(16 << 20, 3, replicas);
        thread::scope(|scope| {
            for pid in 1..4u32 {
                let mut client = pool.client(pid);
                scope.spawn(move || {
                    let mut last = 0;
                    for _ in 0..250 {
                        let sum = client.increment(0, b"sum", i64::from(pid)).unwrap();
                        assert!(sum > last);
                        last = sum;
                    }
                });
            }
        });
        assert_eq!(pool.client(9).increment(0, b"sum", 0).unwrap(), 250 * 6);
    }
}

#[test]
fn an_integer_keeps_its_time_and_its_limits() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    assert_eq!(client.increment(0, b"n", -3).unwrap(), -3);
    client.put(0, b"n", &7_i64.to_le_bytes(), Expiry::In(50_000)).unwrap();
    assert_eq!(client.increment(0, b"n", 4).unwrap(), 11);
    assert!(client.ttl_ms(0, b"n").unwrap().unwrap().unwrap() > 40_000);
    client.put(0, b"n", &7_i64.to_le_bytes(), Expiry::In(0)).unwrap();
    assert_eq!(client.increment(0, b"n", 4).unwrap(), 4);
    client.put(0, b"n", b"seven", Never).unwrap();
    let error = client.increment(0, b"n", 1).unwrap_err().to_string();
    assert!(error.contains("5 bytes, not 8"), "{error}");
    client.put(0, b"n", &i64::MAX.to_le_bytes(), Never).unwrap();
    let error = client.increment(0, b"n", 1).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
    assert_eq!(client.increment(0, b"n", -1).unwrap(), i64::MAX - 1);
}

#[test]
fn versions_name_states() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let (mut one, mut two) = (pool.client(1), pool.client(2));
    let first = one.compare_and_set(0, b"key", None, b"1", Never).unwrap().unwrap();
    assert_eq!(two.compare_and_set(0, b"key", None, b"2", Never).unwrap(), None);
    let mut found = Vec::new();
    assert_eq!(two.get_versioned(0, b"key", &mut found).unwrap(), Some(first));
    assert_eq!(found, b"1");
    let large = vec![5; 100_000];
    let second = two.compare_and_set(0, b"key", Some(first), &large, Never).unwrap().unwrap();
    assert_eq!(one.compare_and_set(0, b"key", Some(first), b"x", Never).unwrap(), None);
    assert_eq!(one.get_versioned(0, b"key", &mut found).unwrap(), Some(second));
    assert!(found == large);
    // The same value is another state.
    one.put(0, b"key", &large, Never).unwrap();
    assert!(!two.compare_and_delete(0, b"key", second).unwrap());
    let third = two.version(0, b"key").unwrap().unwrap();
    assert!(two.compare_and_delete(0, b"key", third).unwrap());
    assert_eq!(two.version(0, b"key").unwrap(), None);
}

#[test]
fn compare_and_set_loses_nothing() {
    for replicas in [1, 3] {
        let pool = TestPool::new(16 << 20, 3, replicas);
        pool.client(1).put(0, b"list", b"", Never).unwrap();
        thread::scope(|scope| {
            for pid in 1..4u8 {
                let mut client = pool.client(u32::from(pid));
                scope.spawn(move || {
                    let mut list = Vec::new();
                    for _ in 0..60 {
                        loop {
                            let version = client.get_versioned(0, b"list", &mut list).unwrap();
                            list.push(pid);
                            let set = client.compare_and_set(0, b"list", version, &list, Never);
                            if set.unwrap().is_some() {
                                break;
                            }
                        }
                        client.put(0, &[pid], b"busy", Never).unwrap();
                    }
                });
            }
        });
        let mut list = Vec::new();
        assert!(pool.client(9).get(0, b"list", &mut list).unwrap());
        list.sort_unstable();
        assert_eq!(list, [vec![1; 60], vec![2; 60], vec![3; 60]].concat());
    }
}

#[test]
fn appended_bytes_stand_one_behind_the_other() {
    let pool = TestPool::new(64 << 20, 2, 2);
    let mut client = pool.client(1);
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for step in 0..120usize {
        let bytes = vec![step as u8; step * 37 % 9_000];
        expected.extend_from_slice(&bytes);
        assert_eq!(client.append(0, b"log", &bytes).unwrap(), expected.len());
        if step % 10 == 0 {
            assert!(client.get(0, b"log", &mut found).unwrap() && found == expected, "{step}");
        }
    }
    assert!(client.get(0, b"log", &mut found).unwrap() && found == expected);
    assert_eq!(client.usage(0).unwrap(), client.recount(0).unwrap());
    client.delete(0, b"log").unwrap();
    assert_eq!(client.usage(0).unwrap(), 0);
}

#[test]
fn appends_of_several_clients_all_count() {
    let pool = TestPool::new(64 << 20, 2, 2);
    thread::scope(|scope| {
        for pid in 1..4u8 {
            let mut client = pool.client(u32::from(pid));
            scope.spawn(move || {
                for _ in 0..40 {
                    client.append(0, b"log", &[pid; 700]).unwrap();
                }
            });
        }
    });
    let mut found = Vec::new();
    let mut client = pool.client(9);
    assert!(client.get(0, b"log", &mut found).unwrap());
    assert!(found.chunks(700).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])));
    for pid in 1..4u8 {
        assert_eq!(found.iter().filter(|byte| **byte == pid).count(), 40 * 700);
    }
}
