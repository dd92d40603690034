//! The executor: a thread beside a worker's engine that attends for its peers over its arena.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use artesian_bus::shm::ShmVerbs;
use artesian_bus::{Verb, Verbs};
use artesian_kernels::program::AttentionServer;
use parking_lot::Mutex;

use super::quota::Quota;
use super::residents::Residents;
use super::sched::set_schedule;
use super::service::{Arena, ArenaService, Counts};
use super::{Desk, DeskStats, ExchangeError, ExchangeShape, Far, Mailboxes, Patience};
use crate::region::{Area, Region};

/// How often clients are looked after, and how long they must have been silent.
const SWEEP_NS: u64 = 500_000_000;
/// The longest pause at a time, so that the end is not missed.
const MAX_PAUSE_NS: u64 = 20_000_000;

/// Whether the engine works right now.
pub type IsBusy = Box<dyn Fn() -> bool + Send>;

/// How an executor works.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorOptions {
    /// Another one than that of every earlier executor of the region; not 0.
    pub generation: u64,
    /// Of the program: clients have the same.
    pub fingerprint: u64,
    /// Sequences at most.
    pub num_slots: usize,
    /// Threads that attend.
    pub num_threads: usize,
    /// Of the time, while the engine works.
    pub share: f64,
    /// How to wait for messages while the engine does not work; while it does, it is slept.
    pub patience: Patience,
    /// Nice value of the thread; none: as it comes.
    pub nice: Option<i32>,
    /// Slices of the scheduler to ask for; 0: the system's.
    pub slice_ns: u64,
}

/// What an executor has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecutorStats {
    /// Messages.
    pub desk: DeskStats,
    /// Processor time of attending, of the first thread.
    pub cpu_ns: u64,
    /// Time that went by while attending.
    pub busy_ns: u64,
    /// Time that the share made it pause.
    pub paused_ns: u64,
    /// Bytes of keys and values that were read.
    pub kv_bytes: u64,
    /// Steps for which all memory was there already.
    pub plan_hits: u64,
    /// Steps for which memory was made.
    pub plan_misses: u64,
    /// Rows that steps had memory for and did not use.
    pub padding_rows: u64,
    /// Sequences that are there now.
    pub num_residents: usize,
}

struct Shared {
    stop: AtomicBool,
    share: AtomicU64,
    paused_ns: AtomicU64,
    counts: Arc<Counts>,
    desk: Mutex<DeskStats>,
}

/// A running executor; it ends when it is dropped.
pub struct Executor {
    shared: Arc<Shared>,
    residents: Arc<Residents>,
    region: Arc<Region>,
    thread: Option<JoinHandle<()>>,
}

impl Executor {
    /// Starts serving in the mailboxes of `region`, which [`super::format`] has made.
    ///
    /// # Errors
    /// For mailboxes that are too small, and where the system refuses a thread.
    ///
    /// # Safety
    /// As long as the executor lives, `arena` is writable memory of `num_blocks` blocks of the
    /// server's layout, 64-byte aligned, and nobody else writes the blocks of residents.
    pub unsafe fn start(
        region: Arc<Region>,
        server: AttentionServer,
        arena: *mut u8,
        num_blocks: usize,
        is_busy: IsBusy,
        options: ExecutorOptions,
    ) -> Result<Executor, ExchangeError> {
        let block_size = server.layout().block_size_tokens();
        let first = options.generation.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let residents =
            Arc::new(Residents::new(options.num_slots, block_size, num_blocks, first as u32));
        let counts = Arc::new(Counts::default());
        // SAFETY: the caller's promise; the service ends with the thread, which this joins.
        let service = unsafe {
            ArenaService::new(
                server,
                Arc::clone(&residents),
                options.num_threads,
                Arena(arena),
                Arc::clone(&counts),
            )
        };
        let here = mailboxes(&region);
        let connect = Box::new(connector(Arc::clone(&region)));
        let (generation, fingerprint) = (options.generation, options.fingerprint);
        let desk = Desk::open(here, generation, fingerprint, service, connect)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            share: AtomicU64::new(options.share.to_bits()),
            paused_ns: AtomicU64::new(0),
            counts,
            desk: Mutex::new(DeskStats::default()),
        });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("artesian-attend".into())
            .spawn(move || {
                set_schedule(options.nice, options.slice_ns);
                serve(desk, &seen, &is_busy, options.patience);
            })
            .map_err(|error| ExchangeError::Shape(format!("no thread for attention: {error}")))?;
        Ok(Executor { shared, residents, region, thread: Some(thread) })
    }

    /// The sequences that it serves.
    pub fn residents(&self) -> &Residents {
        &self.residents
    }

    /// Changes its share of the time while the engine works.
    pub fn set_share(&self, share: f64) {
        self.shared.share.store(share.to_bits(), Ordering::Relaxed);
    }

    /// What it has done so far.
    pub fn stats(&self) -> ExecutorStats {
        let counts = &self.shared.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ExecutorStats {
            desk: *self.shared.desk.lock(),
            cpu_ns: get(&counts.cpu_ns),
            busy_ns: get(&counts.busy_ns),
            paused_ns: get(&self.shared.paused_ns),
            kv_bytes: get(&counts.kv_bytes),
            plan_hits: get(&counts.plan_hits),
            plan_misses: get(&counts.plan_misses),
            padding_rows: get(&counts.padding_rows),
            num_residents: self.residents.len(),
        }
    }

    /// Whether it serves: its thread may have met a defect.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends it, behind the layer that it attends for; clients see that it is gone.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let here = mailboxes(&self.region);
        let doorbell = ExchangeShape::front(here.base).doorbell;
        if here.verbs.batch(&mut [Verb::faa(doorbell, 1)]).is_ok() {
            here.verbs.wake_mailbox(doorbell);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a defect was seen as an end, by clients and by `is_alive`
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The mailboxes of a region, by a connection for one thread.
pub fn mailboxes(region: &Region) -> Mailboxes<ShmVerbs> {
    Mailboxes { verbs: region.connect(), base: region.shape().addr(Area::Mailboxes) }
}

/// Finds clients' regions, of blocks like those of `own`.
fn connector(own: Arc<Region>) -> impl FnMut(&str) -> Result<Far<ShmVerbs>, ExchangeError> + Send {
    move |name| {
        let shape = own.shape();
        let region = Region::open(name, shape.block_bytes, shape.fingerprint)
            .map_err(|error| ExchangeError::Shape(error.to_string()))?;
        let far = mailboxes(&region);
        let num_bytes = region.shape().mailbox_bytes;
        Ok(Far { verbs: far.verbs, base: far.base, num_bytes })
    }
}

fn serve(
    mut desk: Desk<ShmVerbs, ArenaService>,
    shared: &Shared,
    is_busy: &IsBusy,
    patience: Patience,
) {
    let mut quota = Quota::new(1.0, desk.verbs().now_ns());
    let mut next_sweep = 0;
    let is_stopped = || shared.stop.load(Ordering::Acquire);
    while !is_stopped() {
        let before = shared.counts.cpu_ns.load(Ordering::Relaxed);
        let num_messages = desk.poll();
        let now = desk.verbs().now_ns();
        quota.set_share(f64::from_bits(shared.share.load(Ordering::Relaxed)));
        let worked = shared.counts.cpu_ns.load(Ordering::Relaxed) - before;
        quota.spend(now, worked, is_busy());
        if num_messages > 0 {
            *shared.desk.lock() = desk.stats();
            pause(&mut quota, &desk, shared, is_busy);
            continue;
        }
        if now >= next_sweep {
            desk.sweep(SWEEP_NS);
            *shared.desk.lock() = desk.stats();
            next_sweep = now + SWEEP_NS;
        }
        // Whoever spins beside a busy engine takes the time that it is waiting for.
        let patience = if is_busy() { Patience::NONE } else { patience };
        desk.wait(next_sweep, patience, |sleeps| !is_stopped() && (sleeps || !is_busy()));
    }
}

/// Leaves the engine its share.
fn pause(
    quota: &mut Quota,
    desk: &Desk<ShmVerbs, ArenaService>,
    shared: &Shared,
    is_busy: &IsBusy,
) {
    let pause_ns = quota.pause_ns().min(MAX_PAUSE_NS);
    if pause_ns == 0 || !is_busy() {
        return;
    }
    let start = desk.verbs().now_ns();
    std::thread::sleep(std::time::Duration::from_nanos(pause_ns));
    let now = desk.verbs().now_ns();
    quota.spend(now, 0, true);
    shared.paused_ns.fetch_add(now - start, Ordering::Relaxed);
}
