//! Threads that move blocks between the engine's memory and a store.
//!
//! Loads go first, then what is to be taken away, then saves. Blocks that are wanted together are
//! loaded layer by layer, and a [`LayerGate`] tells how far they have come; groups go first come,
//! first served. Saves wait in a bounded queue: when it is full a save is refused, and may be tried
//! again; serving is never slowed. Whoever asks polls for what has ended. In between the store
//! learns what other processes have saved.

mod gate;
mod group;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use gate::{GateState, LayerGate};
pub use trace::Event;

use crate::error::{Result, TierError};
use group::{Group, Member, Piece};
use trace::{now_s, Trace};

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
    /// its block. While a load is, nobody writes to its block, and nobody reads more of it than the
    /// gate of its group says is there: those bytes are not written again.
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
    /// A block behind one that cannot be had, or whose group was cancelled, was not loaded.
    Skipped,
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

/// A group of blocks on their way.
#[derive(Clone)]
pub struct Loading {
    /// Of each block, in order.
    pub tickets: Vec<Ticket>,
    /// How far all of them have come.
    pub gate: Arc<LayerGate>,
}

#[derive(Clone, Copy)]
enum Task {
    Save,
    Remove,
}

struct Job {
    task: Task,
    ticket: Ticket,
    key: Key,
    place: Place,
    /// Where the bytes of a save come from, if not from the memory.
    from: Option<Arc<dyn Store>>,
}

/// What a thread does next.
enum Work {
    /// A piece of the group with that gate.
    Load(Arc<LayerGate>, Piece),
    Job(Job),
}

#[derive(Default)]
struct State {
    groups: VecDeque<Group>,
    /// What gates have told since the last call of `wait`.
    has_news: bool,
    trace: Trace,
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
        Ok(self.push_save(key, place, None))
    }

    /// Saves a block of so many bytes from another store, unless too much is waiting to be saved:
    /// `None` then. When it cannot be loaded from there, that is how the save ends.
    pub fn copy(&self, key: &Key, bytes: usize, from: Arc<dyn Store>) -> Option<Ticket> {
        self.push_save(key, Place { offset: 0, bytes }, Some(from))
    }

    fn push_save(&self, key: &Key, place: Place, from: Option<Arc<dyn Store>>) -> Option<Ticket> {
        let mut state = self.shared.state.lock();
        if state.saving_bytes + place.bytes > self.shared.most_saving_bytes {
            return None;
        }
        state.saving_bytes += place.bytes;
        let ticket = state.take_ticket();
        state.saves.push_back(Job { task: Task::Save, ticket, key: *key, place, from });
        self.shared.work.notify_one();
        Some(ticket)
    }

    /// Loads a block.
    pub fn load(&self, key: &Key, place: Place) -> Result<Ticket> {
        let loading = self.load_group(&[(*key, place.offset)], place.bytes, place.bytes)?;
        Ok(loading.tickets[0])
    }

    /// Loads blocks, each to its offset in the memory: first `stage_bytes` bytes of all of them,
    /// then as many again, until their `block_bytes` are there. All of them end together. When one
    /// cannot be had, those before it are loaded all the same, and those behind it are not.
    pub fn load_group(
        &self,
        blocks: &[(Key, usize)],
        block_bytes: usize,
        stage_bytes: usize,
    ) -> Result<Loading> {
        if blocks.is_empty() {
            return Err(TierError::Invalid("a group has one block at least".into()));
        }
        let mut members = Vec::with_capacity(blocks.len());
        for &(key, offset) in blocks {
            let place = Place { offset, bytes: block_bytes };
            self.check(place)?;
            let part_bytes = self.shared.store.part_bytes(&key, block_bytes);
            members.push(Member { ticket: 0, key, place, part_bytes, failure: None });
        }
        let mut state = self.shared.state.lock();
        members.iter_mut().for_each(|member| member.ticket = state.take_ticket());
        let tickets = members.iter().map(|member| member.ticket).collect();
        let group = Group::new(members, block_bytes, stage_bytes);
        let gate = group.gate.clone();
        state.groups.push_back(group);
        self.shared.work.notify_all();
        Ok(Loading { tickets, gate })
    }

    /// Nobody wants a group any more: what of it is under way comes to its end, the rest is not
    /// loaded. Its gate is abandoned; its blocks end as all do.
    pub fn cancel(&self, gate: &Arc<LayerGate>) {
        let mut state = self.shared.state.lock();
        if let Some(index) = state.find(gate) {
            state.groups[index].cancel();
            state.finish_group(index);
            self.shared.ended.notify_all();
        }
    }

    /// Takes a block out of the store.
    pub fn remove(&self, key: &Key) -> Ticket {
        let place = Place { offset: 0, bytes: 0 };
        let mut state = self.shared.state.lock();
        let ticket = state.take_ticket();
        state.removals.push_back(Job { task: Task::Remove, ticket, key: *key, place, from: None });
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

    /// Waits until something has ended that was not polled yet, a group has come further since the
    /// last call, or nothing is under way; no longer than `timeout`. Whether there is any news.
    pub fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        while state.done.is_empty() && state.num_open > 0 && !state.has_news {
            if self.shared.ended.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        std::mem::take(&mut state.has_news) || !state.done.is_empty()
    }

    /// Begins, or ends, to note when which bytes move.
    pub fn set_trace(&self, is_on: bool) {
        self.shared.state.lock().trace.set(is_on);
    }

    /// What was noted since the last call.
    pub fn take_trace(&self) -> Vec<Event> {
        self.shared.state.lock().trace.take()
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

    fn next(&mut self) -> Option<Work> {
        for group in &mut self.groups {
            if let Some(piece) = group.next() {
                return Some(Work::Load(group.gate.clone(), piece));
            }
        }
        let job = self.removals.pop_front().or_else(|| self.saves.pop_front());
        job.map(Work::Job)
    }

    fn find(&self, gate: &Arc<LayerGate>) -> Option<usize> {
        self.groups.iter().position(|group| Arc::ptr_eq(&group.gate, gate))
    }

    /// A piece has ended.
    fn end_piece(&mut self, gate: &Arc<LayerGate>, piece: &Piece, outcome: Outcome) {
        let Some(index) = self.find(gate) else { return };
        self.groups[index].end(piece, outcome);
        self.has_news = true;
        self.finish_group(index);
    }

    /// Tells what became of a group's blocks if it is over. Whoever is let through by the gate as
    /// the last stage has come can poll for all of them.
    fn finish_group(&mut self, index: usize) {
        if !self.groups[index].is_over() {
            return;
        }
        let Some(group) = self.groups.remove(index) else { return };
        let took = group.started.map_or(Duration::ZERO, |started| started.elapsed());
        for (index, member) in group.members.iter().enumerate() {
            self.done.push(Done { ticket: member.ticket, outcome: group.outcome(index), took });
        }
        self.num_open -= group.members.len();
        group.open_if_whole();
    }

    fn end_job(&mut self, job: &Job, outcome: Outcome, took: Duration) {
        if let Task::Save = job.task {
            self.saving_bytes -= job.place.bytes;
        }
        self.num_open -= 1;
        self.done.push(Done { ticket: job.ticket, outcome, took });
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
            let Some(work) = state.next() else {
                self.work.wait_for(&mut state, self.refresh_every);
                continue;
            };
            drop(state);
            let (started, start_s) = (Instant::now(), now_s());
            let outcome = match &work {
                Work::Load(_, piece) => self.load(piece),
                Work::Job(job @ Job { task: Task::Save, .. }) => self.save(job),
                Work::Job(job) => self.store.remove(&job.key).map(Outcome::Removed),
            };
            let (end_s, took) = (now_s(), started.elapsed());
            state = self.state.lock();
            let outcome = outcome.unwrap_or_else(|error| {
                state.last_error = Some(error.to_string());
                Outcome::Failed
            });
            if let Some((is_save, bytes)) = work.moved() {
                state.trace.add(Event { is_save, bytes, start_s, end_s });
            }
            match &work {
                Work::Load(gate, piece) => state.end_piece(gate, piece, outcome),
                Work::Job(job) => state.end_job(job, outcome, took),
            }
            self.ended.notify_all();
        }
    }

    fn save(&self, job: &Job) -> Result<Outcome> {
        if let Some(from) = &job.from {
            let mut bytes = vec![0; job.place.bytes];
            return match from.load(&job.key, &mut bytes)? {
                Loaded::Hit => self.save_bytes(&job.key, &bytes),
                missing => Ok(Outcome::Loaded(missing)),
            };
        }
        // SAFETY: inside of the memory, by `check`; nobody writes to it, by `Memory::new`.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.memory.base.add(job.place.offset), job.place.bytes)
        };
        self.save_bytes(&job.key, bytes)
    }

    fn save_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Outcome> {
        match self.store.save(key, bytes) {
            Ok(saved) => Ok(Outcome::Saved(saved)),
            Err(TierError::Full { .. }) => Ok(Outcome::Full),
            Err(error) => Err(error),
        }
    }

    fn load(&self, piece: &Piece) -> Result<Outcome> {
        let (start, len) = (piece.start, piece.end - piece.start);
        if len == 0 && piece.place.bytes > 0 {
            return Ok(Outcome::Loaded(Loaded::Hit)); // an earlier piece brought it along
        }
        // SAFETY: inside of the memory, by `check`. Nobody else touches these bytes, by
        // `Memory::new`: a group's pieces are disjoint, and its gate has not told of this one yet.
        // So the slice is this thread's alone although other bytes of the block may be read.
        let into = unsafe {
            let base = self.memory.base.add(piece.place.offset + start);
            std::slice::from_raw_parts_mut(base, len)
        };
        let loaded = if len == piece.place.bytes {
            self.store.load(&piece.key, into)
        } else {
            self.store.load_part(&piece.key, start, into)
        };
        loaded.map(Outcome::Loaded)
    }
}

impl Work {
    /// Whether it saves, and the bytes of a block that it moves.
    fn moved(&self) -> Option<(bool, (usize, usize))> {
        match self {
            Work::Load(_, piece) => Some((false, (piece.start, piece.end))),
            Work::Job(Job { task: Task::Save, place, .. }) => Some((true, (0, place.bytes))),
            Work::Job(_) => None,
        }
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
