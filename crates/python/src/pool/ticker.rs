//! The thread that keeps a client's lease, answers the master, and reports a client that does
//! nothing as idle.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::core::Core;
use super::errors::Outcome;

/// A client that was not used for so long is idle.
const IDLE: Duration = Duration::from_millis(4);
/// How often an idle client looks into its mailbox: a change of the membership waits for that.
const LOOK: Duration = Duration::from_millis(20);

/// The owner of a client and its ticker. When the last reference goes, the client leaves.
pub struct Owner {
    pub core: Arc<Core>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

impl Owner {
    /// Starts the ticker of `core`.
    pub fn new(core: Arc<Core>) -> std::io::Result<Owner> {
        let ticking = Arc::clone(&core);
        let ticker =
            thread::Builder::new().name("artesian-pool".into()).spawn(move || tick(&ticking))?;
        core.set_ticker(ticker.thread().clone());
        Ok(Owner { core, ticker: Mutex::new(Some(ticker)) })
    }

    /// Leaves the pool; does nothing the second time. Not to be called with Python's lock.
    pub fn close(&self) -> Outcome<()> {
        if self.core.is_forked() {
            // Neither the thread nor the client is this process's.
            if let Some(mut ticker) = self.ticker.try_lock() {
                std::mem::forget(ticker.take());
            }
            self.core.close();
            self.core.forget();
            return Ok(());
        }
        self.core.close();
        self.core.wake();
        if let Some(ticker) = self.ticker.lock().take() {
            let _ = ticker.join();
        }
        self.core.leave()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

fn tick(core: &Core) {
    let every = core.attend(|seat| u64::from(seat.client.fabric().config().lease_ms) / 8);
    let every = Duration::from_millis(every.unwrap_or(0).max(1));
    let mut ticked = Instant::now();
    let mut seen = 0;
    while !core.is_closed() {
        let uses = core.uses();
        let unused = uses == seen;
        seen = uses;
        let due = ticked.elapsed() >= every;
        // Errors are told to whoever uses the pool next: each operation meets them as well.
        let idle = core.attend(|seat| {
            if unused && !seat.client.is_idle() {
                let _ = seat.client.idle();
            }
            let asked = seat.client.is_idle() && seat.client.fabric().pass_gate().is_err();
            if due || asked {
                let _ = seat.client.tick();
            }
            seat.client.is_idle()
        });
        let Some(idle) = idle else { return };
        if due {
            ticked = Instant::now();
        }
        thread::park_timeout(if idle { LOOK.min(every) } else { IDLE.min(every) });
    }
}
