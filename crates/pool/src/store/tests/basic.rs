//! One client against a map.

use std::collections::HashMap;

use super::{Random, TestPool};
use crate::client::Client;
use crate::namespace::{Kind, Limits};
use crate::store::Expiry;

type Model = HashMap<(u16, Vec<u8>), Vec<u8>>;

fn one_step(client: &mut Client, model: &mut Model, random: &mut Random, keys: u64) {
    let namespace = random.below(2) as u16;
    let key = format!("key {}", random.below(keys)).into_bytes();
    let value = vec![random.below(256) as u8; random.below(600) as usize];
    let named = (namespace, key.clone());
    match random.below(6) {
        0 => {
            client.put(namespace, &key, &value, Expiry::Never).unwrap();
            model.insert(named, value);
        }
        1 => {
            let inserted = client.insert(namespace, &key, &value, Expiry::Never).unwrap();
            assert_eq!(inserted, !model.contains_key(&named), "insert {key:?}");
            model.entry(named).or_insert(value);
        }
        2 => {
            let updated = client.update(namespace, &key, &value, Expiry::Never).unwrap();
            assert_eq!(updated, model.contains_key(&named), "update {key:?}");
            model.entry(named).and_modify(|old| *old = value);
        }
        3 => {
            let deleted = client.delete(namespace, &key).unwrap();
            assert_eq!(deleted, model.remove(&named).is_some(), "delete {key:?}");
        }
        _ => {
            let mut found = Vec::new();
            let is_there = client.get(namespace, &key, &mut found).unwrap();
            assert_eq!(is_there.then_some(&found), model.get(&named), "get {key:?}");
        }
    }
}

#[test]
fn a_store_is_a_map() {
    for (nodes, replicas, seed) in [(1, 1, 11), (3, 1, 12), (2, 2, 13), (4, 3, 14)] {
        let pool = TestPool::new(16 << 20, nodes, replicas);
        for mut client in [pool.client(1), pool.uncached(2)] {
            assert_eq!(client.namespace("one", Kind::Store, Limits::default()).unwrap(), 1);
            let (mut model, mut random) = (Model::new(), Random(seed));
            for _ in 0..3_000 {
                one_step(&mut client, &mut model, &mut random, 60);
            }
            for namespace in 0..2 {
                for key in 0..60 {
                    client.delete(namespace, format!("key {key}").as_bytes()).unwrap();
                }
            }
            client.leave().unwrap();
        }
    }
}

#[test]
fn subtables_split_as_keys_come() {
    for (nodes, replicas) in [(1, 1), (3, 2)] {
        let pool = TestPool::new(64 << 20, nodes, replicas);
        let mut client = pool.client(1);
        for key in 0..12_000u32 {
            client.put(0, &key.to_le_bytes(), &key.to_be_bytes(), Expiry::Never).unwrap();
        }
        assert!(client.directory.depth() >= 3, "depth {}", client.directory.depth());
        // A second client knows the directory of now, a third one that of before.
        let mut other = pool.uncached(2);
        let mut found = Vec::new();
        for key in 0..12_000u32 {
            let reader = if key % 2 == 0 { &mut client } else { &mut other };
            assert!(reader.get(0, &key.to_le_bytes(), &mut found).unwrap(), "{key}");
            assert_eq!(found, key.to_be_bytes());
        }
        assert!(!client.get(0, b"nobody", &mut found).unwrap());
    }
}

#[test]
fn memory_comes_back() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let value = vec![7; 10_000];
    for round in 0..4_000u32 {
        client.put(0, &(round % 50).to_le_bytes(), &value, Expiry::Never).unwrap();
        if round % 7 == 0 {
            client.delete(0, &(round % 50).to_le_bytes()).unwrap();
        }
    }
}
