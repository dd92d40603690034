//! How far a group of blocks has come.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Rounds of busy waiting before a thread sleeps: some microseconds, a fraction of a layer's time.
const NUM_SPINS: u32 = 2_000;

/// What a group's loading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GateState {
    /// More may come, or all is there.
    Open = 0,
    /// A block cannot be had.
    Failed = 1,
    /// Somebody gave up waiting, or the group was cancelled.
    Abandoned = 2,
}

/// Tells the threads that compute how many bytes of *every* block of a group are there and
/// verified, from the blocks' start on; so, of a block that lies layer by layer, how many layers.
///
/// Threads that load open it further and further; it never closes, but it may fail, and stays so.
/// Bytes below [`LayerGate::ready_bytes`] were written before it said so and are not written again,
/// so that whoever saw that number may read them while later bytes are still being written.
pub struct LayerGate {
    block_bytes: usize,
    ready: AtomicUsize,
    state: AtomicU8,
    started: OnceLock<Instant>,
    /// Guards nothing: between looking and sleeping no news may be missed.
    sleep: Mutex<()>,
    news: Condvar,
}

impl LayerGate {
    /// Of blocks of so many bytes, none of which is there.
    pub fn new(block_bytes: usize) -> LayerGate {
        LayerGate {
            block_bytes,
            ready: AtomicUsize::new(0),
            state: AtomicU8::new(GateState::Open as u8),
            started: OnceLock::new(),
            sleep: Mutex::new(()),
            news: Condvar::new(),
        }
    }

    /// Bytes of every block that are there.
    pub fn ready_bytes(&self) -> usize {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether it failed, or was given up.
    pub fn state(&self) -> GateState {
        match self.state.load(Ordering::Acquire) {
            0 => GateState::Open,
            1 => GateState::Failed,
            _ => GateState::Abandoned,
        }
    }

    /// Whether all blocks are there whole, and nobody gave up before.
    pub fn is_complete(&self) -> bool {
        self.state() == GateState::Open && self.ready_bytes() >= self.block_bytes
    }

    /// How long the group's turn has lasted; zero before it.
    pub fn elapsed(&self) -> Duration {
        self.started.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Waits until the first `bytes` bytes of every block are there; no longer than `until`: it is
    /// abandoned then. False if they will not be there for this caller, nor for any other from now
    /// on.
    pub fn wait(&self, bytes: usize, until: Instant) -> bool {
        for _ in 0..NUM_SPINS {
            match self.look(bytes) {
                Some(is_there) => return is_there,
                None => std::hint::spin_loop(),
            }
        }
        let mut sleep = self.sleep.lock();
        loop {
            if let Some(is_there) = self.look(bytes) {
                return is_there;
            }
            if self.news.wait_until(&mut sleep, until).timed_out() {
                drop(sleep);
                self.end(GateState::Abandoned);
                return false;
            }
        }
    }

    /// Whether so many bytes are there; `None` while that may change.
    fn look(&self, bytes: usize) -> Option<bool> {
        // A gate that failed stays shut, also for what had come: all threads see the same then.
        if self.state() != GateState::Open {
            return Some(false);
        }
        (self.ready_bytes() >= bytes).then_some(true)
    }

    /// Nobody is to wait for it any more.
    pub fn abandon(&self) {
        self.end(GateState::Abandoned);
    }

    /// Its turn has come.
    pub(super) fn start(&self) {
        self.started.get_or_init(Instant::now);
    }

    /// So many bytes of every block are there now.
    pub(super) fn open(&self, bytes: usize) {
        self.ready.fetch_max(bytes, Ordering::AcqRel);
        self.wake();
    }

    /// A block cannot be had.
    pub(super) fn fail(&self) {
        self.end(GateState::Failed);
    }

    fn end(&self, how: GateState) {
        let (open, how) = (GateState::Open as u8, how as u8);
        // The first one says why.
        let _ = self.state.compare_exchange(open, how, Ordering::AcqRel, Ordering::Acquire);
        self.wake();
    }

    fn wake(&self) {
        drop(self.sleep.lock());
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn it_opens_further_and_further() {
        let gate = LayerGate::new(30);
        assert!(gate.wait(0, soon()) && !gate.is_complete());
        gate.open(20);
        gate.open(10);
        assert!(gate.wait(20, soon()) && gate.ready_bytes() == 20);
        gate.open(30);
        assert!(gate.wait(30, soon()) && gate.is_complete());
    }

    #[test]
    fn who_waits_is_woken_by_news_of_any_kind() {
        for (fails, bytes) in [(false, 30), (true, 20)] {
            let gate = Arc::new(LayerGate::new(30));
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let gate = gate.clone();
                    std::thread::spawn(move || gate.wait(30, soon()))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(5));
            gate.open(bytes);
            if fails {
                gate.fail();
            }
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), !fails);
            }
        }
    }

    #[test]
    fn who_waits_too_long_shuts_it_for_all() {
        let gate = LayerGate::new(30);
        gate.open(10);
        assert!(!gate.wait(20, Instant::now() + Duration::from_millis(3)));
        assert_eq!(gate.state(), GateState::Abandoned);
        gate.open(30);
        gate.fail();
        assert_eq!(gate.state(), GateState::Abandoned, "the first reason stays");
        assert!(!gate.wait(10, soon()) && !gate.is_complete());
    }
}
