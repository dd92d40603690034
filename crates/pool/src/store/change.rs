//! Changing one key.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::attempt::{post_image, Attempt};
use super::find::{Key, Verdict};
use super::now_ms;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{self, BucketHeader, BucketLock, Candidate, Hint, Place};
use crate::object::{Header, Kind, Op};
use crate::rtx::Wait;
use crate::slot::Slot;
use crate::snapshot;

/// Sweeps for the room of one object, each of a part of the index.
const MOST_SWEEPS: u32 = 16;

/// What must be there for a change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anything.
    Any,
    /// No value.
    Absent,
    /// Some value.
    Present,
    /// The object that this slot value names, which this operation has read.
    Exactly(Slot),
    /// The same, although it has expired.
    Expired(Slot),
}

impl Rule {
    /// Whether the change may give a value to a key that has none.
    #[inline]
    pub(super) fn creates(self) -> bool {
        matches!(self, Rule::Any | Rule::Absent)
    }

    /// Whether it rests on what the operation has read.
    #[inline]
    pub(super) fn holds(self) -> bool {
        matches!(self, Rule::Exactly(_) | Rule::Expired(_))
    }

    /// Whether it admits that the slot holds `seen`, a live object of the key or an expired one.
    #[inline]
    pub(super) fn admits(self, seen: Slot, live: bool) -> bool {
        match self {
            Rule::Any => true,
            Rule::Absent => !live,
            Rule::Present => live,
            Rule::Exactly(slot) => live && slot == seen,
            Rule::Expired(slot) => !live && slot == seen,
        }
    }
}

/// What shall become of a key.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// What must be there.
    pub rule: Rule,
    /// What others may conclude from it.
    pub op: Op,
    /// [`Kind::Value`], [`Kind::Manifest`] or [`Kind::Deletion`].
    pub kind: Kind,
    /// The object's value. A manifest takes over the pieces of the one that it replaces, as far as
    /// it names them; the others are freed.
    pub value: &'a [u8],
    /// When the value expires; 0 for never.
    pub expires_ms: u64,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It happened, by the operation of this number.
    Changed(u64),
    /// It counts as done, but another put came the moment after: nobody saw the object.
    Overwritten,
    /// What was there does not suit the rule.
    Refused,
}

impl Done {
    /// Whether it happened.
    #[inline]
    pub fn happened(self) -> bool {
        self != Done::Refused
    }
}

/// What the lookup says about the key.
pub(super) enum Look {
    /// There is an object of the key in the slot.
    There(Candidate, Header),
    /// There is none. If the change may create one, the lock is held, and there may be a slot.
    Absent(Place, Option<Candidate>),
    /// Look again.
    Again,
}

/// Where a change is to happen.
pub(super) enum Sought {
    /// In this slot, whose object has this header if there is one.
    Found(Candidate, Option<Header>),
    /// Nowhere: what is there does not suit the rule.
    Refused,
    /// Look again.
    Again,
}

/// How one round went.
pub(super) enum Step {
    Done(Done),
    Again,
}

impl Client {
    /// Carries `change` out on `key`: an operation of its own.
    pub(crate) fn change(&mut self, key: &Key<'_>, change: &Change<'_>) -> Result<Done> {
        let outcome = self.change_within(key, change);
        self.settle_down()?;
        outcome
    }

    /// Carries `change` out on `key`; the operation goes on.
    pub(super) fn change_within(&mut self, key: &Key<'_>, change: &Change<'_>) -> Result<Done> {
        self.change_alone(key, change, &mut Attempt::default())
    }

    /// [`Client::change_within`], going on from an attempt whose object is still to be written.
    pub(super) fn change_alone(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
    ) -> Result<Done> {
        self.image.clear();
        let outcome = self.change_from(key, change, attempt);
        if attempt.lock.is_some() && outcome.is_err() {
            let _ = self.unlock(attempt);
        }
        let unlocked = self.unlock(attempt);
        self.give_up(attempt);
        unlocked.and(outcome)
    }

    fn change_from(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
    ) -> Result<Done> {
        let (mut wait, mut searched) = (Wait::new(), false);
        loop {
            match self.change_once(key, change, attempt, &mut wait) {
                Ok(Step::Done(done)) => return Ok(done),
                Ok(Step::Again) => self.stats.retries += 1,
                Err(PoolError::ViewChanged) => {
                    attempt.written = false;
                    // The lock may or may not be mine in the new view.
                    self.unlock(attempt)?;
                }
                Err(PoolError::Full { bytes }) => self.make_room(attempt, bytes, change)?,
                Err(error @ PoolError::QuotaExceeded { .. }) => {
                    // Only ends what has read nothing yet that counts.
                    if searched || change.rule.holds() {
                        return Err(error);
                    }
                    searched = true;
                    self.unlock(attempt)?;
                    self.give_up(attempt);
                    if !self.search_quota(key.namespace)? {
                        return Err(error);
                    }
                    self.image.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the operation so far and reclaims what can be.
    fn make_room(
        &mut self,
        attempt: &mut Attempt,
        bytes: usize,
        change: &Change<'_>,
    ) -> Result<()> {
        self.unlock(attempt)?;
        self.give_up(attempt);
        // What was seen before may be reused from here on.
        if change.rule.holds() {
            return Err(PoolError::Full { bytes });
        }
        match self.reclaim_room(bytes) {
            // Room that became free meanwhile need not be of that class.
            Err(PoolError::Full { .. })
                if change.kind == Kind::Deletion && self.alloc.spare_class(bytes)?.is_some() =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Reclaims all that can be for an object of `bytes` bytes, as long as sweeps find something.
    /// Between operations.
    #[cold]
    pub(super) fn reclaim_room(&mut self, bytes: usize) -> Result<()> {
        let mut outcome = Err(PoolError::Full { bytes });
        for _ in 0..MOST_SWEEPS {
            let swept = self.sweep_for_room()?;
            outcome = self.alloc.make_room(&self.fabric, bytes, &super::InUse);
            if !swept || !matches!(outcome, Err(PoolError::Full { .. })) {
                break;
            }
        }
        outcome
    }

    fn change_once(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Step> {
        match self.seek(key, change, attempt, wait)? {
            Sought::Found(seen, header) => self.play(key, change, attempt, seen, header),
            Sought::Refused => Ok(Step::Done(Done::Refused)),
            Sought::Again => Ok(Step::Again),
        }
    }

    /// Writes the new object and finds the slot in which the change is to happen.
    #[inline]
    pub(super) fn seek(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Sought> {
        self.fabric.pass_gate()?;
        let (hint, restless) = match self.cache.look(key.hash) {
            Hint::Seen(hint) => (Some(hint), false),
            Hint::Restless(hint) => (Some(hint), true),
            Hint::None => (None, false),
        };
        if !attempt.written {
            self.image.clear();
            self.build(key, change, attempt, hint.filter(|_| !restless))?;
        }
        let mut look = Look::Again;
        if let Some(hint) = hint.filter(|_| attempt.lock.is_none()) {
            if let Some((seen, header)) = self.write_with_hint(key, attempt, hint, restless)? {
                look = Look::There(seen, header);
            }
        }
        if matches!(look, Look::Again) {
            look = self.write_and_look_up(key, change, attempt, wait)?;
        }
        let (seen, header) = match look {
            Look::Again => return Ok(Sought::Again),
            Look::There(seen, header) => (seen, Some(header)),
            Look::Absent(..) if !change.rule.creates() => {
                self.cache.forget(key.hash);
                return Ok(Sought::Refused);
            }
            Look::Absent(_, Some(vacant)) => (vacant, None),
            Look::Absent(place, None) => {
                self.unlock(attempt)?;
                index::split(&self.fabric, &mut self.alloc, place, key.hash)?;
                self.directory.refresh(&self.fabric, key.hash)?;
                return Ok(Sought::Again);
            }
        };
        if let Some(header) = &header {
            if !self.suits(change.rule, seen.slot, header) {
                self.cache.remember(key.hash, seen);
                return Ok(Sought::Refused);
            }
        }
        Ok(Sought::Found(seen, header))
    }

    /// Whether the object in the slot is one that the change is for.
    #[inline]
    pub(super) fn suits(&self, rule: Rule, seen: Slot, header: &Header) -> bool {
        let live = header.expires_ms == 0 || !header.is_expired(now_ms(&self.fabric));
        rule.admits(seen, live)
    }

    /// Proposes the new object for the slot.
    fn play(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        seen: Candidate,
        replaces: Option<Header>,
    ) -> Result<Step> {
        self.admit(key, change, attempt, seen.slot, replaces)?;
        let Some((room, round)) = self.round(key, change, attempt, seen) else {
            return Ok(Step::Again);
        };
        let lock = attempt.lock.take();
        let mut rounds = [round];
        let outcome = snapshot::write(&self.fabric, &mut rounds);
        let [round] = &rounds;
        if let Err(error) = outcome {
            attempt.lock = lock;
            self.alloc.complete(room.sequence);
            return Err(error);
        }
        self.stats.rounds.count(&rounds);
        if round.holds_lock() {
            attempt.lock = lock;
            self.unlock(attempt)?;
        }
        self.finish(key, change, room, seen, replaces, round)
    }

    /// Writes the object and reads the slot and, unless that is `restless`, the old object's head
    /// in one batch. The slot with the key's header, if the key is still there.
    #[inline]
    fn write_with_hint(
        &mut self,
        key: &Key<'_>,
        attempt: &mut Attempt,
        hint: Candidate,
        restless: bool,
    ) -> Result<Option<(Candidate, Header)>> {
        let bytes = key.head_bytes().min(hint.slot.class().map_or(0, |class| class.bytes()));
        self.reserve(bytes);
        let copies = attempt.unwritten(self);
        let mut word = [0; 8];
        // The reads come first: they need not wait until the object is visible.
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        verbs.push(Verb::read(self.fabric.primary(hint.at)?, &mut word));
        if !restless {
            let object = self.fabric.primary(hint.slot.addr())?;
            verbs.push(Verb::read(object, &mut self.object[..bytes]));
        }
        post_image(&copies, &self.image[attempt.image.clone()], &mut verbs);
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        attempt.written = true;
        let seen = Candidate { at: hint.at, slot: Slot(u64::from_le_bytes(word)) };
        if !restless {
            if seen.slot == hint.slot {
                if let Some(header) = key.header_in(&self.object[..bytes], hint.slot) {
                    self.stats.hints_right += 1;
                    return Ok(Some((seen, header)));
                }
            }
            self.stats.hints_wrong += 1;
            self.cache.was_wrong(key.hash);
        }
        // The key may have a new object in the same slot.
        if seen.slot.class().is_none() || seen.slot.fingerprint() != key.hash.fingerprint() {
            return Ok(None);
        }
        self.read_heads(key, &[seen])
    }

    /// Writes the object and reads the buckets, taking the insert lock before if the change may
    /// create the key.
    fn write_and_look_up(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Look> {
        let creates = change.rule.creates();
        let (place, mut buckets) = super::find::buckets_of(&self.directory, key);
        let (free, held) = index::held(place, self.fabric.me());
        let at = buckets.locate(&self.fabric)?;
        let copies = attempt.unwritten(self);
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        post_image(&copies, &self.image[attempt.image.clone()], &mut verbs);
        if creates {
            verbs.push(Verb::cas(at[2], free, held));
            attempt.lock = Some((place, key.hash));
        }
        buckets.post(at, &mut verbs);
        self.fabric.batch(&mut verbs)?;
        let found = creates.then(|| verbs[copies.len()].found());
        drop(verbs);
        attempt.written = true;
        let lock = found.map(|found| BucketLock::judge(found, place, self.fabric.me()));
        if !matches!(lock, None | Some(BucketLock::Mine)) {
            attempt.lock = None;
            return self.look_later(key, place, lock, wait);
        }
        let matches = buckets.matches(key.hash);
        let mut found = None;
        if !matches.is_empty() {
            found = self.read_heads(key, &matches)?;
        }
        if let Some((seen, header)) = found.filter(|(seen, _)| seen.slot.class().is_some()) {
            return Ok(Look::There(seen, header));
        }
        let frozen = found.is_some();
        let mut again = frozen || matches.iter().any(|seen| super::find::is_intent(seen.slot));
        if !creates || frozen {
            let verdict = self.check_place(key, place, buckets.header(), frozen)?;
            again |= matches!(verdict, Verdict::Again);
        }
        if again {
            self.unlock(attempt)?;
            self.meet_intents(&matches, wait)?;
            return self.look_later(key, place, None, wait);
        }
        Ok(Look::Absent(place, buckets.vacancy(key.hash)))
    }

    #[cold]
    fn look_later(
        &mut self,
        key: &Key<'_>,
        place: Place,
        lock: Option<BucketLock>,
        wait: &mut Wait,
    ) -> Result<Look> {
        if self.directory.refresh(&self.fabric, key.hash)? == place {
            let busy: Option<BucketHeader> = match lock {
                Some(BucketLock::Busy(header)) => Some(header),
                _ => None,
            };
            self.wait_for_index(key, place, busy, wait)?;
        }
        Ok(Look::Again)
    }
}
