//! What a seed decides, and the run of it.

use std::cell::RefCell;
use std::rc::Rc;

use artesian_bus::sim::{Config, Fault, Pid, Rng, World};
use artesian_pool::{lifecycle, PoolConfig};

use super::keys::Keys;
use super::worker::{Shared, Worker};
use crate::common::audit::audit;
use crate::common::record::Record;

const NODE_BYTES: u64 = 4 << 20;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    Calm,
    /// Clients are killed, some within a verb.
    Deaths,
}

/// A run before its seed has filled in the rest.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub trouble: Trouble,
    pub operations: u32,
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

fn pool(rng: &mut Rng, replicas: u8, nodes: u16) -> PoolConfig {
    PoolConfig {
        pool_id: 1,
        node_bytes: NODE_BYTES,
        num_nodes: nodes,
        replicas,
        region_shift: 18,
        block_shift: 14,
        max_clients: 12,
        lease_ms: [4, 10, 30][rng.below(3) as usize],
    }
}

/// A world with its clients.
struct Stage {
    world: World,
    rng: Rng,
    shared: Rc<Shared>,
    plan: Plan,
    replicas: u8,
    workers: Vec<Pid>,
}

/// One seed; the text says what it found.
pub fn run(seed: u64, plan: Plan, trace: usize) -> Result<Done, String> {
    let mut stage = Stage::new(seed, plan, trace);
    let outcome = stage.play();
    outcome.map_err(|reason| {
        let shape = (stage.replicas, stage.shared.keys, stage.shared.cache_bytes);
        stage.world.fail(format!("{:?}, {shape:?}: {reason}", plan.trouble)).to_string()
    })
}

impl Stage {
    fn new(seed: u64, plan: Plan, trace: usize) -> Stage {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let replicas = 1 + rng.below(3) as u8;
        let nodes = u16::from(replicas) + rng.below(2) as u16;
        let config = Config { trace, ..Config::new(seed, nodes, NODE_BYTES as usize) };
        let mut world = World::new(&config);
        let maker = world.process();
        let pool = pool(&mut rng, replicas, nodes);
        lifecycle::format(&world.verbs(maker), &pool).expect("a pool can be made");
        let keys = match rng.below(4) {
            0 => Keys::Few(1 + rng.below(3) as u32),
            1 => Keys::Few(4 + rng.below(20) as u32),
            _ => Keys::Crowd(20 + rng.below(80) as u32),
        };
        let shared = Rc::new(Shared {
            keys,
            cache_bytes: if rng.once_in(3) { 0 } else { 1 << 14 },
            padding: [0, 30, 300][rng.below(3) as usize],
            record: Record::default(),
            problems: RefCell::default(),
        });
        Stage { world, rng, shared, plan, replicas, workers: Vec::new() }
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
        self.shared.record.check()?;
        let (world, auditor) = (&self.world, Pid(1));
        audit(&|| Box::new(world.verbs(auditor)))?;
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
        self.world.spawn(pid, move || {
            shared.watch(name, || {
                use artesian_bus::Verbs;
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
        match self.plan.trouble {
            Trouble::Calm => {}
            Trouble::Deaths => {
                let deaths = 1 + self.rng.below(self.workers.len() as u64);
                for _ in 0..deaths {
                    let process = self.workers[self.rng.below(self.workers.len() as u64) as usize];
                    self.kill_some_time(process);
                }
            }
        }
    }

    fn kill_some_time(&mut self, process: Pid) {
        let span = match self.rng.below(4) {
            0 => 150,
            1 => 1_000,
            _ => u64::from(self.plan.operations) * 4,
        };
        let after = self.rng.below(span);
        self.world.plan(Fault::Kill { process, after, torn: self.rng.once_in(2) });
    }

    /// A healthy client joins, recovers the dead, works and reads everything.
    fn heal(&mut self) -> Result<(), String> {
        let pid = self.world.process();
        let verbs = self.world.verbs(pid);
        let (shared, rng) = (Rc::clone(&self.shared), self.rng.fork());
        self.world.spawn(pid, move || {
            let name = 100;
            shared.watch(name, || {
                let mut worker = Worker::join(Box::new(verbs), &shared, rng, name)?;
                worker.work(20)?;
                worker.outlive()?;
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
