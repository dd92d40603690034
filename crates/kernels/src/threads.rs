//! A small thread pool in which all threads run one program together.
//!
//! [`ThreadPool::run`] hands the same closure to every thread; inside it the threads share loops
//! ([`Worker::for_each`], handed out item by item, so that a thread that the system has put aside
//! holds nobody up for long) and meet at barriers. Waiting threads spin briefly, then yield, then
//! sleep: on a busy machine they leave the processor to whoever can use it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of busy waiting before a thread starts to yield: about ten microseconds.
const NUM_SPINS: u32 = 4_000;
/// Rounds of yielding before an idle pool thread goes to sleep.
const NUM_YIELDS: u32 = 200;

type Task<'a> = &'a (dyn Fn(&Worker<'_>) + Sync);

/// Keeps one counter to a cache line.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    num_threads: usize,
    arrived: Padded<AtomicUsize>,
    phase: Padded<AtomicU32>,
    next_item: Padded<AtomicUsize>,
    panicked: AtomicBool,
    /// A program runs.
    busy: AtomicBool,
    /// Raised once for each program; pool threads wait for it to change.
    program: Padded<AtomicU32>,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    task: Option<Task<'static>>,
    payload: Option<Box<dyn Any + Send>>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's view of a running program.
pub struct Worker<'a> {
    shared: &'a Shared,
    id: usize,
    phase: Cell<u32>,
}

impl Worker<'_> {
    /// This thread's number, from 0.
    pub fn id(&self) -> usize {
        self.id
    }

    /// How many threads run the program.
    pub fn num_threads(&self) -> usize {
        self.shared.num_threads
    }

    /// Waits until every thread of the program is here.
    ///
    /// # Panics
    /// When another thread of the program panicked, so that none waits for ever.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.num_threads == 1 {
            return;
        }
        let phase = self.phase.get();
        self.phase.set(phase.wrapping_add(1));
        if shared.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == shared.num_threads {
            shared.arrived.0.store(0, Ordering::Relaxed);
            shared.next_item.0.store(0, Ordering::Relaxed);
            shared.phase.0.store(phase.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut num_waits = 0u32;
        while shared.phase.0.load(Ordering::Acquire) == phase {
            assert!(!shared.panicked.load(Ordering::Relaxed), "another kernel thread panicked");
            num_waits = num_waits.saturating_add(1);
            if num_waits < NUM_SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Calls `body` once for each item below `num_items`, shared out among the threads, then waits
    /// for all.
    pub fn for_each(&self, num_items: usize, body: impl FnMut(usize)) {
        self.for_each_then(num_items, body, || {});
    }

    /// As [`Worker::for_each`]; each thread calls `then` when no item is left for it, before it
    /// waits.
    pub fn for_each_then(
        &self,
        num_items: usize,
        mut body: impl FnMut(usize),
        then: impl FnOnce(),
    ) {
        if self.shared.num_threads == 1 {
            (0..num_items).for_each(body);
            then();
            return;
        }
        loop {
            let item = self.shared.next_item.0.fetch_add(1, Ordering::Relaxed);
            if item >= num_items {
                break;
            }
            body(item);
        }
        then();
        self.barrier();
    }
}

/// Threads that run programs together; the calling thread is one of them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    running: Mutex<()>,
}

impl ThreadPool {
    /// A pool of `num_threads` threads (at least one), the caller's included.
    pub fn new(num_threads: usize) -> ThreadPool {
        let shared = Arc::new(Shared {
            num_threads: num_threads.max(1),
            arrived: Padded(AtomicUsize::new(0)),
            phase: Padded(AtomicU32::new(0)),
            next_item: Padded(AtomicUsize::new(0)),
            panicked: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            program: Padded(AtomicU32::new(0)),
            state: Mutex::new(State { task: None, payload: None, stop: false }),
            wake: Condvar::new(),
        });
        let threads = (1..shared.num_threads)
            .map(|id| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("artesian-kernel-{id}"))
                    .spawn(move || serve(&shared, id))
                    .expect("the system refused a thread; use fewer (--num-threads)")
            })
            .collect();
        ThreadPool { shared, threads, running: Mutex::new(()) }
    }

    /// How many threads run a program.
    pub fn num_threads(&self) -> usize {
        self.shared.num_threads
    }

    /// Whether a program runs right now.
    pub fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Relaxed)
    }

    /// Runs `task` on every thread and returns when all are done. One program runs at a time.
    ///
    /// # Panics
    /// With the first panic of any thread.
    pub fn run(&self, task: Task<'_>) {
        let _one_at_a_time = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: the reference is used by pool threads only until the last barrier below or, after
        // a panic, until they have all arrived in `finish`; `run` does not return before that.
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        shared.busy.store(true, Ordering::Relaxed);
        if shared.num_threads > 1 {
            shared.lock().task = Some(task);
            shared.program.0.fetch_add(1, Ordering::Release);
            shared.wake.notify_all();
        }
        execute(shared, 0, task);
        shared.busy.store(false, Ordering::Relaxed);
        if let Some(payload) = shared.lock().payload.take() {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(payload);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.program.0.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A pool thread cannot panic outside a task, and a task's panic was already reported.
            let _ = thread.join();
        }
    }
}

fn execute(shared: &Shared, id: usize, task: Task<'_>) {
    let worker = Worker { shared, id, phase: Cell::new(shared.phase.0.load(Ordering::Acquire)) };
    let result = catch_unwind(AssertUnwindSafe(|| task(&worker)));
    if let Err(payload) = result {
        shared.panicked.store(true, Ordering::Relaxed);
        let mut state = shared.lock();
        state.payload.get_or_insert(payload);
    }
    finish(shared);
}

/// The last meeting of a program. After a panic the counters may be anywhere, so it counts on its
/// own.
fn finish(shared: &Shared) {
    if shared.num_threads == 1 {
        shared.next_item.0.store(0, Ordering::Relaxed);
        return;
    }
    // Ordinary programs leave `arrived` at 0 between barriers; `finish` counts in the high half.
    const FINISHED: usize = 1 << 32;
    let generation = shared.program.0.load(Ordering::Acquire);
    let count = shared.arrived.0.fetch_add(FINISHED, Ordering::AcqRel) / FINISHED + 1;
    if count == shared.num_threads {
        shared.next_item.0.store(0, Ordering::Relaxed);
        shared.arrived.0.store(0, Ordering::Release);
        return;
    }
    let mut num_waits = 0u32;
    while shared.arrived.0.load(Ordering::Acquire) >= FINISHED
        && shared.program.0.load(Ordering::Acquire) == generation
    {
        num_waits = num_waits.saturating_add(1);
        if num_waits < NUM_SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

fn serve(shared: &Shared, id: usize) {
    let mut seen = 0u32;
    loop {
        let mut num_waits = 0u32;
        while shared.program.0.load(Ordering::Acquire) == seen {
            num_waits += 1;
            if num_waits < NUM_SPINS {
                std::hint::spin_loop();
            } else if num_waits < NUM_SPINS + NUM_YIELDS {
                std::thread::yield_now();
            } else {
                let mut state = shared.lock();
                while shared.program.0.load(Ordering::Acquire) == seen && !state.stop {
                    state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        seen = shared.program.0.load(Ordering::Acquire);
        let task = {
            let state = shared.lock();
            if state.stop {
                return;
            }
            state.task
        };
        if let Some(task) = task {
            execute(shared, id, task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_item_runs_once_in_every_loop() {
        for num_threads in [1, 2, 3, 5] {
            let pool = ThreadPool::new(num_threads);
            let hits: Vec<AtomicU64> = (0..97).map(|_| AtomicU64::new(0)).collect();
            for _ in 0..50 {
                pool.run(&|worker| {
                    for _ in 0..20 {
                        worker.for_each(hits.len(), |i| {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1000));
        }
    }

    #[test]
    fn a_barrier_separates_what_is_before_from_what_is_after() {
        let pool = ThreadPool::new(3);
        let sum = AtomicU64::new(0);
        pool.run(&|worker| {
            for round in 1..200u64 {
                sum.fetch_add(1, Ordering::Relaxed);
                worker.barrier();
                assert_eq!(sum.load(Ordering::Relaxed), 3 * round);
                worker.barrier();
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(3);
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    worker.barrier();
                    assert!(worker.id() != culprit, "kernel failed");
                    worker.barrier();
                });
            }));
            assert!(result.is_err());
            let sum = AtomicU64::new(0);
            pool.run(&|worker| {
                worker.for_each(10, |i| {
                    sum.fetch_add(i as u64, Ordering::Relaxed);
                })
            });
            assert_eq!(sum.load(Ordering::Relaxed), 45);
        }
    }
}
