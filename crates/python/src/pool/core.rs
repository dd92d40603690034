//! One client of a pool, shared by the threads of this process.
//!
//! Whoever holds Python's lock never waits for the client's: it tries, and if another thread has
//! the client, gives Python's lock up before it waits. So nobody who has the client and wants
//! Python's lock back is ever waited for by somebody who has that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use artesian_bus::shm::ShmNodes;
use artesian_bus::BusError;
use artesian_pool::client::Client;
use artesian_pool::PoolError;
use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;

use super::errors::{Fault, Outcome};
use super::fork;

/// What everybody who uses the client shares.
pub struct Core {
    pub name: String,
    pub nodes: Arc<ShmNodes>,
    client: Mutex<Option<Client>>,
    closing: AtomicBool,
    /// Goes up with every use, so that the ticker sees whether there was one.
    uses: AtomicU64,
    forks: u64,
    pid: u32,
    ticker: OnceLock<Thread>,
}

impl Core {
    pub fn new(name: String, nodes: Arc<ShmNodes>, client: Client) -> Core {
        Core {
            name,
            nodes,
            client: Mutex::new(Some(client)),
            closing: AtomicBool::new(false),
            uses: AtomicU64::new(1),
            forks: fork::watch(),
            pid: std::process::id(),
            ticker: OnceLock::new(),
        }
    }

    /// Whether this process is not the one that opened the pool.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::forks()
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Uses so far.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Tells which thread ticks.
    pub fn set_ticker(&self, thread: Thread) {
        let _ = self.ticker.set(thread);
    }

    /// Wakes the ticker.
    pub fn wake(&self) {
        if let Some(thread) = self.ticker.get() {
            thread.unpark();
        }
    }

    fn closed(&self) -> Fault {
        Fault::Closed(self.name.clone())
    }

    #[inline]
    fn check(&self) -> Outcome<()> {
        if self.is_forked() {
            return Err(Fault::Forked(self.pid));
        }
        if self.is_closed() {
            return Err(self.closed());
        }
        Ok(())
    }

    /// Makes the client ready for an operation.
    #[inline]
    fn enter<'a>(&self, place: &'a mut Option<Client>) -> Outcome<&'a mut Client> {
        let Some(client) = place.as_mut().filter(|_| !self.is_closed()) else {
            return Err(self.closed());
        };
        if client.is_idle() {
            client.resume()?;
            self.wake();
        }
        // Nobody else writes it: whoever does has the client.
        self.uses.store(self.uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(client)
    }

    /// The client, if no other thread has it; for operations of a few microseconds.
    #[inline]
    pub fn try_client(&self) -> Outcome<Option<ClientGuard<'_>>> {
        self.check()?;
        let Some(mut guard) = self.client.try_lock() else { return Ok(None) };
        self.enter(&mut guard)?;
        Ok(Some(ClientGuard(guard)))
    }

    /// Whether another thread has the client just now.
    pub fn is_busy(&self) -> bool {
        self.client.is_locked()
    }

    /// A short operation: keeps Python's lock unless another thread has the client.
    #[inline]
    pub fn run<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Client) -> Result<R, PoolError> + Send,
    ) -> Outcome<R> {
        match self.try_client()? {
            Some(mut guard) => Ok(work(guard.get())?),
            None => self.run_detached(py, work),
        }
    }

    /// A long operation: others can use Python meanwhile.
    pub fn run_detached<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Client) -> Result<R, PoolError> + Send,
    ) -> Outcome<R> {
        self.check()?;
        py.detach(|| self.run_blocking(work))
    }

    /// As [`Core::run_detached`], for threads that have nothing to do with Python.
    pub fn run_blocking<R>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<R, PoolError>,
    ) -> Outcome<R> {
        let mut guard = self.client.lock();
        let outcome = work(self.enter(&mut guard)?);
        // A thread in a loop must not keep the others, and the ticker, out for long.
        MutexGuard::unlock_fair(guard);
        Ok(outcome?)
    }

    /// What the ticker does with the client; `None` once it is gone. Counts as no use.
    pub fn attend<R>(&self, work: impl FnOnce(&mut Client) -> R) -> Option<R> {
        self.client.lock().as_mut().map(work)
    }

    /// From now on every use is refused. An error, and nothing changes, if views of values are
    /// held: what they show is theirs only as long as the client is there.
    pub fn close(&self) -> Outcome<()> {
        let mut guard = self.client.lock();
        if let Some(client) = guard.as_mut() {
            if client.is_idle() {
                let _ = client.resume();
            }
            // Whoever cannot say has lost the pool.
            let held = client.num_pins().unwrap_or(0);
            if held > 0 {
                let text = format!("{held} views of values are held: release them first");
                return Err(PoolError::Invalid(text).into());
            }
        }
        self.closing.store(true, Ordering::Release);
        Ok(())
    }

    /// Leaves the pool. Whoever was declared dead has left already.
    pub fn leave(&self) -> Outcome<()> {
        let Some(client) = self.client.lock().take() else { return Ok(()) };
        match client.leave() {
            // The pool was removed, or gave this client up: there is nothing to leave.
            Err(PoolError::Bus(BusError::Fenced | BusError::NodeLost(_)) | PoolError::Lost(_)) => {
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Forgets the client without a word to the pool: it belongs to the parent process.
    pub fn forget(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(mut guard) = self.client.try_lock() {
            std::mem::forget(guard.take());
        }
    }
}

/// The client while a thread has it.
pub struct ClientGuard<'a>(MutexGuard<'a, Option<Client>>);

impl ClientGuard<'_> {
    #[inline]
    pub fn get(&mut self) -> &mut Client {
        self.0.as_mut().expect("checked when it was taken")
    }
}
