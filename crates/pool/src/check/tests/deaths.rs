//! Clients that die anywhere: a check with repair leaves nothing of them.

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::{Identity, Verb, Verbs};

use super::{check, work, Random, TestPool};
use crate::check::What;
use crate::client::Client;
use crate::config::meta;
use crate::membership::look_after;
use crate::store::Expiry::Never;

/// Works with many keys until it dies: inserts, replacements, deletions, splits.
fn work_until_death(client: &mut Client, seed: u64) {
    let mut random = Random(seed);
    for step in 0..4_000_u32 {
        let key = random.below(3_000).to_le_bytes();
        let outcome = if random.below(5) == 0 {
            client.delete(0, &key).map(drop)
        } else {
            client.put(0, &key, &step.to_le_bytes(), Never)
        };
        if outcome.is_err() {
            return;
        }
    }
}

fn one_death(pool: &TestPool, checker: &mut Client, after: u64, torn_words: usize) {
    let pid = 100 + after as u32;
    let plan = FaultPlan { after, torn_words, death: Death::Connection };
    let verbs = Faulty::new(pool.memory.connect(pid), plan);
    if let Ok(mut dying) = Client::with_cache(Box::new(verbs), 1 << 16) {
        work_until_death(&mut dying, after + 1);
    }
    pool.memory.connect(9_997).fence(Identity { pid, started: 0 });
    let found = check(checker, false).findings;
    let dead = found.iter().filter(|finding| finding.what == What::DeadClient).count();
    assert!(dead <= 1, "{found:?}");
    let report = check(checker, true);
    let left = report.findings.iter().filter(|finding| finding.repaired.is_none());
    let left: Vec<String> = left.map(ToString::to_string).collect();
    assert!(left.is_empty() && report.is_exact, "after {after} verbs: {left:#?}");
    let again = check(checker, false);
    let left: Vec<String> = again.findings.iter().map(ToString::to_string).collect();
    assert!(left.is_empty(), "after {after} verbs, repaired, and then: {left:#?}");
    assert_eq!(again.counts.leaked.objects, 0);
    assert_eq!((again.counts.blocks_wreck, again.counts.blocks_owned), (0, 0));
}

fn deaths(replicas: u8, deaths: u64, step: u64) {
    let pool = TestPool::unhurried(16 << 20, 2, replicas);
    let mut checker = pool.client(1);
    work(&mut checker, &mut Random(3), 500, 1_000);
    for number in 0..deaths {
        // Early deaths meet joining and the first operations, late ones splits.
        one_death(&pool, &mut checker, number * step + number % 7, number as usize % 3);
    }
}

#[test]
fn nothing_is_left_of_clients_that_died() {
    deaths(1, 9, 211);
    deaths(2, 9, 331);
}

/// Free bits are written to one copy after the other.
#[test]
fn a_leave_that_was_cut_short_is_no_damage() {
    let pool = TestPool::unhurried(16 << 20, 2, 2);
    let mut checker = pool.client(1);
    let mut healthy = pool.client(2);
    let put_all = |client: &mut Client| {
        (0..60_u64).all(|key| client.put(0, &key.to_le_bytes(), &[7; 100], Never).is_ok())
    };
    assert!(put_all(&mut healthy));
    let before = healthy.fabric.verbs().tally().verbs();
    healthy.leave().unwrap();
    for after in (before..).step_by(3) {
        let pid = 100 + after as u32;
        let plan = FaultPlan { after, torn_words: 0, death: Death::Connection };
        let verbs = Faulty::new(pool.memory.connect(pid), plan);
        let mut dying = Client::with_cache(Box::new(verbs), 1 << 16).unwrap();
        let left = put_all(&mut dying) && dying.leave().is_ok();
        pool.memory.connect(9_997).fence(Identity { pid, started: 0 });
        look_after(&checker.fabric).unwrap();
        let found = check(&mut checker, false).findings;
        let known = |what| matches!(what, What::Wreck | What::Usage);
        assert!(found.iter().all(|finding| known(finding.what)), "after {after}: {found:?}");
        check(&mut checker, true);
        if left {
            assert!(after > before + 4, "leaving takes more verbs");
            return;
        }
    }
}

#[test]
fn a_plan_of_a_split_that_was_cut_short_is_cleared() {
    let pool = TestPool::unhurried(16 << 20, 2, 2);
    let mut checker = pool.client(1);
    let dying = pool.client(100);
    let write = |offset, word: u64| {
        let at = checker.fabric.meta(offset)[0];
        checker.fabric.batch(&mut [Verb::write(at, &word.to_le_bytes())]).unwrap();
    };
    write(meta::INDEX_LOCK, dying.fabric.me().word());
    write(meta::INDEX_SPLIT, 0x2a_0080);
    pool.memory.connect(9_997).fence(Identity { pid: 100, started: 0 });
    look_after(&checker.fabric).unwrap();
    assert_eq!(check(&mut checker, false).findings, []);
}

#[test]
#[ignore = "slow: hundreds of deaths"]
fn nothing_is_left_of_many_clients_that_died() {
    for replicas in [1, 2] {
        deaths(replicas, 120, 1);
        deaths(replicas, 120, 37);
    }
}
