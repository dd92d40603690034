//! Memory that anybody may have scribbled on: clients get errors, and neither panic nor hang.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::{HeapNodes, HeapVerbs};
use artesian_bus::{pass_on, BusError, GlobalAddr, NodeId, Verb, Verbs};

use super::{hostile_work, Random, TestPool};
use crate::check::{run, Options};
use crate::client::Client;
use crate::config::{meta, NodeLayout};
use crate::lifecycle;
use crate::store::Expiry::Never;
use crate::PoolConfig;

/// Batches and waits of one client after which it hangs.
const MOST_EVENTS: u64 = 3_000_000;
const NODES: u16 = 2;
const BYTES: u64 = 6 << 20;

fn config(replicas: u8) -> PoolConfig {
    PoolConfig {
        max_clients: 4,
        region_shift: 19,
        block_shift: 16,
        lease_ms: 50,
        ..PoolConfig::for_size(BYTES, NODES, replicas)
    }
}

/// Flips bytes of the pool now and then, and keeps a clock of its own, so that waits cost nothing.
struct Scribbler {
    verbs: HeapVerbs,
    random: Cell<u64>,
    /// One batch in so many is preceded by damage; 0 for none.
    every: u64,
    now: Cell<u64>,
    events: Cell<u64>,
    bytes: u64,
}

impl Scribbler {
    fn next(&self, limit: u64) -> u64 {
        let mut random = Random(self.random.get());
        let value = random.below(limit);
        self.random.set(random.0);
        value
    }

    fn event(&self, ns: u64) {
        self.events.set(self.events.get() + 1);
        self.now.set(self.now.get() + ns);
        assert!(self.events.get() < MOST_EVENTS, "hangs: no end after {MOST_EVENTS} events");
    }

    /// A place where something lies. Tables are small beside regions; each part gets its share.
    fn target(&self) -> GlobalAddr {
        let layout = NodeLayout::of(&config(1));
        let (start, end) = match self.next(64) {
            0 => (0, 64),
            1 => (layout.view, layout.view + 256),
            2..8 => (layout.meta, layout.meta + 128),
            8..16 => (layout.meta + meta::CLIENT_TABLE, layout.meta + meta::CLIENT_TABLE + 512),
            16..24 => (layout.clients, layout.locks),
            24..28 => (layout.locks, layout.regions),
            28..34 => (layout.regions, layout.regions + 64),
            _ => (layout.regions, self.bytes),
        };
        let mut at = GlobalAddr::new(NodeId(0), 0);
        for _ in 0..50 {
            let offset = (start + self.next(end - start)) & !7;
            at = GlobalAddr::new(NodeId(self.next(u64::from(NODES)) as u16), offset);
            if self.word(at) != 0 {
                break;
            }
        }
        at
    }

    fn word(&self, at: GlobalAddr) -> u64 {
        let mut bytes = [0; 8];
        let _ = self.verbs.batch(&mut [Verb::read(at, &mut bytes)]);
        u64::from_le_bytes(bytes)
    }

    /// Damages a word somewhere.
    fn scribble(&self) {
        let at = self.target();
        let word = self.word(at);
        let shift = self.next(8) * 8;
        let word = match self.next(8) {
            0 => 0,
            1 => u64::MAX,
            2 => self.word(self.target()),
            3 => word.wrapping_add(1 << shift),
            4 => word & !(0xff << shift) | self.next(256) << shift,
            5 => self.next(u64::MAX),
            _ => word ^ 1 << self.next(64),
        };
        let _ = self.verbs.batch(&mut [Verb::write(at, &word.to_le_bytes())]);
    }
}

impl Verbs for Scribbler {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        self.event(1_000);
        if self.every != 0 && self.next(self.every) == 0 {
            self.scribble();
        }
        self.verbs.batch(verbs)
    }

    fn wait_mailbox(&self, _addr: GlobalAddr, _seen: u64, timeout_ns: u64) {
        self.event(timeout_ns);
    }

    fn wake_mailbox(&self, _addr: GlobalAddr) {}

    fn now_ns(&self) -> u64 {
        self.now.get()
    }

    fn relax(&self, ns: u64) {
        self.event(ns);
    }

    fn map(&self, _addr: GlobalAddr, _len: usize) -> Option<*const u8> {
        None
    }

    pass_on!(verbs: memory);
}

/// What clients do: so many operations.
type Work = fn(&mut Client, &mut Random, u32);

/// A pool with keys, as bytes of its nodes.
fn template(replicas: u8, fill: Work) -> Vec<Vec<u8>> {
    let pool = TestPool::with(config(replicas));
    let mut client = pool.client(1);
    fill(&mut client, &mut Random(11), 900);
    // Others stay, as their records and blocks do; one in the middle of something.
    fill(&mut pool.client(2), &mut Random(12), 200);
    let plan = FaultPlan { after: 3_001, torn_words: 2, death: Death::Connection };
    let dying = Box::new(Faulty::new(pool.memory.connect(3), plan));
    fill(&mut Client::with_cache(dying, 1 << 16).unwrap(), &mut Random(13), 2_000);
    let image = |node| {
        let mut bytes = vec![0; BYTES as usize];
        let at = GlobalAddr::new(NodeId(node), 0);
        pool.memory.connect(9).batch(&mut [Verb::read(at, &mut bytes)]).unwrap();
        bytes
    };
    (0..NODES).map(image).collect()
}

struct Attack {
    memory: Arc<HeapNodes>,
    seed: u64,
    clients: u32,
}

impl Attack {
    fn connect(&mut self, every: u64) -> Scribbler {
        self.clients += 1;
        Scribbler {
            verbs: self.memory.connect(10 + self.clients),
            random: Cell::new(self.seed * 31 + u64::from(self.clients)),
            every,
            now: Cell::new(u64::from(self.clients) << 40),
            events: Cell::new(0),
            bytes: BYTES,
        }
    }

    fn join(&mut self, every: u64) -> Option<Client> {
        Client::with_cache(Box::new(self.connect(every)), 1 << 14).ok()
    }
}

/// Operations of all kinds; errors are what they may be.
fn operate(client: &mut Client, random: &mut Random, steps: u32) {
    let mut into = Vec::new();
    for step in 0..steps {
        let key = random.below(400).to_le_bytes();
        let value = vec![step as u8; random.below(3_000) as usize];
        let outcome = match random.below(6) {
            0 => client.delete(0, &key).map(drop),
            1 => client.insert(0, &key, &value, Never).map(drop),
            2 | 3 => client.put(0, &key, &value, Never),
            4 => client.ttl_ms(0, &key).map(drop),
            _ => client.get(0, &key, &mut into).map(drop),
        };
        if matches!(outcome, Err(crate::PoolError::Bus(BusError::Fenced))) {
            return;
        }
        let _ = client.tick();
    }
}

fn attack(images: &[Vec<u8>], seed: u64, operate: Work) {
    let memory = HeapNodes::new(NODES, BYTES as usize);
    for (node, image) in images.iter().enumerate() {
        let at = GlobalAddr::new(NodeId(node as u16), 0);
        memory.connect(8).batch(&mut [Verb::write(at, image)]).unwrap();
    }
    let mut attack = Attack { memory, seed, clients: 0 };
    let mut random = Random(seed + 1);
    let vandal = attack.connect(0);
    for _ in 0..1 << random.below(9) {
        vandal.scribble();
    }
    crate::check::nodes(&vandal);
    let every = [0, 3, 10, 100][random.below(4) as usize];
    let Some(mut client) = attack.join(every) else {
        return;
    };
    operate(&mut client, &mut random, 60);
    for repair in [false, true] {
        let _ = run(&mut client, Options { repair }, &mut |_| {});
        operate(&mut client, &mut random, 20);
        if let Some(mut other) = attack.join(every) {
            operate(&mut other, &mut random, 20);
            let _ = run(&mut other, Options { repair }, &mut |_| {});
            let _ = other.leave();
        }
    }
    let _ = client.leave();
}

/// Many pools that were filled by the one work and are then used by the other.
fn attacks(seeds: std::ops::Range<u64>, fill: Work, operate: Work) {
    let images = [template(1, fill), template(2, fill)];
    let seeds = match std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let panics = |seed: &u64| {
        let image = &images[*seed as usize % 2];
        catch_unwind(AssertUnwindSafe(|| attack(image, *seed, operate))).is_err()
    };
    let bad: Vec<u64> = seeds.filter(panics).collect();
    assert!(bad.is_empty(), "panics with the seeds {bad:?}; HOSTILE_SEED=... runs one");
}

fn put(client: &mut Client, random: &mut Random, steps: u32) {
    for step in 0..steps {
        let key = random.below(300).to_le_bytes();
        let value = vec![step as u8; random.below(500) as usize];
        let outcome = match random.below(4) {
            0 => client.delete(0, &key).map(drop),
            _ => client.put(0, &key, &value, Never),
        };
        if outcome.is_err() {
            return;
        }
    }
}

#[test]
fn scribbled_memory_gives_errors_alone() {
    attacks(1..40, put, operate);
    assert!(lifecycle::join(Box::new(HeapNodes::new(1, 1 << 20).connect(1))).is_err());
}

#[test]
fn scribbled_memory_of_all_kinds_gives_errors_alone() {
    attacks(1..40, hostile_work::operate, hostile_work::operate);
}

#[test]
#[ignore = "slow: thousands of damaged pools"]
fn much_scribbled_memory_gives_errors_alone() {
    attacks(1_000..3_000, put, operate);
}

#[test]
#[ignore = "slow: thousands of damaged pools"]
fn much_scribbled_memory_of_all_kinds_gives_errors_alone() {
    attacks(3_000..5_000, hostile_work::operate, hostile_work::operate);
}
