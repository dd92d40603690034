//! Threads that move blocks between the engine's memory and a store.
//!
//! Loads go first, then what is to be taken away, then saves. Saves wait in a bounded queue: when
//! it is full a save is refused, and may be tried again; serving is never slowed. Whoever asks
//! polls for what has ended. In between the store learns what other processes have saved.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Result, TierError};
use crate::store::{Key, Loaded, Saved, Store};

/// Names a save or a load.
pub type Ticket = u64;

/// The engine's memory, in which blocks lie.
#[derive(Clone, Copy)]
pub struct Memory {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: an address and a length; what may be done with them is the promise of `Memory::new`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Safety
    /// The memory must stay until the mover is dropped. While a save is under way nobody writes to
    /// its block, and while a load is, nobody reads or writes its block.
    pub unsafe fn new(base: *mut u8, bytes: usize) -> Memory {
        Memory { base, bytes }
    }
}

/// A block in the engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the memory.
    pub offset: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// What became of a save or a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The block is in the store.
    Saved(Saved),
    /// The tier was full.
    Full,
    /// What a load found.
    Loaded(Loaded),
    /// Whether there was something to take away.
    Removed(bool),
    /// The system refused, a full or broken disk for example.
    Failed,
}

/// A save or a load that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which one.
    pub ticket: Ticket,
    /// How.
    pub outcome: Outcome,
    /// How long it took once its turn had come.
    pub took: Duration,
}

#[derive(Clone, Copy)]
enum Task {
    Load,
    Save,
    Remove,
}

struct Job {
    task: Task,
    ticket: Ticket,
    key: Key,
    place: Place,
}

#[derive(Default)]
struct State {
    loads: VecDeque<Job>,
    removals: VecDeque<Job>,
    saves: VecDeque<Job>,
    /// Bytes of the saves that wait or are under way.
    saving_bytes: usize,
    num_open: usize,
    next: Ticket,
    done: Vec<Done>,
    last_error: Option<String>,
    refreshed: Option<Instant>,
    is_closed: bool,
}

struct Shared {
    store: Arc<dyn Store>,
    refresh_every: Duration,
    memory: Memory,
    most_saving_bytes: usize,
    state: Mutex<State>,
    /// There is work.
    work: Condvar,
    /// Something has ended.
    ended: Condvar,
}

/// Moves blocks. Dropping it waits for what is under way and forgets what waits.
pub struct Mover {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Mover {
    /// Starts `num_threads` threads. At most `most_saving_bytes` wait to be saved.
    pub fn new(
        store: Arc<dyn Store>,
        memory: Memory,
        num_threads: usize,
        most_saving_bytes: usize,
    ) -> Result<Mover> {
        let shared = Arc::new(Shared {
            refresh_every: store.refresh_every(),
            store,
            memory,
            most_saving_bytes,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let spawn = |number: usize| {
            let shared = shared.clone();
            let named = std::thread::Builder::new().name(format!("tier-{number}"));
            named.spawn(move || shared.run()).map_err(|source| TierError::Io {
                what: "start",
                path: "a thread".into(),
                source,
            })
        };
        let threads = (0..num_threads.max(1)).map(spawn).collect::<Result<_>>()?;
        Ok(Mover { shared, threads })
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Saves a block, unless too much is waiting to be saved: `None` then.
    pub fn save(&self, key: &Key, place: Place) -> Result<Option<Ticket>> {
        self.check(place)?;
        let mut state = self.shared.state.lock();
        if state.saving_bytes + place.bytes > self.shared.most_saving_bytes {
            return Ok(None);
        }
        state.saving_bytes += place.bytes;
        let ticket = state.take_ticket();
        state.saves.push_back(Job { task: Task::Save, ticket, key: *key, place });
        self.shared.work.notify_one();
        Ok(Some(ticket))
    }

    /// Loads a block.
    pub fn load(&self, key: &Key, place: Place) -> Result<Ticket> {
        self.check(place)?;
        let mut state = self.shared.state.lock();
        let ticket = state.take_ticket();
        state.loads.push_back(Job { task: Task::Load, ticket, key: *key, place });
        self.shared.work.notify_one();
        Ok(ticket)
    }

    /// Takes a block out of the store.
    pub fn remove(&self, key: &Key) -> Ticket {
        let place = Place { offset: 0, bytes: 0 };
        let mut state = self.shared.state.lock();
        let ticket = state.take_ticket();
        state.removals.push_back(Job { task: Task::Remove, ticket, key: *key, place });
        self.shared.work.notify_one();
        ticket
    }

    fn check(&self, place: Place) -> Result<()> {
        let end = place.offset.checked_add(place.bytes);
        if end.is_none_or(|end| end > self.shared.memory.bytes) {
            let (Place { offset, bytes }, all) = (place, self.shared.memory.bytes);
            let text = format!("{bytes} bytes at {offset} lie outside of memory of {all} bytes");
            return Err(TierError::Invalid(text));
        }
        Ok(())
    }

    /// What has ended since the last call.
    pub fn poll(&self) -> Vec<Done> {
        std::mem::take(&mut self.shared.state.lock().done)
    }

    /// Waits until something has ended that was not polled yet, or nothing is under way; no longer
    /// than `timeout`. Whether there is something to poll.
    pub fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        while state.done.is_empty() && state.num_open > 0 {
            if self.shared.ended.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        !state.done.is_empty()
    }

    /// Saves and loads that have not ended.
    pub fn num_open(&self) -> usize {
        self.shared.state.lock().num_open
    }

    /// Bytes that wait to be saved or are being saved.
    pub fn saving_bytes(&self) -> usize {
        self.shared.state.lock().saving_bytes
    }

    /// The text of the last error of the store since the last call.
    pub fn take_error(&self) -> Option<String> {
        self.shared.state.lock().last_error.take()
    }
}

impl State {
    fn take_ticket(&mut self) -> Ticket {
        self.next += 1;
        self.num_open += 1;
        self.next
    }

    fn next_job(&mut self) -> Option<Job> {
        let first = self.loads.pop_front().or_else(|| self.removals.pop_front());
        first.or_else(|| self.saves.pop_front())
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return;
            }
            if state.refreshed.is_none_or(|last| last.elapsed() >= self.refresh_every) {
                state.refreshed = Some(Instant::now());
                drop(state);
                let outcome = self.store.refresh();
                state = self.state.lock();
                if let Err(error) = outcome {
                    state.last_error = Some(error.to_string());
                }
                continue;
            }
            let Some(job) = state.next_job() else {
                self.work.wait_for(&mut state, self.refresh_every);
                continue;
            };
            drop(state);
            let started = Instant::now();
            let outcome = match job.task {
                Task::Load => self.load(&job),
                Task::Save => self.save(&job),
                Task::Remove => self.store.remove(&job.key).map(Outcome::Removed),
            };
            state = self.state.lock();
            let outcome = outcome.unwrap_or_else(|error| {
                state.last_error = Some(error.to_string());
                Outcome::Failed
            });
            if let Task::Save = job.task {
                state.saving_bytes -= job.place.bytes;
            }
            state.num_open -= 1;
            state.done.push(Done { ticket: job.ticket, outcome, took: started.elapsed() });
            self.ended.notify_all();
        }
    }

    fn save(&self, job: &Job) -> Result<Outcome> {
        // SAFETY: inside of the memory, by `check`; nobody writes to it, by `Memory::new`.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.memory.base.add(job.place.offset), job.place.bytes)
        };
        match self.store.save(&job.key, bytes) {
            Ok(saved) => Ok(Outcome::Saved(saved)),
            Err(TierError::Full { .. }) => Ok(Outcome::Full),
            Err(error) => Err(error),
        }
    }

    fn load(&self, job: &Job) -> Result<Outcome> {
        // SAFETY: inside of the memory, by `check`; nobody else touches it, by `Memory::new`.
        let into = unsafe {
            std::slice::from_raw_parts_mut(self.memory.base.add(job.place.offset), job.place.bytes)
        };
        self.store.load(&job.key, into).map(Outcome::Loaded)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}
