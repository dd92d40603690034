//! Trees: well, at work, and damaged.

use std::ops::Bound;

use super::damage::write;
use super::{check, Random, TestPool};
use crate::check::{Place, What};
use crate::client::Client;
use crate::namespace::{self, Kind, Limits};
use crate::tree::{tree_check, NODE_CLASS};
use crate::PoolAddr;

fn work(client: &mut Client, tree: u16, steps: u64) {
    let mut random = Random(11);
    for step in 0..steps {
        let key = random.below(500).to_be_bytes();
        match random.below(4) {
            0 => drop(client.tree_delete(tree, &key).unwrap()),
            _ => {
                let value = vec![step as u8; random.below(300) as usize];
                client.tree_put(tree, &key, &value).unwrap();
            }
        }
    }
}

#[test]
fn trees_are_accounted_for_and_their_damage_is_found() {
    for (nodes, replicas) in [(1, 1), (3, 2)] {
        let pool = TestPool::new(16 << 20, nodes, replicas);
        let mut client = pool.client(1);
        let made = namespace::create(client.fabric(), "t", Kind::Tree, Limits::default());
        let tree = made.unwrap().id;
        work(&mut client, tree, 2_500);
        let report = check(&mut client, false);
        assert_eq!(report.findings, [], "{nodes} nodes, {replicas} copies");
        let all = (Bound::Unbounded, Bound::Unbounded);
        let keys = client.tree_scan(tree, all.0, all.1, usize::MAX, |_, _| true).unwrap();
        assert_eq!(report.counts.keys[&tree].keys, keys as u64);
        assert_eq!((report.counts.leaked.objects, report.counts.held.objects), (0, 0));
        assert_eq!(check(&mut client, true).findings, []);
        let mut damaged = PoolAddr::NULL;
        let mut leaf = |addr, class| {
            if class == NODE_CLASS {
                damaged = addr
            }
        };
        tree_check(&client.fabric, tree, &mut leaf).unwrap();
        write(&client.fabric, &client.fabric.copies(damaged.add(400)), 0xbad);
        let found = check(&mut client, false).findings;
        let is_it = |finding: &&crate::check::Finding| {
            (finding.what, finding.place) == (What::Tree, Place::Object(damaged))
        };
        assert!(found.iter().any(|finding| is_it(&finding)), "{found:?}");
    }
}

#[test]
fn trees_at_work_give_no_false_alarm() {
    let pool = TestPool::unhurried(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let made = namespace::create(client.fabric(), "t", Kind::Tree, Limits::default());
    let tree = made.unwrap().id;
    std::thread::scope(|scope| {
        let done = scope.spawn(|| work(&mut pool.client(2), tree, 4_000));
        while !done.is_finished() {
            let found = check(&mut client, false).findings;
            assert!(found.iter().all(|finding| finding.what != What::Tree), "{found:?}");
        }
    });
}
