//! The crash matrix, with processes on shared memory: for every operation and every n something
//! happens after the n-th verb. A client is killed, in the middle of a write too, or stopped for
//! longer than its lease; a memory node is lost, with the client or without; who repairs the dead
//! dies, and so does the master. Others go on over the same keys, before the dead are recovered and
//! after. Then: what was acknowledged is there, all histories are linearizable, no lock is stuck, a
//! check finds nothing, no object is leaked.
//!
//! A failure prints a line; `MATRIX=that-line cargo test -p artesian-pool --test matrix again`
//! runs it once more, or `MATRIX_TURNS` times. `MATRIX_ONLY=name` restricts plans to one operation.

#[path = "../common/audit.rs"]
mod audit;
mod case;
mod client;
mod deed;
mod fuse;
mod history;
mod model;
mod plan;
mod process;
mod spec;
mod stage;
mod value;

use plan::Plan;
use process::Order;
use spec::{Spec, Trouble};
use stage::Stage;

/// Not a test of its own: what a client does, told by the environment.
#[test]
fn client_process() {
    if let Some(order) = Order::own() {
        client::run(&order);
    }
}

/// Not a test of its own: runs the case that `MATRIX` names.
#[test]
fn again() {
    let Ok(text) = std::env::var("MATRIX") else { return };
    let spec: Spec = text.parse().expect("a case");
    let turns = std::env::var("MATRIX_TURNS").ok().and_then(|turns| turns.parse().ok());
    for turn in 0..turns.unwrap_or(1) {
        let done = Stage::new(&spec).and_then(Stage::run);
        println!("{text}: {done:?}");
        assert!(done.is_ok(), "turn {turn}");
    }
}

/// A sample: one n in so many.
const fn sample(trouble: Trouble, replicas: &'static [u8], stride: u64) -> Plan {
    Plan { trouble, replicas, all: false, stride, second_stride: 401 }
}

/// With each number of copies.
const fn all(trouble: Trouble, replicas: &'static [u8], stride: u64) -> Plan {
    Plan { all: true, ..sample(trouble, replicas, stride) }
}

#[test]
fn clients_are_killed() {
    sample(Trouble::Kill, &[1, 2, 3], 29).run();
}

#[test]
fn clients_are_stopped_for_longer_than_their_leases() {
    sample(Trouble::Stop, &[2, 1], 211).run();
}

#[test]
fn nodes_are_lost() {
    sample(Trouble::Node, &[2, 3], 97).run();
}

#[test]
fn nodes_and_clients_are_lost_together() {
    sample(Trouble::Both, &[3, 2], 97).run();
}

#[test]
fn repairers_are_killed() {
    sample(Trouble::Repairer, &[2, 1], 211).run();
}

#[test]
fn masters_are_killed() {
    sample(Trouble::Master, &[2, 3], 61).run();
}

#[test]
#[ignore = "slow: every verb of every operation"]
fn clients_are_killed_after_every_verb() {
    all(Trouble::Kill, &[1, 2, 3], 1).run();
}

#[test]
#[ignore = "slow: every seventh verb, and a lease each"]
fn many_clients_are_stopped() {
    all(Trouble::Stop, &[1, 2], 7).run();
}

#[test]
#[ignore = "slow: every verb of every operation"]
fn nodes_are_lost_after_every_verb() {
    all(Trouble::Node, &[2, 3], 1).run();
}

#[test]
#[ignore = "slow: every verb of every operation"]
fn nodes_and_clients_are_lost_together_after_every_verb() {
    all(Trouble::Both, &[2, 3], 1).run();
}

#[test]
#[ignore = "slow: many verbs of many repairs"]
fn many_repairers_are_killed() {
    Plan { second_stride: 11, ..all(Trouble::Repairer, &[1, 2], 29) }.run();
}

#[test]
#[ignore = "slow: many verbs of changes of the view"]
fn many_masters_are_killed() {
    all(Trouble::Master, &[2, 3], 5).run();
}
