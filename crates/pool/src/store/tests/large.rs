//! Values in pieces.

use super::{Random, TestPool};
use crate::error::PoolError;
use crate::namespace::{Kind, Limits};
use crate::store::large::{Manifest, MAX_VALUE_BYTES};
use crate::store::Expiry::{self, Never};
use crate::store::MAX_INLINE_BYTES;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..len).map(|_| random.below(251) as u8).collect()
}

#[test]
fn values_of_all_lengths_come_back() {
    for (nodes, replicas) in [(1, 1), (3, 2)] {
        let pool = TestPool::new(64 << 20, nodes, replicas);
        let (mut client, mut other) = (pool.client(1), pool.uncached(2));
        let piece = client.alloc.piece_bytes() - 96;
        let edges = [piece - 1, piece, piece + 1, 3 * piece, 20 * piece + 7, 33 * piece];
        let lens = [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1].into_iter().chain(edges);
        let mut found = Vec::new();
        for (seed, len) in lens.enumerate() {
            let value = bytes(seed as u64, len);
            client.put(0, b"key", &value, Never).unwrap();
            for reader in [&mut client, &mut other] {
                assert!(reader.get(0, b"key", &mut found).unwrap());
                assert!(found == value, "{len}");
                assert_eq!(reader.value_len(0, b"key").unwrap(), Some(len));
            }
            let mut buffer = vec![0; len + 3];
            assert_eq!(other.get_into(0, b"key", &mut buffer).unwrap(), Some(len));
            assert!(buffer[..len] == value);
            let read = other.get_with(0, b"key", |found| found == value).unwrap();
            assert_eq!(read, Some(true));
            let mut exact = vec![0; len];
            let into = other.get_to(0, b"key", |wanted| Ok(&mut exact[..wanted])).unwrap();
            assert!(into.unwrap() == value);
            if len > 0 {
                let short = other.get_into(0, b"key", &mut buffer[..len - 1]).unwrap_err();
                let (what, limit) = ("value", len - 1);
                assert_eq!(short, PoolError::TooLarge { what, size: len, limit });
            }
        }
        assert!(client.delete(0, b"key").unwrap());
        assert_eq!(other.get_into(0, b"key", &mut []).unwrap(), None);
    }
}

#[test]
fn any_range_can_be_read() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let mut random = Random(5);
    for len in [1_000, 100_000] {
        let value = bytes(len as u64, len);
        client.put(0, b"key", &value, Never).unwrap();
        for _ in 0..60 {
            let (offset, wanted) = (random.below(len as u64 + 9), random.below(len as u64 + 9));
            let mut into = vec![0; wanted as usize];
            let read = client.get_range(0, b"key", offset as usize, &mut into).unwrap().unwrap();
            let expected = &value[(offset as usize).min(len)..];
            let expected = &expected[..expected.len().min(wanted as usize)];
            assert!(into[..read] == *expected, "{offset} {wanted}");
        }
    }
    assert_eq!(client.get_range(0, b"nobody", 0, &mut [0]).unwrap(), None);
}

#[test]
fn pieces_come_back_when_values_are_replaced_or_deleted() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let space = client.namespace("space", Kind::Store, Limits::default()).unwrap();
    // Many times what fits.
    for round in 0..60u64 {
        let value = bytes(round, 300_000 + 1_000 * round as usize);
        let key = (round % 5).to_le_bytes();
        match round % 4 {
            0 => assert!(client.insert(space, &key, &value, Never).is_ok()),
            1 => client.put(space, &key, b"small", Never).unwrap(),
            2 => assert!(client.delete(space, &key).is_ok()),
            _ => client.put(space, &key, &value, Expiry::In(100_000)).unwrap(),
        }
        client.put(space, b"always", &value, Never).unwrap();
        let mut found = Vec::new();
        assert!(client.get(space, b"always", &mut found).unwrap() && found == value);
        if round % 20 == 0 {
            assert_eq!(client.usage(space).unwrap(), client.recount(space).unwrap());
        }
    }
    assert!(!client.update(space, b"nobody", &bytes(1, 100_000), Never).unwrap());
    assert!(!client.insert(space, b"always", &bytes(1, 100_000), Never).unwrap());
    client.clear(space).unwrap();
    assert_eq!((client.usage(space).unwrap(), client.recount(space).unwrap()), (0, 0));
}

#[test]
fn what_is_too_large_is_refused_and_takes_no_room() {
    let pool = TestPool::new(16 << 20, 1, 1);
    let mut client = pool.client(1);
    let value = vec![7; 20 << 20];
    assert!(matches!(client.put(0, b"key", &value, Never), Err(PoolError::Full { .. })));
    let limits = Limits { quota: 200_000, ..Limits::default() };
    let small = client.namespace("small", Kind::Store, limits).unwrap();
    let error = client.put(small, b"key", &value[..300_000], Never).unwrap_err();
    assert!(matches!(error, PoolError::QuotaExceeded { .. }), "{error}");
    assert_eq!(client.usage(small).unwrap(), 0);
    // All room is still there: that much fits one time only.
    let most = 7 << 20;
    client.put(0, b"key", &value[..most], Never).unwrap();
    assert!(matches!(client.put(0, b"two", &value[..most], Never), Err(PoolError::Full { .. })));
    assert!(client.delete(0, b"key").unwrap());
    client.put(0, b"two", &value[..most], Never).unwrap();
    let huge = vec![0; 40 << 20];
    let error = client.put(0, b"key", &huge, Never).unwrap_err();
    let PoolError::TooLarge { limit, .. } = error else { panic!("{error}") };
    assert!(limit < huge.len() && limit <= MAX_VALUE_BYTES);
    client.leave().unwrap();
}

#[test]
fn a_gibibyte_fits_one_manifest_in_pools_that_could_hold_it() {
    for bytes in [2_u64 << 30, 8 << 30, 64 << 30] {
        let geometry = crate::alloc::Geometry::of(&crate::PoolConfig::for_size(bytes, 1, 1));
        let encoded = Manifest::encoded_bytes(MAX_VALUE_BYTES, geometry.piece().bytes() - 96);
        assert!(encoded + 5_000 < geometry.largest().bytes());
    }
}

#[test]
fn damage_of_one_copy_is_mended_by_another() {
    let pool = TestPool::new(64 << 20, 2, 2);
    let mut client = pool.client(1);
    let value = bytes(3, 200_000);
    client.put(0, b"key", &value, Never).unwrap();
    let key = crate::store::find::Key::new(0, b"key").unwrap();
    let object = client.read_live(&key).unwrap().unwrap();
    let manifest = client.manifest_of(&key, &object).unwrap();
    let at = client.fabric.primary(manifest.parts[2].slot.addr().add(100)).unwrap();
    client.fabric.batch(&mut [artesian_bus::Verb::write(at, &[0xff; 8])]).unwrap();
    let mut found = Vec::new();
    assert!(client.get(0, b"key", &mut found).unwrap() && found == value);
    let backup = client.fabric.copies(manifest.parts[2].slot.addr().add(100))[1];
    client.fabric.batch(&mut [artesian_bus::Verb::write(backup, &[0xff; 8])]).unwrap();
    let error = client.get(0, b"key", &mut found).unwrap_err().to_string();
    assert!(error.contains("piece 2") && found.is_empty(), "{error}");
}

#[test]
fn a_transaction_over_a_large_value_frees_its_pieces() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    for _ in 0..4 {
        client.put(0, b"one", &[1; 100_000], Never).unwrap();
        client.put(0, b"two", &[2; 100_000], Never).unwrap();
        let mut transaction = client.transaction();
        transaction.put(0, b"one", b"small", Never).unwrap();
        transaction.delete(0, b"two").unwrap();
        transaction.commit().unwrap();
        let used = client.usage(0).unwrap();
        assert!(used < 256, "{used}");
        assert_eq!(client.recount(0).unwrap(), used);
    }
}
