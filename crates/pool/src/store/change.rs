//! Changing one key.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::find::{Key, Verdict};
use super::image::{self, Parts};
use super::now_ms;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{self, BucketHeader, BucketLock, Candidate, Hint, KeyHash, Place};
use crate::object::{object_bytes, Header, Kind, LogEntry, Op, LOG_BYTES};
use crate::rtx::Wait;
use crate::slot::Slot;
use crate::snapshot::{self, Outcome, Round};

/// What must be there for a change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anything.
    Any,
    /// No value.
    Absent,
    /// Some value.
    Present,
    /// The value that this slot value names.
    Exactly(Slot),
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
    /// The object's value.
    pub value: &'a [u8],
    /// When the value expires; 0 for never.
    pub expires_ms: u64,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It happened (or was overwritten the moment after).
    Changed,
    /// What was there does not suit the rule.
    Refused,
}

/// What of an operation others can see so far.
struct Attempt {
    room: Option<Allocation>,
    /// The object is on all copies.
    written: bool,
    /// The insert lock that is held.
    lock: Option<(Place, KeyHash)>,
}

/// What the lookup says about the key.
enum Look {
    /// There is an object of the key in the slot.
    There(Candidate, Header),
    /// There is none. If the change may create one, the lock is held, and there may be a slot.
    Absent(Place, Option<Candidate>),
    /// Look again.
    Again,
}

/// How one round went.
enum Step {
    Done(Done),
    Again,
}

impl Client {
    /// Carries `change` out on `key`.
    pub(crate) fn change(&mut self, key: &Key<'_>, change: &Change<'_>) -> Result<Done> {
        let mut attempt = Attempt { room: None, written: false, lock: None };
        let mut wait = Wait::new(&self.fabric);
        let outcome = loop {
            match self.change_once(key, change, &mut attempt, &mut wait) {
                Ok(Step::Done(done)) => break Ok(done),
                Ok(Step::Again) => {}
                Err(PoolError::ViewChanged) => {
                    attempt.written = false;
                    // The lock may or may not be mine in the new view.
                    self.unlock(&mut attempt)?;
                }
                Err(PoolError::Full { bytes }) => {
                    if let Err(error) = self.make_room(&mut attempt, bytes) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if attempt.lock.is_some() && outcome.is_err() {
            let _ = self.unlock(&mut attempt);
        }
        self.unlock(&mut attempt)?;
        if let Some(room) = attempt.room {
            self.alloc.recycle(room);
        }
        self.settle_down()?;
        outcome
    }

    fn make_room(&mut self, attempt: &mut Attempt, bytes: usize) -> Result<()> {
        self.unlock(attempt)?;
        if let Some(room) = attempt.room.take() {
            self.alloc.recycle(room);
            attempt.written = false;
        }
        self.alloc.make_room(&self.fabric, bytes, &super::InUse)
    }

    fn unlock(&mut self, attempt: &mut Attempt) -> Result<()> {
        match attempt.lock.take() {
            Some((place, hash)) => index::unlock_bucket(&self.fabric, place, hash),
            None => Ok(()),
        }
    }

    fn change_once(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Step> {
        self.fabric.pass_gate()?;
        let hint = match self.cache.look(key.hash) {
            Hint::Seen(hint) if hint.slot.class().is_some() => Some(hint),
            _ => None,
        };
        if !attempt.written {
            self.build(key, change, attempt, hint)?;
        }
        let mut look = Look::Again;
        if let Some(hint) = hint.filter(|_| attempt.lock.is_none()) {
            if let Some(header) = self.write_with_hint(key, attempt, hint)? {
                look = Look::There(hint, header);
            }
        }
        if matches!(look, Look::Again) {
            look = self.write_and_look_up(key, change, attempt, wait)?;
        }
        match look {
            Look::Again => Ok(Step::Again),
            Look::There(seen, header) => {
                let live = !header.is_expired(now_ms(&self.fabric));
                let suits = match change.rule {
                    Rule::Any => true,
                    Rule::Absent => !live,
                    Rule::Present => live,
                    Rule::Exactly(slot) => live && slot == seen.slot,
                };
                if !suits {
                    self.cache.remember(key.hash, seen);
                    return Ok(Step::Done(Done::Refused));
                }
                self.play(key, change, attempt, seen, Some(header))
            }
            Look::Absent(..) if matches!(change.rule, Rule::Present | Rule::Exactly(_)) => {
                self.cache.forget(key.hash);
                Ok(Step::Done(Done::Refused))
            }
            Look::Absent(place, vacancy) => match vacancy {
                Some(vacant) => self.play(key, change, attempt, vacant, None),
                None => {
                    self.unlock(attempt)?;
                    index::split(&self.fabric, &mut self.alloc, place, key.hash)?;
                    self.directory.refresh(&self.fabric, key.hash)?;
                    Ok(Step::Again)
                }
            },
        }
    }

    /// Builds the new object. A slot without copies gets its log entry at once, if it is known.
    #[inline]
    fn build(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        hint: Option<Candidate>,
    ) -> Result<()> {
        let room = match attempt.room {
            Some(room) if !self.fabric.copies(room.addr).is_empty() => room,
            _ => {
                let bytes = object_bytes(key.bytes.len(), change.value.len());
                self.alloc.allocate(&self.fabric, bytes)?
            }
        };
        attempt.room = Some(room);
        let header = Header {
            kind: change.kind,
            version: 0,
            namespace: key.namespace,
            key_len: key.bytes.len() as u16,
            value_len: change.value.len() as u32,
            expires_ms: change.expires_ms,
        };
        let alone = self.fabric.config().replicas == 1;
        let proposed = hint.filter(|_| alone).map(|hint| (hint.at, hint.slot));
        let parts = Parts { header, key: key.bytes, value: change.value, op: change.op, proposed };
        image::build(&self.fabric, &room, &parts, &mut self.image);
        Ok(())
    }

    /// Writes the object and reads the slot and the old object's head in one batch. The header of
    /// the old one, if the hint was right.
    #[inline]
    fn write_with_hint(
        &mut self,
        key: &Key<'_>,
        attempt: &mut Attempt,
        hint: Candidate,
    ) -> Result<Option<Header>> {
        let bytes = key.head_bytes().min(hint.slot.class().map_or(0, |class| class.bytes()));
        self.reserve(bytes);
        let mut word = [0; 8];
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let copies = match attempt.room.filter(|_| !attempt.written) {
            Some(room) => self.fabric.copies(room.addr),
            None => SmallVec::new(),
        };
        verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &self.image)));
        verbs.push(Verb::read(self.fabric.primary(hint.at)?, &mut word));
        let object = self.fabric.primary(hint.slot.addr())?;
        verbs.push(Verb::read(object, &mut self.object[..bytes]));
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        attempt.written = true;
        if Slot(u64::from_le_bytes(word)) == hint.slot {
            if let Some(header) = key.header_in(&self.object[..bytes], hint.slot) {
                return Ok(Some(header));
            }
        }
        self.cache.was_wrong(key.hash);
        Ok(None)
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
        let creates = matches!(change.rule, Rule::Any | Rule::Absent);
        let (place, mut buckets) = super::find::buckets_of(&self.directory, key);
        let (free, held) = index::held(place, self.fabric.me());
        let at = buckets.locate(&self.fabric)?;
        let copies = match attempt.room.filter(|_| !attempt.written) {
            Some(room) => self.fabric.copies(room.addr),
            None => SmallVec::new(),
        };
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &self.image)));
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
        match found {
            Some((seen, header)) if seen.slot.class().is_some() => Ok(Look::There(seen, header)),
            found => {
                let frozen = found.is_some();
                if !creates || frozen {
                    let header = buckets.header();
                    let verdict = self.check_place(key, place, header, frozen)?;
                    if frozen || matches!(verdict, Verdict::Again) {
                        self.unlock(attempt)?;
                        return self.look_later(key, place, None, wait);
                    }
                }
                if matches.iter().any(|seen| super::find::is_intent(seen.slot)) {
                    self.unlock(attempt)?;
                    return self.look_later(key, place, None, wait);
                }
                Ok(Look::Absent(place, buckets.vacancy(key.hash)))
            }
        }
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

    /// Proposes the new object for the slot.
    fn play(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        seen: Candidate,
        replaces: Option<Header>,
    ) -> Result<Step> {
        let Some(room) = attempt.room.take() else { return Ok(Step::Again) };
        attempt.written = false;
        let version = seen.slot.version().wrapping_add(1);
        let new = if change.kind == Kind::Deletion {
            Slot::tombstone(version, room.class, room.addr)
        } else {
            Slot::new(key.hash.fingerprint(), version, room.class.0, room.addr)
        };
        let mut round = Round::new(seen.at, seen.slot, new, image::log_of(&room), room.sequence);
        round.proposed = proposes(&self.image, seen);
        let lock = attempt.lock.take();
        round.unlock = lock.map(|(place, hash)| index::unlock_of(place, hash, self.fabric.me()));
        let mut rounds = [round];
        let outcome = snapshot::write(&self.fabric, &mut rounds);
        let [round] = &rounds;
        if let Err(error) = outcome {
            attempt.lock = lock;
            self.alloc.complete(room.sequence);
            return Err(error);
        }
        if round.won() {
            self.unlink(key, seen.slot, replaces)?;
            self.alloc.complete(room.sequence);
            if change.kind == Kind::Deletion {
                self.cache.forget(key.hash);
            } else {
                self.cache.remember(key.hash, Candidate { at: seen.at, slot: new });
            }
            return Ok(Step::Done(Done::Changed));
        }
        self.alloc.free(room.addr, room.class);
        self.alloc.complete(room.sequence);
        self.cache.was_wrong(key.hash);
        if round.holds_lock() {
            attempt.lock = lock;
            self.unlock(attempt)?;
        }
        let Some(Outcome::Lost { winner, .. }) = round.outcome() else { return Ok(Step::Again) };
        if change.op == Op::Put && replaces.is_some() && self.is_put(seen, winner)? {
            return Ok(Step::Done(Done::Changed));
        }
        Ok(Step::Again)
    }

    /// Whether `winner` replaced what was `seen` by a put: then this client's own put may count as
    /// done just before it.
    fn is_put(&mut self, seen: Candidate, winner: Slot) -> Result<bool> {
        let Some(log) = winner.class().and(winner.log()) else { return Ok(false) };
        let mut bytes = [0; LOG_BYTES];
        self.fabric.read(log, &mut bytes)?;
        let entry = LogEntry::decode(&bytes).filter(|entry| entry.op == Op::Put);
        let over = crate::object::proposal(&bytes);
        Ok(entry.is_some() && over == Some((seen.at, seen.slot)))
    }

    /// Gives up the object that this client's round has replaced.
    fn unlink(&mut self, key: &Key<'_>, old: Slot, header: Option<Header>) -> Result<()> {
        let Some(class) = old.logged_class().filter(|_| !old.addr().is_null()) else {
            return Ok(());
        };
        let _ = (key, header);
        self.alloc.free(old.addr(), class);
        Ok(())
    }
}

/// Whether the object in `image` carries a log entry that proposes it over what was seen.
fn proposes(image: &[u8], seen: Candidate) -> bool {
    let log = &image[image.len() - LOG_BYTES..];
    crate::object::proposal(log) == Some((seen.at, seen.slot))
}
