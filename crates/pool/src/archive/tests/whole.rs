//! What was saved comes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{load_from, save_to, Scratch, TestPool};
use crate::archive::{load, save, verify, SaveOptions};
use crate::namespace::{Kind, Limits};
use crate::store::Expiry;

const LIMITS: Limits = Limits { quota: 3 << 20, floor: 5, default_ttl_ms: 0 };

#[test]
fn keys_namespaces_and_times_come_back() {
    let scratch = Scratch::new("whole");
    let path = scratch.file("pool.snapshot");
    let pool = TestPool::new(2, 2);
    let mut client = pool.client(1);
    let ns = client.namespace("files", Kind::Store, LIMITS).unwrap();
    client.namespace("a cache", Kind::Cache, Limits::default()).unwrap();
    let mut model = HashMap::new();
    for number in 0..3_000_u32 {
        let namespace = if number % 3 == 0 { 0 } else { ns };
        let value = vec![number as u8; number as usize % 700];
        client.put(namespace, &number.to_le_bytes(), &value, Expiry::Never).unwrap();
        model.insert((namespace, number.to_le_bytes()), value);
    }
    for number in 0..100_u32 {
        assert!(client.delete(0, &(number * 3).to_le_bytes()).unwrap());
        model.remove(&(0, (number * 3).to_le_bytes()));
    }
    client.put(ns, b"short", b"gone soon", Expiry::In(1)).unwrap();
    client.put(ns, b"long", b"stays", Expiry::In(3_600_000)).unwrap();
    client.put(ns, b"", b"of the empty key", Expiry::Never).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    let mut last = 0;
    let saved = save(&mut client, &path, SaveOptions::default(), &mut |progress| {
        assert!(progress.tables <= progress.total && progress.summary.values >= last);
        last = progress.summary.values;
    });
    let saved = saved.unwrap();
    assert_eq!(saved.values, model.len() as u64 + 2);
    assert_eq!((saved.namespaces, saved.namespaces_left_out, saved.left_out), (2, 1, 0));
    assert_eq!(saved.file_bytes, std::fs::metadata(&path).unwrap().len());
    assert!(saved.file_bytes < saved.bytes, "values compress well");
    assert_eq!(scratch.names(), ["pool.snapshot"]);
    assert_eq!(verify(&path, &mut |_| {}).unwrap().values, saved.values);

    let other = TestPool::new(3, 1);
    let mut client = other.client(1);
    client.namespace("first", Kind::Store, Limits::default()).unwrap();
    let mut seen = (0, 0);
    let loaded = load(&mut client, &path, &mut |progress| {
        assert!(progress.bytes <= progress.total);
        if progress.verifying {
            seen.0 += 1;
        } else {
            seen.1 += 1;
        }
    });
    let loaded = loaded.unwrap();
    assert!(seen.0 > 0 && seen.1 > 0);
    assert_eq!((loaded.values, loaded.bytes, loaded.left_out), (saved.values, saved.bytes, 0));
    let own = client.namespace("files", Kind::Store, Limits::default()).unwrap();
    let known = client.namespaces().unwrap();
    assert_eq!(known.iter().find(|known| known.id == own).unwrap().limits, LIMITS);
    assert_ne!(own, ns, "numbers are the new pool's");
    let mut value = Vec::new();
    for ((namespace, key), expected) in &model {
        let namespace = if *namespace == 0 { 0 } else { own };
        assert!(client.get(namespace, key, &mut value).unwrap());
        assert_eq!(value, *expected);
    }
    assert!(client.get(own, b"", &mut value).unwrap() && value == b"of the empty key");
    assert!(!client.contains(own, b"short").unwrap());
    let ttl = client.ttl_ms(own, b"long").unwrap().unwrap().unwrap();
    assert!(ttl > 3_000_000 && ttl <= 3_600_000, "{ttl}");
    assert_eq!(client.ttl_ms(own, b"").unwrap(), Some(None));
    // Over a pool that has them already.
    assert_eq!(load_from(&mut client, &path).unwrap().values, saved.values);
}

/// Values of many sizes, for a tree of some levels.
fn row(number: u32) -> Vec<u8> {
    vec![number as u8; [3, 80, 200, 3_000][number as usize % 4]]
}

#[test]
fn ordered_keys_come_back() {
    let scratch = Scratch::new("ordered");
    for frozen in [false, true] {
        let path = scratch.file("file");
        let pool = TestPool::new(2, 2);
        let mut client = pool.client(1);
        let tree = client.namespace("rows", Kind::Tree, LIMITS).unwrap();
        client.namespace("empty", Kind::Tree, Limits::default()).unwrap();
        for number in 0..700_u32 {
            client.tree_put(tree, &number.to_be_bytes(), &row(number)).unwrap();
        }
        client.put(0, b"k", b"v", Expiry::Never).unwrap();
        let saved = save_to(&mut client, &path, frozen).unwrap();
        assert_eq!((saved.values, saved.namespaces, saved.namespaces_left_out), (701, 3, 0));
        let other = TestPool::new(1, 1);
        let mut client = other.client(1);
        assert_eq!(load_from(&mut client, &path).unwrap().values, 701);
        let own = client.namespace("rows", Kind::Tree, Limits::default()).unwrap();
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut next = 0_u32;
        let shown = client.tree_scan(own, all.0, all.1, usize::MAX, |key, value| {
            assert_eq!((key, value), (&next.to_be_bytes()[..], &row(next)[..]));
            next += 1;
            true
        });
        assert_eq!((shown.unwrap(), next), (700, 700));
    }
}

/// A writer counts two keys up together; `frozen` files never show the second one ahead.
#[test]
fn a_frozen_file_holds_one_moment() {
    let scratch = Scratch::new("frozen");
    let pool = TestPool::new(2, 2);
    let mut saver = pool.client(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = pool.client(2);
        let done = &done;
        scope.spawn(move || {
            let mut round = 0_u32;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                for key in 0..40_u32 {
                    let value = round.to_le_bytes();
                    writer.put(0, &key.to_le_bytes(), &value, Expiry::Never).unwrap();
                }
                writer.tick().unwrap();
            }
        });
        for attempt in 0..3 {
            for _ in 0..10 {
                std::thread::sleep(std::time::Duration::from_millis(2));
                saver.tick().unwrap();
            }
            let path = scratch.file(&attempt.to_string());
            let saved = save_to(&mut saver, &path, true).unwrap();
            assert!(saved.frozen);
            let other = TestPool::new(1, 1);
            let mut reader = other.client(1);
            load_from(&mut reader, &path).unwrap();
            let mut rounds = Vec::new();
            let mut value = Vec::new();
            for key in 0..40_u32 {
                let there = reader.get(0, &key.to_le_bytes(), &mut value).unwrap();
                let round = there.then(|| u32::from_le_bytes(value[..4].try_into().unwrap()));
                rounds.push(round.unwrap_or(0));
            }
            let falls = rounds.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(falls <= 1 && rounds[0] - rounds[39] <= 1, "{rounds:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn saving_goes_on_while_the_index_grows() {
    let scratch = Scratch::new("grows");
    let path = scratch.file("file");
    let pool = TestPool::new(2, 1);
    let mut saver = pool.client(1);
    for key in 0..1_200_u32 {
        saver.put(0, &key.to_le_bytes(), b"from the start", Expiry::Never).unwrap();
    }
    let mut writer = pool.client(2);
    let mut next = 0_u32;
    let saved = save(&mut saver, &path, SaveOptions::default(), &mut |_| {
        // Between two subtables, so many keys that others split.
        for _ in 0..700 {
            next += 1;
            writer.put(0, format!("new {next}").as_bytes(), b"new", Expiry::Never).unwrap();
        }
    });
    assert!(saved.unwrap().values >= 1_200);
    let other = TestPool::new(1, 1);
    let mut reader = other.client(1);
    load_from(&mut reader, &path).unwrap();
    for key in 0..1_200_u32 {
        assert!(reader.contains(0, &key.to_le_bytes()).unwrap(), "{key}");
    }
}
