//! A client dies at every verb of a work that splits and merges nodes up to the root and replaces
//! large values; so do clients that recover it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, Verbs};
use artesian_pool::client::Client;
use artesian_pool::config::record;
use artesian_pool::namespace::{self, Kind, Limits};
use artesian_pool::tree::tree_check;
use artesian_pool::{lifecycle, PoolConfig, Result};

use crate::audit::audit;

const BYTES: u64 = 4 << 20;
const DYING: u32 = 100;
const REPAIRER: u32 = 200;
const FENCER: u32 = 900;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// One operation: key number, and the bytes of its value or none to delete it.
type Step = (u8, Option<usize>);

/// Long keys: a leaf has three or four.
fn key(number: u8) -> Vec<u8> {
    let mut key = vec![number; 2];
    key.resize(200, 7);
    key
}

/// Grows by splits of leaves and of the root, replaces values, and shrinks again.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    steps.extend([(3, Some(300)), (3, Some(40)), (4, Some(500)), (4, Some(600))]);
    steps.extend((0..10).map(|number| (number * 5 % 11 + 10, Some(number as usize * 30))));
    steps.extend([(12, Some(200)), (15, None), (99, None)]);
    steps.extend((0..21).filter(|number| *number != 4).map(|number| (number, None)));
    steps
}

/// What the healthy client puts in before.
fn first() -> Model {
    (1..6).map(|number| (key(number), vec![number; 100 * (number as usize % 2) + 80])).collect()
}

fn apply(model: &mut Model, (number, bytes): Step) {
    match bytes {
        Some(bytes) => model.insert(key(number), vec![number; bytes]),
        None => model.remove(&key(number)),
    };
}

struct Pool {
    memory: Arc<HeapNodes>,
    tree: u16,
    healthy: Client,
}

fn join(verbs: Box<dyn Verbs>) -> Result<Client> {
    Client::with_cache(verbs, 1 << 14)
}

impl Pool {
    fn new(replicas: u8) -> Pool {
        let nodes = u16::from(replicas);
        let memory = HeapNodes::new(nodes, BYTES as usize);
        let config = PoolConfig { lease_ms: 40, ..PoolConfig::for_size(BYTES, nodes, replicas) };
        lifecycle::format(&memory.connect(FENCER), &config).unwrap();
        let mut healthy = join(Box::new(memory.connect(1))).unwrap();
        let made = namespace::create(healthy.fabric(), "tree", Kind::Tree, Limits::default());
        let tree = made.unwrap().id;
        for (key, value) in first() {
            healthy.tree_put(tree, &key, &value).unwrap();
        }
        Pool { memory, tree, healthy }
    }

    /// A client that dies `after` verbs after it has joined.
    fn dying(&self, pid: u32, after: u64) -> Client {
        let plan = |after| FaultPlan { after, torn_words: 3, death: Death::Connection };
        let probe = Faulty::new(self.memory.connect(FENCER + 1), plan(u64::MAX));
        let probe = join(Box::new(probe)).unwrap();
        let joined = probe.fabric().verbs().tally().verbs();
        probe.leave().unwrap();
        let plan = plan(joined + after);
        join(Box::new(Faulty::new(self.memory.connect(pid), plan))).unwrap()
    }

    fn fence(&self, pid: u32) {
        self.memory.connect(FENCER).fence(Identity { pid, started: 0 });
    }

    /// Ticks until nobody else is there.
    fn outlive(&mut self) {
        for _ in 0..2_000 {
            self.healthy.tick().unwrap();
            let fabric = self.healthy.fabric();
            let state = |index: u16| {
                fabric.read_word(fabric.client_record(index, record::STATE)[0]).unwrap()
            };
            let mut others = (1..fabric.config().max_clients).map(state).map(record::split);
            if others.all(|(state, client)| state == record::FREE || client == fabric.me()) {
                return;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        panic!("dead clients are not recovered");
    }

    fn contents(&mut self) -> Model {
        let mut found = Model::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let add = |key: &[u8], value: &[u8]| found.insert(key.to_vec(), value.to_vec()).is_none();
        self.healthy.tree_scan(self.tree, all.0, all.1, usize::MAX, add).unwrap();
        found
    }

    fn check(&self) {
        let report = tree_check(self.healthy.fabric(), self.tree, &mut |_, _| {}).unwrap();
        assert_eq!(report.faults, []);
    }
}

/// The client dies after `after` verbs of its work, who recovers it after `repair`. Returns
/// whether each came to its end.
fn scenario(replicas: u8, after: u64, repair: Option<u64>) -> (bool, bool) {
    let mut pool = Pool::new(replicas);
    let mut dying = pool.dying(DYING, after);
    let (mut before, mut lives) = (first(), true);
    let mut next = before.clone();
    for step in steps() {
        apply(&mut next, step);
        let done = match step {
            (number, Some(bytes)) => {
                dying.tree_put(pool.tree, &key(number), &vec![number; bytes]).is_ok()
            }
            (number, None) => dying.tree_delete(pool.tree, &key(number)).is_ok(),
        };
        lives &= done;
        if !lives {
            break;
        }
        before = next.clone();
    }
    drop(dying);
    pool.fence(DYING);
    let mut repaired = true;
    if let Some(repair) = repair {
        let mut repairer = pool.dying(REPAIRER, repair);
        repaired = (0..3).all(|_| {
            std::thread::sleep(Duration::from_millis(6));
            repairer.tick().is_ok()
        });
        drop(repairer);
        pool.fence(REPAIRER);
    }
    // Half of the time its locks are met before it is recovered.
    if after.is_multiple_of(2) {
        pool.outlive();
        pool.check();
    }
    let found = pool.contents();
    assert!(found == before || found == next, "{after} {repair:?}: {:?}", found.keys());
    for number in 0..25 {
        let value = vec![number; number as usize * 20];
        pool.healthy.tree_put(pool.tree, &key(number), &value).unwrap();
        before.insert(key(number), value);
    }
    pool.outlive();
    pool.check();
    assert_eq!(pool.contents(), before);
    let Pool { memory, healthy, .. } = pool;
    healthy.leave().unwrap();
    audit(&|| Box::new(memory.connect(FENCER + 2))).unwrap_or_else(|text| {
        panic!("{replicas} copies, dead after {after}, its repairer after {repair:?}: {text}")
    });
    (lives, repaired)
}

fn at_every_verb(replicas: u8, step: usize) {
    for after in (0..).step_by(step) {
        if scenario(replicas, after, None).0 {
            assert!(after > 400, "the work is too short");
            return;
        }
    }
}

#[test]
fn clients_that_die_leave_the_tree_in_order() {
    at_every_verb(1, 7);
    at_every_verb(2, 11);
}

#[test]
fn repairers_that_die_are_replaced() {
    for (replicas, after) in [(1, 31), (1, 170), (2, 90), (2, 303)] {
        for repair in (0..).step_by(13) {
            if scenario(replicas, after, Some(repair)).1 {
                break;
            }
        }
    }
}

#[test]
#[ignore = "slow: every verb"]
fn clients_that_die_after_any_verb_leave_the_tree_in_order() {
    for replicas in 1..=3 {
        at_every_verb(replicas, 1);
    }
}

#[test]
#[ignore = "slow: many deaths of repairers"]
fn many_deaths_of_repairers() {
    for replicas in 1..=2 {
        for after in (3..400).step_by(61) {
            for repair in (0..).step_by(2) {
                if scenario(replicas, after, Some(repair)).1 {
                    break;
                }
            }
        }
    }
}
