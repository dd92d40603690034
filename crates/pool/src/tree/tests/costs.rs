//! Round trips of the operations, with warm copies of the inner nodes.

use std::ops::Bound;

use super::{TestPool, TREE};
use crate::client::Client;

/// The round trips of `f`, the least of some tries: now and then an operation also reports a
/// quiescent state, announces objects, or splits a node.
fn least(client: &mut Client, mut f: impl FnMut(&mut Client, u32)) -> u64 {
    let cost = |round| {
        let before = client.fabric().verbs().tally();
        f(client, round);
        (client.fabric().verbs().tally() - before).round_trips
    };
    (0..9).map(cost).min().unwrap()
}

fn key(number: u32) -> [u8; 4] {
    (number * 7).to_be_bytes()
}

/// get, get of a large value, put, put of a large value, insert, delete, scan of 8
fn costs(nodes: u16, replicas: u8) -> [u64; 7] {
    let pool = TestPool::new(nodes, replicas);
    let mut client = pool.client(1);
    for number in 0..2_000 {
        client.tree_put(TREE, &key(number), &[1; 20]).unwrap();
    }
    let (large, mut into) = ([2; 300], Vec::new());
    client.tree_put(TREE, &key(5), &large).unwrap();
    [
        least(&mut client, |client, n| assert!(client.tree_get(TREE, &key(n), &mut into).unwrap())),
        least(&mut client, |client, _| assert!(client.tree_get(TREE, &key(5), &mut into).unwrap())),
        least(&mut client, |client, n| client.tree_put(TREE, &key(n), &[3; 20]).unwrap()),
        least(&mut client, |client, _| client.tree_put(TREE, &key(5), &large).unwrap()),
        least(&mut client, |client, n| {
            assert!(client.tree_insert(TREE, &(n * 7 + 1).to_be_bytes(), b"new").unwrap());
        }),
        least(&mut client, |client, n| assert!(client.tree_delete(TREE, &key(n + 50)).unwrap())),
        least(&mut client, |client, _| {
            let from = Bound::Included(&[][..]);
            let shown = client.tree_scan(TREE, from, Bound::Unbounded, 8, |_, _| true).unwrap();
            assert_eq!(shown, 8);
        }),
    ]
}

#[test]
fn operations_cost_what_the_readme_says() {
    assert_eq!(costs(1, 1), [1, 2, 2, 2, 2, 2, 1]);
    assert_eq!(costs(3, 1)[..2], [1, 2]);
    assert!(costs(3, 1)[2..6].iter().all(|&trips| trips <= 5));
    assert_eq!(costs(3, 2), [1, 2, 5, 5, 5, 5, 1]);
    assert_eq!(costs(3, 3), [1, 2, 5, 5, 5, 5, 1]);
}

#[test]
fn a_scan_reads_ahead() {
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    for number in 0..4_000 {
        client.tree_put(TREE, &key(number), &[1; 20]).unwrap();
    }
    let all = (Bound::Unbounded, Bound::Unbounded);
    let before = client.fabric().verbs().tally();
    let mut last = None;
    let shown = client.tree_scan(TREE, all.0, all.1, usize::MAX, |key, value| {
        assert!(value == [1; 20] && last.as_deref() < Some(key));
        last = Some(key.to_vec());
        true
    });
    let cost = client.fabric().verbs().tally() - before;
    assert_eq!(shown.unwrap(), 4_000);
    assert!(cost.round_trips * 6 < cost.reads, "{cost:?}");
}

#[test]
fn logs_are_small_and_can_be_switched_off() {
    let pool = TestPool::new(1, 1);
    let mut client = pool.client(1);
    for number in 0..500 {
        client.tree_put(TREE, &key(number), &[1; 20]).unwrap();
    }
    let before = client.logs.bytes();
    client.tree_put(TREE, &key(77), &[2; 20]).unwrap();
    let update = client.logs.bytes() - before;
    assert!(update < 200, "{update} bytes for an update of 20");
    client.tree_logs_off(true);
    let before = client.logs.bytes();
    client.tree_put(TREE, &key(78), &[2; 20]).unwrap();
    assert_eq!(client.logs.bytes(), before);
}
