use std::collections::HashMap;

use artesian_bus::{GlobalAddr, NodeId, Verb};
use proptest::prelude::*;

use super::log::{Draft, Log, MARKS};
use super::testing::{declare_dead, TestPool};
use super::*;
use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::config::NUM_LOCKS;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::word;
use crate::view::NodeState;

const SHAPES: [(u16, u8); 4] = [(1, 1), (3, 1), (3, 2), (3, 3)];

/// An account: its balance is written twice, so that a torn change is seen.
fn account(number: u64) -> Target {
    Target::Pool(PoolAddr((number << 20) + 0x2_0000 + number * 64))
}

fn balance(bytes: &[u8]) -> u64 {
    assert_eq!(word(bytes, 0), word(bytes, 8), "torn");
    word(bytes, 0)
}

fn image(balance: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&balance.to_le_bytes());
    bytes[8..].copy_from_slice(&balance.to_le_bytes());
    bytes
}

fn transfer(fabric: &Fabric, logs: &Logs, from: u64, to: u64) -> Result<()> {
    let mut rtx = Rtx::begin(fabric, logs)?;
    let (mut a, mut b) = ([0; 16], [0; 16]);
    rtx.lock(account(from), &mut a)?;
    rtx.lock(account(to), &mut b)?;
    rtx.write(account(from), &image(balance(&a).wrapping_sub(1)))?;
    rtx.write(account(to), &image(balance(&b).wrapping_add(1)))?;
    rtx.commit()
}

/// The balance, which must be the same on all copies.
fn read(fabric: &Fabric, number: u64) -> u64 {
    let mut balances = account(number).copies(fabric).into_iter().map(|copy| {
        let mut bytes = [0; 16];
        fabric.batch(&mut [Verb::read(copy, &mut bytes)]).unwrap();
        balance(&bytes)
    });
    let first = balances.next().unwrap();
    assert!(balances.all(|other| other == first), "copies differ");
    first
}

fn locks_held(fabric: &Fabric) -> usize {
    let mut held = 0;
    for (node, _) in fabric.verbs().nodes() {
        let mut bytes = vec![0; NUM_LOCKS as usize * 8];
        let start = GlobalAddr::new(node, fabric.layout().locks);
        fabric.batch(&mut [Verb::read(start, &mut bytes)]).unwrap();
        held += bytes.chunks_exact(8).filter(|held| word(held, 0) != 0).count();
    }
    held
}

#[test]
fn a_dead_client_is_finished_or_never_was_at_every_verb() {
    for (nodes, replicas) in SHAPES {
        let mut acknowledged = false;
        for verbs in 0..60 {
            let pool = TestPool::new(nodes, replicas);
            let dying = pool.dying(1, verbs, verbs % 2 == 0);
            let outcome = transfer(&dying, &Logs::default(), 0, 1);
            let (healthy, logs) = (pool.client(2), Logs::default());
            declare_dead(&healthy, dying.me());
            transfer(&healthy, &logs, 1, 2).unwrap();
            transfer(&healthy, &logs, 0, 2).unwrap();
            let balances = [0, 1, 2].map(|number| read(&healthy, number));
            let [a, b, c] = balances.map(|balance| balance as i64);
            assert_eq!(c, 2);
            assert!((a, b) == (-1, -1) || (a, b) == (-2, 0), "{verbs} verbs: {balances:?}");
            acknowledged = outcome.is_ok();
            assert!(!acknowledged || a == -2, "lost");
            assert_eq!(locks_held(&healthy), 0, "{nodes} nodes, {verbs} verbs");
        }
        assert!(acknowledged, "the sweep ended before the transaction");
    }
}

/// Data and locks on one node, the log on three: what is written elsewhere may be there first.
#[test]
fn nothing_on_other_nodes_overtakes_the_data() {
    let near = |number: u64| Target::Pool(PoolAddr(0x2_0000 + number * 64));
    for verbs in 0..30 {
        let pool = TestPool::new(3, 1);
        let dying = pool.dying_turned(1, verbs, true, true);
        let logs = Logs::default();
        let change = |fabric: &Fabric, logs: &Logs, value: u64| {
            let mut rtx = Rtx::begin(fabric, logs)?;
            (0..2).try_for_each(|number| rtx.lock(near(number), &mut []))?;
            (0..2).try_for_each(|number| rtx.write(near(number), &image(value)))?;
            rtx.commit()
        };
        let lives = change(&dying, &logs, 5).is_ok();
        let healthy = pool.client(2);
        declare_dead(&healthy, dying.me());
        repair_all(&healthy, dying.me()).unwrap();
        let found = [0, 1].map(|number| {
            let mut bytes = [0; 16];
            let at = near(number).primary(&healthy).unwrap();
            healthy.batch(&mut [Verb::read(at, &mut bytes)]).unwrap();
            balance(&bytes)
        });
        assert!(found == [5, 5] || found == [0, 0] && !lives, "{verbs} verbs: {found:?}");
        assert_eq!(locks_held(&healthy), 0);
    }
}

#[test]
fn dead_repairers_are_taken_over() {
    for (nodes, replicas) in [(1, 1), (3, 2)] {
        for verbs in (2..40).step_by(3) {
            for more in (0..30).step_by(2) {
                let pool = TestPool::new(nodes, replicas);
                let dying = pool.dying(1, verbs, true);
                let outcome = transfer(&dying, &Logs::default(), 0, 1);
                let repairer = pool.dying(2, more, true);
                let healthy = pool.client(3);
                declare_dead(&healthy, dying.me());
                let second = transfer(&repairer, &Logs::default(), 1, 0);
                declare_dead(&healthy, repairer.me());
                repair_all(&healthy, repairer.me()).unwrap();
                repair_all(&healthy, dying.me()).unwrap();
                assert_eq!(locks_held(&healthy), 0, "{verbs} {more}");
                let sum = read(&healthy, 0).wrapping_add(read(&healthy, 1));
                assert_eq!(sum, 0, "{verbs} {more}");
                if outcome.is_ok() && second.is_ok() {
                    assert_eq!(read(&healthy, 0), 0);
                }
            }
        }
    }
}

#[test]
fn threads_keep_the_sum() {
    let pool = TestPool::new(3, 2);
    std::thread::scope(|scope| {
        for index in 1..4 {
            let fabric = pool.client(index);
            scope.spawn(move || {
                let logs = Logs::default();
                for step in 0..200_u64 {
                    let from = step * u64::from(index) % 5;
                    let to = (from + 1 + step % 4) % 5;
                    while let Err(error) = transfer(&fabric, &logs, from, to) {
                        assert_eq!(error, PoolError::Conflict);
                    }
                }
            });
        }
    });
    let fabric = pool.client(5);
    let sum = (0..5).fold(0_u64, |sum, number| sum.wrapping_add(read(&fabric, number)));
    assert_eq!((sum, locks_held(&fabric)), (0, 0));
}

/// A client dies anywhere in its transaction and a node is lost with it; the master replays.
#[test]
fn a_node_lost_with_the_client_takes_nothing_committed_with_it() {
    for lost in 0..3 {
        for verbs in 0..40 {
            let pool = TestPool::new(3, 2);
            let dying = pool.dying(1, verbs, false);
            let outcome = transfer(&dying, &Logs::default(), 0, 1);
            let master = pool.client(2);
            master.set_governs(true);
            declare_dead(&master, dying.me());
            pool.nodes.kill_node(NodeId(lost));
            replay_committed(&master).unwrap();
            let mut view = (*master.view()).clone();
            view.epoch += 1;
            view.meta.retain(|node| node.0 != lost);
            for placement in &mut view.regions {
                placement.retain(|copy| copy.0 .0 != lost);
            }
            master.adopt(view);
            repair_all(&master, dying.me()).unwrap();
            let balances = [read(&master, 0) as i64, read(&master, 1) as i64];
            let whole = balances == [0, 0] || balances == [-1, 1];
            assert!(whole, "node {lost}, {verbs} verbs: {balances:?}");
            assert!(outcome.is_err() || balances == [-1, 1], "lost");
            assert_eq!(locks_held(&master), 0);
        }
    }
}

/// The client dies when its log is marked on some copies only, others work on, and then the marked
/// copies are lost: the old log is not written over what came after it.
#[test]
fn marks_are_completed_by_repairers() {
    let set = |fabric: &Fabric, logs: &Logs, number: u64, value: u64| {
        let mut rtx = Rtx::begin(fabric, logs)?;
        rtx.lock(account(number), &mut [])?;
        rtx.write(account(number), &image(value))?;
        rtx.commit()
    };
    for verbs in 0..20 {
        let pool = TestPool::new(3, 2);
        let dying = pool.dying(1, verbs, false);
        let primary = |number: u64| account(number).primary(&dying).unwrap().node();
        let number = (0..8).find(|&number| primary(number) == NodeId(0)).unwrap();
        let _ = set(&dying, &Logs::default(), number, 5);
        let (master, logs) = (pool.client(2), Logs::default());
        declare_dead(&master, dying.me());
        set(&master, &logs, number, 6).unwrap();
        repair_all(&master, dying.me()).unwrap();
        set(&master, &logs, number, 7).unwrap();
        master.set_governs(true);
        pool.nodes.kill_node(NodeId(0));
        let mut view = (*master.view()).clone();
        view.epoch += 1;
        view.nodes[0] = NodeState::Dead;
        view.meta.retain(|node| node.0 != 0);
        for placement in &mut view.regions {
            placement.retain(|copy| copy.0 .0 != 0);
        }
        master.adopt(view);
        replay_committed(&master).unwrap();
        assert_eq!(read(&master, number), 7, "{verbs} verbs");
    }
}

#[test]
fn a_change_of_the_view_rolls_back_what_has_not_committed() {
    let pool = TestPool::new(3, 2);
    let (fabric, logs) = (pool.client(1), Logs::default());
    let mut rtx = Rtx::begin(&fabric, &logs).unwrap();
    rtx.lock(account(0), &mut []).unwrap();
    rtx.write(account(0), &image(7)).unwrap();
    let mut view = (*fabric.view()).clone();
    view.epoch += 1;
    fabric.adopt(view);
    assert_eq!(rtx.commit(), Err(PoolError::ViewChanged));
    assert_eq!((read(&fabric, 0), locks_held(&fabric)), (0, 0));
}

#[test]
fn locks_go_with_their_nodes() {
    let pool = TestPool::new(3, 2);
    let (fabric, logs) = (pool.client(1), Logs::default());
    let mut rtx = Rtx::begin(&fabric, &logs).unwrap();
    rtx.lock(account(0), &mut []).unwrap();
    let lost = account(0).primary(&fabric).unwrap().node();
    pool.nodes.kill_node(lost);
    let mut view = (*fabric.view()).clone();
    view.epoch += 1;
    view.nodes[lost.0 as usize] = NodeState::Dead;
    for placement in &mut view.regions {
        placement.retain(|copy| copy.0 != lost);
    }
    fabric.adopt(view);
    rtx.abort().unwrap();
}

#[test]
fn a_single_word_needs_no_log_and_one_round_trip() {
    let pool = TestPool::new(1, 1);
    let (fabric, logs) = (pool.client(1), Logs::default());
    let before = fabric.verbs().tally();
    let mut rtx = Rtx::begin(&fabric, &logs).unwrap();
    rtx.lock(account(0), &mut [0; 16]).unwrap();
    rtx.write(account(0), &5_u64.to_le_bytes()).unwrap();
    rtx.commit().unwrap();
    assert_eq!((fabric.verbs().tally() - before).round_trips, 2);
    assert_eq!(logs.bytes(), 0);
    transfer(&fabric, &logs, 1, 2).unwrap();
    assert_eq!((fabric.verbs().tally() - before).round_trips, 5);
    assert!(logs.bytes() > 64);
}

#[test]
fn two_addresses_under_one_lock_word_do_not_block_each_other() {
    let pool = TestPool::new(1, 1);
    let (fabric, logs) = (pool.client(1), Logs::default());
    let mut seen = HashMap::new();
    let addrs = (0x1_0000_u64..0x80_0000).step_by(64).map(PoolAddr);
    let (one, two) = addrs
        .filter_map(|addr| Some((seen.insert(fabric.lock_of(addr).ok()?, addr)?, addr)))
        .next()
        .unwrap();
    let mut rtx = Rtx::begin(&fabric, &logs).unwrap();
    rtx.lock(Target::Pool(one), &mut []).unwrap();
    rtx.lock(Target::Pool(two), &mut []).unwrap();
    rtx.write(Target::Pool(two), &image(1)).unwrap();
    rtx.commit().unwrap();
    assert_eq!(locks_held(&fabric), 0);
}

#[test]
fn locks_out_of_order_give_way() {
    let pool = TestPool::new(1, 1);
    let (one, two) = (pool.client(1), pool.client(2));
    let (mine, yours) = (Logs::default(), Logs::default());
    let in_order = {
        let [a, b] = [0, 1].map(|number| account(number).lock_word(&one).unwrap());
        if a < b {
            [0, 1]
        } else {
            [1, 0]
        }
    };
    let mut first = Rtx::begin(&one, &mine).unwrap();
    first.lock(account(in_order[0]), &mut []).unwrap();
    let mut second = Rtx::begin(&two, &yours).unwrap();
    second.lock(account(in_order[1]), &mut []).unwrap();
    assert_eq!(second.lock(account(in_order[0]), &mut []), Err(PoolError::Conflict));
    second.abort().unwrap();
    first.lock(account(in_order[1]), &mut []).unwrap();
    first.abort().unwrap();
    assert_eq!(locks_held(&one), 0);
}

const GIVEN_UP: (PoolAddr, SizeClass) = (PoolAddr(0x2_0040), SizeClass(9));

fn sample() -> Vec<u8> {
    let mut draft = Draft::default();
    draft.clear();
    draft.push(account(3), &image(9)).unwrap();
    draft.push(Target::Meta(24), &[1, 2, 3]).unwrap();
    let name = Name::new(ClientId { index: 3, incarnation: 9 }, 77, 5);
    draft.seal(name, &[GlobalAddr::new(NodeId(2), 800)], &[GIVEN_UP], 17);
    [&[0; MARKS], draft.sealed()].concat()
}

#[test]
fn logs_come_back_and_torn_ones_do_not() {
    let bytes = sample();
    let log = Log::parse(&bytes).unwrap();
    assert_eq!((log.name.owner().index, log.name.place()), (3, Some(5)));
    let writes: Vec<_> = log.writes.collect();
    assert_eq!(writes, [(account(3), &image(9)[..]), (Target::Meta(24), &[1, 2, 3][..])]);
    assert_eq!(log.locks[..], [GlobalAddr::new(NodeId(2), 800)]);
    assert_eq!((&log.frees[..], log.reported), (&[GIVEN_UP][..], 17));
    for cut in 0..bytes.len() - 1 {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        assert!(torn == bytes || Log::parse(&torn).is_none(), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn garbage_logs_never_panic(at in 3..12_usize, value: u64, tail in 0..40_usize) {
        let mut bytes = sample();
        bytes.resize(bytes.len() + tail, 7);
        bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        let size = (word(&bytes, 32) >> 32) as usize;
        if (24..=bytes.len()).contains(&size) {
            let sum = crate::xxh3::xxh3_64(&bytes[24..size]);
            bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        }
        if let Some(log) = Log::parse(&bytes) {
            prop_assert!(log.writes.count() < 10);
        }
    }
}
