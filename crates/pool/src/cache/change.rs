//! Changing one key: puts and deletions.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::bucket;
use super::get::wanted;
use super::layout::{BUCKET_HEAD, BUCKET_SLOTS, SLOT, SLOTS};
use super::lock;
use super::policy::{Ghost, Metadata};
use super::table::{entries, Entry};
use super::usage::Amount;
use super::{now_us, Cache};
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Candidate, Hint};
use crate::object::{object_bytes, Header, Kind, Op};
use crate::rtx::Wait;
use crate::slot::Slot;
use crate::store::{image, Key};

/// What shall become of a key.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// What others may conclude from it.
    pub op: Op,
    /// [`Kind::Value`] or [`Kind::Manifest`] for a put, [`Kind::Deletion`] for a deletion.
    pub kind: Kind,
    /// The value, or the manifest's.
    pub value: &'a [u8],
    /// Bytes of the pieces that the manifest names.
    pub pieces: u64,
    /// When it expires; 0 for never.
    pub expires_ms: u64,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It happened.
    Changed,
    /// It counts as done, but its object is in no slot: another put came the moment after, or the
    /// slot was lost with its node.
    Vanished,
    /// There was nothing to delete.
    Nothing,
}

impl Change<'_> {
    pub(super) fn puts(&self) -> bool {
        self.kind != Kind::Deletion
    }
}

/// What of an operation others can see so far, and what it has seen.
pub(super) struct Attempt {
    pub room: Option<Allocation>,
    /// The object is on all copies.
    pub written: bool,
    /// The bucket whose lock is held.
    pub lock: Option<PoolAddr>,
    /// The slots of the key's bucket, if they were read.
    slots: [Entry; SLOTS],
    /// A sample for evictions was read with the bucket.
    pub sampled: bool,
    /// How often room was made.
    pub rooms: u32,
}

/// Where the change goes.
enum Look {
    /// The key's object is in this slot.
    There(Entry, Header),
    /// It has none; the attempt has its bucket's slots. A put holds the bucket's lock.
    Absent,
    /// Look again.
    Again,
}

/// How one try went.
pub(super) enum Step {
    Done(Done),
    Again,
}

/// A slot that is to change, and what goes with it.
pub(super) struct Plan {
    pub entry: Entry,
    /// The key's object there, if it had one.
    pub replaces: Option<Header>,
    /// The object in the slot is of another key, which these experts wanted gone.
    pub evicts: Option<u8>,
    /// The metadata that the slot gets.
    pub metadata: Metadata,
}

impl Client {
    /// Carries `change` out on `key`.
    pub(super) fn cache_change(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
    ) -> Result<Done> {
        let mut attempt = Attempt::new();
        let mut wait = Wait::new();
        let outcome = loop {
            match self.cache_change_once(cache, key, change, &mut attempt, &mut wait) {
                Ok(Step::Done(done)) => break Ok(done),
                Ok(Step::Again) => {}
                Err(PoolError::ViewChanged) => {
                    attempt.written = false;
                    // The lock may or may not be mine in the new view.
                    if let Err(error) = self.cache_unlock(&mut attempt) {
                        break Err(error);
                    }
                }
                Err(PoolError::Full { bytes }) => {
                    if let Err(error) = self.cache_make_room(cache, &mut attempt, bytes) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        let unlocked = self.cache_unlock(&mut attempt);
        if let Some(room) = attempt.room {
            self.alloc.recycle(room);
        }
        let done = unlocked.and(outcome)?;
        self.evict(cache, Amount::default())?;
        if cache.policy.sync_is_due() {
            match self.sync_weights(cache) {
                Ok(()) | Err(PoolError::ViewChanged | PoolError::Lost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    pub(super) fn cache_unlock(&mut self, attempt: &mut Attempt) -> Result<()> {
        match attempt.lock.take() {
            Some(bucket) => lock::unlock(&self.fabric, bucket),
            None => Ok(()),
        }
    }

    fn cache_change_once(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Step> {
        self.fabric.pass_gate()?;
        cache.refresh(&self.fabric, &mut self.alloc)?;
        let hint = match self.cache.look(key.hash) {
            Hint::Seen(hint) if attempt.lock.is_none() => Some(hint),
            _ => None,
        };
        if !attempt.written {
            self.cache_build(cache, key, change, attempt, hint)?;
        }
        let mut look = Look::Again;
        if let Some(hint) = hint {
            look = self.cache_write_hinted(cache, key, attempt, hint)?;
        }
        if matches!(look, Look::Again) {
            look = self.cache_write_and_look(cache, key, change, attempt, wait)?;
        }
        let now = now_us(&self.fabric);
        let plan = match look {
            Look::Again => return Ok(Step::Again),
            Look::Absent if !change.puts() => return Ok(Step::Done(Done::Nothing)),
            Look::There(entry, header) => {
                let touched = cache.policy.hit(&cache.known(&entry), now);
                let metadata = Metadata { bytes: attempt.bytes(change) as u32, ..touched };
                Plan { entry, replaces: Some(header), evicts: None, metadata }
            }
            Look::Absent => self.cache_place(cache, key, change, attempt, now),
        };
        self.cache_play(cache, key, change, attempt, plan)
    }

    /// Chooses the slot of a key that has none.
    fn cache_place(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &Attempt,
        now: u64,
    ) -> Plan {
        let is_lost = |slot: Slot| self.fabric.primary(slot.addr()).is_err();
        let history = (cache.evictions, cache.history());
        let choice =
            bucket::choose(&attempt.slots, key.hash.0, history, is_lost, &mut cache.policy, now);
        let ghost: Option<&Ghost> = choice.ghost.as_ref();
        cache.counts.regrets += u64::from(ghost.is_some());
        let bytes = attempt.bytes(change) as u32;
        let metadata = cache.policy.admit(key.hash.0, (bytes, 1), now, ghost);
        Plan { entry: choice.entry, replaces: None, evicts: choice.evicts, metadata }
    }

    /// Builds the new object. A slot without copies gets its log entry at once, if it is known.
    fn cache_build(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        hint: Option<Candidate>,
    ) -> Result<()> {
        let room = match attempt.room {
            Some(room) if !self.fabric.copies(room.addr).is_empty() => room,
            lost => {
                if let Some(room) = lost {
                    self.alloc.complete(room.sequence);
                }
                let bytes = object_bytes(key.bytes.len(), change.value.len());
                let limit = cache.usage.most_bytes();
                if change.puts() && bytes as u64 + change.pieces > limit {
                    let (size, limit) = (bytes + change.pieces as usize, limit as usize);
                    return Err(PoolError::TooLarge { what: "object", size, limit });
                }
                match self.alloc.allocate(&self.fabric, bytes) {
                    // Blocks seldom become free as a whole: room in another class will do.
                    Err(PoolError::Full { .. }) if attempt.rooms > 1 => {
                        self.alloc.allocate_spare(&self.fabric, bytes)?
                    }
                    room => room?,
                }
            }
        };
        attempt.room = Some(room);
        self.stock_logs(cache)?;
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
        let (key, value, op) = (key.bytes, change.value, change.op);
        let parts = image::Parts { header, key, value, op, proposed };
        self.image.clear();
        image::build(&self.fabric, &room, &parts, &mut self.image);
        Ok(())
    }
}

impl Client {
    /// Writes the object and reads the slot and the old object's head in one batch.
    #[inline]
    fn cache_write_hinted(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        attempt: &mut Attempt,
        hint: Candidate,
    ) -> Result<Look> {
        let Some(bytes) = wanted(hint.slot.class(), key, false) else { return Ok(Look::Again) };
        let places = (self.fabric.primary(hint.at), self.fabric.primary(hint.slot.addr()));
        let (Ok(slot_at), Ok(object_at)) = places else { return Ok(Look::Again) };
        self.reserve(bytes);
        let copies = attempt.unwritten(self);
        let mut slot = [0; SLOT];
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let told = cache.post(&self.fabric, &mut verbs);
        verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &self.image)));
        verbs.push(Verb::read(slot_at, &mut slot));
        verbs.push(Verb::read(object_at, &mut self.object[..bytes]));
        let outcome = self.fabric.batch(&mut verbs);
        let found = verbs.first().filter(|_| outcome.is_ok()).map(Verb::found);
        drop(verbs);
        cache.posted(told, found);
        outcome?;
        attempt.written = true;
        let entry = Entry::parse(hint.at, &slot);
        if entry.slot == hint.slot {
            if let Some(header) = key.header_in(&self.object[..bytes], entry.slot) {
                return Ok(Look::There(entry, header));
            }
        }
        self.cache.was_wrong(key.hash);
        Ok(Look::Again)
    }

    /// Writes the object and reads the bucket, for a put under the bucket's lock; in a full cache
    /// with a sample for an eviction.
    fn cache_write_and_look(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        wait: &mut Wait,
    ) -> Result<Look> {
        let bucket = cache.table.bucket_of(key.hash);
        let (Ok(lock_at), Ok(slots_at)) =
            (self.fabric.primary(bucket), self.fabric.primary(bucket.add(BUCKET_HEAD)))
        else {
            cache.replace_piece(&self.fabric, &mut self.alloc, bucket)?;
            wait.pause(&self.fabric, "a lost piece of a cache's table")?;
            return Ok(Look::Again);
        };
        let me = self.fabric.me();
        let full = cache.usage.excess(Amount::one(attempt.bytes(change))).is_over();
        let copies = attempt.unwritten(self);
        let mut bytes = [0; BUCKET_SLOTS];
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let told = cache.usage.due();
        let told = told.filter(|told| cache.post_use(&self.fabric, *told, &mut verbs));
        cache.notes.post(&self.fabric, &mut verbs);
        verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &self.image)));
        let lock_verb = verbs.len();
        if change.puts() {
            verbs.push(Verb::cas(lock_at, 0, me.word()));
            attempt.lock = Some(bucket);
        }
        verbs.push(Verb::read(slots_at, &mut bytes));
        attempt.sampled = full && change.puts();
        if attempt.sampled {
            cache.sample.post(&cache.table, &self.fabric, &mut verbs);
        }
        let outcome = self.fabric.batch(&mut verbs);
        let found = verbs.first().filter(|_| outcome.is_ok()).map(Verb::found);
        let owner = lock::holder(verbs[lock_verb].found(), me).filter(|_| change.puts());
        drop(verbs);
        cache.posted(told, found);
        outcome?;
        attempt.written = true;
        if let Some(owner) = owner {
            attempt.lock = None;
            lock::wait(&self.fabric, bucket, owner, wait)?;
            return Ok(Look::Again);
        }
        for (into, entry) in attempt.slots.iter_mut().zip(entries(bucket, &bytes)) {
            *into = entry;
        }
        let found = self.cache_find(key, &attempt.slots)?;
        Ok(found.map_or(Look::Absent, |(entry, header)| Look::There(entry, header)))
    }

    /// The slot among these whose object is the key's, going by header and key of the objects.
    fn cache_find(
        &mut self,
        key: &Key<'_>,
        slots: &[Entry; SLOTS],
    ) -> Result<Option<(Entry, Header)>> {
        let fits = |entry: &&Entry| {
            let same = entry.slot.fingerprint() == key.hash.fingerprint();
            same && wanted(entry.slot.class(), key, false).is_some()
        };
        let matches: SmallVec<[&Entry; 2]> = slots.iter().filter(fits).collect();
        let bytes = key.head_bytes();
        self.reserve(bytes * matches.len());
        let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
        for (entry, into) in matches.iter().zip(self.object.chunks_exact_mut(bytes)) {
            match self.fabric.primary(entry.slot.addr()) {
                Ok(at) => verbs.push(Verb::read(at, into)),
                Err(_) => into.fill(0),
            }
        }
        if verbs.is_empty() {
            return Ok(None);
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let mut heads = matches.iter().zip(self.object.chunks_exact(bytes));
        Ok(heads.find_map(|(entry, head)| Some((**entry, key.header_in(head, entry.slot)?))))
    }
}

impl Attempt {
    fn new() -> Attempt {
        let slots = [Entry::NONE; SLOTS];
        Attempt { room: None, written: false, lock: None, slots, sampled: false, rooms: 0 }
    }

    /// Where the object is still to be written.
    fn unwritten(&self, client: &Client) -> crate::fabric::Copies {
        match self.room.filter(|_| !self.written) {
            Some(room) => client.fabric.copies(room.addr),
            None => SmallVec::new(),
        }
    }

    /// Bytes of the new object and its pieces.
    pub(super) fn bytes(&self, change: &Change<'_>) -> u64 {
        self.room.map_or(0, |room| room.class.bytes() as u64) + change.pieces
    }
}
