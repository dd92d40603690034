//! Where this client last saw keys: hints that save the READ of the buckets.
//!
//! A hint is nearly always the first thing an operation touches, so that its place in the CPU's
//! caches matters: a set is one cache line, and the table grows with the keys that are in use.

use super::bucket::Candidate;
use super::hash::KeyHash;
use crate::address::PoolAddr;
use crate::slot::Slot;

/// Hints of a set.
const WAYS: usize = 4;
/// log2 of the number of sets to begin with, unless the bound is less.
const FIRST_BITS: u32 = 8;
/// The table grows when it holds more than this many hints a set.
const FULL: usize = 2;

/// ```text
/// slot 64 | slot's address / 8: 43, part of the hash 15, score 5, referenced 1
/// ```
/// The slot's fingerprint and the set tell more of the hash; the rest must not be missed, as the
/// object has the key.
#[derive(Clone, Copy, Default)]
struct Line {
    slot: u64,
    rest: u64,
}

const REFERENCED: u64 = 1;
const SCORE_SHIFT: u32 = 1;
const SCORE_MASK: u64 = 31 << SCORE_SHIFT;
const TAG_SHIFT: u32 = 6;
const TAG_BITS: u32 = 15;
const TAG_MASK: u64 = ((1 << TAG_BITS) - 1) << TAG_SHIFT;
const PLACE_SHIFT: u32 = TAG_SHIFT + TAG_BITS;

/// A use costs one point, a wrong hint brings ten: a hint that is wrong more often than once in ten
/// uses (FUSEE's threshold) comes to this score, and is not relied on until uses have lowered it.
const BYPASS: u64 = 20 << SCORE_SHIFT;
const WRONG: u64 = 10 << SCORE_SHIFT;

/// Bits of the hash below those that choose the set.
const SKIPPED_BITS: u32 = 8;

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Line; WAYS]);

/// What the cache advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is known.
    None,
    /// The slot was here and held this.
    Seen(Candidate),
    /// The slot was here, but others change the key so often that it will hold something else.
    Restless(Candidate),
}

/// A set-associative table of bounded size.
pub struct IndexCache {
    sets: Vec<Set>,
    /// log2 of the number of sets at the beginning and at most.
    first_bits: u32,
    last_bits: u32,
    used: usize,
    hand: usize,
}

impl Line {
    #[inline]
    fn is_of(self, hash: KeyHash, tag: u64) -> bool {
        self.rest & TAG_MASK == tag && self.slot >> 56 == hash.0 >> 56 && self.slot != 0
    }

    fn seen(self) -> Candidate {
        Candidate { at: PoolAddr(self.rest >> PLACE_SHIFT << 3), slot: Slot(self.slot) }
    }
}

impl IndexCache {
    /// A cache of at most `bytes` bytes; 0 turns it off.
    pub fn new(bytes: usize) -> IndexCache {
        let most = bytes / size_of::<Set>();
        let last_bits = most.max(1).ilog2();
        // The tag has all bits of the hash that ever choose a set.
        let first_bits = FIRST_BITS.min(last_bits).max(last_bits.saturating_sub(TAG_BITS));
        let sets = if most == 0 { 0 } else { 1 << first_bits };
        IndexCache { sets: vec![Set::default(); sets], first_bits, last_bits, used: 0, hand: 0 }
    }

    #[inline]
    fn tag(&self, hash: KeyHash) -> u64 {
        (hash.0 >> (SKIPPED_BITS + self.first_bits) << TAG_SHIFT) & TAG_MASK
    }

    #[inline]
    fn set(&mut self, hash: KeyHash) -> Option<&mut Set> {
        let mask = self.sets.len().wrapping_sub(1);
        self.sets.get_mut((hash.0 >> SKIPPED_BITS) as usize & mask)
    }

    #[inline]
    fn line(&mut self, hash: KeyHash) -> Option<&mut Line> {
        let tag = self.tag(hash);
        self.set(hash)?.0.iter_mut().find(|line| line.is_of(hash, tag))
    }

    /// The hint for a key; counts as a use.
    #[inline]
    pub fn look(&mut self, hash: KeyHash) -> Hint {
        let Some(line) = self.line(hash) else { return Hint::None };
        let score = line.rest & SCORE_MASK;
        line.rest = (line.rest - score.min(1 << SCORE_SHIFT)) | REFERENCED;
        if score >= BYPASS {
            return Hint::Restless(line.seen());
        }
        Hint::Seen(line.seen())
    }

    /// The hint was out of date.
    pub fn was_wrong(&mut self, hash: KeyHash) {
        if let Some(line) = self.line(hash) {
            let score = (line.rest & SCORE_MASK) + WRONG;
            line.rest = (line.rest & !SCORE_MASK) | score.min(SCORE_MASK);
        }
    }

    /// The key's slot is this.
    #[inline]
    pub fn remember(&mut self, hash: KeyHash, seen: Candidate) {
        debug_assert!(seen.at.0.is_multiple_of(8) && seen.slot.fingerprint() == hash.fingerprint());
        let place = seen.at.0 >> 3 << PLACE_SHIFT;
        if let Some(line) = self.line(hash) {
            line.slot = seen.slot.0;
            line.rest = (line.rest & ((1 << PLACE_SHIFT) - 1)) | place;
            return;
        }
        if self.used > self.sets.len() * FULL && self.sets.len() < 1 << self.last_bits {
            self.grow();
        }
        let line = Line { slot: seen.slot.0, rest: place | self.tag(hash) };
        self.hand = self.hand.wrapping_add(1);
        let hand = self.hand;
        let Some(set) = self.set(hash) else { return };
        let added = set.put(line, hand);
        self.used += usize::from(added);
    }

    /// The key has no slot.
    pub fn forget(&mut self, hash: KeyHash) {
        if let Some(line) = self.line(hash) {
            *line = Line::default();
            self.used -= 1;
        }
    }

    /// Twice as many sets: one more bit of the hash, which the tags have, chooses among them.
    #[cold]
    fn grow(&mut self) {
        let old = self.sets.len();
        let bit = 1 << (old.ilog2() - self.first_bits + TAG_SHIFT);
        self.sets.resize(old * 2, Set::default());
        let (lower, upper) = self.sets.split_at_mut(old);
        for (stays, moves) in lower.iter_mut().zip(upper) {
            for (line, other) in stays.0.iter_mut().zip(&mut moves.0) {
                if line.rest & bit != 0 {
                    *other = std::mem::take(line);
                }
            }
        }
    }
}

impl Set {
    /// Puts `line` in place of one that was not used of late; whether the set has one more.
    fn put(&mut self, line: Line, hand: usize) -> bool {
        let lines = &mut self.0;
        if let Some(empty) = lines.iter_mut().find(|line| line.slot == 0) {
            *empty = line;
            return true;
        }
        let idle = (0..WAYS).map(|way| (way + hand) % WAYS);
        let mut idle = idle.filter(|&way| lines[way].rest & REFERENCED == 0);
        let way = idle.next().unwrap_or(hand % WAYS);
        lines.iter_mut().for_each(|line| line.rest &= !REFERENCED);
        lines[way] = line;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(hash: KeyHash, number: u64) -> Candidate {
        let slot = Slot::new(hash.fingerprint(), 1, 3, PoolAddr(number * 64 + 64));
        Candidate { at: PoolAddr(64 + number * 8), slot }
    }

    fn hash(number: u64) -> KeyHash {
        KeyHash::of(0, &number.to_le_bytes())
    }

    #[test]
    fn hints_come_back_until_they_are_wrong_too_often() {
        let mut cache = IndexCache::new(1 << 16);
        let hash = KeyHash(0x1234_5678_9abc_def0);
        assert_eq!(cache.look(hash), Hint::None);
        cache.remember(hash, seen(hash, 1));
        for _ in 0..40 {
            assert_eq!(cache.look(hash), Hint::Seen(seen(hash, 1)));
        }
        for _ in 0..20 {
            cache.look(hash);
            cache.was_wrong(hash);
        }
        assert_eq!(cache.look(hash), Hint::Restless(seen(hash, 1)));
        for _ in 0..400 {
            cache.look(hash);
        }
        assert_eq!(cache.look(hash), Hint::Seen(seen(hash, 1)), "tried again");
        cache.forget(hash);
        assert_eq!(cache.look(hash), Hint::None);
    }

    #[test]
    fn one_wrong_hint_in_twenty_is_no_reason_to_bypass() {
        let mut cache = IndexCache::new(1 << 12);
        let hash = hash(5);
        for round in 0..2_000 {
            cache.remember(hash, seen(hash, round));
            assert_eq!(cache.look(hash), Hint::Seen(seen(hash, round)));
            if round % 20 == 0 {
                cache.was_wrong(hash);
            }
        }
    }

    #[test]
    fn the_table_grows_with_its_keys_and_keeps_them() {
        let mut cache = IndexCache::new(16 << 20);
        assert!(cache.sets.len() <= 256);
        for number in 0..100_000 {
            cache.remember(hash(number), seen(hash(number), number));
        }
        let sets = cache.sets.len();
        assert!((32_768..=65_536).contains(&sets), "{sets}");
        let right = |number: &u64| {
            let hash = hash(*number);
            cache.look(hash) == Hint::Seen(seen(hash, *number))
        };
        let kept = (0..100_000).filter(right).count();
        assert!(kept > 93_000, "{kept}");
        let held = cache.sets.iter().flat_map(|set| set.0).filter(|line| line.slot != 0).count();
        assert_eq!(held, cache.used);
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        for bytes in [64, 4096, 1 << 16] {
            let mut cache = IndexCache::new(bytes);
            let used = hash(7);
            for number in 0..10_000 {
                cache.remember(hash(number), seen(hash(number), number));
                cache.remember(used, seen(used, 7));
                assert_eq!(cache.look(used), Hint::Seen(seen(used, 7)), "{number}");
            }
            assert_eq!(cache.sets.len() * size_of::<Set>(), bytes);
        }
        let mut off = IndexCache::new(0);
        off.remember(hash(5), seen(hash(5), 1));
        assert_eq!(off.look(hash(5)), Hint::None);
    }
}
