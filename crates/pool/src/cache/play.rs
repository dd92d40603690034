//! The rounds of a change, and what follows from how they end.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::change::{Attempt, Change, Done, Plan, Step};
use super::evict::{footprint, is_gone, rider, Victims};
use super::get::seen;
use super::layout::{LAST, METADATA};
use super::lock;
use super::policy::metadata;
use super::table::Entry;
use super::usage::Amount;
use super::Cache;
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::KeyHash;
use crate::object::{log_addr, proposal, proposed_bytes, LogEntry, Op, LOG_BYTES};
use crate::slot::Slot;
use crate::snapshot::{self, Outcome, Round};
use crate::store::{image, Key};

impl Client {
    /// Plays the rounds: the key's and those of the objects that give way to it.
    pub(super) fn cache_play(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        plan: Plan,
    ) -> Result<Step> {
        let mut victims = self.cache_victims(cache, change, attempt, &plan)?;
        let Some(room) = attempt.room else { return Ok(Step::Again) };
        let alone = self.fabric.config().replicas == 1;
        let seen_there = (plan.entry.at, plan.entry.slot);
        let mut proposed = alone && proposal(log_of_image(&self.image)) == Some(seen_there);
        let mut first = 0;
        if !victims.is_empty() {
            // The log entry of the key's own round costs nothing more here.
            let late = alone && !proposed;
            let bytes = proposed_bytes(plan.entry.at, plan.entry.slot, room.sequence);
            let logs = self.fabric.copies(log_addr(room.addr, room.class));
            let logs = logs.iter().filter(|_| late);
            let more = logs.map(|&copy| Verb::write(copy, &bytes)).collect();
            match self.write_logs(cache, &mut victims, more) {
                Ok(number) => first = number,
                Err(error) => {
                    victims.into_iter().for_each(|victim| self.alloc.recycle(victim.log));
                    return Err(error);
                }
            }
            proposed |= late;
        }
        let lock = attempt.lock.take();
        let mut rounds: SmallVec<[Round; 2]> = SmallVec::new();
        rounds.push(self.cache_round(key, change, &plan, &room, lock, proposed));
        self.add_rounds(cache, &victims, first, &mut rounds);
        attempt.room = None;
        attempt.written = false;
        if let Err(error) = snapshot::write(&self.fabric, &mut rounds) {
            attempt.lock = lock;
            self.abandon(room, true);
            victims.iter().for_each(|victim| self.abandon(victim.log, true));
            return Err(error);
        }
        self.finish_evictions(cache, &victims, &rounds[1..])?;
        self.cache_finish(cache, key, change, attempt, (plan, room, lock), &rounds[0])
    }

    /// Who gives way to a new key.
    fn cache_victims(
        &mut self,
        cache: &mut Cache,
        change: &Change<'_>,
        attempt: &mut Attempt,
        plan: &Plan,
    ) -> Result<Victims> {
        let mut more = Amount::one(attempt.bytes(change));
        if plan.evicts.is_some() {
            more = more.minus(footprint(&plan.entry));
        }
        let excess = cache.usage.excess(more);
        let sampled = std::mem::take(&mut attempt.sampled);
        if !sampled || !change.puts() || plan.replaces.is_some() || !excess.is_over() {
            return Ok(Victims::new());
        }
        self.choose_victims(cache, excess, plan.entry.at)
    }

    fn cache_round(
        &self,
        key: &Key<'_>,
        change: &Change<'_>,
        plan: &Plan,
        room: &Allocation,
        lock: Option<PoolAddr>,
        proposed: bool,
    ) -> Round {
        let (at, old) = (plan.entry.at, plan.entry.slot);
        let version = old.next_version();
        let new = if change.puts() {
            Slot::new(key.hash.fingerprint(), version, room.class.0, room.addr)
        } else {
            Slot::tombstone(version, room.class, room.addr)
        };
        let mut round = Round::new(at, old, new, image::log_of(room), room.sequence);
        round.proposed = proposed;
        round.unlock = lock.map(|bucket| lock::unlock_of(bucket, self.fabric.me()));
        let words = plan.metadata.pack();
        round.rider = match (change.puts(), plan.replaces.is_some()) {
            (false, _) => None,
            (true, true) => Some(rider(LAST, &words[metadata::LAST..])),
            (true, false) => Some(rider(METADATA, &words)),
        };
        round
    }

    /// What follows from the outcome of the key's round.
    fn cache_finish(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        (plan, room, lock): (Plan, Allocation, Option<PoolAddr>),
        round: &Round,
    ) -> Result<Step> {
        let old = plan.entry.slot;
        if round.won() {
            self.cache_give_up(cache, &plan.entry, plan.replaces.map(|header| header.kind))?;
            if plan.replaces.is_none() && old.class().is_some() {
                self.cache.forget(KeyHash(plan.entry.words[metadata::HASH]));
            }
            if let Some(bitmap) = plan.evicts {
                cache.counts.evicted(bitmap);
                cache.counts.crowded += 1;
            }
            if change.puts() {
                cache.usage.add(Amount::one(room.class.bytes() as u64 + change.pieces));
                let entry = Entry { slot: round.new, ..plan.entry };
                self.cache.remember(key.hash, seen(&entry));
            } else {
                self.cache.forget(key.hash);
            }
            self.alloc.complete(room.sequence);
            return Ok(Step::Done(Done::Changed));
        }
        self.alloc.free(room.addr, room.class);
        self.alloc.complete(room.sequence);
        self.cache.was_wrong(key.hash);
        if round.holds_lock() {
            attempt.lock = lock;
            self.cache_unlock(attempt)?;
        }
        if is_gone(round) {
            // With the slot, the key is gone, whatever its value was.
            return Ok(Step::Done(Done::Vanished));
        }
        let Some(Outcome::Lost { winner, .. }) = round.outcome() else { return Ok(Step::Again) };
        let put = change.op == Op::Put && plan.replaces.is_some();
        if put && self.is_put_over(&plan.entry, winner)? {
            return Ok(Step::Done(Done::Vanished));
        }
        Ok(Step::Again)
    }

    /// Whether `winner` replaced the object in a slot by a put: then this client's own put may
    /// count as done just before it.
    fn is_put_over(&mut self, entry: &Entry, winner: Slot) -> Result<bool> {
        let Some(log) = winner.class().and(winner.log()) else { return Ok(false) };
        let mut bytes = [0; LOG_BYTES];
        match self.fabric.read(log, &mut bytes) {
            Err(PoolError::Lost(_)) => return Ok(false),
            outcome => outcome?,
        }
        let put = LogEntry::decode(&bytes).is_some_and(|entry| entry.op == Op::Put);
        Ok(put && proposal(&bytes) == Some((entry.at, entry.slot)))
    }
}

/// The log entry at the end of an object's bytes.
fn log_of_image(image: &[u8]) -> &[u8] {
    &image[image.len().saturating_sub(LOG_BYTES)..]
}
