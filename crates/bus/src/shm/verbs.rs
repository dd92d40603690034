//! A client's verbs on shared memory.

use std::any::Any;
use std::cell::Cell;
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
    /// Plain stores of earlier batches may not be visible to all yet. Nobody can tell before this
    /// client reads something, so that is when they are waited for.
    stored: Cell<bool>,
    delay_ns: u64,
}

impl ShmVerbs {
    pub(super) fn new(nodes: Arc<ShmNodes>) -> ShmVerbs {
        let (counters, processes, stored) = Default::default();
        ShmVerbs { nodes, counters, processes, stored, delay_ns: 0 }
    }

    /// Lets every batch take `ns` nanoseconds longer, as a network would. For benchmarks, which
    /// must say that this delay is modelled.
    pub fn with_delay(self, ns: u64) -> ShmVerbs {
        ShmVerbs { delay_ns: ns, ..self }
    }

    /// The node and the bytes that a verb may touch; `None` (see [`ShmVerbs::why`]) if it may not.
    #[inline(always)]
    fn reach(&self, addr: GlobalAddr, len: usize) -> Option<(&Node, *mut u8)> {
        let node = self.nodes.find(addr.node()).ok().filter(|node| !node.is_dead())?;
        Some((node, node.at(addr.offset(), len as u64)?.as_ptr()))
    }

    #[inline(always)]
    fn reach_word(&self, addr: GlobalAddr) -> Option<(&Node, &AtomicU64)> {
        let node = self.nodes.find(addr.node()).ok().filter(|node| !node.is_dead())?;
        Some((node, node.word(addr.offset())?))
    }

    /// Executes and counts one verb; whether it has taken effect. `stored` says whether plain
    /// stores may not be visible to all yet.
    #[inline(always)]
    fn run(&self, verb: &mut Verb<'_>, stored: &mut bool, tally: &mut Tally) -> bool {
        tally.count(verb);
        let node = match verb {
            Verb::Read { addr, into } => {
                let Some((node, at)) = self.reach(*addr, into.len()) else { return false };
                settle(stored);
                // SAFETY: in bounds, and all shared memory is accessed by atomics.
                unsafe { copy::read(at, into) };
                node
            }
            Verb::Write { addr, from } => {
                let Some((node, at)) = self.reach(*addr, from.len()) else { return false };
                fence(Ordering::Release);
                // SAFETY: as above.
                unsafe { copy::write(at, from) };
                *stored = true;
                node
            }
            Verb::Gather { addr, parts } => {
                let len = parts.iter().map(|part| part.len()).sum();
                let Some((node, at)) = self.reach(*addr, len) else { return false };
                fence(Ordering::Release);
                // SAFETY: as above.
                unsafe { copy::gather(at, parts) };
                *stored = true;
                node
            }
            Verb::Cas { addr, expected, desired, found } => {
                let Some((node, word)) = self.reach_word(*addr) else { return false };
                settle_atomic(stored);
                let order = Ordering::SeqCst;
                let outcome = word.compare_exchange(*expected, *desired, order, order);
                *found = outcome.unwrap_or_else(|found| found);
                node
            }
            Verb::Faa { addr, add, found } => {
                let Some((node, word)) = self.reach_word(*addr) else { return false };
                settle_atomic(stored);
                *found = word.fetch_add(*add, Ordering::SeqCst);
                node
            }
        };
        // The node may have died meanwhile, and what was read be nothing.
        !node.is_dead()
    }

    /// Why a verb has not taken effect.
    #[cold]
    fn why(&self, verb: &Verb<'_>) -> BusError {
        let (addr, len) = (verb.addr(), verb.len());
        match self.nodes.find(addr.node()) {
            Err(error) => error,
            Ok(node) if !node.is_dead() && !verb.is_within(node.bytes()) => {
                BusError::BadAddress { addr, len, size: node.bytes() }
            }
            Ok(_) => BusError::NodeLost(addr.node()),
        }
    }

    #[cold]
    fn delay(&self) {
        let until = now_ns() + self.delay_ns;
        while now_ns() < until {
            std::hint::spin_loop();
        }
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
        let (mut tally, mut stored) = (self.counters.tally(), self.stored.get());
        tally.round_trips += 1;
        let mut failed = None;
        for (at, verb) in verbs.iter_mut().enumerate() {
            if !self.run(verb, &mut stored, &mut tally) {
                failed = failed.or(Some(at));
            }
        }
        self.counters.set(tally);
        self.stored.set(stored);
        if self.delay_ns > 0 {
            self.delay();
        }
        match failed {
            None => Ok(()),
            Some(at) => Err(self.why(&verbs[at])),
        }
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

    fn anchor(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let nodes: Arc<ShmNodes> = Arc::clone(&self.nodes);
        Some(nodes)
    }

    fn nodes(&self) -> Vec<(NodeId, u64)> {
        self.nodes.nodes().unwrap_or_default()
    }

    fn tally(&self) -> Tally {
        self.counters.tally()
    }
}
