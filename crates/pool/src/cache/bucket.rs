//! Which slot of its bucket a new key gets.

use super::layout::{history_number, NUMBER, SLOTS};
use super::policy::{metadata, Candidate, Ghost, Metadata, Policy};
use super::table::Entry;
use crate::slot::{tag, Slot};

/// What a slot is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing that is of use to anybody.
    Free,
    /// An eviction so many evictions ago that still can teach.
    History(u64),
    /// An object.
    Object,
}

/// The slot for a key that is not in the bucket.
pub(super) struct Choice {
    /// The slot.
    pub entry: Entry,
    /// What the history knows of the key.
    pub ghost: Option<Ghost>,
    /// The experts that wanted the object in this slot gone, if there is one.
    pub evicts: Option<u8>,
}

/// How many evictions ago the history entry came to be; `None` if it is forgotten.
pub(super) fn depth(entry: &Entry, evictions: u64, history: u64) -> Option<u64> {
    let number = history_number(entry.slot, entry.words[metadata::INSERT])?;
    let depth = evictions.wrapping_sub(number) & NUMBER;
    (depth < history).then_some(depth)
}

/// Chooses among the `entries` of a bucket: the key's own history, what is free, the oldest
/// history, or an object's slot. Objects are the last to go: few are in a bucket, and the worst of
/// them may be better than most of the cache. `is_lost` tells of objects that went with nodes.
pub(super) fn choose(
    entries: &[Entry; SLOTS],
    hash: u64,
    (evictions, history): (u64, u64),
    is_lost: impl Fn(Slot) -> bool,
    policy: &mut Policy,
    now: u64,
) -> Choice {
    let mut uses = [Use::Free; SLOTS];
    let mut ghost = None;
    for (entry, what) in entries.iter().zip(&mut uses) {
        let slot = entry.slot;
        if slot.class().is_some() && !is_lost(slot) {
            *what = Use::Object;
        } else if slot.kind() == tag::HISTORY {
            if let Some(depth) = depth(entry, evictions, history) {
                *what = Use::History(depth);
                if entry.words[metadata::HASH] == hash {
                    let metadata = Metadata::unpack(entry.words);
                    ghost = Some((*entry, Ghost { metadata, bitmap: slot.fingerprint(), depth }));
                }
            }
        }
    }
    if let Some((entry, ghost)) = ghost {
        return Choice { entry, ghost: Some(ghost), evicts: None };
    }
    let free = |entry: Entry| Choice { entry, ghost: None, evicts: None };
    // A slot with something in it before one that never had: that gives its log object back.
    let vacant = entries.iter().zip(uses).filter(|(_, what)| *what == Use::Free);
    if let Some((entry, _)) = vacant.min_by_key(|(entry, _)| entry.slot == Slot::EMPTY) {
        return free(*entry);
    }
    let of_history = |(entry, what): (&Entry, Use)| match what {
        Use::History(depth) => Some((depth, *entry)),
        _ => None,
    };
    let history = entries.iter().zip(uses).filter_map(of_history);
    if let Some((_, oldest)) = history.max_by_key(|(depth, _)| *depth) {
        return free(oldest);
    }
    let objects = || entries.iter().filter(|entry| entry.slot.class().is_some());
    let mut candidates = [Candidate { at: 0, metadata: Metadata::default() }; SLOTS];
    for (candidate, entry) in candidates.iter_mut().zip(objects()) {
        *candidate = candidate_of(entry);
    }
    let victim = policy.choose(&candidates[..objects().count()], now);
    let chosen = victim.and_then(|victim| Some((objects().nth(victim.index)?, victim)));
    match chosen {
        Some((entry, victim)) => Choice { entry: *entry, ghost: None, evicts: Some(victim.bitmap) },
        // There is neither history nor an object; any slot will do.
        None => free(entries[0]),
    }
}

/// The object in a slot, as the policy sees it.
#[inline]
pub(super) fn candidate_of(entry: &Entry) -> Candidate {
    Candidate { at: entry.at.0, metadata: Metadata::unpack(entry.words) }
}

#[cfg(test)]
mod tests {
    use super::super::layout::history_word;
    use super::super::policy::Registry;
    use super::*;
    use crate::address::PoolAddr;

    fn policy() -> Policy {
        Policy::new(&["lru"], &Registry::standard(), 100, 1).unwrap()
    }

    fn object(at: u64, last: u64) -> Entry {
        let metadata = Metadata { hash: at, last, ..Metadata::default() };
        let slot = Slot::new(5, 1, 2, PoolAddr(at * 64));
        Entry { at: PoolAddr(at * 64), slot, words: metadata.pack() }
    }

    fn history(at: u64, number: u64) -> Entry {
        let slot = Slot::history(9, 0b10, PoolAddr(at * 64));
        let mut words = object(at, 0).words;
        words[metadata::INSERT] = history_word(slot, number);
        Entry { at: PoolAddr(at * 64), slot, words }
    }

    fn chosen(entries: &[Entry; SLOTS], hash: u64) -> (u64, Option<u64>, Option<u8>) {
        let choice = choose(entries, hash, (1000, 100), |_| false, &mut policy(), 50);
        let depth = choice.ghost.map(|ghost| ghost.depth);
        (choice.entry.at.0 / 64, depth, choice.evicts)
    }

    fn full() -> [Entry; SLOTS] {
        std::array::from_fn(|at| object(at as u64 + 1, 40 - at as u64))
    }

    #[test]
    fn a_key_gets_its_own_history_then_what_is_free() {
        let mut entries = full();
        entries[3] = history(4, 990);
        entries[5].slot = Slot::EMPTY;
        assert_eq!(chosen(&entries, 4), (4, Some(10), None));
        assert_eq!(chosen(&entries, 77), (6, None, None));
        entries[6].slot = Slot::tombstone(1, crate::SizeClass(0), PoolAddr(64));
        assert_eq!(chosen(&entries, 77), (7, None, None), "what gives an object back comes first");
        assert_eq!(chosen(&entries, 4), (4, Some(10), None));
    }

    #[test]
    fn forgotten_history_is_free_and_teaches_nothing() {
        let mut entries = full();
        entries[3] = history(4, 900);
        assert_eq!(chosen(&entries, 4), (4, None, None));
        entries[3] = history(4, 901);
        assert_eq!(chosen(&entries, 4), (4, Some(99), None));
        entries[3].words[metadata::INSERT] ^= 1;
        assert_eq!(chosen(&entries, 4), (4, None, None), "the word of another slot value");
    }

    #[test]
    fn a_full_bucket_gives_up_history_or_its_worst_object() {
        let mut entries = full();
        assert_eq!(chosen(&entries, 77), (8, None, Some(1)), "the least recent object");
        for at in [1, 3] {
            entries[at] = history(at as u64 + 1, 960 - at as u64);
        }
        assert_eq!(chosen(&entries, 77), (4, None, None), "the oldest history");
        let lost = |slot: Slot| slot.addr() == PoolAddr(5 * 64);
        let choice = choose(&entries, 77, (1000, 100), lost, &mut policy(), 50);
        assert_eq!((choice.entry.at.0 / 64, choice.evicts), (5, None));
    }
}
