//! The connection of a simulated process.

use std::cell::{Cell, RefCell, RefMut};
use std::sync::Arc;

use corosensei::Yielder;

use super::fault::{Fault, Pid};
use super::state::State;
use crate::{BusError, Counters, Fate, GlobalAddr, Identity, NodeId, Tally, Verb, Verbs};

thread_local! {
    /// Its address tells threads apart.
    static MARK: u8 = const { 0 };
}

fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

/// What the world and all connections share. Bound to the thread that made it.
pub(super) struct Shared {
    thread: usize,
    state: RefCell<State>,
    /// How to suspend the strand that runs now.
    yielder: Cell<*const Yielder<(), ()>>,
}

// SAFETY: the only ways to the fields are `state`, `enter` and `pause`, and they refuse every
// thread but the one that made it. Dropping it elsewhere drops plain data; the raw pointers in it
// are not followed.
unsafe impl Send for Shared {}
// SAFETY: as above: other threads are refused.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(state: State) -> Arc<Shared> {
        let yielder = Cell::new(std::ptr::null());
        Arc::new(Shared { thread: this_thread(), state: RefCell::new(state), yielder })
    }

    pub fn state(&self) -> RefMut<'_, State> {
        assert!(self.thread == this_thread(), "the simulation runs on one thread alone");
        self.state.borrow_mut()
    }

    /// `yielder` suspends the strand that is about to run, until the next call.
    pub fn enter(&self, yielder: *const Yielder<(), ()>) {
        assert!(self.thread == this_thread(), "the simulation runs on one thread alone");
        self.yielder.set(yielder);
    }

    /// Gives the turn to the world.
    fn pause(&self) {
        assert!(self.thread == this_thread(), "the simulation runs on one thread alone");
        let yielder = self.yielder.get();
        assert!(!yielder.is_null(), "only a strand of the simulation can wait");
        // SAFETY: `enter` was given the yielder of the running strand's coroutine, whose stack we
        // are on; it lives as long as the coroutine.
        unsafe { &*yielder }.suspend(());
        self.yielder.set(yielder);
    }
}

/// One process's connection to the simulated nodes. Every batch and every wait lets others run.
pub struct SimVerbs {
    shared: Arc<Shared>,
    process: Pid,
    counters: Counters,
}

impl SimVerbs {
    pub(super) fn new(shared: Arc<Shared>, process: Pid) -> SimVerbs {
        SimVerbs { shared, process, counters: Counters::default() }
    }

    /// Plans a fault from within the simulation: see [`super::World::plan`].
    pub fn plan(&self, fault: Fault) {
        self.shared.state().plan(fault);
    }

    /// Verbs of `process` so far.
    pub fn verbs_of(&self, process: Pid) -> u64 {
        self.shared.state().process(process).map_or(0, |process| process.verbs)
    }

    /// Whether the caller is being unwound: killed, or failed. It can do nothing any more.
    fn is_gone(&self) -> bool {
        std::thread::panicking()
    }

    /// Lets the strand sleep as `how` arranges it.
    fn sleep(&self, ns: u64, how: impl FnOnce(&mut State, usize)) {
        let mut state = self.shared.state();
        match state.running {
            _ if self.is_gone() => state.ghost_ns += ns,
            None => state.now += ns,
            Some(strand) => {
                how(&mut state, strand);
                drop(state);
                self.shared.pause();
            }
        }
    }
}

impl Verbs for SimVerbs {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        let mut state = self.shared.state();
        let process = state.process(self.process);
        if self.is_gone() || !process.is_some_and(|process| process.alive && !process.fenced) {
            return Err(BusError::Fenced);
        }
        self.counters.count(verbs);
        let Some(strand) = state.running else { return state.run_now(self.process, verbs) };
        state.post(strand, self.process, verbs);
        drop(state);
        self.shared.pause();
        let mut state = self.shared.state();
        state.strands[strand].flight.land()
    }

    fn mailbox(&self, addr: GlobalAddr) -> u64 {
        self.shared.state().memory.word(addr).unwrap_or(0)
    }

    fn wait_mailbox(&self, addr: GlobalAddr, seen: u64, timeout_ns: u64) {
        if self.mailbox(addr) == seen {
            self.sleep(timeout_ns, |state, strand| state.sleep_on(strand, addr, seen, timeout_ns));
        }
    }

    fn wake_mailbox(&self, addr: GlobalAddr) {
        self.shared.state().wake_sleepers(addr);
    }

    fn now_ns(&self) -> u64 {
        let state = self.shared.state();
        state.now + state.ghost_ns
    }

    fn relax(&self, ns: u64) {
        self.sleep(ns, |state, strand| state.wake_in(strand, ns));
    }

    fn identity(&self) -> Identity {
        Identity { pid: self.process.0, started: 0 }
    }

    fn is_alive(&self, client: Identity) -> bool {
        let state = self.shared.state();
        let process = state.process(Pid(client.pid));
        process.is_some_and(|process| process.alive && !process.fenced && !process.exited)
    }

    fn fence(&self, client: Identity) -> Fate {
        if self.is_gone() {
            return Fate::OutOfReach;
        }
        if self.shared.state().process(Pid(client.pid)).is_some() {
            self.shared.state().fence(Pid(client.pid));
        }
        self.relax(10_000);
        Fate::Fenced
    }

    fn map(&self, _addr: GlobalAddr, _len: usize) -> Option<*const u8> {
        None
    }

    fn nodes(&self) -> Vec<(NodeId, u64)> {
        self.shared.state().memory.sizes()
    }

    fn tally(&self) -> Tally {
        self.counters.tally()
    }
}
