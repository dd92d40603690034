//! Several clients at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::{num_objects, slots, CacheConfig, Random, TestPool};
use crate::client::Client;
use crate::store::Expiry::Never;

/// Each thread has its own keys and knows their values; all share the buckets and evict each
/// other's objects.
fn hammer(replicas: u8, steps: u32, most: u64) {
    let pool = TestPool::new(32 << 20, 2, replicas);
    thread::scope(|scope| {
        for pid in 1..4u32 {
            let mut client = pool.client(pid);
            scope.spawn(move || {
                let id = client.cache_open("c", &CacheConfig::of_objects(most)).unwrap();
                let mut random = Random(u64::from(pid) * 7919);
                let mut values: Vec<Option<u32>> = vec![None; most as usize];
                let mut found = Vec::new();
                for step in 0..steps {
                    let number = random.below(most);
                    let key = (u64::from(pid) << 32 | number).to_le_bytes();
                    let value = &mut values[number as usize];
                    match random.below(8) {
                        0 => {
                            let deleted = client.cache_delete(id, &key).unwrap();
                            assert!(value.take().is_some() || !deleted);
                        }
                        1..=4 => {
                            client.cache_put(id, &key, &step.to_le_bytes(), Never).unwrap();
                            *value = Some(step);
                        }
                        _ => match client.cache_get(id, &key, &mut found).unwrap() {
                            false => *value = None,
                            true => {
                                let expected = value.map(|step| step.to_le_bytes().to_vec());
                                assert_eq!(Some(&found), expected.as_ref(), "{pid} {number}");
                            }
                        },
                    }
                }
                client.leave().unwrap();
            });
        }
    });
    let mut client = pool.client(9);
    let id = client.cache_open("c", &CacheConfig::of_objects(most)).unwrap();
    let objects = num_objects(&client);
    assert_eq!(client.cache_stats(id).unwrap().objects, objects);
    assert!(objects <= most && objects > most / 2, "{objects} objects");
    assert_no_duplicates(&client);
}

/// No object is named twice.
fn assert_no_duplicates(client: &Client) {
    let named = slots(client).into_iter().filter(|(_, slot)| slot.class().is_some());
    let mut objects: Vec<_> = named.map(|(_, slot)| slot.addr()).collect();
    let all = objects.len();
    objects.sort_unstable();
    objects.dedup();
    assert_eq!(objects.len(), all);
}

#[test]
fn clients_share_a_cache() {
    hammer(1, 4_000, 300);
    hammer(2, 3_000, 300);
    hammer(2, 1_500, 12);
}

#[test]
#[ignore = "slow: many steps of three clients"]
fn clients_share_a_cache_for_long() {
    for most in [5, 60, 1_000] {
        hammer(1, 60_000, most);
        hammer(3, 40_000, most);
    }
}

/// The value of a shared key never goes back: puts count up, one client at a time.
#[test]
fn a_shared_key_shows_the_latest_value_or_none() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let latest = AtomicU32::new(0);
    thread::scope(|scope| {
        let mut writer = pool.client(1);
        let latest = &latest;
        scope.spawn(move || {
            let id = writer.cache_open("c", &CacheConfig::of_objects(8)).unwrap();
            for round in 1..2_000u32 {
                writer.cache_put(id, b"shared", &round.to_le_bytes(), Never).unwrap();
                latest.store(round, Ordering::SeqCst);
                writer.cache_put(id, &round.to_le_bytes(), b"filler", Never).unwrap();
            }
        });
        for pid in 2..4 {
            let mut reader = pool.client(pid);
            scope.spawn(move || {
                let id = reader.cache_open("c", &CacheConfig::of_objects(8)).unwrap();
                let (mut found, mut last) = (Vec::new(), 0);
                while last < 1_900 {
                    let before = latest.load(Ordering::SeqCst);
                    if before >= 1_999 {
                        break;
                    }
                    if reader.cache_get(id, b"shared", &mut found).unwrap() {
                        let value = u32::from_le_bytes(found[..].try_into().unwrap());
                        assert!(value >= before && value >= last, "{value}: {before}, {last}");
                        last = value;
                    }
                    reader.cache_put(id, &[pid as u8; 9], b"filler", Never).unwrap();
                }
            });
        }
    });
}

/// Concurrent puts of one absent key give it one slot.
#[test]
fn no_key_gets_two_slots() {
    for replicas in [1, 2, 3] {
        let pool = TestPool::new(16 << 20, 3, replicas);
        let config = CacheConfig::of_objects(64);
        let mut observer = pool.client(9);
        let id = observer.cache_open("c", &config).unwrap();
        for round in 0..30u32 {
            thread::scope(|scope| {
                for pid in 1..4 {
                    let mut client = pool.client(10 + pid);
                    let config = &config;
                    scope.spawn(move || {
                        let id = client.cache_open("c", config).unwrap();
                        client.cache_put(id, &round.to_le_bytes(), &[pid as u8], Never).unwrap();
                        client.leave().unwrap();
                    });
                }
            });
            assert_eq!(num_objects(&observer), u64::from(round + 1).min(64));
            assert!(observer.cache_touch(id, &round.to_le_bytes()).unwrap());
        }
    }
}
