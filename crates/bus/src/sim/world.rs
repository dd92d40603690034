//! The world: coroutines, and the loop that gives each its turn.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::fault::{Fault, FaultCounts, Pid};
use super::state::{Life, State, Turn};
use super::verbs::{Shared, SimVerbs};
use super::Config;
use crate::NodeId;

type Strand = Coroutine<(), (), (), DefaultStack>;

/// Bytes of a strand's stack; only touched pages cost memory.
const STACK_BYTES: usize = 256 << 10;

thread_local! {
    /// Stacks of ended strands.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Why a run failed, with what is needed to see it again.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub reason: String,
    seed: u64,
    trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}\nlast verbs:{}\nreplay: {}",
            self.seed,
            self.reason,
            self.trace,
            replay_command(self.seed)
        )
    }
}

/// The command that runs the current test again with `seed` alone.
fn replay_command(seed: u64) -> String {
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "artesian-pool".into());
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let binary = stem.as_deref().and_then(|stem| stem.rsplit_once('-')).map(|(name, _)| name);
    let target = match binary {
        Some(name) if name != package.replace('-', "_") => format!("--test {name}"),
        _ => "--lib".into(),
    };
    let features = if package == "artesian-bus" { "--features sim " } else { "" };
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("");
    format!(
        "SIM_SEED={seed} cargo test -p {package} {features}{target} {test} \
         -- --include-ignored --exact"
    )
}

/// The seeds of a test: `range`, or the one that the environment variable `SIM_SEED` names.
pub fn seeds(range: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => range.collect(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_string()
}

/// Memory nodes and processes on one thread, see [`crate::sim`].
pub struct World {
    shared: Arc<Shared>,
    strands: Vec<Option<Strand>>,
    seed: u64,
}

impl World {
    /// A world without processes; its memory is zero.
    pub fn new(config: &Config) -> World {
        let shared = Shared::new(State::new(config));
        World { shared, strands: Vec::new(), seed: config.seed }
    }

    /// A new process.
    pub fn process(&mut self) -> Pid {
        self.shared.state().add_process()
    }

    /// A connection of `process`. Outside of [`World::run`] its verbs act at once.
    pub fn verbs(&self, process: Pid) -> SimVerbs {
        SimVerbs::new(Arc::clone(&self.shared), process)
    }

    /// Gives `process` a strand that runs `body` from the next [`World::run`] on.
    pub fn spawn(&mut self, process: Pid, body: impl FnOnce() + 'static) {
        let strand = self.shared.state().add_strand(process);
        let shared = Arc::clone(&self.shared);
        let stack = STACKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            DefaultStack::new(STACK_BYTES).expect("no memory for a coroutine's stack")
        });
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            shared.enter(yielder);
            body();
        });
        debug_assert_eq!(strand, self.strands.len());
        self.strands.push(Some(coroutine));
    }

    /// Plans a fault.
    pub fn plan(&mut self, fault: Fault) {
        self.shared.state().plan(fault);
    }

    /// Drops the faults that have not struck.
    pub fn calm(&mut self) {
        let mut state = self.shared.state();
        state.faults.clear();
        state.renew_alarms();
    }

    /// Ends a process now.
    pub fn kill(&mut self, process: Pid) {
        self.shared.state().kill(process);
    }

    /// Loses a node now.
    pub fn lose_node(&mut self, node: NodeId) {
        self.shared.state().lose(node);
    }

    /// Adds an empty node.
    pub fn add_node(&mut self, bytes: usize) -> NodeId {
        self.shared.state().memory.add(bytes)
    }

    /// Lets everything run until all strands have ended; panics with the seed, the last verbs and
    /// the command to replay if one of them panics or they never end.
    pub fn run(&mut self) {
        if let Err(failure) = self.try_run() {
            panic!("{failure}");
        }
    }

    /// As [`World::run`], but hands the failure back.
    pub fn try_run(&mut self) -> Result<(), Failure> {
        loop {
            let turn = self.shared.state().next_turn();
            match turn {
                Turn::Done => return Ok(()),
                Turn::Reap(strand) => self.reap(strand),
                Turn::Stuck => {
                    let steps = self.shared.state().steps;
                    return Err(self.fail(format!("no end after {steps} events")));
                }
                Turn::Resume(strand) => self.resume(strand)?,
            }
        }
    }

    fn resume(&mut self, strand: usize) -> Result<(), Failure> {
        self.shared.state().running = Some(strand);
        let coroutine = self.strands[strand].as_mut().expect("live strands have a coroutine");
        let outcome = catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
        let mut state = self.shared.state();
        state.running = None;
        match outcome {
            Ok(CoroutineResult::Yield(())) => return Ok(()),
            Ok(CoroutineResult::Return(())) | Err(_) => state.end_strand(strand),
        }
        let home = state.strands[strand].home;
        drop(state);
        self.take_stack(strand);
        match outcome {
            Err(payload) => {
                Err(self.fail(format!("process {home} panicked: {}", panic_text(&*payload))))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Unwinds a strand, so that what lies on its stack is dropped.
    fn reap(&mut self, strand: usize) {
        self.shared.state().ghost_ns = 0;
        if let Some(coroutine) = self.strands[strand].as_mut() {
            coroutine.force_unwind();
        }
        self.take_stack(strand);
        let mut state = self.shared.state();
        state.ghost_ns = 0;
        state.end_strand(strand);
    }

    fn take_stack(&mut self, strand: usize) {
        if let Some(coroutine) = self.strands[strand].take() {
            STACKS.with_borrow_mut(|stacks| stacks.push(coroutine.into_stack()));
        }
    }

    /// Describes a failure that somebody has noticed, a panic or a check of the results.
    pub fn fail(&mut self, reason: String) -> Failure {
        self.reap_all();
        let trace = self.shared.state().trace.to_string();
        Failure { reason, seed: self.seed, trace }
    }

    fn reap_all(&mut self) {
        for strand in 0..self.strands.len() {
            if self.strands[strand].is_some() {
                let mut state = self.shared.state();
                state.strands[strand].life = Life::Doomed;
                drop(state);
                self.reap(strand);
            }
        }
    }

    /// Virtual nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.shared.state().now
    }

    /// Verbs executed so far.
    pub fn total_verbs(&self) -> u64 {
        self.shared.state().verbs
    }

    /// Verbs of one process so far.
    pub fn verbs_of(&self, process: Pid) -> u64 {
        self.shared.state().process_mut(process).verbs
    }

    /// Whether the process was neither killed nor fenced.
    pub fn is_alive(&self, process: Pid) -> bool {
        let mut state = self.shared.state();
        let process = state.process_mut(process);
        process.alive && !process.fenced
    }

    /// The faults that have struck.
    pub fn faults(&self) -> FaultCounts {
        self.shared.state().counts
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.reap_all();
    }
}
