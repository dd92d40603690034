//! Evictions: a sample is read, the policy chooses, rounds put history entries in the victims'
//! place.
//!
//! A history entry names a log object of the evicting client, as a deletion's slot does: so a dead
//! client's evictions are found, judged and finished like all its operations, and whoever goes back
//! over a slot's values finds the way. The object's key is the slot's address.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::layout::{self, EVICTIONS, INSERT};
use super::policy::metadata;
use super::table::Entry;
use super::usage::Amount;
use super::{now_us, Cache};
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::KeyHash;
use crate::object::{log_addr, proposed_bytes, Header, Kind, LogEntry, Op, HEADER_BYTES};
use crate::slot::{tag, Slot, HISTORY_CLASS};
use crate::snapshot::{self, Outcome, Rider, Round, RIDER_BYTES};
use crate::store::large::MAX_VALUE_BYTES;

/// Bytes of a history entry's log object.
pub(super) const LOG_OBJECT: usize = HISTORY_CLASS.bytes();
/// Objects evicted at once at most.
pub(super) const MOST_VICTIMS: usize = 8;
/// Samples after which an operation leaves it to the next ones to evict more.
pub(super) const MOST_SAMPLES: usize = 16;

/// What a slot is to become that gives up what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// Its object is evicted, as the experts of the bitmap wanted.
    History(u8),
    /// Its history entry or deletion is cleared away.
    Empty,
}

/// An eviction that is under way.
pub(super) struct Victim {
    pub entry: Entry,
    pub becomes: Becomes,
    pub log: Allocation,
    image: [u8; LOG_OBJECT],
    /// The header of the object in the slot.
    head: [u8; HEADER_BYTES],
}

/// Evictions that go with one batch.
pub(super) type Victims = SmallVec<[Victim; 2]>;

impl Client {
    /// Chooses victims in the sample that was read until `excess` is gone, and makes their log
    /// objects. The slot at `spared` is not touched.
    pub(super) fn choose_victims(
        &mut self,
        cache: &mut Cache,
        mut excess: Amount,
        spared: PoolAddr,
    ) -> Result<Victims> {
        let mut victims = Victims::new();
        cache.sample.collect(spared, &cache.counters);
        cache.policy.tell(cache.usage.total().objects.max(1) as u64, cache.evictions);
        let now = now_us(&self.fabric);
        while excess.is_over() && victims.len() < MOST_VICTIMS {
            let Some((entry, bitmap)) = cache.sample.next(&mut cache.policy, now) else { break };
            let becomes = Becomes::History(bitmap);
            match self.make_victim(cache, entry, becomes) {
                Ok(victim) => victims.push(victim),
                Err(error) => {
                    victims.into_iter().for_each(|victim| self.alloc.recycle(victim.log));
                    return Err(error);
                }
            }
            excess = excess.minus(footprint(&entry));
        }
        Ok(victims)
    }

    /// A log object for what a slot is to become.
    pub(super) fn make_victim(
        &mut self,
        cache: &Cache,
        entry: Entry,
        becomes: Becomes,
    ) -> Result<Victim> {
        let log = self.alloc.allocate(&self.fabric, LOG_OBJECT)?;
        let image = self.eviction_image(cache.namespace.id, &entry, &log);
        Ok(Victim { entry, becomes, log, image, head: [0; HEADER_BYTES] })
    }

    fn eviction_image(&self, namespace: u16, entry: &Entry, log: &Allocation) -> [u8; LOG_OBJECT] {
        let key = entry.at.0.to_le_bytes();
        let (kind, version, key_len) = (Kind::Eviction, 0, key.len() as u16);
        let header = Header { kind, version, namespace, key_len, value_len: 0, expires_ms: 0 };
        let (client, sequence) = (self.fabric.me(), log.sequence);
        let mut tail = LogEntry { client, op: Op::Delete, sequence, decided: None }.encode();
        if self.fabric.config().replicas == 1 {
            tail[..16].copy_from_slice(&proposed_bytes(entry.at, entry.slot, sequence));
        }
        let mut image = [0; LOG_OBJECT];
        image[..HEADER_BYTES].copy_from_slice(&header.encode(&key, &[]));
        image[HEADER_BYTES..HEADER_BYTES + key.len()].copy_from_slice(&key);
        image[LOG_OBJECT - tail.len()..].copy_from_slice(&tail);
        image
    }

    /// Posts the log objects of the victims, and the verbs of `more` with them, and reads the
    /// headers of their objects; returns the number of the first eviction.
    pub(super) fn write_logs<'a>(
        &self,
        cache: &mut Cache,
        victims: &'a mut Victims,
        more: SmallVec<[Verb<'a>; 4]>,
    ) -> Result<u64> {
        let mut verbs: SmallVec<[Verb<'a>; 8]> = SmallVec::new();
        let counted = if cache.history() > 0 && !victims.is_empty() {
            self.fabric.copies(cache.table.root.add(EVICTIONS))
        } else {
            SmallVec::new()
        };
        let add = victims.len() as u64;
        verbs.extend(counted.iter().map(|&copy| Verb::faa(copy, add)));
        for Victim { entry, log, image, head, .. } in victims {
            let copies = self.fabric.copies(log.addr);
            verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &*image)));
            let object = entry.slot.class().and(self.fabric.primary(entry.slot.addr()).ok());
            verbs.extend(object.map(|at| Verb::read(at, head)));
        }
        verbs.extend(more);
        self.fabric.batch(&mut verbs)?;
        if !counted.is_empty() {
            cache.evictions = verbs[0].found().wrapping_add(add) & layout::NUMBER;
        }
        Ok(cache.evictions.wrapping_sub(add) & layout::NUMBER)
    }

    /// Adds the victims' rounds. `first` numbers the first eviction.
    pub(super) fn add_rounds(
        &self,
        cache: &Cache,
        victims: &Victims,
        first: u64,
        rounds: &mut SmallVec<[Round; 2]>,
    ) {
        let alone = self.fabric.config().replicas == 1;
        for (number, victim) in (first..).zip(victims) {
            let old = victim.entry.slot;
            let (version, object) = (old.next_version(), victim.log.addr);
            let new = match victim.becomes {
                Becomes::History(bitmap) => Slot::history(version, bitmap, object),
                Becomes::Empty => Slot::emptied(version, victim.log.class, object),
            };
            let log = log_addr(victim.log.addr, victim.log.class);
            let mut round = Round::new(victim.entry.at, old, new, log, victim.log.sequence);
            round.proposed = alone;
            if cache.history() > 0 && new.kind() == tag::HISTORY {
                round.rider = Some(rider(INSERT, &[layout::history_word(new, number)]));
            }
            rounds.push(round);
        }
    }

    /// Gives up what the rounds of the victims made useless. Returns how many took place.
    pub(super) fn finish_evictions(
        &mut self,
        cache: &mut Cache,
        victims: &Victims,
        rounds: &[Round],
    ) -> Result<usize> {
        let mut done = 0;
        for (victim, round) in victims.iter().zip(rounds) {
            if round.won() {
                done += 1;
                if let Becomes::History(bitmap) = victim.becomes {
                    self.cache.forget(KeyHash(victim.entry.words[metadata::HASH]));
                    cache.counts.evicted(bitmap);
                }
                let class = victim.entry.slot.class().unwrap_or(HISTORY_CLASS);
                let header = Header::decode(&victim.head, class);
                self.cache_give_up(cache, &victim.entry, header.ok().map(|header| header.kind))?;
            }
            if !round.won() || victim.becomes == Becomes::Empty {
                self.alloc.free(victim.log.addr, victim.log.class);
            }
            self.alloc.complete(victim.log.sequence);
        }
        Ok(done)
    }

    /// Frees what a slot had named before this client's round, and takes note that it is gone.
    /// `kind` is the object's, if that has been read.
    pub(super) fn cache_give_up(
        &mut self,
        cache: &mut Cache,
        entry: &Entry,
        kind: Option<Kind>,
    ) -> Result<()> {
        let old = entry.slot;
        if let Some(class) = old.class() {
            // One that was lost with its node has no pieces that anybody could name.
            let kind = match kind {
                None => self.kind_of(old)?,
                kind => kind,
            };
            let pieces = match kind {
                Some(Kind::Manifest) => self.free_pieces(old, &[])?,
                _ => 0,
            };
            let amount = Amount::one(class.bytes() as u64 + pieces);
            cache.usage.add(Amount::default().minus(amount));
            cache.counters.forget(entry.at.0);
        }
        if let Some(class) = old.logged_class().filter(|_| !old.addr().is_null()) {
            self.alloc.free(old.addr(), class);
        }
        Ok(())
    }

    /// What the object of a slot is; `None` if it cannot be read.
    #[cold]
    pub(super) fn kind_of(&self, slot: Slot) -> Result<Option<Kind>> {
        let Some(class) = slot.class() else { return Ok(None) };
        let mut head = [0; HEADER_BYTES];
        loop {
            match self.fabric.read(slot.addr(), &mut head) {
                Err(PoolError::ViewChanged) => {}
                Err(PoolError::Lost(_)) => return Ok(None),
                outcome => {
                    outcome?;
                    return Ok(Header::decode(&head, class).ok().map(|header| header.kind));
                }
            }
        }
    }

    /// Evicts until the cache is no fuller than it may be with `more`, or for so many samples.
    pub(super) fn evict(&mut self, cache: &mut Cache, more: Amount) -> Result<()> {
        for _ in 0..MOST_SAMPLES {
            let excess = cache.usage.excess(more);
            if !excess.is_over() {
                break;
            }
            match self.evict_some(cache, excess) {
                Ok(_) | Err(PoolError::ViewChanged) => {}
                // Without room for a log object nothing can be evicted.
                Err(PoolError::Full { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One sample and its victims: an operation of its own. Returns how many were evicted.
    pub(super) fn evict_some(&mut self, cache: &mut Cache, excess: Amount) -> Result<usize> {
        self.fabric.pass_gate()?;
        cache.refresh(&self.fabric, &mut self.alloc)?;
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        cache.sample.post(&cache.table, &self.fabric, &mut verbs);
        if verbs.is_empty() {
            return Ok(0);
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let victims = self.choose_victims(cache, excess, PoolAddr::NULL)?;
        self.play_victims(cache, victims)
    }

    /// Writes the victims' log objects and plays their rounds. Returns how many took place.
    pub(super) fn play_victims(
        &mut self,
        cache: &mut Cache,
        mut victims: Victims,
    ) -> Result<usize> {
        if victims.is_empty() {
            return Ok(0);
        }
        let written = self.write_logs(cache, &mut victims, SmallVec::new());
        let mut rounds = SmallVec::new();
        let played = written.and_then(|first| {
            self.add_rounds(cache, &victims, first, &mut rounds);
            snapshot::write(&self.fabric, &mut rounds)
        });
        match played {
            Ok(()) => self.finish_evictions(cache, &victims, &rounds),
            Err(error) => {
                // Nobody has seen an object whose round was not begun.
                let begun = !rounds.is_empty();
                for victim in &victims {
                    self.abandon(victim.log, begun);
                }
                Err(error)
            }
        }
    }

    /// Gives up an object after an error: for good if a round of it was begun, as nobody knows what
    /// became of that.
    pub(super) fn abandon(&mut self, room: Allocation, begun: bool) {
        if begun {
            self.alloc.complete(room.sequence);
        } else {
            self.alloc.recycle(room);
        }
    }
}

/// Whether a round's outcome says that the slot itself is gone.
pub(super) fn is_gone(round: &Round) -> bool {
    matches!(round.outcome(), Some(Outcome::Gone))
}

/// What the object in a slot adds to the use, going by its metadata: pieces of a large value are
/// not counted exactly if that was lost.
#[inline]
pub(super) fn footprint(entry: &Entry) -> Amount {
    let Some(class) = entry.slot.class() else { return Amount::default() };
    let (least, said) = (class.bytes() as u64, entry.words[metadata::FREQ] & u64::from(u32::MAX));
    let plausible = (least..2 * MAX_VALUE_BYTES as u64).contains(&said);
    Amount::one(if plausible { said } else { least })
}

/// Words to be left beside a slot, `offset` bytes from it.
pub(super) fn rider(offset: u64, words: &[u64]) -> Rider {
    let mut bytes = [0; RIDER_BYTES];
    for (into, word) in bytes.chunks_exact_mut(8).zip(words) {
        into.copy_from_slice(&word.to_le_bytes());
    }
    Rider { offset: offset as u8, len: 8 * words.len() as u8, bytes }
}
