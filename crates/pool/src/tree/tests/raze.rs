//! Trees that are dropped.

use super::{TestPool, TREE};
use crate::check::{self, What};
use crate::client::Client;
use crate::error::PoolError;
use crate::namespace::{Kind, Limits};

fn fill(client: &mut Client, space: u16, keys: u32) {
    for key in 0..keys {
        // In the leaf, and in objects of their own: many of these in a leaf.
        let bytes = [20, 200, 300, 150][key as usize % 4] + if key % 97 == 0 { 4_000 } else { 0 };
        client.tree_put(space, &key.to_be_bytes(), &vec![key as u8; bytes]).unwrap();
    }
}

#[test]
fn a_dropped_tree_gives_its_memory_back() {
    for replicas in [1, 2] {
        let pool = TestPool::new(2, replicas);
        let (mut one, mut two) = (pool.client(1), pool.client(2));
        let mut space = TREE;
        for keys in [0, 1, 4_000] {
            fill(&mut one, space, keys);
            let mut value = Vec::new();
            assert_eq!(two.tree_get(space, &0_u32.to_be_bytes(), &mut value).unwrap(), keys > 0);
            one.drop_namespace("tree").unwrap();
            // Whoever still knows where the tree was finds out.
            for outcome in [
                two.tree_get(space, &1_u32.to_be_bytes(), &mut value).map(drop),
                two.tree_put(space, &1_u32.to_be_bytes(), b"new"),
            ] {
                assert!(matches!(outcome, Err(PoolError::Invalid(_))), "{keys} keys: {outcome:?}");
            }
            one.tick().unwrap();
            space = two.namespace("tree", Kind::Tree, Limits::default()).unwrap();
            assert!(!one.tree_get(space, &0_u32.to_be_bytes(), &mut value).unwrap());
        }
        fill(&mut two, space, 300);
        two.leave().unwrap();
        let report = check::run(&mut one, check::Options::default(), &mut |_| {}).unwrap();
        let texts: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty() && report.is_exact, "{texts:#?}");
        assert_eq!(report.counts.leaked.objects, 0);
    }
}

#[test]
fn a_tree_can_be_dropped_under_those_who_write_to_it() {
    for seed in 0..4_u32 {
        let pool = TestPool::new(1, 1);
        let mut client = pool.client(1);
        fill(&mut client, TREE, 500);
        std::thread::scope(|scope| {
            for pid in 2..4_u32 {
                let mut writer = pool.client(pid);
                scope.spawn(move || {
                    for number in 0..100_000_u32 {
                        let key = (number.wrapping_mul(0x9e37_79b9) + seed + pid).to_be_bytes();
                        let outcome = match number % 3 {
                            0 => writer.tree_delete(TREE, &key).map(drop),
                            _ => writer.tree_put(TREE, &key, &[1; 180]),
                        };
                        if let Err(error) = outcome {
                            assert!(matches!(error, PoolError::Invalid(_)), "{error}");
                            break;
                        }
                    }
                    writer.leave().unwrap();
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(20 + u64::from(seed) * 9));
            client.drop_namespace("tree").unwrap();
        });
        let report = check::run(&mut client, check::Options::default(), &mut |_| {}).unwrap();
        // A value that a writer had just written and a new root may be left.
        let mut findings = report.findings;
        findings.retain(|finding| finding.what != What::Leak);
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{texts:#?}");
        assert!(report.counts.leaked.objects < 8, "{}", report.counts.leaked.objects);
    }
}
