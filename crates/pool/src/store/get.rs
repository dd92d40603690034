//! Reading.

use artesian_bus::Verb;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::find::{buckets_of, is_intent, read_buckets, Key, Verdict};
use super::now_ms;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Candidate, Hint};
use crate::object::{self, Header, Kind, LOG_BYTES};
use crate::rtx::Wait;
use crate::slot::Slot;

/// Names one state of a key: never the same again, whatever becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Of the object with that log entry: client and operation number, which never change.
    pub(crate) fn of_log(bytes: &[u8]) -> Version {
        Version(xxh3_64(&bytes[LOG_BYTES / 2..]))
    }
}

/// A key's object, which lies in the client's buffer.
pub(crate) struct Object {
    pub seen: Candidate,
    pub header: Header,
}

impl Client {
    /// Calls `f` with the value of `key`; `None` if there is none.
    pub fn get_with<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let key = Key::new(namespace, key)?;
        self.stats.reads += 1;
        let outcome = match self.read_live(&key)? {
            Some(object) => {
                self.stats.reads_found += 1;
                self.value_of(&key, &object, f).map(Some)
            }
            None => Ok(None),
        };
        self.settle_down()?;
        outcome
    }

    /// Puts the value of `key` into `into` (what was there is gone); false if there is none.
    pub fn get(&mut self, namespace: u16, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        into.clear();
        let found = self.get_with(namespace, key, |value| into.extend_from_slice(value))?;
        Ok(found.is_some())
    }

    /// Whether `key` has a value.
    pub fn contains(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        let key = Key::new(namespace, key)?;
        let found = self.read_live(&key)?.is_some();
        self.settle_down()?;
        Ok(found)
    }

    /// Milliseconds after which the value of `key` expires: `None` if there is no value,
    /// `Some(None)` if it never does.
    pub fn ttl_ms(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Option<u64>>> {
        let key = Key::new(namespace, key)?;
        let found = self.read_live(&key)?;
        self.settle_down()?;
        let now = now_ms(&self.fabric);
        Ok(found.map(|object| match object.header.expires_ms {
            0 => None,
            expires => Some(expires.saturating_sub(now)),
        }))
    }

    /// Names the present state of `key`; `None` if it has no value.
    pub fn version(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Version>> {
        let key = Key::new(namespace, key)?;
        let found = self.read_live(&key)?;
        let version = found.map(|object| self.version_of(&object));
        self.settle_down()?;
        Ok(version)
    }

    /// [`Client::get`] that names the state it has read; `None` if there is no value.
    pub fn get_versioned(
        &mut self,
        namespace: u16,
        key: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<Option<Version>> {
        into.clear();
        let key = Key::new(namespace, key)?;
        let outcome = match self.read_live(&key)? {
            Some(object) => {
                let version = self.version_of(&object);
                let value = self.value_of(&key, &object, |value| into.extend_from_slice(value));
                value.map(|()| Some(version))
            }
            None => Ok(None),
        };
        self.settle_down()?;
        outcome
    }

    /// [`Client::version`] as a part of an operation.
    pub(crate) fn version_within(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Version>> {
        let key = Key::new(namespace, key)?;
        let found = self.read_live(&key)?;
        Ok(found.map(|object| self.version_of(&object)))
    }

    /// The object of `key` in the client's buffer, unless it has expired.
    #[inline]
    pub(crate) fn read_live(&mut self, key: &Key<'_>) -> Result<Option<Object>> {
        let mut wait = Wait::new(&self.fabric);
        let found = loop {
            match self.read_once(key, &mut wait) {
                Ok(Some(found)) => break found,
                Ok(None) | Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        };
        Ok(found.filter(|object| {
            let expires = object.header.expires_ms;
            expires == 0 || expires > now_ms(&self.fabric)
        }))
    }

    /// One look; `None`: look again.
    #[inline]
    fn read_once(&mut self, key: &Key<'_>, wait: &mut Wait) -> Result<Option<Option<Object>>> {
        self.fabric.pass_gate()?;
        if let Hint::Seen(hint) = self.cache.look(key.hash) {
            if let Some(object) = self.read_hinted(key, hint)? {
                return Ok(Some(Some(object)));
            }
        }
        self.read_looked_up(key, wait)
    }

    /// Slot and object in one batch; `None` if the slot holds something else by now.
    #[inline]
    fn read_hinted(&mut self, key: &Key<'_>, hint: Candidate) -> Result<Option<Object>> {
        let Some(class) = hint.slot.class() else { return Ok(None) };
        let bytes = class.bytes();
        self.reserve(bytes);
        let mut word = [0; 8];
        let (slot_at, object_at) =
            (self.fabric.primary(hint.at)?, self.fabric.primary(hint.slot.addr())?);
        let into = &mut self.object[..bytes];
        self.fabric.batch(&mut [Verb::read(slot_at, &mut word), Verb::read(object_at, into)])?;
        let now = Slot(u64::from_le_bytes(word));
        if now == hint.slot {
            if let Some(header) = key.header_in(&self.object[..bytes], now) {
                let header = self.verified(key, now, header)?;
                self.stats.hints_right += 1;
                return Ok(Some(Object { seen: hint, header }));
            }
        }
        self.stats.hints_wrong += 1;
        self.cache.was_wrong(key.hash);
        // The key may have a new object in the same slot.
        if now.class().is_none() || now.fingerprint() != key.hash.fingerprint() {
            return Ok(None);
        }
        self.read_object(key, &[Candidate { at: hint.at, slot: now }])
    }

    fn read_looked_up(&mut self, key: &Key<'_>, wait: &mut Wait) -> Result<Option<Option<Object>>> {
        let (place, mut buckets) = buckets_of(&self.directory, key);
        read_buckets(&self.fabric, &mut buckets)?;
        let matches = buckets.matches(key.hash);
        let found = if matches.is_empty() { None } else { self.read_object(key, &matches)? };
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

    /// Reads the candidates' objects whole, all in one batch; the one of `key` lies at the start
    /// of the buffer afterwards.
    fn read_object(&mut self, key: &Key<'_>, candidates: &[Candidate]) -> Result<Option<Object>> {
        let object = |candidate: &Candidate| candidate.slot.thawed().unwrap_or(candidate.slot);
        let bytes = |slot: Slot| slot.class().map_or(0, |class| class.bytes());
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
                let header = self.verified(key, slot, header)?;
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

    /// Calls `f` with the value of the object in the buffer.
    #[inline]
    fn value_of<R>(
        &mut self,
        key: &Key<'_>,
        object: &Object,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        let start = key.head_bytes();
        let end = start + object.header.value_len as usize;
        match object.header.kind {
            Kind::Value => Ok(f(&self.object[start..end])),
            kind => {
                let text = format!("a key names an object of kind {kind:?}");
                Err(PoolError::Corrupt(text))
            }
        }
    }

    /// The version of the object in the buffer.
    pub(crate) fn version_of(&self, object: &Object) -> Version {
        let slot = object.seen.slot.thawed().unwrap_or(object.seen.slot);
        let end = slot.class().map_or(LOG_BYTES, |class| class.bytes());
        Version::of_log(&self.object[end - LOG_BYTES..end])
    }

    /// Makes the buffer hold at least `bytes`.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if self.object.len() < bytes {
            self.object.resize(bytes, 0);
        }
    }
}
