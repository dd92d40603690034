//! Many keys in one call.

use std::collections::HashMap;
use std::thread;

use super::{Random, TestPool};
use crate::client::Client;
use crate::namespace::{Kind, Limits};
use crate::store::Expiry::{self, Never};

type Model = HashMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// Some keys, several of them twice.
fn some_keys(random: &mut Random) -> Vec<Vec<u8>> {
    (0..random.below(150)).map(|_| key(random.below(220))).collect()
}

fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

fn one_step(client: &mut Client, model: &mut Model, random: &mut Random) {
    let keys = some_keys(random);
    let mut value = || {
        let len = [9, 9, 9, 9, 9, 300, 3_000, 30_000][random.below(8) as usize];
        vec![random.below(256) as u8; len]
    };
    let values: Vec<Vec<u8>> = keys.iter().map(|_| value()).collect();
    let items: Vec<(&[u8], &[u8])> =
        keys.iter().zip(&values).map(|(key, value)| (&key[..], &value[..])).collect();
    match random.below(5) {
        0 => {
            for done in client.put_many(0, &items, Never) {
                done.unwrap();
            }
            for (key, value) in items {
                model.insert(key.to_vec(), value.to_vec());
            }
        }
        1 => {
            let done = client.insert_many(0, &items, Never);
            for ((key, value), done) in items.into_iter().zip(done) {
                assert_eq!(done.unwrap(), !model.contains_key(key), "{key:?}");
                model.entry(key.to_vec()).or_insert(value.to_vec());
            }
        }
        2 => {
            let some = &keys[..keys.len() / 3];
            let done = client.delete_many(0, &slices(some));
            for (key, done) in some.iter().zip(done) {
                assert_eq!(done.unwrap(), model.remove(key).is_some(), "{key:?}");
            }
        }
        3 => {
            let found = client.contains_many(0, &slices(&keys));
            for (key, found) in keys.iter().zip(found) {
                assert_eq!(found.unwrap(), model.contains_key(key), "{key:?}");
            }
        }
        _ => {
            let found = client.get_many(0, &slices(&keys));
            for (key, found) in keys.iter().zip(found) {
                assert!(found.unwrap().as_ref() == model.get(key), "{key:?}");
            }
        }
    }
}

#[test]
fn batches_do_what_single_operations_do() {
    for (nodes, replicas, seed) in [(1, 1, 3), (3, 2, 4), (3, 3, 5)] {
        let pool = TestPool::new(64 << 20, nodes, replicas);
        let mut random = Random(seed);
        let mut model = Model::new();
        let mut clients = [pool.client(1), pool.uncached(2)];
        for _ in 0..120 {
            let client = &mut clients[random.below(2) as usize];
            one_step(client, &mut model, &mut random);
        }
        let [mut client, _] = clients;
        assert_eq!(client.count(0).unwrap(), model.len() as u64);
        client.usage(0).unwrap();
    }
}

#[test]
fn each_key_has_its_own_error() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let limits = Limits { quota: 3_000, ..Limits::default() };
    let small = client.namespace("small", Kind::Store, limits).unwrap();
    let long = vec![0; 5_000];
    let items: [(&[u8], &[u8]); 4] =
        [(b"a", &[1; 900]), (&long, b"1"), (b"b", &[1; 2_500]), (b"c", &[1; 900])];
    let done = client.put_many(small, &items, Never);
    let told: Vec<bool> = done.iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, false, false, true]);
    assert!(done[1].as_ref().unwrap_err().to_string().contains("key of 5000 bytes"));
    assert!(done[2].as_ref().unwrap_err().to_string().contains("quota"));
    let keys: [&[u8]; 3] = [b"a", &long, b"b"];
    let found = client.get_many(small, &keys);
    assert!(found[0].as_ref().unwrap().is_some() && found[1].is_err());
    assert_eq!(found[2], Ok(None));
    assert!(client.put_many(200, &items, Never).iter().all(Result::is_err));
    assert_eq!(client.usage(small).unwrap(), client.recount(small).unwrap());
    // Expired values are none.
    client.put(0, b"brief", b"value", Expiry::In(0)).unwrap();
    assert_eq!(client.get_many(0, &[b"brief"]), [Ok(None)]);
    assert_eq!(client.delete_many(0, &[b"brief"]), [Ok(false)]);
    assert_eq!(client.insert_many(0, &[(b"brief", b"v")], Never), [Ok(true)]);
}

/// Round trips of `f` for a thousand keys, the least of some tries.
fn least(client: &mut Client, mut f: impl FnMut(&mut Client, u32)) -> u64 {
    let cost = |round| {
        let before = client.fabric().verbs().tally();
        f(client, round);
        (client.fabric().verbs().tally() - before).round_trips
    };
    (0..3).map(cost).min().unwrap()
}

#[test]
fn keys_share_their_round_trips() {
    for replicas in [1, 2] {
        let pool = TestPool::new(64 << 20, 3, replicas);
        let (mut client, mut other) = (pool.client(1), pool.uncached(2));
        let names = |round: u32| -> Vec<Vec<u8>> {
            (0..1_024u32)
                .map(|number| [round.to_le_bytes(), number.to_le_bytes()].concat())
                .collect()
        };
        let inserts = least(&mut client, |client, round| {
            let names = names(round);
            let items: Vec<(&[u8], &[u8])> =
                names.iter().map(|name| (&name[..], &b"v"[..])).collect();
            assert!(client.put_many(0, &items, Never).iter().all(Result::is_ok));
        });
        let names = names(0);
        let keys = slices(&names);
        let items: Vec<(&[u8], &[u8])> = names.iter().map(|name| (&name[..], &b"w"[..])).collect();
        let updates = least(&mut client, |client, _| {
            assert!(client.put_many(0, &items, Never).iter().all(Result::is_ok));
        });
        let reads = least(&mut client, |client, _| {
            assert!(client.get_many(0, &keys).iter().all(|found| matches!(found, Ok(Some(_)))));
        });
        let blind = least(&mut other, |other, _| {
            assert!(other.get_many(0, &keys).iter().all(|found| matches!(found, Ok(Some(_)))));
        });
        // 16 groups: reads take one batch each, or two; updates four; inserts some more for shared
        // locks. The rest is announcements, and reports, which come by time.
        assert!(reads <= 48 && blind <= 64, "{reads} {blind}");
        assert!(updates <= 160, "{updates}");
        assert!(inserts <= 1_024 / 2, "{inserts}");
    }
}

#[test]
fn batches_of_several_clients_on_the_same_keys_all_succeed() {
    let pool = TestPool::new(64 << 20, 3, 3);
    thread::scope(|scope| {
        for pid in 1..4u8 {
            let mut client = pool.client(u32::from(pid));
            scope.spawn(move || {
                let names: Vec<Vec<u8>> = (0..80).map(key).collect();
                let value = [pid; 40];
                let items: Vec<(&[u8], &[u8])> =
                    names.iter().map(|name| (&name[..], &value[..])).collect();
                for round in 0..25 {
                    for done in client.put_many(0, &items, Never) {
                        done.unwrap();
                    }
                    let read = client.get_many(0, &slices(&names));
                    let whole =
                        |value: &[u8]| value.len() == 40 && value.iter().all(|b| *b == value[0]);
                    if round % 5 == 4 {
                        client.delete_many(0, &slices(&names[..20]));
                    }
                    for (number, found) in read.into_iter().enumerate() {
                        let found = found.unwrap();
                        assert!(number < 20 || found.is_some());
                        assert!(found.is_none_or(|value| whole(&value)), "torn");
                    }
                }
            });
        }
    });
    let mut client = pool.client(9);
    let count = client.count(0).unwrap();
    assert!((60..=80).contains(&count), "{count}");
}
