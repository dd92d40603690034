//! The frequency-counter cache: accesses that are not counted in the pool yet.

use std::collections::HashMap;

/// Accesses of one slot that go into one FAA.
const MOST_ACCESSES: u32 = 10;
/// What an entry takes in memory, in bytes, the map's own room included.
const ENTRY_BYTES: usize = 64;

/// Accesses to be added to a slot's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Address of the slot.
    pub at: u64,
    /// The slot's word when the accesses happened: they are of no use to another object.
    pub slot: u64,
    /// Number of accesses.
    pub accesses: u32,
}

struct Pending {
    slot: u64,
    accesses: u32,
    born: u64,
}

/// Counts hits, so that up to ten of one slot share a FAA. When it is full the oldest entry goes.
pub struct CounterCache {
    pending: HashMap<u64, Pending>,
    /// Addresses by age of their entries; those of entries flushed since are skipped.
    ages: std::collections::VecDeque<(u64, u64)>,
    born: u64,
    most: usize,
}

impl CounterCache {
    /// A cache of at most `bytes` bytes (Ditto: 10 MB); without room every access is flushed.
    pub fn new(bytes: usize) -> CounterCache {
        let most = bytes / ENTRY_BYTES;
        CounterCache { pending: HashMap::new(), ages: Default::default(), born: 0, most }
    }

    /// Counts an access of the object to which `slot`, the word at `at`, refers. What it returns
    /// is to be added in the pool, if the slot still holds the same.
    pub fn count(&mut self, at: u64, slot: u64) -> Option<Flush> {
        if self.most == 0 {
            return Some(Flush { at, slot, accesses: 1 });
        }
        if let Some(entry) = self.pending.get_mut(&at) {
            if entry.slot != slot {
                // Another object lies there now: what was counted for the old one is void.
                (entry.slot, entry.accesses) = (slot, 0);
            }
            entry.accesses += 1;
            return (entry.accesses >= MOST_ACCESSES).then(|| self.take(at)).flatten();
        }
        self.born += 1;
        self.pending.insert(at, Pending { slot, accesses: 1, born: self.born });
        self.ages.push_back((at, self.born));
        self.pop_oldest()
    }

    /// Accesses of the slot that the pool does not have yet.
    pub fn pending(&self, at: u64, slot: u64) -> u32 {
        self.pending.get(&at).filter(|entry| entry.slot == slot).map_or(0, |entry| entry.accesses)
    }

    /// Forgets what was counted for a slot: its object is gone.
    pub fn forget(&mut self, at: u64) {
        self.pending.remove(&at);
    }

    /// Takes everything out, for a client that leaves or has nothing to do.
    pub fn drain(&mut self) -> impl Iterator<Item = Flush> + '_ {
        self.ages.clear();
        let flush = |(at, entry): (u64, Pending)| {
            let Pending { slot, accesses, .. } = entry;
            Flush { at, slot, accesses }
        };
        self.pending.drain().map(flush)
    }

    fn take(&mut self, at: u64) -> Option<Flush> {
        let Pending { slot, accesses, .. } = self.pending.remove(&at)?;
        Some(Flush { at, slot, accesses })
    }

    fn pop_oldest(&mut self) -> Option<Flush> {
        // Also bounds what is left of entries that were flushed early.
        while self.pending.len() > self.most || self.ages.len() > 2 * self.most {
            let (at, born) = self.ages.pop_front()?;
            if self.pending.get(&at).is_some_and(|entry| entry.born == born) {
                return self.take(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::Random;
    use std::collections::BTreeMap;

    #[test]
    fn ten_accesses_share_a_flush() {
        let mut cache = CounterCache::new(1 << 10);
        assert!((1..10).all(|_| cache.count(64, 5).is_none()));
        assert_eq!(cache.pending(64, 5), 9);
        assert_eq!(cache.count(64, 5), Some(Flush { at: 64, slot: 5, accesses: 10 }));
        assert_eq!(cache.pending(64, 5), 0);
        assert_eq!(CounterCache::new(0).count(8, 1), Some(Flush { at: 8, slot: 1, accesses: 1 }));
    }

    #[test]
    fn accesses_of_an_object_that_is_gone_are_not_added_to_the_next() {
        let mut cache = CounterCache::new(1 << 10);
        assert!((0..5).all(|_| cache.count(64, 5).is_none()));
        cache.count(64, 6);
        assert_eq!((cache.pending(64, 5), cache.pending(64, 6)), (0, 1));
        cache.forget(64);
        assert_eq!(cache.drain().count(), 0);
    }

    #[test]
    fn the_oldest_goes_and_nothing_is_lost() {
        let most = 50;
        let mut cache = CounterCache::new(most * ENTRY_BYTES);
        let mut counts = BTreeMap::<u64, (u32, u32)>::new();
        let mut random = Random(7);
        let mut born = Vec::<u64>::new();
        for _ in 0..20_000 {
            let at = random.next() % (1 + random.next() % 400);
            counts.entry(at).or_default().0 += 1;
            if !born.contains(&at) {
                born.push(at);
            }
            if let Some(flush) = cache.count(at, 1) {
                counts.get_mut(&flush.at).unwrap().1 += flush.accesses;
                if flush.accesses < MOST_ACCESSES {
                    assert_eq!(flush.at, born[0], "the oldest");
                }
                born.retain(|&other| other != flush.at);
            }
            assert!(cache.pending.len() <= most && cache.ages.len() <= 2 * most + 1);
        }
        let rest: Vec<Flush> = cache.drain().collect();
        for flush in rest {
            counts.get_mut(&flush.at).unwrap().1 += flush.accesses;
        }
        assert!(counts.values().all(|(counted, added)| counted == added));
    }
}
