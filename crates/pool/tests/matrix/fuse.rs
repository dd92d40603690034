//! A connection at which something happens after the n-th verb of what a client does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use artesian_bus::shm::{ShmNodes, ShmVerbs};
use artesian_bus::{pass_on, BusError, NodeId, Verb, Verbs};
use rustix::process::{getpid, kill_process, Signal};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the own process.
    Kill,
    /// SIGSTOP to the own process, which goes on when somebody lets it.
    Stop,
    /// A memory node is lost.
    Lose(NodeId),
    /// A memory node is lost, and this process with it.
    LoseAndKill(NodeId),
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    /// Verbs that take effect before.
    pub after: u64,
    /// Whether a part of the verb behind them does too, if it is a write.
    pub torn: bool,
    /// The first half of it; else all but the last word.
    pub half: bool,
    pub blow: Blow,
}

/// Sets the charge of a connection that a client holds already.
#[derive(Clone, Default)]
pub struct Trigger(Arc<Mutex<Option<Charge>>>);

impl Trigger {
    pub fn arm(&self, charge: Charge) {
        *self.0.lock().expect("no panic") = Some(charge);
    }

    /// Takes the charge out; false if it has gone off.
    pub fn disarm(&self) -> bool {
        self.0.lock().expect("no panic").take().is_some()
    }

    /// The charge, if it goes off within the next `verbs` verbs.
    fn burn(&self, verbs: u64) -> Option<Charge> {
        let mut charge = self.0.lock().expect("no panic");
        let armed = charge.as_mut()?;
        match armed.after.checked_sub(verbs) {
            Some(rest) => {
                armed.after = rest;
                None
            }
            None => charge.take(),
        }
    }
}

/// The connection.
pub struct Fuse {
    verbs: ShmVerbs,
    nodes: Arc<ShmNodes>,
    trigger: Trigger,
}

impl Fuse {
    pub fn new(nodes: &Arc<ShmNodes>) -> (Fuse, Trigger) {
        let trigger = Trigger::default();
        let (verbs, nodes) = (nodes.connect(), Arc::clone(nodes));
        (Fuse { verbs, nodes, trigger: trigger.clone() }, trigger)
    }

    fn go_off(&self, charge: Charge, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        let (before, behind) = verbs.split_at_mut(charge.after as usize);
        let first = self.verbs.batch(before);
        let torn = match behind.first() {
            Some(Verb::Write { addr, from }) => Some((*addr, from.to_vec())),
            Some(Verb::Gather { addr, parts }) => Some((*addr, parts.concat())),
            _ => None,
        };
        if let Some((addr, from)) = torn.filter(|_| charge.torn) {
            // Errors do not matter: the whole verb follows, or nothing does.
            let words = from.len() / 8;
            let some = if charge.half { words / 2 } else { words.saturating_sub(1) };
            let _ = self.verbs.batch(&mut [Verb::write(addr, &from[..some * 8])]);
        }
        match charge.blow {
            Blow::Kill => send(Signal::KILL),
            Blow::Stop => {
                send(Signal::STOP);
                // Any thread may be the one that takes it; this one stops when that one has.
                std::thread::sleep(Duration::from_millis(30));
            }
            Blow::Lose(node) => self.lose(node),
            Blow::LoseAndKill(node) => {
                self.lose(node);
                send(Signal::KILL);
            }
        }
        first.and(self.verbs.batch(behind))
    }

    fn lose(&self, node: NodeId) {
        self.nodes.kill_node(node).expect("it is there");
    }
}

/// Nothing is cleaned up, nothing unwinds.
fn send(signal: Signal) {
    kill_process(getpid(), signal).expect("the own process");
}

impl Verbs for Fuse {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        match self.trigger.burn(verbs.len() as u64) {
            None => self.verbs.batch(verbs),
            Some(charge) => self.go_off(charge, verbs),
        }
    }

    pass_on!(verbs: memory, time, map);
}
