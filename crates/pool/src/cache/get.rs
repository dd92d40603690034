//! Reading.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::layout::{BUCKET_HEAD, BUCKET_SLOTS, SLOT, SLOTS};
use super::policy::Metadata;
use super::table::{entries, Entry};
use super::{now_us, Cache};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{Candidate, Hint};
use crate::object::{self, Header};
use crate::store::{now_ms, Key};
use crate::SizeClass;

/// A key's object, which lies in the client's buffer, and its slot.
pub(super) struct Found {
    pub entry: Entry,
    pub header: Header,
}

/// How a look ended.
enum Look {
    Found(Found),
    /// The key has no object that can be read.
    Nothing,
    /// The hint was wrong: look in the bucket.
    Bucket,
}

impl Client {
    /// The key's object, counted as an access; `None` if there is none, or it has expired. With
    /// `whole`, all of it is in the buffer afterwards, else only header and key.
    #[inline]
    pub(super) fn cache_read(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        whole: bool,
    ) -> Result<Option<Found>> {
        let found = loop {
            match self.cache_look(cache, key, whole) {
                Ok(found) => break found,
                Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        };
        let live = found.filter(|found| {
            let expires = found.header.expires_ms;
            expires == 0 || !found.header.is_expired(now_ms(&self.fabric))
        });
        match &live {
            Some(found) => {
                cache.accessed(&self.fabric, &found.entry);
                self.cache.remember(key.hash, seen(&found.entry));
            }
            None => {
                cache.counts.misses += 1;
                self.cache.forget(key.hash);
            }
        }
        Ok(live)
    }

    fn cache_look(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        whole: bool,
    ) -> Result<Option<Found>> {
        self.fabric.pass_gate()?;
        cache.refresh(&self.fabric, &mut self.alloc)?;
        if let Hint::Seen(hint) = self.cache.look(key.hash) {
            match self.look_hinted(cache, key, hint, whole)? {
                Look::Found(found) => return Ok(Some(found)),
                Look::Nothing => return Ok(None),
                Look::Bucket => {}
            }
        }
        let bucket = cache.table.bucket_of(key.hash);
        let Ok(at) = self.fabric.primary(bucket.add(BUCKET_HEAD)) else {
            cache.replace_piece(&self.fabric, &mut self.alloc, bucket)?;
            return Ok(None);
        };
        let mut bytes = [0; BUCKET_SLOTS];
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let told = cache.post(&self.fabric, &mut verbs);
        verbs.push(Verb::read(at, &mut bytes));
        let outcome = self.fabric.batch(&mut verbs);
        let found = verbs.first().filter(|_| outcome.is_ok()).map(Verb::found);
        drop(verbs);
        cache.posted(told, found);
        outcome?;
        let fits = |entry: &Entry| {
            entry.slot.class().is_some() && entry.slot.fingerprint() == key.hash.fingerprint()
        };
        let matches: SmallVec<[Entry; 2]> = entries(bucket, &bytes).filter(fits).collect();
        self.look_among(cache, key, &matches, whole)
    }

    /// Slot and object in one batch.
    #[inline]
    fn look_hinted(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        hint: Candidate,
        whole: bool,
    ) -> Result<Look> {
        let Some(bytes) = wanted(hint.slot.class(), key, whole) else { return Ok(Look::Bucket) };
        let (slot_at, object_at) =
            match (self.fabric.primary(hint.at), self.fabric.primary(hint.slot.addr())) {
                (Ok(slot), Ok(object)) => (slot, object),
                _ => return Ok(Look::Bucket),
            };
        self.reserve(bytes);
        let mut slot = [0; SLOT];
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let told = cache.post(&self.fabric, &mut verbs);
        verbs.push(Verb::read(slot_at, &mut slot));
        verbs.push(Verb::read(object_at, &mut self.object[..bytes]));
        let outcome = self.fabric.batch(&mut verbs);
        let found = verbs.first().filter(|_| outcome.is_ok()).map(Verb::found);
        drop(verbs);
        cache.posted(told, found);
        outcome?;
        let entry = Entry::parse(hint.at, &slot);
        if entry.slot == hint.slot {
            if let Some(header) = key.header_in(&self.object[..bytes], entry.slot) {
                return self.cache_verified(cache, entry, header, whole);
            }
        }
        self.cache.was_wrong(key.hash);
        // The key may have a new object in the same slot.
        if entry.slot.class().is_none() || entry.slot.fingerprint() != key.hash.fingerprint() {
            return Ok(Look::Bucket);
        }
        let found = self.look_among(cache, key, &[entry], whole)?;
        Ok(found.map_or(Look::Bucket, Look::Found))
    }

    /// Reads the objects in the slots, all in one batch, and finds the key's.
    fn look_among(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        matches: &[Entry],
        whole: bool,
    ) -> Result<Option<Found>> {
        let bytes = |entry: &Entry| wanted(entry.slot.class(), key, whole).unwrap_or(0);
        let total = matches.iter().map(bytes).sum();
        self.reserve(total);
        let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
        let mut rest = &mut self.object[..total];
        for entry in matches {
            let (into, behind) = rest.split_at_mut(bytes(entry));
            rest = behind;
            match self.fabric.primary(entry.slot.addr()) {
                Ok(at) if !into.is_empty() => verbs.push(Verb::read(at, into)),
                // Lost with its node: zeros, which are no object.
                _ => into.fill(0),
            }
        }
        if verbs.is_empty() {
            cache.counts.unusable += u64::from(!matches.is_empty());
            return Ok(None);
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let mut start = 0;
        for entry in matches {
            let end = start + bytes(entry);
            if let Some(header) = key.header_in(&self.object[start..end], entry.slot) {
                self.object.copy_within(start..end, 0);
                return Ok(match self.cache_verified(cache, *entry, header, whole)? {
                    Look::Found(found) => Some(found),
                    _ => None,
                });
            }
            start = end;
        }
        Ok(None)
    }

    /// Checks the object at the start of the buffer; one that does not verify is looked for on the
    /// other copies, and if none does it counts as absent.
    #[inline]
    fn cache_verified(
        &mut self,
        cache: &mut Cache,
        entry: Entry,
        header: Header,
        whole: bool,
    ) -> Result<Look> {
        let class = entry.slot.class().unwrap_or(SizeClass(0));
        let found = Look::Found(Found { entry, header });
        if !whole || object::parse(&self.object[..class.bytes()], class).is_ok() {
            return Ok(found);
        }
        for copy in self.fabric.copies(entry.slot.addr()) {
            let into = &mut self.object[..class.bytes()];
            self.fabric.batch(&mut [Verb::read(copy, into)])?;
            if object::parse(&self.object[..class.bytes()], class).is_ok() {
                return Ok(found);
            }
        }
        cache.counts.unusable += 1;
        Ok(Look::Nothing)
    }
}

impl Cache {
    /// Takes note of an access to the object in a slot.
    #[inline]
    fn accessed(&mut self, fabric: &Fabric, entry: &Entry) {
        self.counts.hits += 1;
        let now = now_us(fabric);
        let hit = self.policy.hit(&self.known(entry), now);
        self.notes.hit(entry.at, hit.pack_hit());
        self.notes.count(self.counters.count(entry.at.0, entry.slot.0));
    }

    /// The metadata of a slot with the accesses that were not counted there yet.
    #[inline]
    pub(super) fn known(&self, entry: &Entry) -> Metadata {
        let metadata = Metadata::unpack(entry.words);
        let uncounted = self.counters.pending(entry.at.0, entry.slot.0);
        Metadata { freq: metadata.freq.saturating_add(uncounted), ..metadata }
    }
}

/// Slot and address, as hints have them.
#[inline]
pub(super) fn seen(entry: &Entry) -> Candidate {
    Candidate { at: entry.at, slot: entry.slot }
}

/// Bytes to be read of an object; `None` if it cannot be the key's.
#[inline]
pub(super) fn wanted(class: Option<SizeClass>, key: &Key<'_>, whole: bool) -> Option<usize> {
    let (all, head) = (class?.bytes(), key.head_bytes());
    (head <= all).then_some(if whole { all } else { head })
}

const _: () = assert!(SLOTS * SLOT == BUCKET_SLOTS);
