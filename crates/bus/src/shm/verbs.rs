//! A client's verbs on shared memory.

use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::futex;

use super::node::Node;
use super::process::{now_ns, Processes};
use super::{copy, ShmNodes};
use crate::{BusError, Counters, Fate, GlobalAddr, Identity, NodeId, Tally, Verb, Verbs};

/// Shorter waits spin: giving up the CPU costs about as much.
const SPIN_NS: u64 = 2_000;
/// Shorter waits yield: the kernel's timers are no finer.
const YIELD_NS: u64 = 60_000;
/// A waiter looks this often whether the mailbox's node died, as nobody wakes it then.
const LOOK_NS: u64 = 50_000_000;

/// One client's connection to [`ShmNodes`].
pub struct ShmVerbs {
    nodes: Arc<ShmNodes>,
    counters: Counters,
    processes: Processes,
    delay_ns: u64,
}

impl ShmVerbs {
    pub(super) fn new(nodes: Arc<ShmNodes>) -> ShmVerbs {
        let (counters, processes) = Default::default();
        ShmVerbs { nodes, counters, processes, delay_ns: 0 }
    }

    /// Lets every batch take `ns` nanoseconds longer, as a network would. For benchmarks, which
    /// must say that this delay is modelled.
    pub fn with_delay(self, ns: u64) -> ShmVerbs {
        ShmVerbs { delay_ns: ns, ..self }
    }

    /// Executes one verb. `stored` says whether plain stores may not be visible to all yet.
    #[inline]
    fn run(&self, verb: &mut Verb<'_>, stored: &mut bool) -> Result<(), BusError> {
        let (addr, len) = (verb.addr(), verb.len());
        let node = self.nodes.find(addr.node())?;
        if node.is_dead() {
            return Err(BusError::NodeLost(addr.node()));
        }
        let bad = || BusError::BadAddress { addr, len, size: node.bytes() };
        match verb {
            Verb::Read { into, .. } => {
                let at = node.at(addr.offset(), len).ok_or_else(bad)?;
                settle(stored);
                // SAFETY: in bounds, and all shared memory is accessed by atomics.
                unsafe { copy::read(at.as_ptr(), into) };
            }
            Verb::Write { from, .. } => {
                let at = node.at(addr.offset(), len).ok_or_else(bad)?;
                fence(Ordering::Release);
                // SAFETY: as above.
                unsafe { copy::write(at.as_ptr(), from) };
                *stored = true;
            }
            Verb::Gather { parts, .. } => {
                let at = node.at(addr.offset(), len).ok_or_else(bad)?;
                fence(Ordering::Release);
                // SAFETY: as above.
                unsafe { copy::gather(at.as_ptr(), parts) };
                *stored = true;
            }
            Verb::Cas { expected, desired, found, .. } => {
                let word = node.word(addr.offset()).ok_or_else(bad)?;
                settle_atomic(stored);
                let order = Ordering::SeqCst;
                let outcome = word.compare_exchange(*expected, *desired, order, order);
                *found = outcome.unwrap_or_else(|found| found);
            }
            Verb::Faa { add, found, .. } => {
                let word = node.word(addr.offset()).ok_or_else(bad)?;
                settle_atomic(stored);
                *found = word.fetch_add(*add, Ordering::SeqCst);
            }
        }
        // The node may have died meanwhile, and what was read be nothing.
        if node.is_dead() {
            return Err(BusError::NodeLost(addr.node()));
        }
        Ok(())
    }

    fn living(&self, node: NodeId) -> Option<&Node> {
        self.nodes.find(node).ok().filter(|node| !node.is_dead())
    }

    fn word(&self, addr: GlobalAddr) -> Option<&AtomicU64> {
        self.living(addr.node())?.word(addr.offset())
    }
}

/// Makes plain stores visible to all before anything is read: a CPU would let the read overtake.
#[inline]
fn settle(stored: &mut bool) {
    if *stored {
        fence(Ordering::SeqCst);
        *stored = false;
    }
}

/// As [`settle`], before an atomic instruction: on x86 that is a full barrier itself.
#[inline]
fn settle_atomic(stored: &mut bool) {
    if cfg!(target_arch = "x86_64") {
        *stored = false;
    } else {
        settle(stored);
    }
}

/// The low half of a word, which the kernel can wait for.
fn low_half(word: &AtomicU64) -> &AtomicU32 {
    let low = if cfg!(target_endian = "little") { 0 } else { 1 };
    // SAFETY: within the word, aligned, and only the kernel reads it through this reference.
    unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(low)) }
}

fn timespec(ns: u64) -> futex::Timespec {
    let (tv_sec, tv_nsec) = ((ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64);
    futex::Timespec { tv_sec, tv_nsec }
}

impl Verbs for ShmVerbs {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        self.counters.count(verbs);
        let mut outcome = Ok(());
        let mut stored = false;
        for verb in verbs {
            if let Err(error) = self.run(verb, &mut stored) {
                outcome = outcome.and(Err(error));
            }
        }
        settle(&mut stored);
        if self.delay_ns > 0 {
            let until = now_ns() + self.delay_ns;
            while now_ns() < until {
                std::hint::spin_loop();
            }
        }
        outcome
    }

    fn mailbox(&self, addr: GlobalAddr) -> u64 {
        self.word(addr).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn wait_mailbox(&self, addr: GlobalAddr, seen: u64, timeout_ns: u64) {
        let until = now_ns().saturating_add(timeout_ns);
        loop {
            let now = now_ns();
            let Some(word) = self.word(addr) else { return };
            if word.load(Ordering::Acquire) != seen || now >= until {
                return;
            }
            let timeout = timespec((until - now).min(LOOK_NS));
            // Whatever ended the wait, the loop looks again.
            let half = low_half(word);
            let _ = futex::wait(half, futex::Flags::empty(), seen as u32, Some(&timeout));
        }
    }

    fn wake_mailbox(&self, addr: GlobalAddr) {
        if let Some(word) = self.word(addr) {
            // Fails only for addresses that are not mapped, and this one is.
            let _ = futex::wake(low_half(word), futex::Flags::empty(), i32::MAX as u32);
        }
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn relax(&self, ns: u64) {
        if ns >= YIELD_NS {
            std::thread::sleep(Duration::from_nanos(ns));
            return;
        }
        let until = now_ns() + ns;
        while now_ns() < until {
            if ns < SPIN_NS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn identity(&self) -> Identity {
        self.processes.own()
    }

    fn is_alive(&self, client: Identity) -> bool {
        self.processes.is_alive(client)
    }

    fn fence(&self, client: Identity) -> Fate {
        self.processes.fence(client)
    }

    fn map(&self, addr: GlobalAddr, len: usize) -> Option<*const u8> {
        let at = self.living(addr.node())?.at(addr.offset(), len as u64)?;
        Some(at.as_ptr().cast_const())
    }

    fn nodes(&self) -> Vec<(NodeId, u64)> {
        self.nodes.nodes().unwrap_or_default()
    }

    fn tally(&self) -> Tally {
        self.counters.tally()
    }
}
