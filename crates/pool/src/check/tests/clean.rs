//! Pools that are well.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{check, work, Random, TestPool};
use crate::check::{Progress, Step};
use crate::store::Expiry::Never;

#[test]
fn a_pool_that_is_well_has_no_findings_and_leaks_nothing() {
    for (nodes, replicas) in [(1, 1), (3, 1), (2, 2), (4, 3)] {
        let pool = TestPool::new(16 << 20, nodes, replicas);
        let mut client = pool.client(1);
        let empty = check(&mut client, false);
        assert_eq!((empty.findings, empty.is_exact), (vec![], true));
        let mut model = HashSet::new();
        let mut random = Random(7 + u64::from(nodes));
        for step in 0..8_000_u64 {
            let key = random.below(4_000);
            if random.below(5) == 0 {
                assert_eq!(client.delete(0, &key.to_le_bytes()).unwrap(), model.remove(&key));
            } else {
                let value = vec![step as u8; random.below(300) as usize];
                client.put(0, &key.to_le_bytes(), &value, Never).unwrap();
                model.insert(key);
            }
        }
        let report = check(&mut client, false);
        assert_eq!(report.findings, [], "{nodes} nodes, {replicas} copies");
        let counts = &report.counts;
        assert!(report.is_exact && report.is_clean());
        assert_eq!(counts.keys[&0].keys, model.len() as u64);
        let index = 1 + counts.subtables;
        let named = counts.keys[&0].keys + counts.tombstones + index;
        assert_eq!(counts.in_use.objects, named);
        assert_eq!((counts.leaked.objects, counts.held.objects), (0, 0));
        assert!(counts.free.objects > 0 && counts.tombstones > 0 && counts.subtables > 1);
        assert_eq!((counts.clients, counts.nodes), (1, u32::from(nodes)));
        // The client goes on with blocks that it has to find again.
        work(&mut client, &mut random, 4_000, 500);
        assert_eq!(check(&mut client, true).findings, []);
    }
}

#[test]
fn progress_goes_through_all_steps() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    work(&mut client, &mut Random(3), 100, 300);
    let mut steps: Vec<Step> = Vec::new();
    let mut note = |Progress { step, done, total }| {
        assert!(done < total);
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    };
    super::run(&mut client, super::Options::default(), &mut note).unwrap();
    let names: Vec<String> = steps.iter().map(Step::to_string).collect();
    let expected = [
        "nodes",
        "clients",
        "block tables",
        "index and objects",
        "free space",
        "namespaces",
        "locks",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_pool_at_work_has_no_findings() {
    for replicas in [1, 2] {
        let pool = TestPool::unhurried(32 << 20, 2, replicas);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for pid in 1..4_u32 {
                let (mut client, done) = (pool.client(pid), &done);
                scope.spawn(move || {
                    let mut random = Random(u64::from(pid) * 77);
                    // The later, the more keys: subtables split all the while.
                    for round in 1.. {
                        work(&mut client, &mut random, (200 * round).min(6_000), 200);
                        client.tick().unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            let mut client = pool.client(9);
            for round in 0..4 {
                let report = check(&mut client, round % 2 == 1);
                assert!(report.findings.is_empty(), "round {round}: {}", report.findings[0]);
                assert!(!report.is_exact && report.counts.leaked.objects == 0);
            }
            done.store(true, Ordering::Relaxed);
        });
        let report = check(&mut pool.client(10), false);
        let left: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert!(!report.is_exact || left.is_empty(), "{left:?}");
    }
}
