//! Round trips of the operations.

use super::{CacheConfig, TestPool};
use crate::client::Client;
use crate::store::Expiry::Never;

/// The round trips of `f`, the least of some tries: now and then an operation also reports a
/// quiescent state or announces objects.
fn least(client: &mut Client, mut f: impl FnMut(&mut Client, u32)) -> u64 {
    let cost = |round| {
        let before = client.fabric().verbs().tally();
        f(client, round);
        (client.fabric().verbs().tally() - before).round_trips
    };
    (0..9).map(cost).min().unwrap()
}

/// get, miss, touch, put over, put of a new key, that in a full cache, delete
fn costs(replicas: u8, cached: bool) -> [u64; 7] {
    let pool = TestPool::new(16 << 20, 3, replicas);
    let mut client = if cached { pool.client(1) } else { pool.uncached(1) };
    // What was put last is there to be deleted.
    let algorithms = vec!["lru".into()];
    let config = CacheConfig { algorithms, ..CacheConfig::of_objects(100) };
    let id = client.cache_open("c", &config).unwrap();
    client.cache_put(id, b"key", b"value", Never).unwrap();
    let mut into = Vec::new();
    let key = |round: u32| round.to_le_bytes();
    let get = least(&mut client, |client, _| {
        assert!(client.cache_get(id, b"key", &mut into).unwrap());
    });
    let miss = least(&mut client, |client, _| {
        assert!(!client.cache_touch(id, b"nobody").unwrap());
    });
    let touch = least(&mut client, |client, _| {
        assert!(client.cache_touch(id, b"key").unwrap());
    });
    let over = least(&mut client, |client, _| {
        client.cache_put(id, b"key", b"value", Never).unwrap();
    });
    let new = least(&mut client, |client, round| {
        client.cache_put(id, &key(round), b"value", Never).unwrap();
    });
    for round in 0..200 {
        client.cache_put(id, &key(1_000 + round), b"value", Never).unwrap();
    }
    let full = least(&mut client, |client, round| {
        client.cache_put(id, &key(2_000 + round), b"value", Never).unwrap();
    });
    let mut deleted = 0;
    let delete = least(&mut client, |client, round| {
        deleted += u32::from(client.cache_delete(id, &key(2_000 + round)).unwrap());
    });
    assert!(deleted >= 6, "{deleted}");
    [get, miss, touch, over, new, full, delete]
}

#[test]
fn operations_cost_what_the_readme_says() {
    assert_eq!(costs(2, true), [1, 1, 1, 4, 4, 5, 4]);
    assert_eq!(costs(3, true), [1, 1, 1, 4, 4, 5, 4]);
    assert_eq!(costs(2, false), [2, 1, 2, 5, 4, 5, 5]);
    let alone = costs(1, true);
    assert_eq!(alone, [1, 1, 1, 2, 3, 3, 2]);
}

#[test]
fn a_hit_is_three_verbs_and_few_bytes() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let id = client.cache_open("c", &CacheConfig::of_objects(100)).unwrap();
    client.cache_put(id, b"key", &[1; 200], Never).unwrap();
    let mut into = Vec::new();
    let mut cost = || {
        let before = client.fabric().verbs().tally();
        assert!(client.cache_get(id, b"key", &mut into).unwrap());
        client.fabric().verbs().tally() - before
    };
    let costs: Vec<_> = (0..100).map(|_| cost()).collect();
    let usual = costs.iter().min_by_key(|cost| cost.verbs()).unwrap();
    assert_eq!((usual.verbs(), usual.round_trips), (3, 1));
    let dear = costs.iter().filter(|cost| cost.verbs() > 4).count();
    assert!(dear < 30, "{dear} of 100 had something else to do");
}
