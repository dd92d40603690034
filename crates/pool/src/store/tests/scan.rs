//! Scans, alone and while the index splits.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::TestPool;
use crate::client::Client;
use crate::store::Expiry::{self, In, Never};

fn scan_all(client: &mut Client, namespace: u16, limit: usize) -> Vec<Vec<u8>> {
    let (mut all, mut cursor) = (Vec::new(), 0);
    loop {
        let page = client.scan_keys(namespace, cursor, limit).unwrap();
        assert!(page.cursor == 0 || page.keys.len() >= limit);
        all.extend(page.keys);
        cursor = page.cursor;
        if cursor == 0 {
            return all;
        }
    }
}

#[test]
fn a_scan_tells_every_key_of_its_namespace() {
    let pool = TestPool::new(64 << 20, 2, 2);
    let mut client = pool.client(1);
    assert_eq!(scan_all(&mut client, 0, 10), Vec::<Vec<u8>>::new());
    let other = client.namespace("other", crate::namespace::Kind::Store, Default::default());
    let other = other.unwrap();
    // Some keys are longer than what is read at first.
    let key = |number: u32| vec![number as u8; 1 + number as usize % 200].repeat(2);
    let mut expected = HashSet::new();
    for number in 0..4_000u32 {
        client.put(0, &number.to_le_bytes(), b"value", Never).unwrap();
        expected.insert(number.to_le_bytes().to_vec());
        if number % 10 == 0 {
            client.put(other, &number.to_le_bytes(), b"value", Never).unwrap();
            client.put(0, &key(number), b"value", Never).unwrap();
            expected.insert(key(number));
        }
    }
    client.put(0, b"gone", b"value", Expiry::In(0)).unwrap();
    client.delete(0, &7u32.to_le_bytes()).unwrap();
    expected.remove(&7u32.to_le_bytes()[..]);
    let told = scan_all(&mut client, 0, 100);
    assert_eq!(told.len(), expected.len(), "nothing is told twice while nothing changes");
    assert_eq!(told.into_iter().collect::<HashSet<_>>(), expected);
    assert_eq!(scan_all(&mut client, other, 1).len(), 400);
    assert_eq!(client.count(0).unwrap(), expected.len() as u64);
    for cursor in [1, 0xff, u64::MAX, 1 << 33] {
        client.scan_keys(0, cursor, 10).unwrap();
    }
    assert_eq!(client.clear(0).unwrap(), expected.len() as u64);
    assert_eq!((scan_all(&mut client, 0, 9).len(), client.count(other).unwrap()), (0, 400));
}

#[test]
fn a_scan_passes_over_nothing_while_the_index_splits() {
    let pool = TestPool::new(64 << 20, 1, 1);
    let (mut writer, mut reader) = (pool.client(1), pool.client(2));
    for number in 0..500u32 {
        writer.put(0, &number.to_le_bytes(), b"stays", Never).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 500..9_000u32 {
                writer.put(0, &number.to_le_bytes(), b"comes", Never).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let told: HashSet<Vec<u8>> = scan_all(&mut reader, 0, 20).into_iter().collect();
            for number in 0..500u32 {
                assert!(told.contains(&number.to_le_bytes()[..]), "{number} was passed over");
            }
        }
    });
    assert!(reader.directory.depth() >= 2);
    let count = reader.count(0).unwrap();
    assert_eq!(count, 9_000);
}

#[test]
fn entries_tell_what_keys_take_and_when_they_expire() {
    let pool = TestPool::new(64 << 20, 1, 1);
    let mut client = pool.client(1);
    let space = client.namespace("some", crate::namespace::Kind::Store, Default::default());
    let space = space.unwrap();
    client.put(0, b"another's", b"value", Never).unwrap();
    for number in 0..300_u32 {
        let (key, len) = (number.to_le_bytes(), number as usize * 1_000);
        let expiry = if number % 2 == 0 { Never } else { In(60_000 + u64::from(number)) };
        client.put(space, &key, &vec![7; len], expiry).unwrap();
    }
    let (mut entries, mut cursor) = (Vec::new(), 0);
    loop {
        let (some, next) = client.scan_entries(space, cursor, 10).unwrap();
        entries.extend(some);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(entries.len(), 300);
    for entry in &entries {
        let number = u32::from_le_bytes(entry.key.as_slice().try_into().unwrap());
        assert!(entry.bytes >= u64::from(number) * 1_000, "{entry:?}");
        match entry.ttl_ms {
            None => assert_eq!(number % 2, 0),
            Some(left) => assert!((30_000..=60_000 + u64::from(number)).contains(&left)),
        }
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let used = client.usage(space).unwrap();
    assert!((used..used + used / 2).contains(&bytes), "{bytes} for {used}");
}
