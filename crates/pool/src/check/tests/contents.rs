//! Values in pieces, trees, caches, and transactions under way.

use super::{check, Random, TestPool};
use crate::namespace::{Kind, Limits};
use crate::store::Expiry::Never;

#[test]
fn large_values_and_trees_are_accounted_for() {
    for replicas in [1, 2] {
        let pool = TestPool::unhurried(32 << 20, 2, replicas);
        let mut client = pool.client(1);
        let tree = client.namespace("tree", Kind::Tree, Limits::default()).unwrap();
        let mut random = Random(5);
        for round in 0..60_u64 {
            let value = vec![round as u8; 10_000 + random.below(150_000) as usize];
            client.put(0, &random.below(20).to_le_bytes(), &value, Never).unwrap();
        }
        assert!(client.delete(0, &3_u64.to_le_bytes()).is_ok());
        for round in 0..1_500_u32 {
            let value = vec![round as u8; random.below(900) as usize];
            client.tree_put(tree, &(round * 7 % 1_000).to_be_bytes(), &value).unwrap();
        }
        let report = check(&mut client, false);
        let texts: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty() && report.is_exact, "{texts:#?}");
        assert_eq!(report.counts.keys[&tree].keys, 1_000);
        assert_eq!((report.counts.leaked.objects, report.counts.wrecked.objects), (0, 0));
    }
}
