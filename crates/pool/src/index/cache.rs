//! Where this client last saw keys: hints that save the READ of the buckets.

use super::bucket::Candidate;
use super::hash::KeyHash;
use crate::address::PoolAddr;
use crate::slot::Slot;

/// Entries looked at for one key.
const WAYS: usize = 4;
/// A hint that was wrong more often than once in this many uses is bypassed (FUSEE: 0.1),
const MOST_WRONG: u16 = 10;
/// but not before this many uses.
const FEWEST_USES: u16 = 16;

#[derive(Clone, Copy, Default)]
struct Line {
    hash: u64,
    at: u64,
    slot: u64,
    uses: u16,
    wrong: u16,
    age: u32,
}

/// What the cache advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is known, or the key changes too often for hints.
    None,
    /// The slot was here and held this.
    Seen(Candidate),
}

/// A set-associative table of bounded size, allocated once.
pub struct IndexCache {
    lines: Vec<Line>,
    clock: u32,
}

impl IndexCache {
    /// A cache of at most `bytes` bytes; 0 turns it off.
    pub fn new(bytes: usize) -> IndexCache {
        let sets = bytes / (WAYS * size_of::<Line>());
        let sets = if sets == 0 { 0 } else { 1 << sets.ilog2() };
        IndexCache { lines: vec![Line::default(); sets * WAYS], clock: 0 }
    }

    #[inline]
    fn set(&mut self, hash: KeyHash) -> Option<&mut [Line]> {
        let sets = self.lines.len() / WAYS;
        if sets == 0 {
            return None;
        }
        let set = (hash.0 >> 8) as usize & (sets - 1);
        Some(&mut self.lines[set * WAYS..(set + 1) * WAYS])
    }

    #[inline]
    fn line(&mut self, hash: KeyHash) -> Option<&mut Line> {
        let lines = self.set(hash)?;
        lines.iter_mut().find(|line| line.hash == hash.0 && line.at != 0)
    }

    /// The hint for a key; counts as a use.
    #[inline]
    pub fn look(&mut self, hash: KeyHash) -> Hint {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let Some(line) = self.line(hash) else { return Hint::None };
        line.age = clock;
        if line.uses == u16::MAX {
            (line.uses, line.wrong) = (line.uses / 2, line.wrong / 2);
        }
        line.uses += 1;
        if line.uses >= FEWEST_USES && line.wrong > line.uses / MOST_WRONG {
            return Hint::None;
        }
        Hint::Seen(Candidate { at: PoolAddr(line.at), slot: Slot(line.slot) })
    }

    /// The hint was out of date.
    pub fn was_wrong(&mut self, hash: KeyHash) {
        if let Some(line) = self.line(hash) {
            line.wrong = line.wrong.saturating_add(1);
        }
    }

    /// The key's slot is this.
    #[inline]
    pub fn remember(&mut self, hash: KeyHash, seen: Candidate) {
        let clock = self.clock;
        if let Some(line) = self.line(hash) {
            (line.at, line.slot) = (seen.at.0, seen.slot.0);
            return;
        }
        let Some(lines) = self.set(hash) else { return };
        let oldest =
            lines.iter_mut().max_by_key(|line| (line.at == 0, clock.wrapping_sub(line.age)));
        if let Some(line) = oldest {
            let (hash, at, slot) = (hash.0, seen.at.0, seen.slot.0);
            *line = Line { hash, at, slot, uses: 0, wrong: 0, age: clock };
        }
    }

    /// The key has no slot.
    pub fn forget(&mut self, hash: KeyHash) {
        if let Some(line) = self.line(hash) {
            *line = Line::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u64) -> Candidate {
        Candidate { at: PoolAddr(64 + number * 8), slot: Slot(number + 1) }
    }

    #[test]
    fn hints_come_back_until_they_are_wrong_too_often() {
        let mut cache = IndexCache::new(1 << 16);
        let hash = KeyHash(0x1234_5678_9abc_def0);
        assert_eq!(cache.look(hash), Hint::None);
        cache.remember(hash, seen(1));
        for _ in 0..40 {
            assert_eq!(cache.look(hash), Hint::Seen(seen(1)));
        }
        for _ in 0..20 {
            cache.look(hash);
            cache.was_wrong(hash);
        }
        assert_eq!(cache.look(hash), Hint::None, "bypassed");
        for _ in 0..400 {
            cache.look(hash);
        }
        assert_eq!(cache.look(hash), Hint::Seen(seen(1)), "tried again");
        cache.forget(hash);
        assert_eq!(cache.look(hash), Hint::None);
    }

    #[test]
    fn memory_is_bounded_and_the_least_recent_goes() {
        let mut cache = IndexCache::new(1 << 12);
        let lines = cache.lines.len();
        for number in 0..10_000u64 {
            cache.remember(KeyHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), seen(number));
            cache.look(KeyHash(1 << 8));
            cache.remember(KeyHash(1 << 8), seen(7));
        }
        assert_eq!((cache.lines.len(), lines), (128, 128));
        assert_eq!(cache.look(KeyHash(1 << 8)), Hint::Seen(seen(7)));
        let mut off = IndexCache::new(0);
        off.remember(KeyHash(5), seen(1));
        assert_eq!(off.look(KeyHash(5)), Hint::None);
    }
}
