//! Clients as processes: this binary starts itself, with the name of a pool in the environment.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::shm::{ShmNodes, ShmVerbs};
use artesian_bus::{Fate, GlobalAddr, Identity, NodeId, Verb, Verbs};

const POOL: &str = "ARTESIAN_BUS_TEST_POOL";
const ROLE: &str = "ARTESIAN_BUS_TEST_ROLE";
const ROUNDS: u64 = 20_000;
const SIGKILL: i32 = 9;

/// Words: who the child is, counters of both, and what the child is to do.
const STARTED: u64 = 0;
const ADDED: u64 = 64;
const SWAPPED: u64 = 128;
const BELL: u64 = 192;
const DATA: u64 = 256;

fn at(offset: u64) -> GlobalAddr {
    GlobalAddr::new(NodeId(0), offset)
}

fn word(verbs: &dyn Verbs, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    verbs.batch(&mut [Verb::read(at(offset), &mut bytes)]).unwrap();
    u64::from_le_bytes(bytes)
}

/// Adds by FAA and by CAS, against whoever else does.
fn count(verbs: &dyn Verbs) {
    for _ in 0..ROUNDS {
        verbs.batch(&mut [Verb::faa(at(ADDED), 1)]).unwrap();
        let mut seen = 0;
        loop {
            let mut batch = [Verb::cas(at(SWAPPED), seen, seen + 1)];
            verbs.batch(&mut batch).unwrap();
            if batch[0].found() == seen {
                break;
            }
            seen = batch[0].found();
        }
    }
}

/// Not a test of its own: what the child does, told by the environment.
#[test]
fn child() {
    let (Ok(pool), Ok(role)) = (std::env::var(POOL), std::env::var(ROLE)) else { return };
    let verbs = ShmNodes::open(&pool).unwrap().connect();
    let started = verbs.identity().started.to_le_bytes();
    verbs.batch(&mut [Verb::write(at(STARTED), &started)]).unwrap();
    verbs.wake_mailbox(at(STARTED));
    match role.as_str() {
        "count" => {
            while verbs.mailbox(at(BELL)) == 0 {
                verbs.wait_mailbox(at(BELL), 0, 3_600_000_000_000);
            }
            count(&verbs);
        }
        "add for ever" => loop {
            verbs.batch(&mut [Verb::faa(at(ADDED), 1)]).unwrap();
        },
        "tear" => {
            let plan = FaultPlan { after: 2, torn_words: 3, death: Death::Process };
            let verbs = Faulty::new(verbs, plan);
            let bytes = [0xff; 100];
            let faa = || Verb::faa(at(ADDED), 1);
            verbs.batch(&mut [faa()]).unwrap();
            verbs.batch(&mut [faa(), Verb::write(at(DATA), &bytes), faa()]).unwrap();
        }
        other => panic!("no role {other:?}"),
    }
}

/// A pool with one node, and a child that uses it.
struct Pair {
    nodes: Arc<ShmNodes>,
    child: Child,
}

impl Pair {
    fn start(role: &str) -> (Pair, ShmVerbs, Identity) {
        let word = role.split(' ').next().unwrap();
        let nodes = ShmNodes::open(&format!("pair-{word}-{}", std::process::id())).unwrap();
        nodes.create_node(NodeId(0), 4096).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child"]).env(POOL, nodes.name()).env(ROLE, role);
        let pair = Pair { child: command.spawn().unwrap(), nodes };
        let verbs = pair.nodes.connect();
        while verbs.mailbox(at(STARTED)) == 0 {
            verbs.wait_mailbox(at(STARTED), 0, 1_000_000_000);
        }
        let identity = Identity { pid: pair.child.id(), started: verbs.mailbox(at(STARTED)) };
        (pair, verbs, identity)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.nodes.remove();
    }
}

#[test]
fn atomics_hold_between_processes() {
    let (mut pair, verbs, _) = Pair::start("count");
    verbs.batch(&mut [Verb::faa(at(BELL), 1)]).unwrap();
    verbs.wake_mailbox(at(BELL));
    count(&verbs);
    assert!(pair.child.wait().unwrap().success());
    assert_eq!((word(&verbs, ADDED), word(&verbs, SWAPPED)), (2 * ROUNDS, 2 * ROUNDS));
}

#[test]
fn a_fenced_process_does_nothing_more() {
    let (mut pair, verbs, identity) = Pair::start("add for ever");
    assert!(verbs.is_alive(identity));
    while word(&verbs, ADDED) < 100 {
        verbs.relax(1000);
    }
    assert_eq!(verbs.fence(identity), Fate::Fenced);
    let last = word(&verbs, ADDED);
    verbs.relax(5_000_000);
    assert_eq!(word(&verbs, ADDED), last);
    assert!(!verbs.is_alive(identity));
    assert_eq!(pair.child.wait().unwrap().signal(), Some(SIGKILL));
    assert_eq!(verbs.fence(identity), Fate::Fenced);
}

#[test]
fn a_process_dies_within_a_write() {
    let (mut pair, verbs, identity) = Pair::start("tear");
    assert_eq!(pair.child.wait().unwrap().signal(), Some(SIGKILL));
    assert!(!verbs.is_alive(identity));
    assert_eq!(word(&verbs, ADDED), 2);
    let data: Vec<u64> = (0..5).map(|i| word(&verbs, DATA + i * 8)).collect();
    assert_eq!(data, [u64::MAX, u64::MAX, u64::MAX, 0, 0]);
}
