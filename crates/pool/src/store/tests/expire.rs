//! Times to live.

use std::time::Duration;

use super::TestPool;
use crate::client::Client;
use crate::error::PoolError;
use crate::namespace::{Kind, Limits};
use crate::store::Expiry::{In, Never};

fn ttl(client: &mut Client, key: &[u8]) -> Option<Option<u64>> {
    client.ttl_ms(0, key).unwrap()
}

#[test]
fn times_to_live_can_be_changed() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let large = vec![9; 100_000];
    for value in [&b"small"[..], &large] {
        client.put(0, b"key", value, Never).unwrap();
        let used = client.usage(0).unwrap();
        assert_eq!(ttl(&mut client, b"key"), Some(None));
        assert!(client.expire(0, b"key", In(60_000)).unwrap());
        assert!(ttl(&mut client, b"key").unwrap().unwrap() > 50_000);
        assert!(client.persist(0, b"key").unwrap());
        assert_eq!(ttl(&mut client, b"key"), Some(None));
        let mut found = Vec::new();
        assert!(client.get(0, b"key", &mut found).unwrap() && found == value);
        assert_eq!((client.usage(0).unwrap(), client.recount(0).unwrap()), (used, used));
        assert!(client.expire(0, b"key", In(0)).unwrap());
        assert!(!client.contains(0, b"key").unwrap());
        assert!(!client.persist(0, b"key").unwrap());
        assert_eq!(client.usage(0).unwrap(), 0, "whoever looked took it away");
    }
    assert!(!client.expire(0, b"nobody", In(9)).unwrap());
}

#[test]
fn whoever_reads_what_has_expired_takes_it_away() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let (mut one, mut two) = (pool.client(1), pool.uncached(2));
    for key in 0..60u32 {
        one.put(0, &key.to_le_bytes(), &[1; 500], In(20)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(30));
    for key in 0..60u32 {
        let reader = if key % 2 == 0 { &mut one } else { &mut two };
        assert!(!reader.get(0, &key.to_le_bytes(), &mut Vec::new()).unwrap());
    }
    two.tick().unwrap();
    one.tick().unwrap();
    two.usage(0).unwrap();
    assert_eq!((one.usage(0).unwrap(), one.recount(0).unwrap()), (0, 0));
}

#[test]
fn ticks_sweep_what_nobody_reads() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    for key in 0..3_000u32 {
        let expiry = if key % 3 == 0 { Never } else { In(1) };
        client.put(0, &key.to_le_bytes(), b"value", expiry).unwrap();
    }
    for _ in 0..400 {
        client.sweeper = Default::default();
        let before = client.stats().rounds;
        client.tick().unwrap();
        let swept = client.stats().rounds.rule1 - before.rule1;
        assert!(swept <= 4 * 37 * 7, "a tick's work is bounded: {swept}");
    }
    // From where it stands, it comes around.
    client.sweep_pieces(400).unwrap();
    assert_eq!(client.recount(0).unwrap(), 1_000 * 128);
    assert_eq!(client.count(0).unwrap(), 1_000);
}

#[test]
fn expired_values_make_room() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let value = vec![4; 15_000];
    let mut keys = 0u32;
    while client.put(0, &keys.to_le_bytes(), &value, In(1_500)).is_ok() {
        keys += 1;
        assert!(keys < 2_000);
    }
    std::thread::sleep(Duration::from_millis(1_600));
    for key in 0..keys / 2 {
        client.put(0, &(key + 10_000).to_le_bytes(), &value, Never).unwrap();
    }
    let limits = Limits { quota: 100_000, ..Limits::default() };
    let small = client.namespace("small", Kind::Store, limits).unwrap();
    client.clear(0).unwrap();
    keys = 0;
    let error = loop {
        match client.put(small, &keys.to_le_bytes(), &value[..900], In(300)) {
            Ok(()) => keys += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PoolError::QuotaExceeded { .. }));
    std::thread::sleep(Duration::from_millis(400));
    client.put(small, b"more", &value[..900], Never).unwrap();
    let items: Vec<(Vec<u8>, &[u8])> =
        (0..keys).map(|key| (key.to_le_bytes().to_vec(), &value[..900])).collect();
    let items: Vec<(&[u8], &[u8])> = items.iter().map(|(key, value)| (&key[..], *value)).collect();
    assert!(client.put_many(small, &items[1..], In(300)).iter().all(Result::is_ok));
    std::thread::sleep(Duration::from_millis(600));
    let others: Vec<[u8; 2]> = (1..keys as u16).map(u16::to_le_bytes).collect();
    let others: Vec<(&[u8], &[u8])> = others.iter().map(|key| (&key[..], &value[..900])).collect();
    for done in client.put_many(small, &others, Never) {
        done.unwrap();
    }
}
