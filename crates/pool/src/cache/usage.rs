//! How much of a cache is in use, as one client knows it.
//!
//! One word of the root has the sum: objects in its upper 28 bits, granules of 64 bytes in the
//! lower 36, both signed, as clients tell at different times. A client tells its changes by FAA,
//! and learns the sum, when they have become large or it has not asked for long.

use super::config::CacheConfig;
use crate::address::GRANULE;

const GRANULE_BITS: u32 = 36;
/// All clients together keep at most this part of the capacity to themselves, beyond an object
/// each.
const SLACK: u64 = 64;
/// Changes after which a client asks in any case.
const CALLS: u32 = 64;

/// Objects and granules, in use or of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Number of objects.
    pub objects: i64,
    /// Their classes' bytes, in units of 64.
    pub granules: i64,
}

impl Amount {
    /// One object of so many bytes.
    pub(super) fn one(bytes: u64) -> Amount {
        Amount { objects: 1, granules: bytes.div_ceil(GRANULE) as i64 }
    }

    /// The word that a FAA adds for it.
    pub(super) fn word(self) -> u64 {
        ((self.objects << GRANULE_BITS).wrapping_add(self.granules)) as u64
    }

    /// What a word holds.
    pub(super) fn of_word(word: u64) -> Amount {
        let granules = ((word << (64 - GRANULE_BITS)) as i64) >> (64 - GRANULE_BITS);
        Amount { objects: (word as i64).wrapping_sub(granules) >> GRANULE_BITS, granules }
    }

    pub(super) fn plus(self, other: Amount) -> Amount {
        Amount { objects: self.objects + other.objects, granules: self.granules + other.granules }
    }

    pub(super) fn minus(self, other: Amount) -> Amount {
        Amount { objects: self.objects - other.objects, granules: self.granules - other.granules }
    }

    /// Whether there is more than nothing of one of them.
    pub(super) fn is_over(self) -> bool {
        self.objects > 0 || self.granules > 0
    }
}

/// One client's view of the use.
#[derive(Debug)]
pub(super) struct Usage {
    limit: Amount,
    /// The shared word when this client last told it something, that included.
    known: Amount,
    untold: Amount,
    lazy: Amount,
    calls: u32,
    /// Granules that the namespace's meter has not been told of.
    uncounted: i64,
}

impl Usage {
    /// Nothing known yet. There may be `clients` clients.
    pub(super) fn new(config: &CacheConfig, clients: u16) -> Usage {
        let limit = |most: u64| if most == 0 { i64::MAX / 4 } else { most.min(1 << 60) as i64 };
        let limit =
            Amount { objects: limit(config.objects), granules: limit(config.bytes / GRANULE) };
        let part = |most: i64| (most / (SLACK * u64::from(clients)) as i64).max(1);
        let lazy = Amount { objects: part(limit.objects), granules: part(limit.granules) };
        let (known, untold) = Default::default();
        Usage { limit, known, untold, lazy, calls: CALLS, uncounted: 0 }
    }

    /// The use as far as known.
    pub(super) fn total(&self) -> Amount {
        self.known.plus(self.untold)
    }

    /// Takes note of a change.
    #[inline]
    pub(super) fn add(&mut self, change: Amount) {
        self.untold = self.untold.plus(change);
        self.uncounted += change.granules;
        self.calls += 1;
    }

    /// Bytes added since this was last asked.
    #[inline]
    pub(super) fn uncounted(&mut self) -> i64 {
        std::mem::take(&mut self.uncounted) * GRANULE as i64
    }

    /// By how much the cache would be too full with `more`.
    #[inline]
    pub(super) fn excess(&self, more: Amount) -> Amount {
        self.total().plus(more).minus(self.limit)
    }

    /// The most bytes that a single object may have.
    pub(super) fn most_bytes(&self) -> u64 {
        (self.limit.granules as u64).saturating_mul(GRANULE)
    }

    /// What is to be added to the shared word now, if anything.
    #[inline]
    pub(super) fn due(&self) -> Option<Amount> {
        let large = self.untold.objects.abs() >= self.lazy.objects
            || self.untold.granules.abs() >= self.lazy.granules;
        (large || self.calls >= CALLS).then_some(self.untold)
    }

    /// All that is to be added.
    pub(super) fn untold(&self) -> Amount {
        self.untold
    }

    /// `told` was added; the word was `found` before, unless that is not known.
    pub(super) fn told(&mut self, told: Amount, found: Option<u64>) {
        self.calls = 0;
        self.untold = self.untold.minus(told);
        let before = found.map_or(self.known, Amount::of_word);
        self.known = before.plus(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_add_up(changes in proptest::collection::vec((-3i64..4, -70i64..80), 0..200)) {
            let (mut word, mut sum) = (0u64, Amount::default());
            for (objects, granules) in changes {
                let change = Amount { objects, granules };
                word = word.wrapping_add(change.word());
                sum = sum.plus(change);
                prop_assert_eq!(Amount::of_word(word), sum);
            }
        }
    }

    #[test]
    fn a_client_tells_soon_and_learns_what_others_told() {
        let config = CacheConfig { bytes: 1 << 20, ..CacheConfig::of_objects(64_000) };
        let mut usage = Usage::new(&config, 10);
        assert_eq!(usage.due(), Some(Amount::default()), "nothing is known at first");
        usage.told(Amount::default(), Some(Amount { objects: 63_000, granules: 100 }.word()));
        let object = Amount::one(65);
        (0..12).for_each(|_| usage.add(object));
        assert_eq!((usage.due(), usage.total().objects), (None, 63_012));
        usage.add(object);
        let told = usage.due().expect("26 of 16384 granules are more than a 640th");
        assert_eq!(told, Amount { objects: 13, granules: 26 });
        usage.told(told, Some(Amount { objects: 63_999, granules: 16_000 }.word()));
        assert_eq!(usage.total(), Amount { objects: 64_012, granules: 16_026 });
        assert_eq!(usage.excess(Amount::one(64 * 400)), Amount { objects: 13, granules: 42 });
        let even = Amount::default();
        (0..CALLS).for_each(|_| usage.add(even));
        assert_eq!(usage.due(), Some(even), "asks now and then");
    }
}
