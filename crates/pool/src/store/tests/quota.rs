//! Quotas when clients die who had not told what they changed.

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::{Identity, Verbs};

use super::{Random, TestPool};
use crate::client::Client;
use crate::error::PoolError;
use crate::membership;
use crate::namespace::{Kind, Limits};
use crate::store::Expiry::Never;

const QUOTA: u64 = 4 << 20;
/// What a client keeps back under this quota.
const LAZY: u64 = QUOTA / 256;

/// Joins with a connection that dies after `after` verbs, works until then, and is recovered.
pub fn die(pool: &TestPool, healthy: &mut Client, after: u64, work: impl Fn(&mut Client) -> bool) {
    let pid = 1_000 + after as u32;
    let plan = FaultPlan { after, torn_words: after as usize % 3, death: Death::Connection };
    let verbs = Faulty::new(pool.memory.connect(pid), plan);
    if let Ok(mut dying) = Client::with_cache(Box::new(verbs), 1 << 16) {
        while work(&mut dying) {}
    }
    pool.memory.connect(9_998).fence(Identity { pid, started: 0 });
    membership::look_after(healthy.fabric()).unwrap();
}

/// Puts new keys until the quota refuses one; bytes that the namespace's objects have then.
fn fill(client: &mut Client, space: u16, name: &str) -> u64 {
    for number in 0_u32.. {
        match client.put(space, format!("{name} {number}").as_bytes(), &[1; 400], Never) {
            Ok(()) => {}
            Err(PoolError::QuotaExceeded { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    client.count_bytes(space).unwrap()
}

#[test]
fn quotas_hold_when_clients_have_died() {
    for replicas in [1, 2] {
        let pool = TestPool::new(24 << 20, 2, replicas);
        let mut client = pool.client(1);
        let limits = Limits { quota: QUOTA, ..Limits::default() };
        let space = client.namespace("small", Kind::Store, limits).unwrap();
        let mut random = Random(7);
        for death in 0..60_u64 {
            for number in 0..24_u32 {
                client.put(space, &number.to_le_bytes(), &[2; 500], Never).unwrap();
            }
            let number = std::cell::Cell::new(0_u32);
            // What it deletes, it has not told of; at times it dies in its first operations.
            die(&pool, &mut client, 100 + death + random.below(150), |dying| {
                number.set(number.get() + 1);
                dying.delete(space, &number.get().to_le_bytes()).is_ok() && number.get() < 1_000
            });
        }
        let (told, truth) = (client.usage(space).unwrap(), client.count_bytes(space).unwrap());
        assert!(told > truth + 4 * LAZY, "deaths leave {told} instead of {truth}");
        assert!(told - truth <= 60 * (LAZY + 1_000));
        let full = fill(&mut client, space, "new");
        assert!(full <= QUOTA && full + LAZY > QUOTA, "{full} of {QUOTA}");
        assert_eq!(client.usage(space).unwrap(), full);
    }
}

#[test]
fn a_count_while_others_write_is_wrong_by_little() {
    let pool = TestPool::new(24 << 20, 1, 1);
    let limits = Limits { quota: QUOTA, ..Limits::default() };
    let mut client = pool.client(1);
    let space = client.namespace("busy", Kind::Store, limits).unwrap();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (2..4_u32)
            .map(|pid| {
                let mut writer = pool.client(pid);
                scope.spawn(move || {
                    let mut random = Random(u64::from(pid));
                    for _ in 0..20_000 {
                        let key = (pid, random.below(1_500));
                        let key = format!("{key:?}");
                        if random.below(3) == 0 {
                            writer.delete(space, key.as_bytes()).unwrap();
                        } else {
                            writer.put(space, key.as_bytes(), &[3; 300], Never).unwrap();
                        }
                    }
                    writer.leave().unwrap();
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            client.recount(space).unwrap();
        }
    });
    let (told, truth) = (client.usage(space).unwrap(), client.count_bytes(space).unwrap());
    assert!(told.abs_diff(truth) < 2 * LAZY + truth / 10, "{told} instead of {truth}");
}
