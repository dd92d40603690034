//! The cache: a namespace whose keys may be evicted, run by its clients (after Ditto, SOSP 2023).
//!
//! A table of buckets of eight slots in which a key has one bucket; every slot has five words of
//! metadata beside it, so that one READ of neighbouring slots is a sample for an eviction. Objects,
//! rounds, log entries and recovery are the store's. Nothing runs on the memory nodes.
//!
//! `README.md` of this crate has the protocol.

mod bucket;
mod change;
mod config;
mod evict;
mod get;
mod large;
mod layout;
mod learn;
mod lock;
mod notes;
mod open;
mod ops;
mod part;
mod play;
pub mod policy;
mod raze;
mod recount;
mod room;
mod sample;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod usage;
mod walk;

pub use config::{CacheConfig, MAX_ALGORITHM_BYTES, MAX_SAMPLE};
pub use stats::{CacheStats, ExpertStats};
pub use walk::{
    candidates, for_each_slot, held_locks, is_table_memory, memory, note_death, reconcile_tables,
    slots_of_hash, TableParts,
};

use artesian_bus::Verb;
use smallvec::SmallVec;

use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::namespace::Namespace;

use layout::USED;
use notes::Notes;
use policy::{CounterCache, Policy};
use sample::Sample;
use stats::Counts;
use table::Table;
use usage::{Amount, Usage};

/// Bytes of a cache's frequency-counter cache (Ditto: 10 MB).
const COUNTER_BYTES: usize = 4 << 20;

/// Units of the clock by which objects are ranked: microseconds.
fn now_us(fabric: &Fabric) -> u64 {
    fabric.verbs().now_ns() / 1_000
}

/// One client's part of a cache.
pub(crate) struct Cache {
    namespace: Namespace,
    /// The word that names the root.
    place: u64,
    table: Table,
    /// The view for which the table's place was looked up.
    view: u64,
    policy: Policy,
    counters: CounterCache,
    usage: Usage,
    notes: Notes,
    sample: Sample,
    /// Evictions so far, as last seen.
    evictions: u64,
    /// Puts until the stock of log objects is seen to again.
    stock_pause: u32,
    counts: Counts,
}

impl Cache {
    /// The evictions that are remembered.
    #[inline]
    fn history(&self) -> u64 {
        self.table.shape.config.history
    }

    /// Adds what has been put off to a batch, in front: what is told of the use, then the notes.
    #[inline]
    fn post<'a>(&'a self, fabric: &Fabric, verbs: &mut SmallVec<[Verb<'a>; 8]>) -> Option<Amount> {
        let told = self.usage.due().filter(|told| self.post_use(fabric, *told, verbs));
        self.notes.post(fabric, verbs);
        told
    }

    /// Tells of the use; false if there is nobody to be told.
    fn post_use(&self, fabric: &Fabric, told: Amount, verbs: &mut SmallVec<[Verb<'_>; 8]>) -> bool {
        let copies = fabric.copies(self.table.root.add(USED));
        verbs.extend(copies.iter().map(|&copy| Verb::faa(copy, told.word())));
        !copies.is_empty()
    }

    /// That batch was posted; the first verb found `found`, if the batch had no error.
    #[inline]
    fn posted(&mut self, told: Option<Amount>, found: Option<u64>) {
        if let Some(told) = told {
            self.usage.told(told, found);
        }
        self.notes.clear();
    }

    /// Posts what has been put off, and learns how much is in use.
    fn settle(&mut self, fabric: &Fabric) -> Result<()> {
        // The table may be elsewhere by now, or gone: the next operation looks it up.
        if self.view != fabric.epoch() {
            return Ok(());
        }
        let mut verbs = SmallVec::new();
        let told = self.usage.untold();
        let told = Some(told).filter(|told| self.post_use(fabric, *told, &mut verbs));
        self.notes.post(fabric, &mut verbs);
        if verbs.is_empty() {
            return Ok(());
        }
        let outcome = fabric.batch(&mut verbs);
        let found = verbs.first().filter(|_| outcome.is_ok()).map(Verb::found);
        drop(verbs);
        self.posted(told, found);
        match outcome {
            Err(PoolError::ViewChanged) => Ok(()),
            outcome => outcome,
        }
    }
}

/// The caches that a client has open, by number of their namespace.
#[derive(Default)]
pub(crate) struct Caches {
    open: Vec<Option<Box<Cache>>>,
}

impl Caches {
    fn take(&mut self, id: u16) -> Result<Box<Cache>> {
        let cache = self.open.get_mut(usize::from(id)).and_then(Option::take);
        cache.ok_or_else(|| {
            PoolError::Invalid(format!("namespace {id} is no cache that this client has opened"))
        })
    }

    fn put(&mut self, cache: Box<Cache>) {
        let id = usize::from(cache.namespace.id);
        if self.open.len() <= id {
            self.open.resize_with(id + 1, || None);
        }
        self.open[id] = Some(cache);
    }

    /// Posts what should not wait for long.
    pub(crate) fn tick(&mut self, fabric: &Fabric) -> Result<()> {
        let mut waiting =
            self.open.iter_mut().flatten().filter(|cache| {
                !cache.notes.is_empty() || cache.usage.untold() != Amount::default()
            });
        waiting.try_for_each(|cache| cache.settle(fabric))
    }

    /// Posts all that has been put off: before the client goes idle or leaves.
    pub(crate) fn flush(&mut self, fabric: &Fabric) -> Result<()> {
        for cache in self.open.iter_mut().flatten() {
            let Cache { counters, notes, .. } = &mut **cache;
            counters.drain().for_each(|flush| notes.count(Some(flush)));
        }
        self.tick(fabric)
    }
}
