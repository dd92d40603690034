//! Clients that die on purpose: after their n-th verb, wherever that is in an operation.
//!
//! Every effect on the pool passes the verbs, so dying after each of them covers every state that a
//! crash can leave behind. [`Faulty`] goes around any transport; without it nothing is counted.

use std::cell::Cell;

use crate::{BusError, Verb, Verbs};

/// How a client dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL to the own process.
    Process,
    /// The connection behaves as if its client had been fenced: for clients that are threads.
    Connection,
}

/// When a client dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// Verbs that take effect before.
    pub after: u64,
    /// If the next verb is a write, its first words that still take effect.
    pub torn_words: usize,
    /// How.
    pub death: Death,
}

/// A connection that dies by plan.
pub struct Faulty<V: Verbs> {
    verbs: V,
    plan: FaultPlan,
    /// Verbs left to live; `None` once dead.
    left: Cell<Option<u64>>,
}

impl<V: Verbs> Faulty<V> {
    /// `verbs`, until the plan's moment.
    pub fn new(verbs: V, plan: FaultPlan) -> Faulty<V> {
        Faulty { verbs, plan, left: Cell::new(Some(plan.after)) }
    }

    /// Whether the moment has come: if not, the plan was for more verbs than there were.
    pub fn is_dead(&self) -> bool {
        self.left.get().is_none()
    }

    /// Executes the first `lived` verbs and the torn part of the one after them, then dies.
    fn die(&self, verbs: &mut [Verb<'_>], lived: usize) -> BusError {
        // Errors do not matter to the dying.
        let _ = self.verbs.batch(&mut verbs[..lived]);
        let part = self.plan.torn_words * 8;
        let torn = match verbs.get(lived) {
            Some(Verb::Write { addr, from }) => Some((*addr, from.to_vec())),
            Some(Verb::Gather { addr, parts }) => Some((*addr, parts.concat())),
            _ => None,
        };
        if let Some((addr, from)) = torn {
            let _ = self.verbs.batch(&mut [Verb::write(addr, &from[..part.min(from.len())])]);
        }
        self.left.set(None);
        if self.plan.death == Death::Process {
            kill_self();
        }
        BusError::Fenced
    }
}

/// Ends this process as a crash would: nothing is cleaned up, nothing unwinds.
fn kill_self() -> ! {
    use rustix::process::{getpid, kill_process, Signal};
    let _ = kill_process(getpid(), Signal::KILL);
    // Only reached where the kernel refuses, as it does to the first process of a container.
    std::process::abort();
}

impl<V: Verbs> Verbs for Faulty<V> {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        let left = self.left.get().ok_or(BusError::Fenced)?;
        match left.checked_sub(verbs.len() as u64) {
            Some(rest) => {
                self.left.set(Some(rest));
                self.verbs.batch(verbs)
            }
            None => Err(self.die(verbs, left as usize)),
        }
    }

    crate::pass_on!(verbs: memory, time, map);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::HeapNodes;
    use crate::{GlobalAddr, NodeId};

    /// What two batches of two verbs leave behind if the client dies after `after` of them.
    fn left_behind(after: u64, torn_words: usize) -> (Vec<u64>, bool) {
        let nodes = HeapNodes::new(1, 64);
        let plan = FaultPlan { after, torn_words, death: Death::Connection };
        let client = Faulty::new(nodes.connect(1), plan);
        let at = |word: u64| GlobalAddr::new(NodeId(0), word * 8);
        let (ones, parts): ([u8; 24], [&[u8]; 2]) = ([1; 24], [&[2; 3], &[2; 21]]);
        let batches = [
            &mut [Verb::faa(at(0), 1), Verb::write(at(1), &ones)],
            &mut [Verb::Gather { addr: at(4), parts: &parts }, Verb::faa(at(0), 1)],
        ];
        let mut outcome = Ok(());
        for batch in batches {
            outcome = outcome.and_then(|()| client.batch(batch));
        }
        assert_eq!(outcome.is_err(), client.is_dead());
        if client.is_dead() {
            assert_eq!(client.batch(&mut [Verb::faa(at(7), 1)]), Err(BusError::Fenced));
        }
        let mut bytes = [0; 64];
        nodes.connect(2).batch(&mut [Verb::read(at(0), &mut bytes)]).unwrap();
        let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        (words.collect(), client.is_dead())
    }

    #[test]
    fn dies_after_each_verb() {
        let (one, two) = (u64::from_le_bytes([1; 8]), u64::from_le_bytes([2; 8]));
        let zeros = [0; 8];
        assert_eq!(left_behind(0, 9), (zeros.to_vec(), true));
        assert_eq!(left_behind(1, 0), (vec![1, 0, 0, 0, 0, 0, 0, 0], true));
        assert_eq!(left_behind(1, 2), (vec![1, one, one, 0, 0, 0, 0, 0], true));
        assert_eq!(left_behind(2, 0), (vec![1, one, one, one, 0, 0, 0, 0], true));
        assert_eq!(left_behind(2, 1), (vec![1, one, one, one, two, 0, 0, 0], true));
        assert_eq!(left_behind(3, 1), (vec![1, one, one, one, two, two, two, 0], true));
        assert_eq!(left_behind(4, 1), (vec![2, one, one, one, two, two, two, 0], false));
    }
}
