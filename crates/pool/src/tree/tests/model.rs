//! One client against a map.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{checked, Random, TestPool, TREE};
use crate::client::Client;
use crate::tree::MAX_INLINE;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key of `numbers` many; long ones make nodes of few records.
fn key(random: &mut Random, numbers: u64, long: bool) -> Vec<u8> {
    let number = random.below(numbers);
    if number == 0 {
        return Vec::new();
    }
    let mut key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
    key.truncate(1 + (number % 8) as usize);
    key.extend_from_slice(&number.to_be_bytes()[6..]);
    if long {
        let fill = (number % 3 * 120) as usize;
        key.resize((key.len() + fill).min(super::super::MAX_KEY_BYTES), number as u8);
    }
    key
}

fn value(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(8) {
        0 => 129 + random.below(2_000),
        1..=3 => random.below(129),
        _ => random.below(12),
    };
    vec![random.below(256) as u8; bytes as usize]
}

fn one_step(client: &mut Client, model: &mut Model, random: &mut Random, keys: u64, long: bool) {
    let (key, value) = (key(random, keys, long), value(random));
    match random.below(9) {
        8 => scan_step(client, model, random, (&key, long)),
        0 | 1 => {
            client.tree_put(TREE, &key, &value).unwrap();
            model.insert(key, value);
        }
        2 => {
            let inserted = client.tree_insert(TREE, &key, &value).unwrap();
            assert_eq!(inserted, !model.contains_key(&key), "insert {key:?}");
            model.entry(key).or_insert(value);
        }
        3 | 4 => {
            let deleted = client.tree_delete(TREE, &key).unwrap();
            assert_eq!(deleted, model.remove(&key).is_some(), "delete {key:?}");
        }
        _ => {
            let mut found = Vec::new();
            let is_there = client.tree_get(TREE, &key, &mut found).unwrap();
            assert_eq!(is_there.then_some(&found), model.get(&key), "get {key:?}");
        }
    }
}

/// A bound at or beside `key`.
fn bound<'k>(random: &mut Random, key: &'k [u8]) -> Bound<&'k [u8]> {
    match random.below(3) {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    }
}

fn scan_step(client: &mut Client, model: &Model, random: &mut Random, (one, long): (&[u8], bool)) {
    let other = key(random, 900, long);
    let (low, high) = if *one < *other { (one, &other[..]) } else { (&other[..], one) };
    let (from, to) = (bound(random, low), bound(random, high));
    let limit = [0, 1, 7, 1_000][random.below(4) as usize];
    let stop = [3, 10_000][random.below(2) as usize];
    let empty = low == high && (from, to) == (Bound::Excluded(low), Bound::Excluded(high));
    let range = || model.range::<[u8], _>((from, to));
    for back in [false, true] {
        let mut shown = Vec::new();
        let mut show = |key: &[u8], value: &[u8]| {
            shown.push((key.to_vec(), value.to_vec()));
            shown.len() < stop
        };
        let count = if back {
            client.tree_scan_back(TREE, from, to, limit, &mut show).unwrap()
        } else {
            client.tree_scan(TREE, from, to, limit, &mut show).unwrap()
        };
        assert_eq!(count, shown.len());
        let most = limit.min(stop);
        let pair = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let expected: Vec<_> = match (empty, back) {
            (true, _) => Vec::new(),
            (_, true) => range().rev().take(most).map(pair).collect(),
            (_, false) => range().take(most).map(pair).collect(),
        };
        assert_eq!(shown, expected, "{from:?} to {to:?}, at most {limit}, back {back}");
    }
}

#[test]
fn a_tree_is_a_map() {
    let shapes = [(1, 1, 11, 60), (3, 1, 12, 900), (2, 2, 13, 900), (4, 3, 14, 300)];
    for (nodes, replicas, seed, keys) in shapes {
        for long in [false, true] {
            let pool = TestPool::new(nodes, replicas);
            let mut client = pool.client(1);
            let (mut model, mut random) = (Model::new(), Random(seed));
            for _ in 0..4_000 {
                one_step(&mut client, &mut model, &mut random, keys, long);
            }
            for (key, value) in &model {
                let mut found = Vec::new();
                assert!(client.tree_get(TREE, key, &mut found).unwrap(), "{key:?}");
                assert_eq!(found, *value);
            }
            let report = checked(&client);
            let stored = model.values().filter(|value| value.len() > MAX_INLINE).count();
            assert_eq!((report.keys, report.stored), (model.len() as u64, stored as u64));
            assert!(report.levels > if keys < 100 && !long { 0 } else { 1 }, "{report:?}");
            for key in model.keys() {
                assert!(client.tree_delete(TREE, key).unwrap());
            }
            let report = checked(&client);
            assert_eq!((report.keys, report.stored), (0, 0));
            assert!(report.nodes <= 3, "{report:?}");
            client.leave().unwrap();
        }
    }
}
