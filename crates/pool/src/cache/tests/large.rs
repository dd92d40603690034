//! Values of any size.

use std::collections::HashMap;

use super::{CacheConfig, Random, TestPool};
use crate::client::Client;
use crate::store::Expiry::Never;

fn value(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(5) {
        0 => random.below(300_000),
        1 => 16 << 10 | random.below(2),
        _ => random.below(9_000),
    };
    vec![random.below(256) as u8; bytes as usize]
}

/// Bytes of the pool that are not free, by looking at all of it.
fn check(client: &mut Client) -> u64 {
    let options = crate::check::Options::default();
    let report = crate::check::run(client, options, &mut |_| {}).unwrap();
    assert_eq!(report.findings, []);
    let counts = &report.counts;
    assert_eq!((counts.leaked.objects, counts.held.objects), (0, 0));
    counts.in_use.bytes
}

#[test]
fn large_values_are_whole_or_gone_and_leave_nothing() {
    for (nodes, replicas) in [(1, 1), (2, 2)] {
        let pool = TestPool::new(32 << 20, nodes, replicas);
        let mut client = pool.client(1);
        let config = CacheConfig { bytes: 3 << 20, ..CacheConfig::of_objects(100) };
        let id = client.cache_open("c", &config).unwrap();
        let (mut model, mut random) = (HashMap::new(), Random(3));
        let (mut found, mut hits) = (Vec::new(), 0);
        for _ in 0..1_200 {
            let key = random.below(150).to_le_bytes();
            match random.below(6) {
                0 => {
                    assert!(!client.cache_delete(id, &key).unwrap() || model.contains_key(&key));
                    model.remove(&key);
                }
                1 | 2 => match client.cache_get(id, &key, &mut found).unwrap() {
                    true => {
                        hits += 1;
                        assert_eq!(Some(&found), model.get(&key));
                    }
                    false => drop(model.remove(&key)),
                },
                _ => {
                    let value = value(&mut random);
                    client.cache_put(id, &key, &value, Never).unwrap();
                    model.insert(key, value);
                }
            }
            let stats = client.cache_stats(id).unwrap();
            assert!(stats.bytes <= 3 << 20, "{stats:?}");
        }
        let stats = client.cache_stats(id).unwrap();
        assert!(hits > 100 && stats.bytes > 2 << 20 && stats.evictions > 100, "{hits} {stats:?}");
        let full = check(&mut client);
        for key in 0..150u64 {
            client.cache_delete(id, &key.to_le_bytes()).unwrap();
        }
        let stats = client.cache_stats(id).unwrap();
        assert_eq!((stats.objects, stats.bytes), (0, 0));
        assert!(full - check(&mut client) > 2 << 20);
        let error = client.cache_put(id, b"huge", &vec![0; 4 << 20], Never).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}

#[test]
fn large_values_find_room_in_a_full_pool() {
    let pool = TestPool::new(8 << 20, 1, 1);
    let mut client = pool.client(1);
    let id = client.cache_open("c", &CacheConfig::of_objects(500)).unwrap();
    let mut random = Random(8);
    let mut found = Vec::new();
    for round in 0..200u32 {
        let key = random.below(300).to_le_bytes();
        let value = vec![round as u8; 50_000 + random.below(60_000) as usize];
        client.cache_put(id, &key, &value, Never).unwrap();
        assert!(client.cache_get(id, &key, &mut found).unwrap() && found == value, "{round}");
    }
    assert!(client.cache_stats(id).unwrap().evictions > 60);
}
