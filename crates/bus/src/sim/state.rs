//! The simulated machine: processes, their strands, batches in flight, the clock and the queue of
//! what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::fault::{Fault, FaultCounts, Pid};
use super::flight::Flight;
use super::memory::Memory;
use super::rng::Rng;
use super::trace::{Event, Trace};
use super::Config;
use crate::{GlobalAddr, NodeId};

/// Lane number of an event that wakes a strand, instead of advancing its batch.
pub(super) const WAKE: u32 = u32::MAX;

/// Something that happens at a virtual time. Ties are broken by chance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    at: u64,
    tie: u32,
    pub strand: u32,
    pub turn: u32,
    pub lane: u32,
}

/// What the world has to do next.
pub(super) enum Turn {
    Resume(usize),
    Reap(usize),
    Done,
    Stuck,
}

pub(super) struct Process {
    pub alive: bool,
    pub fenced: bool,
    pub exited: bool,
    pub frozen_until: u64,
    pub verbs: u64,
    /// The next planned fault strikes at this verb count.
    pub next_fault: u64,
    /// How many times slower than others.
    slowness: u64,
}

#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) enum Life {
    Live,
    Doomed,
    Over,
}

pub(super) struct Strand {
    pub home: u32,
    pub life: Life,
    pub turn: u32,
    pub flight: Flight,
    pub sleeping_on: Option<(GlobalAddr, u64)>,
    sleeps_until: u64,
}

pub(super) struct State {
    pub rng: Rng,
    pub now: u64,
    /// Time that a dying strand believes has passed.
    pub ghost_ns: u64,
    pub steps: u64,
    max_steps: u64,
    pub tear_once_in: u64,
    pub memory: Memory,
    pub processes: Vec<Process>,
    pub strands: Vec<Strand>,
    queue: BinaryHeap<Reverse<Due>>,
    pub doomed: Vec<usize>,
    pub running: Option<usize>,
    pub verbs: u64,
    pub next_loss: u64,
    pub faults: Vec<Fault>,
    pub counts: FaultCounts,
    pub trace: Trace,
}

impl State {
    pub fn new(config: &Config) -> State {
        State {
            rng: Rng::new(config.seed),
            now: 1_000_000_000,
            ghost_ns: 0,
            steps: 0,
            max_steps: config.max_steps,
            tear_once_in: config.tear_once_in.max(1),
            memory: Memory::new(config.nodes, config.node_bytes),
            processes: Vec::new(),
            strands: Vec::new(),
            queue: BinaryHeap::new(),
            doomed: Vec::new(),
            running: None,
            verbs: 0,
            next_loss: u64::MAX,
            faults: Vec::new(),
            counts: FaultCounts::default(),
            trace: Trace::new(config.trace),
        }
    }

    pub fn add_process(&mut self) -> Pid {
        let slowness = match self.rng.below(16) {
            0 => 30,
            1..=3 => 4,
            _ => 1,
        };
        self.processes.push(Process {
            alive: true,
            fenced: false,
            exited: false,
            frozen_until: 0,
            verbs: 0,
            next_fault: u64::MAX,
            slowness,
        });
        Pid(self.processes.len() as u32)
    }

    pub fn process(&self, pid: Pid) -> Option<&Process> {
        self.processes.get((pid.0 as usize).checked_sub(1)?)
    }

    pub fn process_mut(&mut self, pid: Pid) -> &mut Process {
        let known = self.processes.len();
        let place = (pid.0 as usize).wrapping_sub(1);
        assert!(place < known, "process {} is unknown: there are {known}", pid.0);
        &mut self.processes[place]
    }

    pub fn add_strand(&mut self, home: Pid) -> usize {
        self.process_mut(home).exited = false;
        let life = Life::Live;
        self.strands.push(Strand {
            home: home.0,
            life,
            turn: 0,
            flight: Flight::default(),
            sleeping_on: None,
            sleeps_until: 0,
        });
        let strand = self.strands.len() - 1;
        self.wake_in(strand, 0);
        strand
    }

    /// A delay as a verb of `process` may have it: short as a rule, now and then long.
    #[inline]
    pub fn delay(&mut self, pid: u32) -> u64 {
        let chance = self.rng.word();
        let within = chance >> 32;
        let base = match chance & 127 {
            0 => 5_000 + ((within * 60_000) >> 32),
            1..=15 => 2_000 + ((within * 8_000) >> 32),
            _ => 300 + ((within * 1_700) >> 32),
        };
        base * self.processes[pid as usize - 1].slowness
    }

    #[inline]
    pub fn push(&mut self, at: u64, strand: usize, lane: u32) {
        let (turn, tie) = (self.strands[strand].turn, self.rng.word() as u32);
        self.queue.push(Reverse(Due { at, tie, strand: strand as u32, turn, lane }));
    }

    /// Lets the strand go on after `ns` and a bit.
    pub fn wake_in(&mut self, strand: usize, ns: u64) {
        let home = self.strands[strand].home;
        let at = self.now + ns + self.delay(home) / 4;
        self.push(at, strand, WAKE);
    }

    /// The strand sleeps on a mailbox word that is `seen`.
    pub fn sleep_on(&mut self, strand: usize, addr: GlobalAddr, seen: u64, timeout_ns: u64) {
        self.strands[strand].sleeping_on = Some((addr, seen));
        self.strands[strand].sleeps_until = self.now + timeout_ns;
        self.push(self.now + timeout_ns, strand, WAKE);
    }

    /// Wakes those who sleep on the word.
    pub fn wake_sleepers(&mut self, addr: GlobalAddr) {
        for strand in 0..self.strands.len() {
            if self.strands[strand].sleeping_on.is_some_and(|(on, _)| on == addr) {
                self.wake_in(strand, 0);
            }
        }
    }

    /// Runs what is due until a strand has to be resumed or ended.
    pub fn next_turn(&mut self) -> Turn {
        loop {
            if let Some(strand) = self.doomed.pop() {
                return Turn::Reap(strand);
            }
            let Some(Reverse(due)) = self.queue.pop() else { return Turn::Done };
            let strand = due.strand as usize;
            let one = &self.strands[strand];
            if one.turn != due.turn || one.life != Life::Live {
                continue;
            }
            self.steps += 1;
            if self.steps > self.max_steps {
                return Turn::Stuck;
            }
            self.now = self.now.max(due.at);
            let home = &self.processes[one.home as usize - 1];
            if home.frozen_until > self.now {
                let thaw = home.frozen_until + self.rng.below(50_000);
                self.push(thaw, strand, due.lane);
                continue;
            }
            let goes_on = match due.lane {
                WAKE => self.is_awake(strand),
                lane => self.advance(strand, lane as usize),
            };
            if goes_on {
                let one = &mut self.strands[strand];
                one.turn = one.turn.wrapping_add(1);
                one.sleeping_on = None;
                return Turn::Resume(strand);
            }
        }
    }

    fn is_awake(&self, strand: usize) -> bool {
        let one = &self.strands[strand];
        match one.sleeping_on {
            Some((addr, seen)) if self.now < one.sleeps_until => {
                self.memory.word(addr).unwrap_or(0) != seen
            }
            _ => true,
        }
    }

    pub fn plan(&mut self, fault: Fault) {
        self.faults.push(fault);
        self.renew_alarms();
    }

    /// Recomputes when the next planned faults strike.
    pub fn renew_alarms(&mut self) {
        self.next_loss = u64::MAX;
        self.processes.iter_mut().for_each(|process| process.next_fault = u64::MAX);
        for place in 0..self.faults.len() {
            match self.faults[place] {
                Fault::LoseNode { after, .. } => self.next_loss = self.next_loss.min(after),
                Fault::Kill { process, after, .. } | Fault::Freeze { process, after, .. } => {
                    let process = self.process_mut(process);
                    process.next_fault = process.next_fault.min(after);
                }
            }
        }
    }

    /// Nodes that are due are lost.
    pub fn lose_nodes(&mut self) {
        let verbs = self.verbs;
        let mut due = Vec::new();
        self.faults.retain(|fault| match *fault {
            Fault::LoseNode { node, after } if after <= verbs => {
                due.push(node);
                false
            }
            _ => true,
        });
        due.into_iter().for_each(|node| self.lose(node));
        self.renew_alarms();
    }

    pub fn lose(&mut self, node: NodeId) {
        if self.memory.lose(node) {
            self.counts.nodes_lost += 1;
            self.note(u32::from(node.0), Event::Struck("is the number of the node that is lost"));
        }
    }

    pub fn freeze(&mut self, pid: Pid, ns: u64) {
        let until = self.now + ns;
        self.process_mut(pid).frozen_until = until;
        self.counts.freezes += 1;
        self.note(pid.0, Event::Struck("is frozen"));
    }

    pub fn note(&mut self, process: u32, event: Event) {
        if self.trace.is_on() {
            self.trace.push(self.now, process, event);
        }
    }

    /// Ends a process: what it has in flight happens in part, its strands end.
    pub fn kill(&mut self, pid: Pid) {
        if !self.process(pid).is_some_and(|process| process.alive) {
            return;
        }
        self.note(pid.0, Event::Struck("is killed"));
        self.process_mut(pid).alive = false;
        for strand in 0..self.strands.len() {
            if self.strands[strand].life != Life::Live {
                continue;
            }
            if self.strands[strand].flight.poster() == Some(pid) {
                self.drop_flight(strand);
            }
            if self.strands[strand].home == pid.0 {
                self.strands[strand].life = Life::Doomed;
                self.doomed.push(strand);
            }
        }
    }

    pub fn fence(&mut self, pid: Pid) {
        let process = self.process_mut(pid);
        if process.alive && !process.fenced && !process.exited {
            process.fenced = true;
            self.counts.fences += 1;
            self.note(pid.0, Event::Struck("is fenced"));
        }
        self.process_mut(pid).fenced = true;
    }

    /// A strand has come to its end.
    pub fn end_strand(&mut self, strand: usize) {
        self.strands[strand].life = Life::Over;
        let home = self.strands[strand].home;
        let mut others = self.strands.iter();
        let left = others.any(|other| other.home == home && other.life == Life::Live);
        self.processes[home as usize - 1].exited = !left;
    }
}
