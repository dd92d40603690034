//! The cache's operations on one key.

use super::change::{Change, Done};
use super::get::Found;
use super::Cache;
use crate::client::Client;
use crate::error::Result;
use crate::object::{Kind, Op};
use crate::store::{Expiry, Key, MAX_INLINE_BYTES};

impl Client {
    /// Does `work` with the cache that was opened as `namespace`, as an operation of its own.
    pub(super) fn in_cache<R>(
        &mut self,
        namespace: u16,
        work: impl FnOnce(&mut Client, &mut Cache) -> Result<R>,
    ) -> Result<R> {
        let mut cache = self.caches.take(namespace)?;
        let mut outcome = work(self, &mut cache);
        if cache.notes.are_many() {
            outcome = outcome.and_then(|done| cache.settle(&self.fabric).map(|()| done));
        }
        match cache.usage.uncounted() {
            0 => {}
            bytes => self.spaces.count(namespace, bytes),
        }
        self.caches.put(cache);
        self.settle_down()?;
        outcome
    }

    /// Calls `f` with the value of `key`; `None` if the cache does not have it.
    pub fn cache_get_with<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let key = Key::new(namespace, key)?;
        self.in_cache(namespace, |client, cache| {
            let Some(found) = client.cache_read(cache, &key, true)? else { return Ok(None) };
            if found.header.kind == Kind::Manifest {
                let mut bytes = Vec::new();
                let whole = client.cache_get_large(cache, &key, &found, &mut bytes)?;
                return Ok(whole.then(|| f(&bytes)));
            }
            Ok(Some(f(client.value_in(&key, &found))))
        })
    }

    /// Puts the value of `key` into `into` (what was there is gone); false if the cache does not
    /// have it.
    pub fn cache_get(&mut self, namespace: u16, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        into.clear();
        let key = Key::new(namespace, key)?;
        self.in_cache(namespace, |client, cache| {
            let Some(found) = client.cache_read(cache, &key, true)? else { return Ok(false) };
            if found.header.kind == Kind::Manifest {
                return client.cache_get_large(cache, &key, &found, into);
            }
            into.extend_from_slice(client.value_in(&key, &found));
            Ok(true)
        })
    }

    /// Gives `key` this value, whatever it had. If the cache is full, something else goes.
    ///
    /// [`PoolError::TooLarge`]: key or value are larger than objects can be, or than the cache.
    /// [`PoolError::Full`]: the pool is full of other things than this cache's.
    pub fn cache_put(
        &mut self,
        namespace: u16,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> Result<()> {
        let key = Key::new(namespace, key)?;
        let expires_ms = self.expires_ms(namespace, expiry)?;
        self.in_cache(namespace, |client, cache| {
            if value.len() > MAX_INLINE_BYTES {
                client.cache_put_large(cache, &key, value, expires_ms)?;
            } else {
                let (op, kind) = (Op::Put, Kind::Value);
                let change = Change { op, kind, value, pieces: 0, expires_ms };
                client.cache_change(cache, &key, &change)?;
            }
            cache.counts.puts += 1;
            Ok(())
        })
    }

    /// Takes the value of `key` away; false if the cache did not have it.
    pub fn cache_delete(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        let key = Key::new(namespace, key)?;
        let (op, kind) = (Op::Delete, Kind::Deletion);
        let change = Change { op, kind, value: &[], pieces: 0, expires_ms: 0 };
        self.in_cache(namespace, |client, cache| {
            let deleted = client.cache_change(cache, &key, &change)? != Done::Nothing;
            cache.counts.deletes += u64::from(deleted);
            Ok(deleted)
        })
    }

    /// Counts an access to `key` without reading its value; false if the cache does not have it.
    pub fn cache_touch(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        let key = Key::new(namespace, key)?;
        self.in_cache(namespace, |client, cache| {
            Ok(client.cache_read(cache, &key, false)?.is_some())
        })
    }

    /// The value of the object in the client's buffer.
    #[inline]
    fn value_in(&self, key: &Key<'_>, found: &Found) -> &[u8] {
        let start = key.head_bytes();
        &self.object[start..start + found.header.value_len as usize]
    }
}
