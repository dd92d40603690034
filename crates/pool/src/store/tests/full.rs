//! A full pool: what is there stays, and can be deleted.

use super::TestPool;
use crate::client::Client;
use crate::store::Expiry::Never;
use crate::PoolError;

/// Puts values of `bytes` bytes until there is no room; returns how many there are.
fn fill(client: &mut Client, bytes: usize) -> u32 {
    for number in 0_u32.. {
        match client.put(0, &number.to_le_bytes(), &vec![7; bytes], Never) {
            Ok(()) => {}
            Err(PoolError::Full { .. }) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

#[test]
fn everything_in_a_full_pool_can_be_deleted() {
    for bytes in [600, 8_000] {
        let pool = TestPool::new(8 << 20, 1, 1);
        let mut client = pool.client(1);
        let count = fill(&mut client, bytes);
        assert!(count as usize * bytes > 1 << 20, "{bytes}: {count}");
        for number in 0..count {
            assert!(client.delete(0, &number.to_le_bytes()).unwrap(), "{bytes}: {number}");
        }
        // Deletions take 64 bytes each, until others take their slots.
        let again = fill(&mut client, bytes);
        assert!(again > count / 2, "{bytes}: {again} instead of {count}");
    }
}

#[test]
fn others_can_delete_what_has_filled_a_pool() {
    let pool = TestPool::new(8 << 20, 2, 2);
    let mut writer = pool.client(1);
    let count = fill(&mut writer, 3_000);
    let mut deleters: Vec<Client> = (2..4).map(|pid| pool.client(pid)).collect();
    for number in 0..count {
        let deleter = &mut deleters[number as usize % 2];
        let outcome = deleter.delete(0, &number.to_le_bytes());
        assert_eq!(outcome, Ok(true), "{number} of {count}");
        writer.tick().unwrap();
        deleters.iter_mut().for_each(|deleter| deleter.tick().unwrap());
    }
    assert!(fill(&mut writer, 3_000) > count / 2);
}

#[test]
fn a_full_pool_takes_values_of_any_size_again_after_some_deletions() {
    for (len, bytes) in [(20, 4 << 20), (900, 8 << 20), (15_000, 16 << 20), (100_000, 16 << 20)] {
        let pool = TestPool::new(bytes, 1, 1);
        let mut client = pool.client(1);
        let count = fill(&mut client, len);
        for number in 0..count.min(300) {
            assert!(client.delete(0, &number.to_le_bytes()).unwrap(), "{len}: {number} of {count}");
        }
        client.put(0, b"again", &vec![5; len], Never).unwrap();
    }
}

#[test]
fn a_pool_that_was_emptied_takes_as_much_again() {
    let cases = [(20, 20, 2), (700, 15_000, 1)];
    for (first, second, deleted_by) in cases {
        let pool = TestPool::new(8 << 20, 1, 1);
        let mut client = pool.client(1);
        let count = fill(&mut client, first);
        let mut other = pool.client(2);
        let (deleter, idler) = match deleted_by {
            1 => (&mut client, &mut other),
            _ => (&mut other, &mut client),
        };
        idler.idle().unwrap();
        for number in 0..count {
            let outcome = deleter.delete(0, &number.to_le_bytes());
            assert_eq!(outcome, Ok(true), "{first}: {number} of {count}, by {deleted_by}");
            if number.is_multiple_of(8) {
                deleter.tick().unwrap();
            }
        }
        idler.resume().unwrap();
        other.leave().unwrap();
        let empty = TestPool::new(8 << 20, 1, 1);
        let fresh = fill(&mut empty.client(1), second);
        let again = fill(&mut client, second);
        // The index of many small keys stays.
        let least = if second > first { 85 } else { 95 };
        assert!(
            again * 100 >= fresh * least,
            "{first} bytes deleted by client {deleted_by}, then {second}: {again} of {fresh}"
        );
    }
}
