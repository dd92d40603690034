//! Finding and reading a key's object.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::find::{buckets_of, is_intent, read_buckets, Key, Verdict};
use super::now_ms;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Candidate, Hint};
use crate::object::{self, Header};
use crate::rtx::Wait;
use crate::slot::Slot;

/// A key's object, which lies in the client's buffer.
pub(crate) struct Object {
    pub seen: Candidate,
    pub header: Header,
}

impl Client {
    /// The object of `key` in the client's buffer, unless it has expired.
    #[inline]
    pub(crate) fn read_live(&mut self, key: &Key<'_>) -> Result<Option<Object>> {
        let found = self.look_for(key, true)?;
        Ok(found.filter(|object| !self.has_expired(object)))
    }

    /// [`Client::read_live`], taking an expired object away. Without `whole`, only the head is
    /// read and nothing verified.
    #[inline]
    pub(super) fn read_or_reclaim(&mut self, key: &Key<'_>, whole: bool) -> Result<Option<Object>> {
        let found = self.look_for(key, whole)?;
        if let Some(object) = found.as_ref().filter(|object| self.has_expired(object)) {
            self.reclaim(key, object);
            return Ok(None);
        }
        Ok(found)
    }

    #[inline]
    fn has_expired(&self, object: &Object) -> bool {
        object.header.expires_ms != 0 && object.header.is_expired(now_ms(&self.fabric))
    }

    /// Looks until the answer stands. What is read `whole` is verified.
    #[inline]
    fn look_for(&mut self, key: &Key<'_>, whole: bool) -> Result<Option<Object>> {
        let mut wait = Wait::new();
        loop {
            match self.read_once(key, whole, &mut wait) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) | Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One look; `None`: look again.
    #[inline]
    fn read_once(
        &mut self,
        key: &Key<'_>,
        whole: bool,
        wait: &mut Wait,
    ) -> Result<Option<Option<Object>>> {
        self.fabric.pass_gate()?;
        let found = match self.cache.look(key.hash) {
            Hint::Seen(hint) => self.read_hinted(key, whole, hint)?,
            Hint::Restless(hint) => {
                let now = Slot(self.fabric.read_word(self.fabric.primary(hint.at)?)?);
                self.read_named(key, whole, Candidate { at: hint.at, slot: now })?
            }
            Hint::None => None,
        };
        match found {
            Some(object) => Ok(Some(Some(object))),
            None => self.read_looked_up(key, whole, wait),
        }
    }

    /// Slot and object in one batch; `None` if the slot holds something else by now.
    #[inline]
    fn read_hinted(
        &mut self,
        key: &Key<'_>,
        whole: bool,
        hint: Candidate,
    ) -> Result<Option<Object>> {
        if hint.slot.class().is_none() {
            return Ok(None);
        }
        let bytes = wanted(key, whole, hint.slot);
        self.reserve(bytes);
        let mut word = [0; 8];
        let (slot_at, object_at) =
            (self.fabric.primary(hint.at)?, self.fabric.primary(hint.slot.addr())?);
        let into = &mut self.object[..bytes];
        self.fabric.batch(&mut [Verb::read(slot_at, &mut word), Verb::read(object_at, into)])?;
        let now = Slot(u64::from_le_bytes(word));
        if now == hint.slot {
            if let Some(header) = key.header_in(&self.object[..bytes], now) {
                let header = if whole { self.verified(key, now, header)? } else { header };
                self.stats.hints_right += 1;
                return Ok(Some(Object { seen: hint, header }));
            }
        }
        self.stats.hints_wrong += 1;
        self.cache.was_wrong(key.hash);
        self.read_named(key, whole, Candidate { at: hint.at, slot: now })
    }

    /// The object that a slot names in which the key was before; `None` if it is not the key's.
    fn read_named(
        &mut self,
        key: &Key<'_>,
        whole: bool,
        seen: Candidate,
    ) -> Result<Option<Object>> {
        if seen.slot.class().is_none() || seen.slot.fingerprint() != key.hash.fingerprint() {
            return Ok(None);
        }
        let found = self.read_object(key, whole, &[seen])?;
        if found.is_some() {
            self.cache.remember(key.hash, seen);
        }
        Ok(found)
    }

    fn read_looked_up(
        &mut self,
        key: &Key<'_>,
        whole: bool,
        wait: &mut Wait,
    ) -> Result<Option<Option<Object>>> {
        let (place, mut buckets) = buckets_of(&self.directory, key);
        read_buckets(&self.fabric, &mut buckets)?;
        let matches = buckets.matches(key.hash);
        let found = if matches.is_empty() { None } else { self.read_object(key, whole, &matches)? };
        let frozen = found.as_ref().is_some_and(|object| object.seen.slot.class().is_none());
        if found.is_none() || frozen {
            let verdict = self.check_place(key, place, buckets.header(), frozen)?;
            if matches!(verdict, Verdict::Again) {
                return Ok(None);
            }
            let held = matches.iter().any(|candidate| is_intent(candidate.slot));
            if found.is_none() && held {
                self.meet_intents(&matches, wait)?;
                return Ok(None);
            }
        }
        match &found {
            Some(object) if !frozen => self.cache.remember(key.hash, object.seen),
            _ => self.cache.forget(key.hash),
        }
        Ok(Some(found))
    }

    /// Reads the candidates' objects or their heads, all in one batch; what is of `key` lies at the
    /// start of the buffer afterwards.
    fn read_object(
        &mut self,
        key: &Key<'_>,
        whole: bool,
        candidates: &[Candidate],
    ) -> Result<Option<Object>> {
        let object = |candidate: &Candidate| candidate.slot.thawed().unwrap_or(candidate.slot);
        let bytes = |slot: Slot| wanted(key, whole, slot);
        let total = candidates.iter().map(|candidate| bytes(object(candidate))).sum();
        self.reserve(total);
        let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
        let mut rest = &mut self.object[..total];
        for candidate in candidates {
            let slot = object(candidate);
            let (into, behind) = rest.split_at_mut(bytes(slot));
            rest = behind;
            if !into.is_empty() {
                verbs.push(Verb::read(self.fabric.primary(slot.addr())?, into));
            }
        }
        if verbs.is_empty() {
            return Ok(None);
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let mut start = 0;
        for candidate in candidates {
            let slot = object(candidate);
            let end = start + bytes(slot);
            if let Some(header) = key.header_in(&self.object[start..end], slot) {
                self.object.copy_within(start..end, 0);
                let header = if whole { self.verified(key, slot, header)? } else { header };
                return Ok(Some(Object { seen: *candidate, header }));
            }
            start = end;
        }
        Ok(None)
    }

    /// Checks the object of `slot` at the start of the buffer; one that does not verify is read
    /// again, from all copies.
    #[inline]
    fn verified(&mut self, key: &Key<'_>, slot: Slot, header: Header) -> Result<Header> {
        let class = slot.class().unwrap_or(crate::SizeClass(0));
        if object::is_whole(&self.object[..class.bytes()], &header) {
            return Ok(header);
        }
        self.read_other_copies(key, slot, class)
    }

    #[cold]
    fn read_other_copies(
        &mut self,
        key: &Key<'_>,
        slot: Slot,
        class: crate::SizeClass,
    ) -> Result<Header> {
        for copy in self.fabric.copies(slot.addr()) {
            let into = &mut self.object[..class.bytes()];
            self.fabric.batch(&mut [Verb::read(copy, into)])?;
            let whole = object::parse(&self.object[..class.bytes()], class).is_ok();
            if let Some(header) = key.header_in(&self.object[..class.bytes()], slot) {
                if whole {
                    return Ok(header);
                }
            }
        }
        let text = format!(
            "no copy of the object at {:?} verifies; delete or overwrite its key",
            slot.addr()
        );
        Err(PoolError::Corrupt(text))
    }

    /// Makes the buffer hold at least `bytes`.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if self.object.len() < bytes {
            self.object.resize(bytes, 0);
        }
    }
}

/// Bytes to read of the object in a slot: 0 if there is none.
#[inline]
fn wanted(key: &Key<'_>, whole: bool, slot: Slot) -> usize {
    match slot.class() {
        Some(class) if whole => class.bytes(),
        Some(class) => class.bytes().min(key.head_bytes()),
        None => 0,
    }
}
