//! How many bytes namespaces use, and whether more may be added.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::record::{self, Namespace};
use super::record_offset;
use crate::config::{area, meta};
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::object::word;

const COUNT: usize = meta::NUM_NAMESPACES as usize;
/// Changes of a counter that are kept back, in bytes: up to this; under a quota up to a part of it,
/// if that is not very little.
const LAZY: u64 = 1 << 20;
const LAZY_SHARE: u64 = 256;
const LEAST_LAZY: u64 = 4 << 10;
/// Milliseconds between two counts of any namespace because of a quota.
const RECOUNT_PAUSE_MS: u64 = 2_000;

/// One client's counters. What it adds is written to the pool now and then; near a quota, where
/// it counts, at once.
pub struct Meter {
    counters: Vec<Counter>,
    dirty: SmallVec<[u16; 8]>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    generation: u16,
    /// What the pool has.
    written: i64,
    /// Added since.
    pending: i64,
    /// Changes up to this are kept back.
    lazy: u64,
    /// Bytes that may be added before the sum over all clients must be looked at.
    budget: u64,
}

impl Meter {
    /// The meter of the client of `fabric`: goes on from where its place's last client stopped.
    pub fn new(fabric: &Fabric) -> Result<Meter> {
        let mut bytes = [0; COUNT * 8];
        steadily(|| {
            let at = fabric.client_area(fabric.me().index, area::USAGE)[0];
            fabric.batch(&mut [Verb::read(at, &mut bytes)])
        })?;
        let written = |id: usize| word(&bytes, id * 8) as i64;
        let counter = |id| Counter { written: written(id), ..Counter::default() };
        Ok(Meter { counters: (0..COUNT).map(counter).collect(), dirty: SmallVec::new() })
    }

    /// Counts bytes that were added to the namespace, or with a negative number taken off it.
    #[inline]
    pub fn add(&mut self, namespace: &Namespace, bytes: i64) {
        let Some(counter) = self.counters.get_mut(namespace.id as usize) else { return };
        if counter.generation != namespace.generation {
            let written = counter.written;
            *counter = Counter { generation: namespace.generation, written, ..Counter::default() };
        }
        if counter.pending == 0 && !self.dirty.contains(&namespace.id) {
            self.dirty.push(namespace.id);
            counter.lazy = lazy(namespace.limits.quota);
        }
        counter.pending += bytes;
    }

    /// Whether `bytes` may be added under the namespace's quota. Others' additions are looked at
    /// when this client has used up its part of what was left: the quota may be overrun by a part
    /// in 2 * places for every client that adds at the same time.
    #[inline]
    pub fn admit(&mut self, fabric: &Fabric, namespace: &Namespace, bytes: u64) -> Result<()> {
        if namespace.limits.quota == 0 {
            return Ok(());
        }
        let Some(counter) = self.counters.get_mut(namespace.id as usize) else { return Ok(()) };
        if counter.generation == namespace.generation && counter.budget >= bytes {
            counter.budget -= bytes;
            return Ok(());
        }
        self.admit_exactly(fabric, namespace, bytes)
    }

    #[cold]
    fn admit_exactly(&mut self, fabric: &Fabric, namespace: &Namespace, bytes: u64) -> Result<()> {
        self.add(namespace, 0);
        self.flush(fabric)?;
        let (used, quota) = (used(fabric, namespace)?, namespace.limits.quota);
        let left = quota.saturating_sub(used);
        if bytes > left {
            let namespace = namespace.name.clone();
            return Err(PoolError::QuotaExceeded { namespace, used, quota });
        }
        let share = (left - bytes) / (2 * u64::from(fabric.config().max_clients));
        self.counters[namespace.id as usize].budget = share;
        Ok(())
    }

    /// Writes large changes, between operations; costs nothing while they are small.
    #[inline]
    pub fn settle(&mut self, fabric: &Fabric) -> Result<()> {
        let is_large = |id: &u16| {
            let counter = &self.counters[*id as usize];
            counter.pending.unsigned_abs() >= counter.lazy
        };
        if self.dirty.iter().any(is_large) {
            self.flush(fabric)
        } else {
            Ok(())
        }
    }

    /// Writes all changes: before going idle or leaving, and for exact numbers.
    pub fn flush(&mut self, fabric: &Fabric) -> Result<()> {
        for at in 0..self.dirty.len() {
            let id = self.dirty[at];
            let counter = self.counters[id as usize];
            let sum = counter.written.wrapping_add(counter.pending);
            steadily(|| {
                let copies = fabric.client_area(fabric.me().index, area::USAGE + u64::from(id) * 8);
                let bytes = sum.to_le_bytes();
                let mut verbs: SmallVec<[Verb<'_>; 3]> =
                    copies.iter().map(|&copy| Verb::write(copy, &bytes)).collect();
                fabric.batch(&mut verbs)
            })?;
            self.counters[id as usize] = Counter { written: sum, pending: 0, ..counter };
        }
        self.dirty.clear();
        Ok(())
    }
}

/// Changes of a namespace with that quota that are kept back.
fn lazy(quota: u64) -> u64 {
    match quota {
        0 => LAZY,
        quota => (quota / LAZY_SHARE).clamp(LEAST_LAZY, LAZY),
    }
}

/// Bytes that the namespace uses, as far as the clients have told.
pub fn used(fabric: &Fabric, namespace: &Namespace) -> Result<u64> {
    let base = steadily(|| {
        let at = fabric.meta(record_offset(namespace.id) + record::BASE)[0];
        fabric.read_word(at)
    })?;
    let sum = steadily(|| counted(fabric, namespace.id))?.wrapping_add(base as i64);
    // Clients tell at different times: what one added another may have told to be gone before.
    Ok(sum.max(0) as u64)
}

/// A count of a namespace's objects, while others may change them.
///
/// What they tell during the count concerns objects that were counted before the change or after
/// it, about half of them each: so the count stands for the middle between what all had told
/// before and after. Exact if nobody changes anything. Else wrong by a part of what changes
/// meanwhile, and by what clients have kept back until now.
pub struct Recount {
    before: i64,
    deaths: u64,
}

impl Recount {
    /// Begins a count.
    pub fn begin(fabric: &Fabric, namespace: &Namespace) -> Result<Recount> {
        steadily(|| {
            let deaths = fabric.read_word(fabric.meta(meta::DEATHS)[0])?;
            Ok(Recount { before: counted(fabric, namespace.id)?, deaths })
        })
    }

    /// [`Recount::begin`] if clients have died since the last count, who may not have told of
    /// their last changes, and nobody in the pool has begun a count in the last seconds.
    pub fn begin_if_due(fabric: &Fabric, namespace: &Namespace) -> Result<Option<Recount>> {
        let now_ms = fabric.verbs().now_ns() / 1_000_000;
        let is_mine = steadily(|| {
            let (at, last) = (fabric.meta(meta::DEATHS)[0], fabric.meta(meta::RECOUNT)[0]);
            let noted = fabric.meta(record_offset(namespace.id) + record::COUNTED)[0];
            let last_ms = fabric.read_word(last)?;
            if fabric.read_word(at)? == fabric.read_word(noted)?
                || (last_ms != 0 && now_ms.abs_diff(last_ms) < RECOUNT_PAUSE_MS)
            {
                return Ok(false);
            }
            Ok(fabric.cas(last, last_ms, now_ms.max(1))? == last_ms)
        })?;
        if !is_mine {
            return Ok(None);
        }
        Recount::begin(fabric, namespace).map(Some)
    }

    /// Puts the namespace's number right: its objects have `bytes` bytes.
    pub fn end(self, fabric: &Fabric, namespace: &Namespace, bytes: u64) -> Result<()> {
        let deaths = self.deaths.to_le_bytes();
        steadily(|| {
            let after = counted(fabric, namespace.id)?;
            let told = self.before.wrapping_add(after.wrapping_sub(self.before) / 2);
            let base = (bytes as i64).wrapping_sub(told).to_le_bytes();
            let mut verbs: SmallVec<[Verb<'_>; 6]> = SmallVec::new();
            for copy in fabric.meta(record_offset(namespace.id)) {
                verbs.push(Verb::write(copy.add(record::BASE), &base));
                verbs.push(Verb::write(copy.add(record::COUNTED), &deaths));
            }
            fabric.batch(&mut verbs)
        })
    }
}

/// Puts a namespace's number right, after its objects have been counted while nobody changed it.
pub fn recount(fabric: &Fabric, namespace: &Namespace, bytes: u64) -> Result<()> {
    Recount::begin(fabric, namespace)?.end(fabric, namespace, bytes)
}

/// The sum of all places' counters.
pub(super) fn counted(fabric: &Fabric, id: u16) -> Result<i64> {
    let places = fabric.config().max_clients;
    let mut words = vec![[0; 8]; usize::from(places)];
    let offset = area::USAGE + u64::from(id) * 8;
    let at = |index: usize| fabric.client_area(index as u16, offset)[0];
    let mut verbs: Vec<Verb<'_>> =
        words.iter_mut().enumerate().map(|(index, word)| Verb::read(at(index), word)).collect();
    fabric.batch(&mut verbs)?;
    Ok(words.into_iter().map(i64::from_le_bytes).fold(0, i64::wrapping_add))
}
