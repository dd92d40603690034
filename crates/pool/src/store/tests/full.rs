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
