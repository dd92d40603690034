//! Changes that depend on what is there: each happens exactly once, on the very object that was
//! read.
//!
//! The object is read and its slot's value is what the round replaces, in one operation, so no
//! other value can have been there in between. Such rounds are [`Op::Conditional`]: neither does
//! their loser claim success, nor does a put that loses to them.

use super::change::{Change, Done, Rule};
use super::find::Key;
use super::get::Version;
use super::look::Object;
use super::ops::Expiry;
use super::MAX_INLINE_BYTES;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{Kind, LogEntry, Op};
use crate::rtx::Wait;
use crate::slot::Slot;

/// What came of a try; `None`: look again.
type Tried<R> = Result<Option<R>>;

/// What shall become of a key.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    /// It has this value until then.
    Value(&'a [u8], u64),
    /// It has none.
    Nothing,
}

impl Object {
    /// What the slot holds, or will hold in the subtable that a split moves it to.
    pub(super) fn slot(&self) -> Slot {
        self.seen.slot.thawed().unwrap_or(self.seen.slot)
    }
}

impl Client {
    /// Gives `key` this value if it is still in the state that `expected` names, `None` for no
    /// value. Returns the name of the new state, or `None` if it was in another one.
    pub fn compare_and_set(
        &mut self,
        namespace: u16,
        key: &[u8],
        expected: Option<Version>,
        value: &[u8],
        expiry: Expiry,
    ) -> Result<Option<Version>> {
        let expires_ms = self.expires_ms(namespace, expiry)?;
        self.compare_and(namespace, key, expected, Next::Value(value, expires_ms))
    }

    /// Takes the value of `key` away if it is still in the state that `expected` names; false if it
    /// is not.
    pub fn compare_and_delete(
        &mut self,
        namespace: u16,
        key: &[u8],
        expected: Version,
    ) -> Result<bool> {
        let done = self.compare_and(namespace, key, Some(expected), Next::Nothing)?;
        Ok(done.is_some())
    }

    fn compare_and(
        &mut self,
        namespace: u16,
        key: &[u8],
        expected: Option<Version>,
        next: Next<'_>,
    ) -> Result<Option<Version>> {
        self.depending(namespace, key, |client, key, object, wait| {
            let found = object.map(|object| client.version_of(object));
            if found != expected {
                return Ok(Some(None));
            }
            let done = client.exchange(key, object.map(Object::slot), next, wait)?;
            Ok(done.map(|sequence| Some(client.version_of_own(sequence))))
        })
    }

    /// Adds `by` to the value of `key`, an integer of 8 bytes, little-endian; returns the sum. A
    /// key without value counts as 0; one that has a value keeps its time to live.
    pub fn increment(&mut self, namespace: u16, key: &[u8], by: i64) -> Result<i64> {
        let fresh_ms = self.expires_ms(namespace, Expiry::Default)?;
        self.depending(namespace, key, |client, key, object, wait| {
            let (found, expires_ms) = match object {
                Some(object) => (client.integer(key, object)?, object.header.expires_ms),
                None => (0, fresh_ms),
            };
            let over = || PoolError::Invalid(format!("{found} + {by} does not fit 64 bits"));
            let sum = found.checked_add(by).ok_or_else(over)?;
            let next = Next::Value(&sum.to_le_bytes(), expires_ms);
            let done = client.exchange(key, object.map(Object::slot), next, wait)?;
            Ok(done.map(|_| sum))
        })
    }

    fn integer(&self, key: &Key<'_>, object: &Object) -> Result<i64> {
        let value = self.value_of(key, object)?.unwrap_or_default();
        match value.try_into() {
            Ok(bytes) => Ok(i64::from_le_bytes(bytes)),
            Err(_) => Err(PoolError::Invalid(format!(
                "the value is no integer: it has {} bytes, not 8",
                object.header.value_len
            ))),
        }
    }

    /// Puts `bytes` behind the value of `key`; returns how long it is then. A key without value
    /// counts as empty; one that has a value keeps its time to live. Pieces of a large value stay
    /// where they are.
    pub fn append(&mut self, namespace: u16, key: &[u8], bytes: &[u8]) -> Result<usize> {
        let fresh_ms = self.expires_ms(namespace, Expiry::Default)?;
        self.depending(namespace, key, |client, key, object, wait| {
            let Some(object) = object else {
                let done = client.exchange(key, None, Next::Value(bytes, fresh_ms), wait)?;
                return Ok(done.map(|_| bytes.len()));
            };
            let Some(value) = client.value_of(key, object)? else {
                return client.append_large(key, object, bytes, wait);
            };
            let value = [value, bytes].concat();
            let next = Next::Value(&value, object.header.expires_ms);
            let done = client.exchange(key, Some(object.slot()), next, wait)?;
            Ok(done.map(|_| value.len()))
        })
    }

    /// Calls `change` with the object of `key`, which lies in the client's buffer, until it tells
    /// how it ended: one operation.
    pub(super) fn depending<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        mut change: impl FnMut(&mut Client, &Key<'_>, Option<&Object>, &mut Wait) -> Tried<R>,
    ) -> Result<R> {
        let key = Key::new(namespace, key)?;
        self.stats.writes += 1;
        let mut wait = Wait::new();
        let outcome = loop {
            let object = match self.read_live(&key) {
                Ok(object) => object,
                Err(error) => break Err(error),
            };
            match change(self, &key, object.as_ref(), &mut wait) {
                Ok(Some(done)) => break Ok(done),
                Ok(None) | Err(PoolError::ViewChanged) => self.stats.retries += 1,
                Err(error) => break Err(error),
            }
        };
        self.settle_down()?;
        outcome
    }

    /// Replaces the object in `old` (`None`: no value). Returns the operation's number; `None`
    /// after a pause if something else was there.
    pub(super) fn exchange(
        &mut self,
        key: &Key<'_>,
        old: Option<Slot>,
        next: Next<'_>,
        wait: &mut Wait,
    ) -> Result<Option<u64>> {
        let rule = old.map_or(Rule::Absent, Rule::Exactly);
        let op = Op::Conditional;
        let outcome = match next {
            Next::Value(value, expires_ms) if value.len() > MAX_INLINE_BYTES => {
                self.store_large(key, value, expires_ms, rule, op)
            }
            Next::Value(value, expires_ms) => {
                let kind = Kind::Value;
                self.change_within(key, &Change { rule, op, kind, value, expires_ms })
            }
            Next::Nothing => {
                let (kind, value, expires_ms) = (Kind::Deletion, &[][..], 0);
                self.change_within(key, &Change { rule, op, kind, value, expires_ms })
            }
        };
        self.exchanged(outcome, wait)
    }

    /// What follows from how an exchange went.
    pub(super) fn exchanged(
        &mut self,
        outcome: Result<Done>,
        wait: &mut Wait,
    ) -> Result<Option<u64>> {
        match outcome {
            Ok(Done::Changed(sequence)) => Ok(Some(sequence)),
            Ok(Done::Overwritten | Done::Refused) => {
                wait.pause(&self.fabric, "others that keep changing the key")?;
                Ok(None)
            }
            Err(PoolError::Full { bytes }) => {
                // The operation begins anew: what it has read does not count any more.
                self.settle_down()?;
                self.reclaim_room(bytes)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The version of an object that this client has written by a conditional operation.
    fn version_of_own(&self, sequence: u64) -> Version {
        let (client, op) = (self.fabric.me(), Op::Conditional);
        Version::of_log(&LogEntry { client, op, sequence, decided: None }.encode())
    }
}
