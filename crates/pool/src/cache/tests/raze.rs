//! Caches that are dropped.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Random, TestPool};
use crate::cache::CacheConfig;
use crate::check;
use crate::client::Client;
use crate::error::PoolError;
use crate::store::Expiry::Never;

fn config() -> CacheConfig {
    CacheConfig { bytes: 2 << 20, ..CacheConfig::default() }
}

fn work(client: &mut Client, cache: u16, random: &mut Random) -> Result<(), PoolError> {
    let key = random.below(3_000).to_le_bytes();
    if client.cache_get(cache, &key, &mut Vec::new())? {
        return Ok(());
    }
    let bytes = [30, 900, 3_000, 40_000][random.below(4) as usize];
    client.cache_put(cache, &key, &vec![7; bytes], Never)
}

/// Up to `leaked` objects may be neither in use nor free.
fn assert_clean(client: &mut Client, leaked: u64) {
    let report = check::run(client, check::Options::default(), &mut |_| {}).unwrap();
    let mut findings = report.findings;
    findings.retain(|finding| leaked == 0 || finding.what != check::What::Leak);
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty() && report.is_exact, "{texts:#?}");
    assert!(report.counts.leaked.objects <= leaked, "{}", report.counts.leaked.objects);
}

#[test]
fn a_dropped_cache_gives_its_memory_back() {
    for replicas in [1, 2] {
        let pool = TestPool::new(16 << 20, 2, replicas);
        let (mut one, mut two) = (pool.client(1), pool.client(2));
        let mut random = Random(9);
        for _ in 0..2 {
            let cache = one.cache_open("cache", &config()).unwrap();
            assert_eq!(two.cache_open("cache", &config()).unwrap(), cache);
            for number in 0..1_000 {
                let client = if number % 2 == 0 { &mut one } else { &mut two };
                work(client, cache, &mut random).unwrap();
            }
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        two.tick().unwrap();
                    }
                });
                one.drop_namespace("cache").unwrap();
                done.store(true, Ordering::Relaxed);
            });
            for client in [&mut one, &mut two] {
                let outcome = work(client, cache, &mut random);
                assert!(matches!(outcome, Err(PoolError::Invalid(_))), "{outcome:?}");
                client.tick().unwrap();
            }
        }
        two.leave().unwrap();
        assert_clean(&mut one, 0);
    }
}

#[test]
fn a_cache_can_be_dropped_under_those_who_use_it() {
    for seed in 1..4 {
        let pool = TestPool::new(16 << 20, 2, 2);
        let mut client = pool.client(1);
        let cache = client.cache_open("cache", &config()).unwrap();
        std::thread::scope(|scope| {
            for pid in 2..4_u32 {
                let mut user = pool.client(pid);
                scope.spawn(move || {
                    user.cache_open("cache", &config()).unwrap();
                    let mut random = Random(u64::from(pid) * seed);
                    let error = loop {
                        if let Err(error) = work(&mut user, cache, &mut random) {
                            break error;
                        }
                    };
                    assert!(matches!(error, PoolError::Invalid(_)), "{error}");
                    user.leave().unwrap();
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(10 + 17 * seed));
            client.drop_namespace("cache").unwrap();
        });
        // The pieces of the large values that the users were about to put.
        assert_clean(&mut client, 2 * 8);
    }
}
