//! One client against a map that may forget.

use std::collections::HashMap;

use super::{checked_stats, num_objects, CacheConfig, Random, TestPool};
use crate::client::Client;
use crate::namespace::{self, Kind, Limits};
use crate::store::Expiry;

type Model = HashMap<Vec<u8>, Vec<u8>>;

/// A step; whether it was a hit of a key that the model has.
fn step(client: &mut Client, id: u16, model: &mut Model, random: &mut Random, keys: u64) {
    let key = format!("key {}", random.below(keys)).into_bytes();
    let value = vec![random.below(256) as u8; random.below(600) as usize];
    match random.below(8) {
        0..=2 => {
            client.cache_put(id, &key, &value, Expiry::Never).unwrap();
            model.insert(key, value);
        }
        3 => {
            let deleted = client.cache_delete(id, &key).unwrap();
            assert!(model.remove(&key).is_some() || !deleted, "delete {key:?}");
        }
        4 => {
            let touched = client.cache_touch(id, &key).unwrap();
            assert!(!touched || model.contains_key(&key), "touch {key:?}");
        }
        _ => {
            let mut found = Vec::new();
            match client.cache_get(id, &key, &mut found).unwrap() {
                true => assert_eq!(Some(&found), model.get(&key), "get {key:?}"),
                // Evicted: it must stay away.
                false => drop(model.remove(&key)),
            }
        }
    }
}

#[test]
fn a_cache_is_a_map_that_forgets() {
    for (nodes, replicas, seed) in [(1, 1, 11), (3, 1, 12), (2, 2, 13), (4, 3, 14)] {
        let pool = TestPool::new(16 << 20, nodes, replicas);
        for mut client in [pool.client(1), pool.uncached(2)] {
            let id = client.cache_open("c", &CacheConfig::of_objects(40)).unwrap();
            let (mut model, mut random) = (Model::new(), Random(seed));
            for key in 0..120 {
                client.cache_delete(id, format!("key {key}").as_bytes()).unwrap();
            }
            for round in 0..2_000 {
                step(&mut client, id, &mut model, &mut random, 120);
                if round % 100 == 0 {
                    let stats = checked_stats(&mut client, id);
                    assert!(stats.objects <= 40, "{stats:?}");
                }
            }
            let stats = checked_stats(&mut client, id);
            assert!(stats.hits > 100 && stats.misses > 100 && stats.evictions > 100, "{stats:?}");
            assert!(stats.regrets > 10, "{stats:?}");
            client.leave().unwrap();
        }
    }
}

#[test]
fn a_cache_with_room_forgets_nothing() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let id = client.cache_open("c", &CacheConfig::of_objects(2_000)).unwrap();
    for key in 0..1_000u32 {
        client.cache_put(id, &key.to_le_bytes(), &key.to_be_bytes(), Expiry::Never).unwrap();
    }
    let mut found = Vec::new();
    for key in 0..1_000u32 {
        assert!(client.cache_get(id, &key.to_le_bytes(), &mut found).unwrap(), "{key}");
        assert_eq!(found, key.to_be_bytes());
    }
    assert_eq!(checked_stats(&mut client, id).objects, 1_000);
}

#[test]
fn bytes_are_bounded_too() {
    for replicas in [1, 2] {
        let pool = TestPool::new(16 << 20, 2, replicas);
        let mut client = pool.client(1);
        let id = client.cache_open("c", &CacheConfig::of_bytes(100_000)).unwrap();
        let mut random = Random(5);
        for _ in 0..2_000 {
            let key = random.below(500).to_le_bytes();
            let bytes = if random.below(20) == 0 { 15_000 } else { random.below(700) };
            client.cache_put(id, &key, &vec![7; bytes as usize], Expiry::Never).unwrap();
            let stats = client.cache_stats(id).unwrap();
            assert!(stats.bytes <= 100_000, "{stats:?}");
        }
        let stats = checked_stats(&mut client, id);
        assert!(stats.bytes > 60_000, "{stats:?}");
        let error = client.cache_put(id, b"k", &vec![0; 100_001], Expiry::Never);
        assert!(error.unwrap_err().to_string().contains("too large"));
    }
}

#[test]
fn values_expire() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let id = client.cache_open("c", &CacheConfig::of_objects(10)).unwrap();
    client.cache_put(id, b"soon", b"1", Expiry::In(1)).unwrap();
    client.cache_put(id, b"late", b"2", Expiry::In(1_000_000)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    let mut found = Vec::new();
    assert!(!client.cache_get(id, b"soon", &mut found).unwrap());
    assert!(client.cache_get(id, b"late", &mut found).unwrap());
    client.cache_put(id, b"soon", b"3", Expiry::Never).unwrap();
    assert!(client.cache_get(id, b"soon", &mut found).unwrap() && found == b"3");
}

#[test]
fn a_cache_is_opened_by_name_and_stays_as_it_was_made() {
    let pool = TestPool::new(16 << 20, 3, 2);
    let (mut one, mut two) = (pool.client(1), pool.client(2));
    let id = one.cache_open("c", &CacheConfig::of_objects(30)).unwrap();
    assert_eq!(two.cache_open("c", &CacheConfig::of_objects(999)).unwrap(), id);
    assert_eq!(two.cache_stats(id).unwrap().most_objects, 30);
    let other = two.cache_open("d", &CacheConfig::of_objects(30)).unwrap();
    assert_ne!(other, id);
    one.cache_put(id, b"k", b"v", Expiry::Never).unwrap();
    let mut found = Vec::new();
    assert!(two.cache_get(id, b"k", &mut found).unwrap() && found == b"v");
    assert!(!two.cache_get(other, b"k", &mut found).unwrap());
    let text = one.cache_get(other, b"k", &mut found).unwrap_err().to_string();
    assert!(text.contains("no cache that this client has opened"), "{text}");
    namespace::create(one.fabric(), "s", Kind::Store, Limits::default()).unwrap();
    assert!(one.cache_open("s", &CacheConfig::of_objects(30)).is_err());
    assert!(one.cache_open("e", &CacheConfig::default()).is_err(), "no limit");
    let algorithms = vec!["nonsense".to_owned()];
    let config = CacheConfig { algorithms, ..CacheConfig::of_objects(3) };
    assert!(one.cache_open("e", &config).unwrap_err().to_string().contains("nonsense"));
    // Opened again, it goes on where it was.
    assert_eq!(one.cache_open("c", &CacheConfig::of_objects(1)).unwrap(), id);
    assert_eq!(one.cache_stats(id).unwrap().puts, 1);
}

#[test]
fn a_full_pool_evicts_although_the_cache_is_not_full() {
    for replicas in [1, 2] {
        let pool = TestPool::new(if replicas == 1 { 4 } else { 8 } << 20, 2, replicas);
        let mut client = pool.client(1);
        let id = client.cache_open("c", &CacheConfig::of_objects(5_000)).unwrap();
        let mut found = Vec::new();
        for key in 0..2_500u32 {
            client.cache_put(id, &key.to_le_bytes(), &[key as u8; 3_000], Expiry::Never).unwrap();
            assert!(client.cache_get(id, &key.to_le_bytes(), &mut found).unwrap());
            assert!(found.iter().all(|&byte| byte == key as u8));
        }
        let stats = checked_stats(&mut client, id);
        assert!(stats.evictions > 500 && num_objects(&client) > 200, "{stats:?}");
    }
}
