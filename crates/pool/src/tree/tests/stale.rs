//! Clients that come by old knowledge.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::locked::Tree;
use super::super::node::Node;
use super::super::seek::Seek;
use super::super::walk::Missing;
use super::{checked, Random, TestPool, TREE};
use crate::address::PoolAddr;
use crate::client::Client;
use crate::store::Expiry::Never;

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The leaf of `key`: its address and its low fence.
fn leaf(client: &mut Client, key: &[u8]) -> (PoolAddr, Vec<u8>) {
    let mut tree: Tree<'_> = client.tree(TREE).unwrap().unwrap();
    let addr = tree.walk.find(Seek::At(key), 0).unwrap().unwrap();
    (addr, Node::of(&tree.walk.trees.page).low().to_vec())
}

/// One client knows inner nodes whose memory has become something else since.
#[test]
fn old_copies_lead_nobody_astray() {
    for replicas in [1, 2] {
        let pool = TestPool::new(2, replicas);
        let (mut old, mut new) = (pool.client(1), pool.client(2));
        let mut random = Random(17);
        let mut model = BTreeMap::new();
        for round in 0..6_u64 {
            for number in 0..1_500 {
                let number = number * 3 + round;
                old.tree_put(TREE, &key(number), &number.to_le_bytes()).unwrap();
                model.insert(number, number);
            }
            while model.len() > 100 {
                let (&number, _) = model.iter().nth(model.len() / 2).unwrap();
                assert!(new.tree_delete(TREE, &key(number)).unwrap());
                model.remove(&number);
                // Some of what becomes free is used for other things of the same size.
                if number % 4 == 0 {
                    let value = vec![number as u8; 900];
                    new.put(0, &key(random.below(200)), &value, Never).unwrap();
                }
            }
            for _ in 0..300 {
                old.settle_down().unwrap();
                new.settle_down().unwrap();
            }
            let mut found = Vec::new();
            for number in (0..4_600).step_by(7) {
                let there = old.tree_get(TREE, &key(number), &mut found).unwrap();
                assert_eq!(there, model.contains_key(&number), "{number}");
            }
            let mut shown = Vec::new();
            let all = (Bound::Unbounded, Bound::Unbounded);
            let show = |key: &[u8], _: &[u8]| {
                shown.push(u64::from_be_bytes(key.try_into().unwrap()));
                true
            };
            old.tree_scan(TREE, all.0, all.1, usize::MAX, show).unwrap();
            assert!(shown.iter().eq(model.keys()));
            checked(&old);
        }
    }
}

/// Somebody wants to tell a parent of a node that has been merged away meanwhile.
#[test]
fn dead_children_are_not_posted() {
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    for number in 0..300 {
        client.tree_put(TREE, &key(number), &[1; 20]).unwrap();
    }
    let (child, low) = leaf(&mut client, &key(150));
    for number in 100..200 {
        client.tree_delete(TREE, &key(number)).unwrap();
    }
    assert_ne!(leaf(&mut client, &key(150)).0, child);
    let mut tree = client.tree(TREE).unwrap().unwrap();
    tree.walk.trees.missing.push(Missing { level: 1, key: low, child });
    tree.post_all().unwrap();
    checked(&client);
}

/// A split whose news never came to the parent: who passes by makes up for it.
#[test]
fn missing_children_are_posted_by_whoever_passes() {
    let pool = TestPool::new(1, 1);
    let (mut client, mut other) = (pool.client(1), pool.client(2));
    let mut number = 0;
    // A client that ends between the two transactions of a split.
    loop {
        client.tree_put(TREE, &key(number), &[1; 60]).unwrap();
        number += 1;
        let report = checked(&client);
        if report.levels == 2 && report.nodes == 6 {
            break;
        }
    }
    let (child, low) = leaf(&mut client, &key(number - 1));
    {
        let mut tree = client.tree(TREE).unwrap().unwrap();
        tree.forget_child(&low, child);
    }
    assert_eq!(checked(&client).unposted, 1);
    let mut found = Vec::new();
    for _ in 0..2 {
        assert!(other.tree_get(TREE, &key(number - 1), &mut found).unwrap());
    }
    assert_eq!(checked(&client).unposted, 0);
}

impl Tree<'_> {
    /// Takes a child's record out of its parent, as if it had never been posted.
    fn forget_child(&mut self, low: &[u8], child: PoolAddr) {
        use super::super::edit::Draft;
        use super::super::locked::write_changes;
        let seek = Seek::At(low);
        let route = self.walk.route(seek, 1).unwrap().unwrap();
        let (mut rtx, addr) = self.lock(route, seek, 1, None).unwrap().unwrap();
        let old = *self.walk.trees.page;
        let mut new = old;
        let index = Node::of(&old).find_child(low).unwrap();
        assert_eq!(Node::of(&old).child(index).unwrap(), child);
        let mut draft = Draft(&mut new);
        draft.remove(index).unwrap();
        draft.seal(addr);
        write_changes(&mut rtx, addr, &old, &new).unwrap();
        rtx.commit().unwrap();
    }
}
