//! A pool, a client that stays well, and clients that die.

use std::sync::Arc;
use std::time::Duration;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, Verbs};
use artesian_pool::client::Client;
use artesian_pool::config::record;
use artesian_pool::lifecycle::format;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::{ClientId, PoolConfig, Result};

use crate::audit::audit;

const BYTES: u64 = 24 << 20;
/// Ticks within which a dead client is recovered.
const TICKS: u32 = 4_000;

/// Values of a case's keys.
pub type Values = Vec<Option<Vec<u8>>>;

/// An operation on `key`, or `key 0`, `key 1`, ... if it is of several.
pub struct Case {
    pub name: &'static str,
    /// What the dying client does.
    pub work: fn(&mut Client, u16) -> Result<()>,
    /// Makes the values of before.
    pub before: fn(&mut Client, u16) -> Result<()>,
    pub old: fn() -> Values,
    pub new: fn() -> Values,
}

struct Stage {
    memory: Arc<HeapNodes>,
    healthy: Client,
    namespace: u16,
    next_pid: u32,
}

impl Stage {
    fn new(replicas: u8) -> Stage {
        let nodes = u16::from(replicas);
        let memory = HeapNodes::new(nodes, BYTES as usize);
        let config = PoolConfig { lease_ms: 80, ..PoolConfig::for_size(BYTES, nodes, replicas) };
        format(&memory.connect(900), &config).unwrap();
        let mut healthy = Client::with_cache(Box::new(memory.connect(1)), 1 << 16).unwrap();
        let namespace = healthy.namespace("space", Kind::Store, Limits::default()).unwrap();
        Stage { memory, healthy, namespace, next_pid: 1_000 }
    }

    /// Joins with a connection that dies after `after` verbs and does the case's work; then is
    /// declared dead and recovered. Whether the work was acknowledged; `None` if joining was not.
    fn die(&mut self, case: &Case, after: u64, torn_words: usize) -> Option<bool> {
        self.next_pid += 1;
        let plan = FaultPlan { after, torn_words, death: Death::Connection };
        let verbs = Faulty::new(self.memory.connect(self.next_pid), plan);
        let joined = Client::with_cache(Box::new(verbs), 1 << 16);
        let count = (case.old)().len();
        let done = joined.ok().map(|mut client| {
            let mut into = Vec::new();
            // Half of them know where the keys lie.
            let mut names = (0..count).map(|number| name(number, count));
            let knows = after.is_multiple_of(2)
                || names.all(|name| client.get(self.namespace, &name, &mut into).is_ok());
            knows && (case.work)(&mut client, self.namespace).is_ok()
        });
        let identity = Identity { pid: self.next_pid, started: 0 };
        self.memory.connect(900).fence(identity);
        self.recover();
        done
    }

    /// Verbs of joining.
    fn join_verbs(&mut self) -> u64 {
        let client = Client::with_cache(Box::new(self.memory.connect(999)), 1 << 16).unwrap();
        let verbs = client.fabric().verbs().tally().verbs();
        client.leave().unwrap();
        verbs
    }

    /// Ticks until nobody but the healthy client is in the pool.
    fn recover(&mut self) {
        for _ in 0..TICKS {
            self.healthy.tick().unwrap();
            let fabric = self.healthy.fabric();
            let others =
                (1..fabric.config().max_clients).filter(|&index| index != fabric.me().index);
            let mut states = others.map(|index| {
                let at = fabric.client_record(index, record::STATE)[0];
                record::split(fabric.read_word(at).unwrap())
            });
            if states
                .all(|(state, client): (u8, ClientId)| state == record::FREE || client.is_nobody())
            {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("a dead client is not recovered");
    }

    fn values(&mut self, count: usize) -> Values {
        let value = |number| {
            let mut found = Vec::new();
            let there = self.healthy.get(self.namespace, &name(number, count), &mut found);
            there.unwrap().then_some(found)
        };
        (0..count).map(value).collect()
    }
}

/// The key of that number in a case of `count` keys.
fn name(number: usize, count: usize) -> Vec<u8> {
    match count {
        1 => b"key".to_vec(),
        _ => format!("key {number}").into_bytes(),
    }
}

/// Lets clients die after each verb of the case's work, and does the accounts.
pub fn at_every_verb(case: &Case) {
    for replicas in [1, 2] {
        let mut stage = Stage::new(replicas);
        let (old, new) = ((case.old)(), (case.new)());
        let mut deaths = 0;
        let joins = stage.join_verbs();
        for after in joins.. {
            (case.before)(&mut stage.healthy, stage.namespace).unwrap();
            let done = stage.die(case, after, after as usize % 3);
            let values = stage.values(old.len());
            for (number, value) in values.iter().enumerate() {
                let is_new = *value == new[number];
                let known = is_new || done != Some(true) && *value == old[number];
                assert!(
                    known,
                    "{}, {replicas} copies, death after {after} verbs: {done:?}",
                    case.name
                );
            }
            deaths += u32::from(done == Some(false));
            if done == Some(true) {
                break;
            }
        }
        assert!(deaths > 3, "{}: {deaths} deaths", case.name);
        let counted = stage.healthy.recount(stage.namespace).unwrap();
        assert_eq!(stage.healthy.usage(stage.namespace).unwrap(), counted);
        stage.healthy.clear(stage.namespace).unwrap();
        assert_eq!(stage.healthy.usage(stage.namespace).unwrap(), 0, "{}", case.name);
        stage.healthy.leave().unwrap();
        let memory = stage.memory;
        let audited = audit(&|| Box::new(memory.connect(2)) as Box<dyn Verbs>);
        if let Err(text) = audited {
            panic!("{}, {replicas} copies: {text}", case.name);
        }
    }
}
