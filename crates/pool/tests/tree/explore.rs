//! Exploration on the simulator: clients work on few keys while some of them die; afterwards every
//! key must have behaved as a register, scans included.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;

use artesian_bus::sim::{report, seeds, Config, Fault, Pid, Rng, World};
use artesian_bus::{BusError, NodeId, Verbs};
use artesian_linear::{Call, MapCall, MapReply, Reply};
use artesian_pool::client::Client;
use artesian_pool::config::record;
use artesian_pool::namespace::{self, Kind, Limits};
use artesian_pool::{lifecycle, PoolConfig, PoolError};

use crate::audit::audit;
use crate::history::History;

const NODE_BYTES: u64 = 4 << 20;
const TREE: u16 = 1;
/// Events after which a run is stuck.
const MOST_STEPS: u64 = 2_000_000;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing.
    Calm,
    /// Clients are killed, some within a verb.
    Deaths,
    /// A node is lost, and perhaps a client is killed.
    Loss,
}

/// Why a client stopped.
enum End {
    /// It was declared dead.
    Fenced,
    /// Something that must not happen.
    Problem(String),
}

impl From<PoolError> for End {
    fn from(error: PoolError) -> End {
        match error {
            PoolError::Bus(BusError::Fenced) => End::Fenced,
            error => End::Problem(error.to_string()),
        }
    }
}

/// What all clients of a run share.
struct Shared {
    keys: u64,
    /// Bytes of a key: long ones make small nodes.
    key_bytes: usize,
    /// Longest padding of a value.
    padding: u64,
    history: History,
    problems: RefCell<Vec<String>>,
}

impl Shared {
    fn key(&self, number: u64) -> Vec<u8> {
        let mut key = number.to_be_bytes()[6..].to_vec();
        key.resize(self.key_bytes, number as u8);
        key
    }

    fn watch(&self, name: u32, body: impl FnOnce() -> Result<(), End>) {
        if let Err(End::Problem(text)) = body() {
            self.problems.borrow_mut().push(format!("client {name}: {text}"));
        }
    }
}

struct Worker {
    client: Client,
    shared: Rc<Shared>,
    rng: Rng,
    name: u32,
    ticked: u64,
}

impl Worker {
    fn join(
        verbs: Box<dyn Verbs>,
        shared: &Rc<Shared>,
        rng: Rng,
        name: u32,
    ) -> Result<Worker, End> {
        let client = Client::with_cache(verbs, 0)?;
        Ok(Worker { client, shared: Rc::clone(shared), rng, name, ticked: 0 })
    }

    fn lease_ns(&self) -> u64 {
        u64::from(self.client.fabric().config().lease_ms) * 1_000_000
    }

    fn tick_if_due(&mut self) -> Result<(), End> {
        let now = self.client.fabric().verbs().now_ns();
        if now - self.ticked > self.lease_ns() / 16 {
            self.ticked = now;
            self.client.tick()?;
        }
        Ok(())
    }

    /// A number of operations with ticks in between; keys come and go in waves.
    fn work(&mut self, operations: u32) -> Result<(), End> {
        for step in 0..operations {
            self.tick_if_due()?;
            let key = self.rng.below(self.shared.keys);
            let value = self.shared.history.fresh();
            let grows = (step / 40).is_multiple_of(2);
            let call = match self.rng.below(12) {
                0..=2 => MapCall::One(key, Call::Get),
                3 => MapCall::Scan(key, 1 + self.rng.below(12) as usize),
                4..=9 if grows => MapCall::One(key, Call::Put(value)),
                4 | 5 => MapCall::One(key, Call::Put(value)),
                6 | 10 => MapCall::One(key, Call::Insert(value)),
                _ => MapCall::One(key, Call::Delete),
            };
            self.call(call)?;
        }
        Ok(())
    }

    /// One operation with its record.
    fn call(&mut self, call: MapCall) -> Result<(), End> {
        let shared = Rc::clone(&self.shared);
        let at = shared.history.calls(self.name, call.clone());
        let reply = match call {
            MapCall::One(key, call) => MapReply::One(self.one(key, call)?),
            MapCall::Scan(from, limit) => MapReply::Pairs(self.scan(from, limit)?),
        };
        shared.history.returns(at, reply);
        Ok(())
    }

    fn one(&mut self, number: u64, call: Call) -> Result<Reply, End> {
        let key = self.shared.key(number);
        let padding = self.rng.below(self.shared.padding + 1) as usize;
        Ok(match call {
            Call::Get => {
                let found = self.client.tree_get_with(TREE, &key, read)?;
                Reply::Found(found.transpose().map_err(End::Problem)?)
            }
            Call::Put(value) => {
                self.client.tree_put(TREE, &key, &write(value, padding))?;
                Reply::Done
            }
            Call::Insert(value) => {
                Reply::Applied(self.client.tree_insert(TREE, &key, &write(value, padding))?)
            }
            _ => Reply::Applied(self.client.tree_delete(TREE, &key)?),
        })
    }

    fn scan(&mut self, from: u64, limit: usize) -> Result<Vec<(u64, u64)>, End> {
        let (from, mut pairs, mut problem) = (self.shared.key(from), Vec::new(), None);
        let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
        self.client.tree_scan(TREE, bounds.0, bounds.1, limit, |key, value| {
            let number = u64::from(u16::from_be_bytes([key[0], key[1]]));
            match read(value) {
                Ok(value) => pairs.push((number, value)),
                Err(text) => problem = Some(text),
            }
            true
        })?;
        if !pairs.is_sorted_by(|one, other| one.0 < other.0) {
            problem = Some(format!("a scan out of order: {pairs:?}"));
        }
        problem.map_or(Ok(pairs), |text| Err(End::Problem(text)))
    }

    /// Looks after the others until nobody else is in the pool.
    fn outlive(&mut self) -> Result<(), End> {
        let lease = self.lease_ns();
        let started = self.client.fabric().verbs().now_ns();
        while self.client.fabric().verbs().now_ns() - started < 40 * lease {
            self.client.tick()?;
            if self.is_alone()? {
                return Ok(());
            }
            self.client.fabric().verbs().relax(lease / 10);
        }
        Err(End::Problem("the dead are not recovered".into()))
    }

    fn is_alone(&self) -> Result<bool, End> {
        let fabric = self.client.fabric();
        for index in 1..fabric.config().max_clients {
            let word = fabric.read_word(fabric.client_record(index, record::STATE)[0])?;
            let (state, client) = record::split(word);
            if state != record::FREE && client != fabric.me() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The bytes of value `value` with so much padding.
fn write(value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + padding, value as u8);
    bytes
}

/// The value in bytes that [`write`] made.
fn read(bytes: &[u8]) -> Result<u64, String> {
    let Some((head, padding)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("a value of {} bytes", bytes.len()));
    };
    let value = u64::from_le_bytes(*head);
    if padding.iter().all(|&byte| byte == value as u8) {
        Ok(value)
    } else {
        Err(format!("value {value} with wrong padding"))
    }
}

/// A world with its clients.
struct Stage {
    world: World,
    rng: Rng,
    shared: Rc<Shared>,
    operations: u32,
    nodes: u16,
    workers: Vec<Pid>,
}

impl Stage {
    fn new(seed: u64, operations: u32, trouble: Trouble) -> Stage {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let replicas = match trouble {
            Trouble::Loss => 2 + rng.below(2) as u8,
            _ => 1 + rng.below(3) as u8,
        };
        let nodes = u16::from(replicas) + rng.below(2) as u16;
        let config = Config::new(seed, nodes, NODE_BYTES as usize);
        let mut world = World::new(&Config { max_steps: MOST_STEPS, ..config });
        let maker = world.process();
        let pool = PoolConfig {
            pool_id: 1,
            node_bytes: NODE_BYTES,
            num_nodes: nodes,
            replicas,
            region_shift: 18,
            block_shift: 15,
            max_clients: 12,
            lease_ms: [4, 10, 30][rng.below(3) as usize],
        };
        lifecycle::format(&world.verbs(maker), &pool).expect("a pool can be made");
        let shared = Rc::new(Shared {
            keys: [4, 30, 120][rng.below(3) as usize],
            key_bytes: [2, 120, 250][rng.below(3) as usize],
            padding: [0, 100, 400][rng.below(3) as usize],
            history: History::default(),
            problems: RefCell::default(),
        });
        let first = lifecycle::join(Box::new(world.verbs(maker))).expect("the first client");
        let made = namespace::create(&first, "tree", Kind::Tree, Limits::default());
        assert_eq!(made.expect("a namespace").id, TREE);
        lifecycle::leave(first).expect("the first client leaves");
        Stage { world, rng, shared, operations, nodes, workers: Vec::new() }
    }

    fn play(&mut self, trouble: Trouble) -> Result<(), String> {
        for name in 1..=3 {
            let operations = self.operations / 3;
            self.hire(name, move |worker| worker.work(operations));
        }
        let span = u64::from(self.operations) * 12;
        let deaths = match trouble {
            Trouble::Calm => 0,
            Trouble::Deaths => 1 + self.rng.below(3),
            Trouble::Loss => self.rng.below(2),
        };
        if trouble == Trouble::Loss {
            let node = NodeId(self.rng.below(u64::from(self.nodes)) as u16);
            // Whoever joins in that moment fails, and may try again: not what is tested here.
            let after = self.world.total_verbs() + 4_500 + self.rng.below(span);
            self.world.plan(Fault::LoseNode { node, after });
        }
        for _ in 0..deaths {
            let process = self.workers[self.rng.below(3) as usize];
            let span = [200, 1_500, span / 3][self.rng.below(3) as usize];
            let after = self.rng.below(span);
            self.world.plan(Fault::Kill { process, after, torn: self.rng.once_in(2) });
        }
        self.turn()?;
        self.world.calm();
        let keys = self.shared.keys;
        self.hire(100, move |worker| {
            worker.work(20)?;
            worker.outlive()?;
            worker.work(20)?;
            worker.call(MapCall::Scan(0, 1_000))?;
            (0..keys).try_for_each(|key| worker.call(MapCall::One(key, Call::Get)))
        });
        self.turn()?;
        self.shared.history.check()?;
        let world = &self.world;
        audit(&|| Box::new(world.verbs(Pid(1))))
    }

    /// A new client that works and then leaves.
    fn hire(&mut self, name: u32, work: impl FnOnce(&mut Worker) -> Result<(), End> + 'static) {
        let pid = self.world.process();
        let verbs = self.world.verbs(pid);
        let (shared, rng) = (Rc::clone(&self.shared), self.rng.fork());
        self.workers.push(pid);
        self.world.spawn(pid, move || {
            shared.watch(name, || {
                let mut worker = Worker::join(Box::new(verbs), &shared, rng, name)?;
                work(&mut worker)?;
                Ok(worker.client.leave()?)
            });
        });
    }

    /// Lets everything run to its end.
    fn turn(&mut self) -> Result<(), String> {
        self.world.try_run().map_err(|failure| failure.reason)?;
        match self.shared.problems.borrow().first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }
}

fn explore(range: std::ops::Range<u64>, operations: u32, trouble: Trouble) {
    let (mut done, mut verbs) = (0, 0);
    let count = seeds(range).into_iter().map(|seed| {
        let mut stage = Stage::new(seed, operations, trouble);
        if let Err(reason) = stage.play(trouble) {
            let shared = &stage.shared;
            let shape = (shared.keys, shared.key_bytes, shared.padding);
            panic!("{}", stage.world.fail(format!("{shape:?}: {reason}")));
        }
        done += stage.shared.history.len();
        verbs += stage.world.total_verbs();
    });
    report(count.count() as u64, done as u64);
    println!("{trouble:?}: {verbs} verbs");
}

#[test]
fn calm() {
    explore(0..25, 240, Trouble::Calm);
}

#[test]
fn deaths() {
    explore(0..50, 240, Trouble::Deaths);
}

#[test]
fn losses() {
    explore(0..25, 600, Trouble::Loss);
}

#[test]
#[ignore = "slow: many seeds"]
fn losses_for_long() {
    explore(1_000..1_500, 600, Trouble::Loss);
}

#[test]
#[ignore = "slow: many seeds"]
fn calm_for_long() {
    explore(1_000..1_400, 600, Trouble::Calm);
}

#[test]
#[ignore = "slow: many seeds"]
fn deaths_for_long() {
    explore(1_000..2_000, 360, Trouble::Deaths);
}
