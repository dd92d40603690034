//! Nodes that are lost while clients write.

use std::time::Duration;

use artesian_bus::Verb;

use super::harness::{assert_written, node, TestPool, Writer};
use crate::config::record;
use crate::error::PoolError;

fn lose(replicas: u8, victims: &[u16]) {
    let pool = TestPool::new(4, replicas, 2_000);
    let writers: Vec<Writer> = (1..4).map(|index| Writer::start(pool.join(index))).collect();
    std::thread::sleep(Duration::from_millis(20));
    for &victim in victims {
        pool.nodes.kill_node(node(victim));
        std::thread::sleep(Duration::from_millis(60));
    }
    let done: Vec<_> = writers.into_iter().map(Writer::stop).collect();
    let view = pool.view();
    assert!(view.epoch > 1);
    for (fabric, round) in done {
        assert!(round > 3, "writers go on");
        fabric.adopt(view.clone());
        for (region, placement) in view.regions.iter().enumerate() {
            assert!(!placement.is_empty(), "region {region}");
            assert!(placement.iter().all(|(at, _)| !victims.contains(&at.0)));
        }
        assert_written(&fabric, fabric.me().index, round);
    }
}

#[test]
fn a_lost_node_leaves_all_data_with_two_copies() {
    lose(2, &[1]);
}

#[test]
fn two_lost_nodes_leave_all_data_with_three_copies() {
    lose(3, &[0, 2]);
}

/// It frees its place on the first copy last, and that is lost just then.
#[test]
fn who_was_leaving_is_not_kept_waiting_for_a_view_that_nobody_tells_it_of() {
    let pool = TestPool::new(3, 2, 500);
    let (other, leaving) = (Writer::start(pool.join(1)), pool.join(2));
    let free = record::state_word(record::FREE, leaving.me()).to_le_bytes();
    for &copy in &leaving.client_record(2, record::STATE)[1..] {
        leaving.batch(&mut [Verb::write(copy, &free)]).unwrap();
    }
    let first = leaving.client_record(2, record::STATE)[0];
    pool.nodes.kill_node(first.node());
    assert_eq!(leaving.read_word(first), Err(PoolError::ViewChanged));
    assert_eq!(leaving.epoch(), pool.view().epoch);
    other.stop();
}
