//! What a seed decides, and the run of it.

use std::cell::RefCell;
use std::rc::Rc;

use artesian_bus::sim::{Config, Fault, Pid, Rng, World};
use artesian_bus::{NodeId, Verbs};
use artesian_pool::cache::CacheConfig;
use artesian_pool::{lifecycle, PoolConfig};

use super::keys::Keys;
use super::mover::{self, Mover};
use super::saboteur::{Moment, Saboteur};
use super::values::Values;
use super::worker::{Shared, Worker};
use crate::common::audit::{audit, audit_after_losses};
use crate::common::record::Record;

/// Bytes of a node: enough for all that waits for the end of grace periods.
fn node_bytes(values: Values) -> u64 {
    if values.are_large() {
        32 << 20
    } else {
        4 << 20
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    Calm,
    /// Clients are killed, some within a verb.
    Deaths,
    /// Clients are killed while they split a subtable.
    Splitters,
    /// Clients are stopped for longer than their leases, and wake up.
    Freezes,
    /// Clients are killed, and so are those who recover them.
    Repairers,
    /// A node is lost, of two copies or more.
    Nodes,
    /// A node is lost, and the master dies while it changes the view.
    Masters,
    /// Nodes are added and drained, and may be lost; those who do it die.
    Movers,
    /// All of these but the movers.
    Mixed,
}

impl Trouble {
    fn loses_nodes(self) -> bool {
        matches!(self, Trouble::Nodes | Trouble::Masters | Trouble::Mixed)
    }
}

/// A run before its seed has filled in the rest.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub trouble: Trouble,
    pub operations: u32,
    /// The keys are those of a cache.
    pub caches: bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub seeds: u64,
    pub operations: u64,
    pub verbs: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, more: Done) {
        self.seeds += more.seeds;
        self.operations += more.operations;
        self.verbs += more.verbs;
    }
}

fn pool(rng: &mut Rng, replicas: u8, nodes: u16, values: Values) -> PoolConfig {
    PoolConfig {
        pool_id: 1,
        node_bytes: node_bytes(values),
        num_nodes: nodes,
        replicas,
        region_shift: 18,
        // All that is not cut in pieces has to fit a block.
        block_shift: if values.are_large() { 15 } else { 14 },
        max_clients: 12,
        lease_ms: [10, 30, 100][rng.below(3) as usize],
    }
}

/// Keys and values; large ones, which lie in pieces, only of few keys.
fn contents(rng: &mut Rng, caches: bool) -> (Keys, Values) {
    let keys = match rng.below(4) {
        _ if caches => Keys::Few(1 + rng.below(40) as u32),
        0 => Keys::Few(1 + rng.below(3) as u32),
        1 => Keys::Few(4 + rng.below(20) as u32),
        _ => Keys::Crowd(20 + rng.below(80) as u32),
    };
    let lengths = if matches!(keys, Keys::Few(_)) { 4 } else { 3 };
    let padding = [0, 30, 300, 24_000][rng.below(lengths) as usize];
    (keys, Values { padding })
}

/// A world with its clients.
struct Stage {
    world: World,
    pool: PoolConfig,
    rng: Rng,
    shared: Rc<Shared>,
    plan: Plan,
    replicas: u8,
    workers: Vec<Pid>,
    /// Held by all strands of clients.
    presence: Rc<()>,
}

/// One seed; the text says what it found.
pub fn run(seed: u64, plan: Plan, trace: usize) -> Result<Done, String> {
    let mut stage = Stage::new(seed, plan, trace);
    let outcome = stage.play();
    outcome.map_err(|reason| {
        let shared = &stage.shared;
        let shape = (stage.replicas, shared.keys, shared.cache_bytes, shared.values);
        stage.world.fail(format!("{:?}, {shape:?}: {reason}", plan.trouble)).to_string()
    })
}

impl Stage {
    fn new(seed: u64, plan: Plan, trace: usize) -> Stage {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let fewest = if plan.trouble.loses_nodes() { 2 } else { 1 };
        let replicas = fewest + rng.below(4 - u64::from(fewest)) as u8;
        let nodes = u16::from(replicas) + rng.below(2) as u16;
        let spare = u16::from(plan.trouble == Trouble::Movers);
        let (keys, values) = contents(&mut rng, plan.caches);
        let config = Config::new(seed, nodes + spare, node_bytes(values) as usize);
        let config = Config { trace, max_steps: 2_000_000, ..config };
        let mut world = World::new(&config);
        let maker = world.process();
        let pool = pool(&mut rng, replicas, nodes, values);
        lifecycle::format(&world.verbs(maker), &pool).expect("a pool can be made");
        let objects = 1 + rng.below(12);
        let cache = plan.caches.then(|| CacheConfig::of_objects(objects));
        let shared = Rc::new(Shared {
            keys,
            cache,
            cache_bytes: if rng.once_in(3) { 0 } else { 1 << 14 },
            values,
            sorts: rng.below(6) as u32,
            record: Record::default(),
            problems: RefCell::default(),
        });
        let (workers, presence) = (Vec::new(), Rc::new(()));
        Stage { world, pool, rng, shared, plan, replicas, workers, presence }
    }

    fn play(&mut self) -> Result<Done, String> {
        let clients = 2 + self.rng.below(3) as u32;
        for name in 1..=clients {
            self.hire(name, self.plan.operations / clients, 0);
        }
        if self.rng.once_in(3) {
            let late = 1 + self.rng.below(3_000_000);
            self.hire(clients + 1, self.plan.operations / 8, late);
        }
        self.plan_faults();
        self.turn()?;
        self.world.calm();
        self.heal()?;
        self.shared.check()?;
        let (world, auditor) = (&self.world, Pid(1));
        let faults = world.faults();
        let deaths = faults.kills + faults.torn_kills + faults.fences;
        let connect = || -> Box<dyn Verbs> { Box::new(world.verbs(auditor)) };
        if faults.nodes_lost > 0 && deaths > 0 {
            audit_after_losses(&connect)?;
        } else {
            audit(&connect)?;
        }
        let operations = self.shared.record.len() as u64;
        Ok(Done { seeds: 1, operations, verbs: self.world.total_verbs() })
    }

    /// Lets everything run to its end.
    fn turn(&mut self) -> Result<(), String> {
        self.world.try_run().map_err(|failure| failure.reason)?;
        match self.shared.problems.borrow().first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    /// A new client that works and then leaves.
    fn hire(&mut self, name: u32, operations: u32, late_ns: u64) {
        let pid = self.world.process();
        let verbs = self.world.verbs(pid);
        let (shared, rng) = (Rc::clone(&self.shared), self.rng.fork());
        self.workers.push(pid);
        let presence = Rc::clone(&self.presence);
        self.world.spawn(pid, move || {
            let _presence = presence;
            shared.watch(name, || {
                if late_ns > 0 {
                    verbs.relax(late_ns);
                }
                let mut worker = Worker::join(Box::new(verbs), &shared, rng, name)?;
                worker.work(operations)?;
                Ok(worker.client.leave()?)
            });
        });
    }

    fn plan_faults(&mut self) {
        let trouble = self.plan.trouble;
        let mixed = trouble == Trouble::Mixed;
        let mut happens = |of: &[Trouble]| of.contains(&trouble) || mixed && self.rng.once_in(2);
        let deaths = happens(&[Trouble::Deaths, Trouble::Repairers]);
        let freezes = happens(&[Trouble::Freezes]);
        let nodes = happens(&[Trouble::Nodes, Trouble::Masters]);
        let moments = [
            (happens(&[Trouble::Repairers]), Moment::Recovery),
            (happens(&[Trouble::Masters]), Moment::Change),
            (happens(&[Trouble::Splitters]), Moment::Split),
        ];
        for _ in 0..if deaths { 1 + self.rng.below(self.workers.len() as u64) } else { 0 } {
            let process = self.somebody();
            self.kill_some_time(process);
        }
        for _ in 0..if freezes { 1 + self.rng.below(2) } else { 0 } {
            let (process, after) = (self.somebody(), self.some_time());
            let ns = self.rng.below(4_000_000 * u64::from(self.pool.lease_ms));
            self.world.plan(Fault::Freeze { process, after, ns });
        }
        if nodes {
            self.lose_nodes();
        }
        if trouble == Trouble::Movers {
            self.hire_mover();
        }
        for (_, moment) in moments.into_iter().filter(|moment| moment.0) {
            self.sabotage(moment);
        }
    }

    fn somebody(&mut self) -> Pid {
        self.workers[self.rng.below(self.workers.len() as u64) as usize]
    }

    /// Fewer nodes than there are copies.
    fn lose_nodes(&mut self) {
        let count = 1 + self.rng.below(u64::from(self.replicas) - 1);
        for _ in 0..count {
            let node = NodeId(self.rng.below(u64::from(self.pool.num_nodes)) as u16);
            let after = self.some_time() * self.workers.len() as u64;
            self.world.plan(Fault::LoseNode { node, after });
        }
    }

    /// One who adds a node and drains another, and may die on the way.
    fn hire_mover(&mut self) {
        let pid = self.world.process();
        let (verbs, rng, spare) =
            (self.world.verbs(pid), self.rng.fork(), NodeId(self.pool.num_nodes));
        let late_ns = self.rng.below(2_000_000);
        let mover = Mover { verbs, rng, spare, late_ns };
        let (shared, presence) = (Rc::clone(&self.shared), Rc::clone(&self.presence));
        self.world.spawn(pid, move || {
            let _presence = presence;
            shared.watch(50, || mover.work());
        });
        if self.rng.once_in(2) {
            let after = self.rng.below(4_000);
            self.world.plan(Fault::Kill { process: pid, after, torn: self.rng.once_in(2) });
        }
        if self.rng.once_in(3) {
            let process = self.somebody();
            self.kill_some_time(process);
        }
        if self.replicas > 1 && self.rng.once_in(3) {
            let node = NodeId(self.rng.below(u64::from(self.pool.num_nodes) + 1) as u16);
            let after = self.some_time() * self.workers.len() as u64;
            self.world.plan(Fault::LoseNode { node, after });
        }
    }

    fn sabotage(&mut self, moment: Moment) {
        let pid = self.world.process();
        let (verbs, rng) = (self.world.verbs(pid), self.rng.fork());
        let strikes = 1 + self.rng.below(2) as u32;
        let saboteur = Saboteur { verbs, config: self.pool, rng, moment, strikes };
        let presence = Rc::downgrade(&self.presence);
        self.world.spawn(pid, move || saboteur.watch(presence));
    }

    /// A number of verbs of one client.
    fn some_time(&mut self) -> u64 {
        let span = match self.rng.below(4) {
            0 => 150,
            1 => 1_000,
            _ => u64::from(self.plan.operations) * 4,
        };
        self.rng.below(span)
    }

    fn kill_some_time(&mut self, process: Pid) {
        let after = self.some_time();
        self.world.plan(Fault::Kill { process, after, torn: self.rng.once_in(2) });
    }

    /// A healthy client joins, recovers the dead, works and reads everything.
    fn heal(&mut self) -> Result<(), String> {
        let pid = self.world.process();
        let verbs = self.world.verbs(pid);
        let (shared, rng) = (Rc::clone(&self.shared), self.rng.fork());
        let moves = self.plan.trouble == Trouble::Movers;
        self.world.spawn(pid, move || {
            let name = 100;
            shared.watch(name, || {
                let mut worker = Worker::join(Box::new(verbs), &shared, rng, name)?;
                worker.work(20)?;
                worker.outlive()?;
                if moves {
                    mover::finish(&mut worker.client)?;
                }
                worker.work(20)?;
                for key in 0..shared.keys.count() {
                    worker.tick_if_due()?;
                    worker.call(key, artesian_linear::Call::Get)?;
                }
                Ok(worker.client.leave()?)
            });
        });
        self.turn()
    }
}
