//! Room in a pool that is full although the cache is not.
//!
//! Objects are evicted; but an eviction itself writes a log object, which its history entry keeps.
//! So when those become few, history is cleared away first: a round puts a value in its slot that
//! keeps no object, and both log objects, the history's and the round's, are free.

use smallvec::SmallVec;

use super::change::Attempt;
use super::evict::{Becomes, Victims, LOG_OBJECT, MOST_SAMPLES, MOST_VICTIMS};
use super::usage::Amount;
use super::Cache;
use crate::address::GRANULE;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::slot::HISTORY_CLASS;
use crate::store::InUse;

/// How often a put makes room before it gives up.
const ATTEMPTS: u32 = 8;
/// This part of a cache may go at once.
const LITTLE: i64 = 32;
/// Puts between two searches for a block of log objects in a full pool.
pub(super) const SEARCH_PAUSE: u32 = 256;

impl Cache {
    /// Whether it is time to see to the stock of log objects.
    #[inline]
    pub(super) fn stock_is_due(&mut self) -> bool {
        self.stock_pause = self.stock_pause.saturating_sub(1);
        self.stock_pause == 0
    }
}

impl Client {
    /// Sees to it that evictions have log objects when the pool is full.
    #[inline]
    pub(super) fn stock_logs(&mut self, cache: &mut Cache) -> Result<()> {
        if self.alloc.stocks(HISTORY_CLASS) || !cache.stock_is_due() {
            return Ok(());
        }
        if !self.alloc.stock(&self.fabric, HISTORY_CLASS)? {
            cache.stock_pause = SEARCH_PAUSE;
        }
        Ok(())
    }

    /// The pool has no room for an object of `bytes` bytes: makes some, or gives up. Ends the try
    /// of a change so far.
    #[cold]
    pub(super) fn cache_make_room(
        &mut self,
        cache: &mut Cache,
        attempt: &mut Attempt,
        bytes: usize,
    ) -> Result<()> {
        self.cache_unlock(attempt)?;
        if let Some(room) = attempt.room.take() {
            self.alloc.recycle(room);
            attempt.written = false;
        }
        if attempt.rooms >= ATTEMPTS {
            return Err(PoolError::Full { bytes });
        }
        attempt.rooms += 1;
        self.cache_give_way(cache, bytes)?;
        match self.alloc.make_room(&self.fabric, bytes, &InUse) {
            Err(PoolError::Full { .. }) if attempt.rooms < ATTEMPTS => Ok(()),
            outcome => outcome,
        }
    }

    /// Lets some objects go, or history if there are too few log objects for that. Between tries.
    #[cold]
    pub(super) fn cache_give_way(&mut self, cache: &mut Cache, bytes: usize) -> Result<()> {
        let outcome = match self.alloc.stocks(HISTORY_CLASS) {
            true => self.evict_for(cache, bytes),
            false => self.clear_some(cache),
        };
        match outcome {
            Ok(()) | Err(PoolError::Full { .. } | PoolError::ViewChanged) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Evicts more than is wanted, as what was evicted can only be used after the grace period:
    /// but not much of the cache.
    fn evict_for(&mut self, cache: &mut Cache, bytes: usize) -> Result<()> {
        let wanted = (bytes as u64).div_ceil(GRANULE) as i64;
        let little = cache.usage.total().granules / LITTLE;
        let granules = (wanted * MOST_VICTIMS as i64).min(little).max(2 * wanted);
        for _ in 0..MOST_SAMPLES {
            if self.evict_some(cache, Amount { objects: 0, granules })? > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Clears history and deletions away, until there have been some or for so many samples.
    fn clear_some(&mut self, cache: &mut Cache) -> Result<()> {
        let mut cleared = 0;
        for _ in 0..MOST_SAMPLES {
            cache.sample.widen();
            match self.clear_once(cache) {
                Ok(more) => cleared += more,
                Err(PoolError::Full { .. }) => break,
                Err(error) => return Err(error),
            }
            if cleared >= MOST_VICTIMS {
                break;
            }
        }
        match self.alloc.make_room(&self.fabric, LOG_OBJECT, &InUse) {
            Ok(()) | Err(PoolError::Full { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One sample of refuse. Returns how much was cleared away.
    fn clear_once(&mut self, cache: &mut Cache) -> Result<usize> {
        self.fabric.pass_gate()?;
        cache.refresh(&self.fabric, &mut self.alloc)?;
        let mut verbs = SmallVec::new();
        cache.sample.post(&cache.table, &self.fabric, &mut verbs);
        if verbs.is_empty() {
            return Ok(0);
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let refuse = cache.sample.refuse(cache.evictions, MOST_VICTIMS);
        let refuse: SmallVec<[_; MOST_VICTIMS]> = refuse.iter().copied().collect();
        let mut victims = Victims::new();
        for entry in refuse {
            match self.make_victim(cache, entry, Becomes::Empty) {
                Ok(victim) => victims.push(victim),
                // With what there is.
                Err(PoolError::Full { .. }) if !victims.is_empty() => break,
                Err(error) => {
                    victims.into_iter().for_each(|victim| self.alloc.recycle(victim.log));
                    return Err(error);
                }
            }
        }
        self.play_victims(cache, victims)
    }
}
