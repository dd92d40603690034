//! The reference transport: nodes are byte vectors of this process, every verb takes the node's
//! lock. Slow and obviously right; other transports are compared with it.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{BusError, Counters, Fate, GlobalAddr, Identity, NodeId, Tally, Verb, Verbs};

/// The memory nodes, shared by the clients of one process.
pub struct HeapNodes {
    nodes: Vec<Mutex<Option<Vec<u8>>>>,
    fenced: Mutex<HashSet<u32>>,
    changed: (Mutex<()>, Condvar),
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeapNodes {
    /// `count` zeroed nodes of `bytes` bytes each.
    pub fn new(count: u16, bytes: usize) -> Arc<HeapNodes> {
        Arc::new(HeapNodes {
            nodes: (0..count).map(|_| Mutex::new(Some(vec![0; bytes]))).collect(),
            fenced: Mutex::default(),
            changed: (Mutex::new(()), Condvar::new()),
            started: Instant::now(),
        })
    }

    /// Loses a node with all its memory.
    pub fn kill_node(&self, node: NodeId) {
        *lock(&self.nodes[node.0 as usize]) = None;
    }

    /// A connection of the client called `pid` (any number that no other client has).
    pub fn connect(self: &Arc<Self>, pid: u32) -> HeapVerbs {
        HeapVerbs { nodes: Arc::clone(self), pid, counters: Counters::default() }
    }
}

/// One client's connection to [`HeapNodes`].
pub struct HeapVerbs {
    nodes: Arc<HeapNodes>,
    pid: u32,
    counters: Counters,
}

impl HeapVerbs {
    fn run(&self, verb: &mut Verb<'_>) -> Result<(), BusError> {
        let (addr, len) = (verb.addr(), verb.len());
        let lost = || BusError::NodeLost(addr.node());
        let node = self.nodes.nodes.get(addr.node().0 as usize).ok_or_else(lost)?;
        let mut memory = lock(node);
        // Asked while the node is held: who fences waits until all nodes have been let go.
        if lock(&self.nodes.fenced).contains(&self.pid) {
            return Err(BusError::Fenced);
        }
        let memory = memory.as_mut().ok_or_else(lost)?;
        let word = matches!(verb, Verb::Cas { .. } | Verb::Faa { .. });
        let start = addr.offset() as usize;
        let size = memory.len() as u64;
        let bad = BusError::BadAddress { addr, len, size };
        if word && !start.is_multiple_of(8) {
            return Err(bad);
        }
        let Some(bytes) = memory.get_mut(start..start + len as usize) else { return Err(bad) };
        match verb {
            Verb::Read { into, .. } => into.copy_from_slice(bytes),
            Verb::Write { from, .. } => bytes.copy_from_slice(from),
            Verb::Gather { parts, .. } => bytes.copy_from_slice(&parts.concat()),
            Verb::Cas { expected, desired, found, .. } => {
                *found = get(bytes);
                if *found == *expected {
                    bytes.copy_from_slice(&desired.to_le_bytes());
                }
            }
            Verb::Faa { add, found, .. } => {
                *found = get(bytes);
                bytes.copy_from_slice(&found.wrapping_add(*add).to_le_bytes());
            }
        }
        Ok(())
    }
}

fn get(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

impl Verbs for HeapVerbs {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        if lock(&self.nodes.fenced).contains(&self.pid) {
            return Err(BusError::Fenced);
        }
        self.counters.count(verbs);
        let mut outcome = Ok(());
        for verb in verbs {
            outcome = outcome.and(self.run(verb));
        }
        outcome
    }

    fn mailbox(&self, addr: GlobalAddr) -> u64 {
        let mut bytes = [0; 8];
        match self.run(&mut Verb::read(addr, &mut bytes)) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => 0,
        }
    }

    fn wait_mailbox(&self, addr: GlobalAddr, seen: u64, timeout_ns: u64) {
        let (mutex, condvar) = &self.nodes.changed;
        let guard = lock(mutex);
        let timeout = Duration::from_nanos(timeout_ns);
        let waited = condvar.wait_timeout_while(guard, timeout, |()| self.mailbox(addr) == seen);
        drop(waited);
    }

    fn wake_mailbox(&self, _addr: GlobalAddr) {
        let _guard = lock(&self.nodes.changed.0);
        self.nodes.changed.1.notify_all();
    }

    fn now_ns(&self) -> u64 {
        self.nodes.started.elapsed().as_nanos() as u64
    }

    fn relax(&self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns));
    }

    fn identity(&self) -> Identity {
        Identity { pid: self.pid, started: 0 }
    }

    fn is_alive(&self, client: Identity) -> bool {
        !lock(&self.nodes.fenced).contains(&client.pid)
    }

    fn fence(&self, client: Identity) -> Fate {
        lock(&self.nodes.fenced).insert(client.pid);
        self.nodes.nodes.iter().for_each(|node| drop(lock(node)));
        Fate::Fenced
    }

    fn map(&self, _addr: GlobalAddr, _len: usize) -> Option<*const u8> {
        None
    }

    fn nodes(&self) -> Vec<(NodeId, u64)> {
        let sizes = self.nodes.nodes.iter().map(|node| lock(node).as_ref().map(Vec::len));
        let numbered = sizes.enumerate();
        numbered.filter_map(|(i, size)| Some((NodeId(i as u16), size? as u64))).collect()
    }

    fn tally(&self) -> Tally {
        self.counters.tally()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_act_in_order_and_lost_nodes_fail_alone() {
        let nodes = HeapNodes::new(2, 64);
        let verbs = nodes.connect(1);
        let word = GlobalAddr::new(NodeId(0), 8);
        let mut bytes = [0; 8];
        let mut batch = [Verb::faa(word, 5), Verb::cas(word, 5, 9), Verb::read(word, &mut bytes)];
        verbs.batch(&mut batch).unwrap();
        assert_eq!((batch[0].found(), batch[1].found()), (0, 5));
        assert_eq!(bytes, 9u64.to_le_bytes());
        nodes.kill_node(NodeId(1));
        let lost = GlobalAddr::new(NodeId(1), 0);
        let outcome = verbs.batch(&mut [Verb::faa(lost, 1), Verb::faa(word, 1)]);
        assert_eq!(outcome, Err(BusError::NodeLost(NodeId(1))));
        assert_eq!(verbs.mailbox(word), 10);
        let tally = verbs.tally();
        assert_eq!((tally.round_trips, tally.faa, tally.cas, tally.reads), (2, 3, 1, 1));
    }
}
