//! Namespaces with limits, and their usage.

use super::{Random, TestPool};
use crate::error::PoolError;
use crate::namespace::{Kind, Limits, DEFAULT};
use crate::store::Expiry::{self, Never};

fn quota(quota: u64) -> Limits {
    Limits { quota, ..Limits::default() }
}

#[test]
fn namespaces_keep_keys_apart_and_can_be_dropped() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let (mut one, mut two) = (pool.client(1), pool.client(2));
    let files = one.namespace("files", Kind::Store, Limits::default()).unwrap();
    assert_eq!(two.namespace("files", Kind::Store, quota(7)).unwrap(), files);
    assert_eq!(one.namespace(DEFAULT, Kind::Store, Limits::default()).unwrap(), 0);
    let error = two.namespace("files", Kind::Cache, Limits::default()).unwrap_err().to_string();
    assert!(error.contains("is a Store"), "{error}");
    for key in 0..300u32 {
        one.put(files, &key.to_le_bytes(), b"file", Never).unwrap();
        two.put(0, &key.to_le_bytes(), b"other", Never).unwrap();
    }
    assert_eq!((one.count(files).unwrap(), one.count(0).unwrap()), (300, 300));
    assert!(one.usage(files).unwrap() >= 300 * 64);
    one.drop_namespace("files").unwrap();
    assert_eq!((two.count(files).unwrap(), two.count(0).unwrap()), (0, 300));
    assert!(!two.contains(files, &1u32.to_le_bytes()).unwrap());
    let error = one.put(files, b"key", b"value", Never).unwrap_err().to_string();
    assert!(error.contains("no namespace"), "{error}");
    let tree = one.namespace("tree", Kind::Tree, Limits::default()).unwrap();
    let error = two.put(tree, b"key", b"value", Never).unwrap_err().to_string();
    assert!(error.contains("use its tree"), "{error}");
    assert!(one.drop_namespace(DEFAULT).is_err());
}

#[test]
fn a_quota_counts_growth_alone() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let small = client.namespace("small", Kind::Store, quota(100_000)).unwrap();
    let mut keys = 0u32;
    let error = loop {
        match client.put(small, &keys.to_le_bytes(), &[1; 900], Never) {
            Ok(()) => keys += 1,
            Err(error) => break error,
        }
    };
    let used = u64::from(keys) * 1024;
    assert!(used > 98_000, "{used}");
    let told = PoolError::QuotaExceeded { namespace: "small".into(), used, quota: 100_000 };
    assert_eq!(error, told);
    assert_eq!(client.usage(small).unwrap(), used);
    // What is there may be overwritten by as much, and room made.
    client.put(small, &0u32.to_le_bytes(), &[2; 900], Never).unwrap();
    assert!(client.put(small, &0u32.to_le_bytes(), &[2; 2_000], Never).is_err());
    assert!(client.delete(small, &1u32.to_le_bytes()).unwrap());
    client.put(small, &keys.to_le_bytes(), &[1; 900], Never).unwrap();
    client.set_limits("small", quota(200_000)).unwrap();
    client.put(small, b"more", &[1; 900], Never).unwrap();
    client.put(0, b"elsewhere", &[1; 900], Never).unwrap();
}

#[test]
fn a_namespace_has_a_time_to_live() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let limits = Limits { default_ttl_ms: 60_000, ..Limits::default() };
    let brief = client.namespace("brief", Kind::Store, limits).unwrap();
    client.put(brief, b"one", b"1", Expiry::Default).unwrap();
    client.put(brief, b"two", b"2", Never).unwrap();
    client.put(brief, b"three", b"3", Expiry::In(5_000)).unwrap();
    client.put(0, b"one", b"1", Expiry::Default).unwrap();
    let ttl = client.ttl_ms(brief, b"one").unwrap().unwrap().unwrap();
    assert!((50_000..=60_000).contains(&ttl), "{ttl}");
    assert_eq!(client.ttl_ms(brief, b"two").unwrap(), Some(None));
    assert!(client.ttl_ms(brief, b"three").unwrap().unwrap().unwrap() <= 5_000);
    assert_eq!(client.ttl_ms(0, b"one").unwrap(), Some(None));
}

#[test]
fn usage_is_what_a_recount_finds() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut clients = [pool.client(1), pool.client(2)];
    let space = clients[0].namespace("space", Kind::Store, Limits::default()).unwrap();
    let mut random = Random(77);
    for _ in 0..3_000 {
        let client = &mut clients[random.below(2) as usize];
        let key = random.below(200).to_le_bytes();
        if random.below(3) == 0 {
            client.delete(space, &key).unwrap();
        } else {
            let value = vec![3; random.below(3_000) as usize];
            client.put(space, &key, &value, Never).unwrap();
        }
    }
    let [mut one, mut two] = clients;
    one.usage(space).unwrap();
    let told = two.usage(space).unwrap();
    one.leave().unwrap();
    assert_eq!(two.recount(space).unwrap(), told);
    assert_eq!(two.usage(space).unwrap(), told);
    let count = two.count(space).unwrap();
    assert_eq!(two.clear(space).unwrap(), count);
    assert_eq!(two.usage(space).unwrap(), 0);
}
