//! Batches in flight: one lane a node, verbs of a lane in order, large ones in pieces.

use super::fault::{Fault, Pid};
use super::memory::{word_boundary, Progress};
use super::state::{Process, State};
use super::trace::Event;
use crate::{BusError, NodeId, Verb};

/// The verbs of one batch on one node.
#[derive(Clone, Copy, Debug)]
struct Lane {
    node: NodeId,
    /// Index in the batch of the verb whose turn it is; the batch's length when all are done.
    next: usize,
    /// Set once the verb at `next` has been done in part.
    torn: Option<Progress>,
}

/// What a strand has posted and waits for.
#[derive(Default)]
pub(super) struct Flight {
    /// The slice of verbs on the waiting strand's stack, lifetime erased.
    verbs: Option<(*mut Verb<'static>, usize)>,
    poster: Option<Pid>,
    lanes: Vec<Lane>,
    open: usize,
    outcome: Option<BusError>,
}

impl Flight {
    pub fn poster(&self) -> Option<Pid> {
        self.verbs.and(self.poster)
    }

    /// Verb `index` of the batch.
    fn verb(&mut self, index: usize) -> &mut Verb<'static> {
        let (verbs, len) = self.verbs.expect("a batch is in flight");
        assert!(index < len);
        // SAFETY: the pointer and length come from the `&mut [Verb]` that `SimVerbs::batch` holds
        // while its strand is suspended, so nobody else uses it; `land` clears it before the
        // strand goes on, `drop_flight` before the strand is unwound. The erased lifetime does
        // not escape: callers drop the reference within one event.
        unsafe { &mut *verbs.add(index) }
    }

    /// The next verb of `node` at or after `from`.
    fn find(&mut self, node: NodeId, from: usize) -> usize {
        let len = self.verbs.map_or(0, |(_, len)| len);
        (from..len).find(|&index| self.verb(index).addr().node() == node).unwrap_or(len)
    }

    /// Ends the batch; says how it went.
    pub fn land(&mut self) -> Result<(), BusError> {
        self.verbs = None;
        self.outcome.take().map_or(Ok(()), Err)
    }
}

impl State {
    /// Takes a batch of the running strand into flight. The caller suspends the strand until it
    /// has landed, and keeps `verbs` alive and untouched until then.
    pub fn post(&mut self, strand: usize, poster: Pid, verbs: &mut [Verb<'_>]) {
        let flight = &mut self.strands[strand].flight;
        flight.verbs = Some((verbs.as_mut_ptr().cast(), verbs.len()));
        flight.poster = Some(poster);
        flight.outcome = None;
        flight.lanes.clear();
        for (next, verb) in verbs.iter().enumerate() {
            let node = verb.addr().node();
            if !flight.lanes.iter().any(|lane| lane.node == node) {
                flight.lanes.push(Lane { node, next, torn: None });
            }
        }
        flight.open = flight.lanes.len();
        if flight.open == 0 {
            return self.wake_in(strand, 0);
        }
        for lane in 0..self.strands[strand].flight.lanes.len() {
            let at = self.now + self.delay(poster.0);
            self.push(at, strand, lane as u32);
        }
    }

    /// Executes a batch at once, for callers outside of the simulation.
    pub fn run_now(&mut self, poster: Pid, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        let mut outcome = Ok(());
        for verb in verbs {
            outcome = outcome.and(self.memory.run(verb));
            self.note(poster.0, Event::of(verb));
        }
        outcome
    }

    /// Does the next piece of a lane. Says whether the batch is through.
    pub fn advance(&mut self, strand: usize, lane: usize) -> bool {
        let poster = self.strands[strand].flight.poster().expect("a batch is in flight");
        let process = &self.processes[poster.0 as usize - 1];
        if process.fenced || !process.alive {
            self.strands[strand].flight.outcome = Some(BusError::Fenced);
            return true;
        }
        if self.alarm(poster, true) {
            return false;
        }
        let whole = self.step_lane(strand, lane);
        let Flight { lanes, open, verbs, .. } = &mut self.strands[strand].flight;
        if whole && lanes[lane].next == verbs.map_or(0, |(_, len)| len) {
            *open -= 1;
        }
        let (through, more) = (*open == 0, lanes[lane].next < verbs.map_or(0, |(_, len)| len));
        if whole {
            self.processes[poster.0 as usize - 1].verbs += 1;
            self.verbs += 1;
            if self.verbs >= self.next_loss {
                self.lose_nodes();
            }
            if self.alarm(poster, false) && !self.process(poster).is_some_and(is_alive) {
                return false;
            }
        }
        if more {
            let at = self.now + self.delay(poster.0) / 8;
            self.push(at, strand, lane as u32);
        }
        through
    }

    /// Does a piece of the lane's verb, or all of it. Says whether the verb is whole.
    fn step_lane(&mut self, strand: usize, lane: usize) -> bool {
        let flight = &mut self.strands[strand].flight;
        let Lane { node, next, torn } = flight.lanes[lane];
        let verb = flight.verb(next);
        let large = !matches!(verb, Verb::Cas { .. } | Verb::Faa { .. }) && verb.len() > 8;
        let begins = large && torn.is_none() && self.rng.once_in(self.tear_once_in);
        let done = if begins || torn.is_some() {
            let in_order = !begins || !self.rng.once_in(4);
            let first = if in_order { 0 } else { word_boundary(verb, &mut self.rng) };
            let mut progress = torn.unwrap_or(Progress { first, done: 0 });
            let words = 1 + self.rng.below(verb.len().div_ceil(8)) as usize;
            let done = self.memory.run_piece(verb, &mut progress, words);
            if done == Ok(false) {
                flight.lanes[lane].torn = Some(progress);
                return false;
            }
            done.map(|_| ())
        } else {
            self.memory.run(verb)
        };
        if self.trace.is_on() {
            let event =
                if done.is_ok() { Event::of(verb) } else { Event::Failed { addr: verb.addr() } };
            self.trace.push(self.now, flight.poster.map_or(0, |pid| pid.0), event);
        }
        if let Err(error) = done {
            flight.outcome.get_or_insert(error);
        }
        let next = flight.find(node, next + 1);
        flight.lanes[lane] = Lane { node, next, torn: None };
        true
    }

    /// Lets planned faults of a process strike that are due: torn kills when `inside` a batch
    /// before its next piece, all others right behind a verb. Says whether one has struck.
    fn alarm(&mut self, pid: Pid, inside: bool) -> bool {
        let Process { verbs, next_fault, .. } = self.processes[pid.0 as usize - 1];
        if verbs < next_fault {
            return false;
        }
        let mut struck = None;
        self.faults.retain(|fault| match *fault {
            Fault::Kill { process, after, torn } if process == pid && after <= verbs => {
                let strikes = struck.is_none() && (inside || !torn);
                if strikes {
                    struck = Some(*fault);
                }
                !strikes
            }
            Fault::Freeze { process, after, .. } if process == pid && after <= verbs => {
                let strikes = struck.is_none() && !inside;
                if strikes {
                    struck = Some(*fault);
                }
                !strikes
            }
            _ => true,
        });
        self.renew_alarms();
        match struck {
            Some(Fault::Kill { torn, .. }) => {
                self.counts.kills += u64::from(!torn);
                self.counts.torn_kills += u64::from(torn);
                self.kill(pid);
            }
            Some(Fault::Freeze { ns, .. }) => self.freeze(pid, ns),
            _ => {}
        }
        struck.is_some()
    }

    /// The poster of a batch has died: a random prefix of each lane still happens, the verb
    /// behind it in part.
    pub fn drop_flight(&mut self, strand: usize) {
        for lane in 0..self.strands[strand].flight.lanes.len() {
            let flight = &mut self.strands[strand].flight;
            let len = flight.verbs.map_or(0, |(_, len)| len);
            let mut budget = match self.rng.below(3) {
                0 => 0,
                _ => self.rng.below(len as u64 + 1),
            };
            while budget > 0 && self.strands[strand].flight.lanes[lane].next < len {
                budget -= u64::from(self.step_lane(strand, lane));
            }
            let flight = &mut self.strands[strand].flight;
            let Lane { next, torn, .. } = flight.lanes[lane];
            if next < len && self.rng.once_in(2) {
                let verb = flight.verb(next);
                let mut progress = torn.unwrap_or_default();
                let words = self.rng.below(verb.len().div_ceil(8) + 1) as usize;
                // A node that is lost as well takes nothing; nobody is left to be told.
                let _ = self.memory.run_piece(verb, &mut progress, words.max(1));
            }
        }
        self.strands[strand].flight.outcome = Some(BusError::Fenced);
        let home = self.strands[strand].home;
        if self.strands[strand].flight.poster().is_some_and(|pid| pid.0 == home) {
            self.strands[strand].flight.verbs = None;
        } else {
            self.wake_in(strand, 0);
        }
    }
}

fn is_alive(process: &Process) -> bool {
    process.alive
}
