//! The thread that keeps a client's lease, answers the master, and reports a client that does
//! nothing as idle.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use artesian_pool::client::Client;
use artesian_pool::observe;
use parking_lot::Mutex;

use super::core::Core;
use super::errors::Outcome;

/// A client that was not used for so long is idle.
const IDLE: Duration = Duration::from_millis(4);
/// How often an idle client looks into its mailbox: a change of the membership waits for that.
const LOOK: Duration = Duration::from_millis(20);

/// How often a busy client tells how many keys it has read and written.
const TELL: Duration = Duration::from_millis(200);

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
            self.core.forget();
            return Ok(());
        }
        self.core.close()?;
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

/// What the thread remembers between two turns.
struct Ticker<'a> {
    core: &'a Core,
    /// Time between two looks at the other clients.
    every: Duration,
    ticked: Instant,
    seen: u64,
    /// Keys read and written, as they were told to everybody, and when.
    told: (u64, u64),
    told_at: Instant,
}

fn tick(core: &Core) {
    let lease_ms = core.attend(|client| u64::from(client.fabric().config().lease_ms));
    let every = Duration::from_millis((lease_ms.unwrap_or(0) / 8).max(1));
    let now = Instant::now();
    let mut ticker = Ticker { core, every, ticked: now, seen: 0, told: (0, 0), told_at: now };
    while !core.is_closed() {
        let Some(pause) = ticker.turn() else { return };
        thread::park_timeout(pause);
    }
}

impl Ticker<'_> {
    /// Does what is due; says when to come again. `None` once the client is gone.
    fn turn(&mut self) -> Option<Duration> {
        let uses = self.core.uses();
        let unused = uses == self.seen;
        self.seen = uses;
        let due = self.ticked.elapsed() >= self.every;
        let core = self.core;
        let idle = core.attend(|client| {
            if unused || self.told_at.elapsed() >= TELL {
                self.tell(client);
            }
            // Errors are told to whoever uses the pool next: each operation meets them as well.
            if due {
                let _ = client.tick();
            }
            if unused {
                let _ = client.idle();
                // Nobody else looks for what the master asks of this client.
                let _ = client.fabric().pass_gate();
            }
            client.is_idle()
        })?;
        if due {
            self.ticked = Instant::now();
        }
        Some(if idle { LOOK } else { IDLE }.min(self.every))
    }

    fn tell(&mut self, client: &Client) {
        let stats = client.stats();
        let counts = (stats.reads, stats.writes + stats.deletes);
        if counts != self.told && observe::publish(client.fabric(), counts.0, counts.1).is_ok() {
            (self.told, self.told_at) = (counts, Instant::now());
        }
    }
}
