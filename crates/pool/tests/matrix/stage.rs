//! One case: a pool, those who stay well, the client that something happens to, and what must be so
//! afterwards.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artesian_bus::shm::ShmNodes;
use artesian_bus::sim::Rng;
use artesian_bus::{NodeId, Verbs};
use artesian_pool::check::{self, Options, Report as Findings, What};
use artesian_pool::client::Client;
use artesian_pool::view::NodeState;
use artesian_pool::{lifecycle, observe, PoolConfig};

use super::client::{open, INDEX_CACHE};
use super::deed::{finish_resize, Deed};
use super::history::{Actor, History};
use super::model::Keys;
use super::process::{Process, Report, Role};
use super::spec::{Spec, Trouble};
use crate::audit::{audit, audit_after_losses};

type Outcome<T> = Result<T, String>;

const NODE_BYTES: u64 = 8 << 20;
/// How long a client may take, and recovery: a lock that is stuck is one that lasts longer.
const PATIENCE: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;
/// Names: that of the process is 2.
const PROCESS: u8 = 2;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What came of a case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Something has happened to the first client before it had done its work.
    pub first_gone_off: bool,
    /// And to the last one.
    pub gone_off: bool,
    pub operations: usize,
}

/// A pool with those who stay well.
pub struct Stage {
    nodes: Arc<ShmNodes>,
    spec: Spec,
    epoch: u64,
    rng: Rng,
    actors: Vec<Actor>,
    names: u8,
    values: u64,
    history: History,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.actors.clear();
        let _ = self.nodes.remove();
    }
}

fn config(spec: &Spec) -> PoolConfig {
    PoolConfig {
        pool_id: 1,
        region_shift: 19,
        block_shift: 16,
        max_clients: 10,
        lease_ms: spec.lease_ms(),
        ..PoolConfig::for_size(NODE_BYTES, spec.num_nodes(), spec.replicas)
    }
}

impl Stage {
    pub fn new(spec: &Spec) -> Outcome<Stage> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("matrix-{}-{number}", std::process::id());
        let nodes = ShmNodes::open(&name).map_err(text)?;
        let epoch = nodes.connect().now_ns();
        let (rng, history) = (spec.rng(), History::default());
        let (actors, names, values) = (Vec::new(), 2, 10_000);
        let mut stage = Stage { nodes, spec: *spec, epoch, rng, actors, names, values, history };
        let (count, config) = (spec.num_nodes(), config(spec));
        for node in 0..count + u16::from(spec.case.spare) {
            stage.nodes.create_node(NodeId(node), NODE_BYTES).map_err(text)?;
        }
        lifecycle::format(&stage.nodes.connect(), &config).map_err(text)?;
        if spec.case.spare {
            let spare = NodeId(count);
            lifecycle::format_node(&stage.nodes.connect(), &config, spare).map_err(text)?;
        }
        if !spec.case.first {
            stage.hire()?;
            for deed in (spec.case.before)() {
                stage.record(0, &deed)?;
            }
        }
        Ok(stage)
    }

    fn connect(&self) -> Box<dyn Verbs> {
        Box::new(self.nodes.connect())
    }

    /// Somebody who stays well joins.
    fn hire(&mut self) -> Outcome<()> {
        let mut client = Client::with_cache(self.connect(), INDEX_CACHE).map_err(text)?;
        let space = open(&mut client, self.spec.case).map_err(text)?;
        self.names += 1;
        self.actors.push(Actor::new(client, space, self.names, self.epoch));
        Ok(())
    }

    fn record(&mut self, actor: usize, deed: &Deed) -> Outcome<()> {
        self.actors[actor].record(deed, &mut self.history)
    }

    fn act(&mut self, actor: usize) -> Outcome<()> {
        self.values += 1;
        let deed = self.spec.case.choose(&mut self.rng, self.values);
        self.record(actor, &deed)
    }

    /// Everything; whether what was to happen has happened.
    pub fn run(mut self) -> Outcome<Done> {
        let spec = self.spec;
        let first_gone_off = self.employ(Role::Worker)?;
        let mut gone_off = first_gone_off;
        if spec.trouble == Trouble::Repairer && gone_off {
            self.actors.drain(..).try_for_each(|actor| actor.client.leave()).map_err(text)?;
            gone_off = self.employ(Role::Repairer)?;
        }
        if self.actors.is_empty() {
            self.hire()?;
        }
        if spec.loses_node() {
            self.await_change()?;
        }
        if spec.case.spare {
            self.outlive()?;
            finish_resize(&mut self.actors[0].client).map_err(text)?;
        }
        self.hire()?;
        // Every other time what the dead left is met before they are recovered.
        if spec.after % 2 == 1 {
            self.outlive()?;
        }
        self.work(12)?;
        self.outlive()?;
        self.work(6)?;
        for key in 0..spec.case.keys {
            self.record(0, &Deed::Get(key))?;
        }
        if spec.case.name == "namespace" {
            self.record(1, &(spec.case.work)()[0])?;
        }
        let keys = Keys { forgetful: spec.case.forgetful };
        self.history.check(keys, spec.case.is_whole())?;
        self.actors.drain(..).try_for_each(|actor| actor.client.leave()).map_err(text)?;
        self.check(first_gone_off)?;
        Ok(Done { first_gone_off, gone_off, operations: self.history.len() })
    }

    fn work(&mut self, count: usize) -> Outcome<()> {
        (0..count).try_for_each(|number| self.act(number % self.actors.len()))
    }

    /// Starts a client and waits for its end, at work or not; whether it has not come to that of
    /// its work before something happened.
    fn employ(&mut self, role: Role) -> Outcome<bool> {
        let spec = self.spec;
        let mut process = Process::start(role, &self.nodes, self.epoch, &spec);
        let started = Instant::now();
        let mut stopped: Option<Instant> = None;
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("the {role:?} comes to no end"));
            }
            self.live_on()?;
            if spec.trouble != Trouble::Stop {
                continue;
            }
            let since = stopped.or_else(|| process.is_stopped().then(Instant::now));
            let pause =
                if spec.more == 0 { PATIENCE / 3 } else { Duration::from_millis(spec.more) };
            if since.is_some_and(|since| since.elapsed() > pause) {
                process.go_on();
            }
            stopped = since;
        };
        let report = process.report();
        self.learn(role, &report);
        match (report.done, status.signal()) {
            (_, _) if report.error.is_some() => {
                Err(format!("the {role:?}: {}", report.error.unwrap_or_default()))
            }
            (Some(gone_off), _) if status.success() => Ok(gone_off),
            (None, Some(SIGKILL)) => Ok(true),
            _ => Err(format!("the {role:?} ended by {status}: {}", report.complaints)),
        }
    }

    /// Adds what a process has done to the history.
    fn learn(&mut self, role: Role, report: &Report) {
        if role == Role::Worker {
            for (deed, (called, end)) in (self.spec.case.work)().iter().zip(&report.deeds) {
                let end = end.as_ref().map(|(returned, outcome)| (*returned, outcome));
                self.history.add(PROCESS, deed, *called, end);
            }
        }
    }

    /// What somebody who is well does while the process is at work.
    fn live_on(&mut self) -> Outcome<()> {
        if !self.actors.is_empty() {
            // Who is to become the master must be the first to look around.
            let is_master_to_be = self.spec.trouble == Trouble::Master;
            if self.spec.busy || is_master_to_be {
                self.act(0)?;
            }
            if !is_master_to_be {
                self.actors[0].client.tick().map_err(text)?;
            }
        }
        let us = if self.spec.trouble == Trouble::Stop { 5_000 } else { 200 };
        std::thread::sleep(Duration::from_micros(us));
        Ok(())
    }

    /// Works until the node that is lost is out of the view: two clients of one thread could
    /// not see to it together.
    fn await_change(&mut self) -> Outcome<()> {
        let (started, lost) = (Instant::now(), self.spec.victim());
        let is_there = |nodes: Vec<(NodeId, u64)>| nodes.iter().any(|(node, _)| *node == lost);
        let is_out =
            |actor: &Actor| actor.client.fabric().view().nodes[lost.0 as usize] == NodeState::Dead;
        while !is_there(self.connect().nodes()) && !is_out(&self.actors[0]) {
            if started.elapsed() > PATIENCE {
                return Err(format!("{lost:?} stays in the view"));
            }
            self.act(0)?;
            self.actors[0].client.tick().map_err(text)?;
        }
        Ok(())
    }

    /// Looks around until nobody else is in the pool.
    fn outlive(&mut self) -> Outcome<()> {
        let started = Instant::now();
        loop {
            for actor in &mut self.actors {
                actor.client.tick().map_err(text)?;
            }
            let own: Vec<_> = self.actors.iter().map(|actor| actor.client.fabric().me()).collect();
            let mut present = observe::clients(self.connect()).map_err(text)?;
            present.retain(|one| !own.contains(&one.client));
            if present.is_empty() {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("not recovered: {present:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Everybody has left: nothing is wrong, nothing is lost.
    fn check(&self, died: bool) -> Outcome<()> {
        let found = self.findings(false)?;
        // A dead client's untold changes of usage are found by counting.
        let known = |what| match what {
            What::Wreck => true,
            What::Usage => died,
            What::SpareNode => self.spec.loses_node() || self.spec.case.spare,
            What::FewCopies => self.spec.loses_node(),
            // What an operation had replaced in a slot that lost its first copy, nobody knows.
            What::Leak => {
                self.spec.trouble == Trouble::Both || self.spec.trouble == Trouble::Master
            }
            _ => false,
        };
        let wrong = |found: &Findings, known: &dyn Fn(What) -> bool| {
            let list = found.findings.iter().filter(|finding| !known(finding.what));
            let list: Vec<String> = list.map(ToString::to_string).collect();
            if found.is_exact && list.is_empty() {
                Ok(())
            } else {
                Err(format!("the check (exact: {}) finds {list:#?}", found.is_exact))
            }
        };
        wrong(&found, &known)?;
        let connect = || self.connect();
        match self.spec.loses_node() {
            true => audit_after_losses(&connect)?,
            false => audit(&connect)?,
        }
        let left = |what| matches!(what, What::FewCopies | What::SpareNode) && known(what);
        self.findings(true)?;
        wrong(&self.findings(false)?, &left)
    }

    fn findings(&self, repair: bool) -> Outcome<Findings> {
        let mut client = Client::with_cache(self.connect(), 0).map_err(text)?;
        let found = check::run(&mut client, Options { repair }, &mut |_| {}).map_err(text)?;
        client.leave().map_err(text)?;
        Ok(found)
    }
}
