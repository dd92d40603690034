//! A transaction as its user sees it: reads are remembered, writes are kept back until the commit.

use std::collections::BTreeMap;

use super::commit::{Read, Write};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::store::{Expiry, MAX_INLINE_BYTES};

/// Most keys that one transaction writes.
pub const MAX_WRITES: usize = 64;
/// How often [`Client::transact`] tries.
const ATTEMPTS: u32 = 64;
const FIRST_PAUSE_NS: u64 = 2_000;

/// Namespace and key.
pub(super) type Name = (u16, Vec<u8>);

/// What a transaction has read and is to write, without a client: for those who cannot keep one
/// borrowed. All calls must be with the same client.
#[derive(Default)]
pub struct Draft {
    reads: BTreeMap<Name, Read>,
    writes: BTreeMap<Name, Write>,
}

impl Draft {
    /// See [`Transaction::get`].
    pub fn get(
        &mut self,
        client: &mut Client,
        namespace: u16,
        key: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<bool> {
        into.clear();
        let name = (namespace, key.to_vec());
        match self.writes.get(&name) {
            Some(Write::Put { value, .. }) => {
                into.extend_from_slice(value);
                return Ok(true);
            }
            Some(Write::Delete) => return Ok(false),
            None => {}
        }
        let version = client.get_versioned(namespace, key, into)?;
        match self.reads.get(&name) {
            // What was read before does not hold any more: this transaction cannot commit.
            Some(read) if read.version != version => return Err(PoolError::Conflict),
            Some(_) => {}
            None => drop(self.reads.insert(name, Read { version })),
        }
        Ok(version.is_some())
    }

    /// See [`Transaction::put`].
    pub fn put(&mut self, namespace: u16, key: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        let limit = MAX_INLINE_BYTES;
        if value.len() > limit {
            let what = "value in a transaction";
            return Err(PoolError::TooLarge { what, size: value.len(), limit });
        }
        self.write(namespace, key, Write::Put { value: value.to_vec(), expiry })
    }

    /// See [`Transaction::delete`].
    pub fn delete(&mut self, namespace: u16, key: &[u8]) -> Result<()> {
        self.write(namespace, key, Write::Delete)
    }

    fn write(&mut self, namespace: u16, key: &[u8], write: Write) -> Result<()> {
        let limit = crate::object::MAX_KEY_BYTES;
        if key.len() > limit {
            return Err(PoolError::TooLarge { what: "key", size: key.len(), limit });
        }
        let name = (namespace, key.to_vec());
        if self.writes.len() == MAX_WRITES && !self.writes.contains_key(&name) {
            let text = format!("a transaction writes {MAX_WRITES} keys at most");
            return Err(PoolError::Invalid(text));
        }
        self.writes.insert(name, write);
        Ok(())
    }

    /// See [`Transaction::commit`].
    pub fn commit(self, client: &mut Client) -> Result<()> {
        client.commit(&self.reads, &self.writes)
    }
}

/// Reads and writes of several keys that happen together or not at all.
///
/// Nothing is visible to others before [`Transaction::commit`]; dropping it forgets everything.
/// Transactions are serializable among each other and with all other operations.
pub struct Transaction<'c> {
    client: &'c mut Client,
    draft: Draft,
}

impl<'c> Transaction<'c> {
    fn new(client: &'c mut Client) -> Transaction<'c> {
        Transaction { client, draft: Draft::default() }
    }

    /// Puts the value of `key` into `into` (what was there is gone); false if there is none. Sees
    /// this transaction's own writes.
    pub fn get(&mut self, namespace: u16, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        self.draft.get(self.client, namespace, key, into)
    }

    /// `key` has this value once the transaction is committed. At most [`MAX_INLINE_BYTES`] bytes.
    pub fn put(&mut self, namespace: u16, key: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        self.draft.put(namespace, key, value, expiry)
    }

    /// `key` has no value once the transaction is committed.
    pub fn delete(&mut self, namespace: u16, key: &[u8]) -> Result<()> {
        self.draft.delete(namespace, key)
    }

    /// Makes all writes visible at once. [`PoolError::Conflict`]: others changed what was read or
    /// is to be written, nothing has happened: begin again.
    pub fn commit(self) -> Result<()> {
        self.draft.commit(self.client)
    }
}

impl Client {
    /// Begins a transaction on keys of the store.
    pub fn transaction(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// Runs `body` in a transaction and commits it; again, from the start, when it conflicts.
    pub fn transact<R>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<R> {
        for attempt in 0..ATTEMPTS {
            let mut transaction = self.transaction();
            let outcome = body(&mut transaction);
            match outcome.and_then(|result| transaction.commit().map(|()| result)) {
                Err(PoolError::Conflict) => {}
                outcome => return outcome,
            }
            // Of two that meet again and again, one pauses longer.
            let share = u64::from(self.fabric.me().index % 8) + 1;
            self.fabric.verbs().relax((FIRST_PAUSE_NS * share) << attempt.min(8));
        }
        Err(PoolError::Conflict)
    }
}
