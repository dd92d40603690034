//! Verbs that take a round trip of virtual time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use artesian_bus::heap::HeapVerbs;
use artesian_bus::{pass_on, BusError, GlobalAddr, Verb, Verbs};

use crate::clock::Clock;

/// One client's place in virtual time. Before it enters, nothing takes time.
#[derive(Clone)]
pub struct Place {
    clock: Arc<Clock>,
    me: usize,
    entered: Arc<AtomicBool>,
    pub round_trip_ns: u64,
}

impl Place {
    pub fn new(clock: &Arc<Clock>, me: usize, round_trip_ns: u64) -> Place {
        let (clock, entered) = (Arc::clone(clock), Arc::default());
        Place { clock, me, entered, round_trip_ns }
    }

    pub fn enter(&self) {
        self.entered.store(true, Ordering::Relaxed);
        self.clock.enter(self.me);
    }

    pub fn leave(&self) {
        self.entered.store(false, Ordering::Relaxed);
        self.clock.leave();
    }

    pub fn is_entered(&self) -> bool {
        self.entered.load(Ordering::Relaxed)
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub fn sleep(&self, ns: u64) {
        if self.is_entered() {
            self.clock.sleep(self.me, self.clock.now_ns() + ns);
        }
    }
}

/// Verbs on the heap, in virtual time.
pub struct Timed {
    pub heap: HeapVerbs,
    pub place: Place,
}

impl Verbs for Timed {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        self.place.sleep(self.place.round_trip_ns);
        self.heap.batch(verbs)
    }

    fn wait_mailbox(&self, addr: GlobalAddr, seen: u64, timeout_ns: u64) {
        let until = self.now_ns() + timeout_ns;
        while self.mailbox(addr) == seen && self.now_ns() < until {
            self.place.sleep(self.place.round_trip_ns);
        }
    }

    fn wake_mailbox(&self, _addr: GlobalAddr) {}

    fn now_ns(&self) -> u64 {
        self.place.now_ns()
    }

    fn relax(&self, ns: u64) {
        self.place.sleep(ns);
    }

    fn map(&self, _addr: GlobalAddr, _len: usize) -> Option<*const u8> {
        None
    }

    pass_on!(heap: memory);
}
