//! What clients do in pools that anybody may have scribbled on: operations of all kinds.

use std::ops::Bound;

use super::Random;
use crate::cache::CacheConfig;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::namespace::{self, Kind, Limits};
use crate::store::Expiry::{self, Never};
use artesian_bus::BusError;

const STORE: &str = "store";
const TREE: &str = "tree";
const CACHE: &str = "cache";
/// Keys of each.
const KEYS: u64 = 120;

/// The namespaces that are worked on; those that cannot be had any more are made up.
#[derive(Clone, Copy)]
struct Spaces {
    store: u16,
    tree: u16,
    cache: u16,
}

fn open(client: &mut Client) -> Spaces {
    let limits = Limits::default();
    let store = client.namespace(STORE, Kind::Store, limits).unwrap_or(1);
    let tree = client.namespace(TREE, Kind::Tree, limits).unwrap_or(2);
    let cache = client.cache_open(CACHE, &CacheConfig::of_objects(20)).unwrap_or(3);
    Spaces { store, tree, cache }
}

/// One operation of any kind.
fn step(client: &mut Client, spaces: Spaces, random: &mut Random, number: u32) -> Result<()> {
    let key = random.below(KEYS).to_be_bytes();
    let value = vec![number as u8; [8, 40, 200, 700][random.below(4) as usize]];
    let (store, tree, cache) = (spaces.store, spaces.tree, spaces.cache);
    let mut into = Vec::new();
    match random.below(26) {
        0 | 1 => client.put(store, &key, &value, Never),
        2 => client.delete(store, &key).map(drop),
        3 => client.increment(store, &key, 3).map(drop),
        4 => client.append(store, &key, &value).map(drop),
        5 => {
            let version = client.get_versioned(store, &key, &mut into)?;
            client.compare_and_set(store, &key, version, &value, Never).map(drop)
        }
        6 => client.put(store, &key, &vec![9; 20_000 + value.len()], Never),
        7 => client.get_range(store, &key, 10, &mut [0; 50]).map(drop),
        8 => client.expire(store, &key, Expiry::In(1)).map(drop),
        9..=11 => many(client, store, random, &value),
        12 => client.transact(|transaction| {
            transaction.get(store, &key, &mut Vec::new())?;
            transaction.put(store, &key, &value, Never)?;
            transaction.delete(store, &random.below(KEYS).to_be_bytes())
        }),
        13 => client.get_pinned(store, &key).map(drop),
        14 => client.scan_keys(store, random.below(u64::MAX), 30).map(drop),
        15 => client.count(store).map(drop),
        16 | 17 => client.tree_put(tree, &key, &value),
        18 => client.tree_delete(tree, &key).map(drop),
        19 => client.tree_get(tree, &key, &mut into).map(drop),
        20 => {
            let (from, to) = (Bound::Included(&key[..]), Bound::Unbounded);
            client.tree_scan(tree, from, to, 20, |_, _| true).map(drop)
        }
        21 => {
            let (from, to) = (Bound::Unbounded, Bound::Excluded(&key[..]));
            client.tree_scan_back(tree, from, to, 20, |_, _| true).map(drop)
        }
        22 | 23 => client.cache_put(cache, &key, &value, Never),
        24 => client.cache_get(cache, &key, &mut into).map(drop),
        _ => client.cache_delete(cache, &key).map(drop),
    }
}

fn many(client: &mut Client, store: u16, random: &mut Random, value: &[u8]) -> Result<()> {
    let keys: Vec<[u8; 8]> = (0..7).map(|_| random.below(KEYS).to_be_bytes()).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    match random.below(4) {
        0 => client.get_many(store, &keys).into_iter().try_for_each(|found| found.map(drop)),
        1 => client.contains_many(store, &keys).into_iter().try_for_each(|found| found.map(drop)),
        2 => client.delete_many(store, &keys).into_iter().try_for_each(|done| done.map(drop)),
        _ => {
            let items: Vec<(&[u8], &[u8])> = keys.iter().map(|&key| (key, value)).collect();
            client.put_many(store, &items, Never).into_iter().collect()
        }
    }
}

/// Operations of all kinds with ticks in between; errors are what they may be. Ends when the client
/// is dead.
pub fn operate(client: &mut Client, random: &mut Random, steps: u32) {
    let spaces = open(client);
    for number in 0..steps {
        let outcome = step(client, spaces, random, number).and_then(|()| client.tick());
        if matches!(outcome, Err(PoolError::Bus(BusError::Fenced))) {
            return;
        }
        if number % 32 == 31 {
            let _ = namespace::list(&client.fabric).map(|all| all.len());
            let _ = client.usage(spaces.store);
        }
    }
}
