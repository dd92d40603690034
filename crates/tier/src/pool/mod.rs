//! Blocks in a memory pool, which the processes of a host share.
//!
//! A block is a value of the pool's namespace [`NAMESPACE`] under its name. The pool writes its
//! pieces from the engine's memory and reads them into it, each with a checksum that covers name,
//! number and length, and links a value only once all its pieces are there: so what a process that
//! was killed has written halfway never shows, and damage is a miss. Whether a block is there is
//! asked of the pool's index at each question, by one-sided reads of about a microsecond.
//!
//! Blocks expire when nobody has used them for long. The time left also tells every process when
//! anybody used a block last, so that all evict in the same order.

mod clients;
mod known;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use artesian_pool::client::Client;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::store::{Expiry, MAX_INLINE_BYTES};
use artesian_pool::PoolError;
use parking_lot::Mutex;

use crate::error::{Result, TierError};
use crate::store::{Entry, Key, Loaded, Saved, Store, StoreStats};
use clients::Clients;
use known::Known;

/// The namespace of the blocks.
pub const NAMESPACE: &str = "context";

/// What nobody has used for so long goes.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A use is written down unless one that is not older was.
const GRAIN: Duration = Duration::from_secs(10);
/// A pool that had no room for a block is not asked again for so long: looking for room waits.
const FULL: Duration = Duration::from_millis(100);
/// How often a page of the namespace is read, and its length in keys.
const LEARN: Duration = Duration::from_millis(250);
const PAGE_KEYS: usize = 2048;
/// How often clients look whether something is asked of them.
const REFRESH: Duration = Duration::from_millis(20);

/// Which pool, and how much of it.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// How messages call it.
    pub name: String,
    /// Bytes of all blocks of all processes, as the pool counts them.
    pub capacity_bytes: u64,
}

/// See the module.
pub struct PoolStore {
    options: PoolOptions,
    namespace: u16,
    piece_bytes: usize,
    clients: Clients,
    known: Mutex<Known>,
    used_bytes: AtomicU64,
    counts: Mutex<StoreStats>,
    full_until: Mutex<Option<Instant>>,
    learned: Mutex<Instant>,
}

impl PoolStore {
    /// Keeps blocks in the pool that `clients` have joined. The first one answers questions, each
    /// of the others moves blocks for one thread at a time; so there are two at least.
    pub fn open(options: PoolOptions, clients: Vec<Client>) -> Result<PoolStore> {
        if clients.len() < 2 {
            let text = format!("{} clients of a pool: 2 are needed at least", clients.len());
            return Err(TierError::Invalid(text));
        }
        let clients = Clients::new(clients);
        let (mut namespace, mut piece_bytes) = (0, 0);
        clients
            .each(|client| {
                piece_bytes = client.piece_len();
                namespace = client.namespace(NAMESPACE, Kind::Store, Limits::default())?;
                Ok(())
            })
            .map_err(|source| fault(&options, "open", source))?;
        let store = PoolStore {
            options,
            namespace,
            piece_bytes,
            clients,
            known: Mutex::default(),
            used_bytes: AtomicU64::new(0),
            counts: Mutex::default(),
            full_until: Mutex::default(),
            learned: Mutex::new(Instant::now()),
        };
        while !store.learn()? {}
        Ok(store)
    }

    /// Reads a page of the namespace; whether it was the last one.
    fn learn(&self) -> Result<bool> {
        let cursor = self.known.lock().cursor();
        let page = self.clients.moving(|client| {
            self.used_bytes.store(client.usage(self.namespace)?, Ordering::Relaxed);
            client.scan_entries(self.namespace, cursor, PAGE_KEYS)
        });
        let (entries, next) = page.map_err(|source| self.fault("look at", source))?;
        let mut known = self.known.lock();
        for entry in entries {
            let Ok(key) = Key::try_from(entry.key.as_slice()) else { continue };
            let unused = entry.ttl_ms.map_or(Duration::ZERO, unused_for);
            known.see(key, entry.bytes, unused);
        }
        known.turn_page(next);
        Ok(next == 0)
    }

    fn fault(&self, what: &'static str, source: PoolError) -> TierError {
        fault(&self.options, what, source)
    }

    fn is_backing_off(&self) -> bool {
        self.full_until.lock().is_some_and(|until| Instant::now() < until)
    }

    fn full(&self, bytes: usize) -> TierError {
        let used = self.used_bytes.load(Ordering::Relaxed);
        let capacity = self.options.capacity_bytes;
        TierError::Full { bytes: bytes as u64, used, capacity }
    }

    /// A block does not verify: away with it.
    fn give_up(&self, key: &Key) -> Result<Loaded> {
        self.counts.lock().num_corrupt += 1;
        self.remove(key)?;
        Ok(Loaded::Corrupt)
    }

    /// Writes down that a block is used now.
    fn touch(&self, client: &mut Client, key: &Key) -> artesian_pool::Result<()> {
        let left = client.ttl_ms(self.namespace, key)?.flatten();
        if left.is_some_and(|left| unused_for(left) >= GRAIN) {
            client.expire(self.namespace, key, expiry())?;
        }
        Ok(())
    }

    /// What became of a load of `len` bytes.
    fn loaded(
        &self,
        key: &Key,
        len: usize,
        found: artesian_pool::Result<Option<usize>>,
    ) -> Result<Loaded> {
        match found {
            Ok(Some(read)) if read == len => Ok(Loaded::Hit),
            Ok(Some(_)) | Err(PoolError::TooLarge { .. } | PoolError::Corrupt(_)) => {
                self.give_up(key)
            }
            Ok(None) | Err(PoolError::Lost(_)) => Ok(self.vanished(key)),
            Err(source) => Err(self.fault("load a block from", source)),
        }
    }

    fn vanished(&self, key: &Key) -> Loaded {
        if !self.known.lock().forget(key) {
            return Loaded::Absent;
        }
        self.counts.lock().num_vanished += 1;
        Loaded::Vanished
    }
}

/// How long ago a block was used that expires in `ttl_ms`.
fn unused_for(ttl_ms: u64) -> Duration {
    KEPT.saturating_sub(Duration::from_millis(ttl_ms))
}

fn fault(options: &PoolOptions, what: &'static str, source: PoolError) -> TierError {
    TierError::Pool { what, name: options.name.clone(), source }
}

fn expiry() -> Expiry {
    Expiry::In(KEPT.as_millis() as u64)
}

impl Store for PoolStore {
    /// Asks the pool, so it knows of other processes' blocks at once.
    fn contains(&self, key: &Key) -> bool {
        self.clients.asking(|client| client.contains(self.namespace, key)).unwrap_or(false)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        if self.is_backing_off() {
            return Err(self.full(bytes.len()));
        }
        let capacity = self.options.capacity_bytes;
        let outcome = self.clients.moving(|client| {
            let used = client.usage(self.namespace)?;
            self.used_bytes.store(used, Ordering::Relaxed);
            if used + bytes.len() as u64 > capacity {
                return Ok(None);
            }
            let is_new = match client.insert(self.namespace, key, bytes, expiry()) {
                // What was there is gone with its node.
                Err(PoolError::Lost(_)) => {
                    client.put(self.namespace, key, bytes, expiry()).map(|()| true)?
                }
                outcome => outcome?,
            };
            self.used_bytes.store(client.usage(self.namespace)?, Ordering::Relaxed);
            Ok(Some(is_new))
        });
        match outcome {
            Ok(Some(is_new)) => {
                self.known.lock().see(*key, bytes.len() as u64, Duration::ZERO);
                Ok(if is_new { Saved::New } else { Saved::Known })
            }
            Ok(None) => Err(self.full(bytes.len())),
            Err(PoolError::Full { .. } | PoolError::QuotaExceeded { .. }) => {
                *self.full_until.lock() = Some(Instant::now() + FULL);
                Err(self.full(bytes.len()))
            }
            Err(source) => {
                self.counts.lock().num_failed_saves += 1;
                Err(self.fault("save a block in", source))
            }
        }
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        let len = into.len();
        let found = self.clients.moving(|client| {
            let found = client.get_into(self.namespace, key, into)?;
            self.touch(client, key)?;
            Ok(found)
        });
        self.loaded(key, len, found)
    }

    fn part_bytes(&self, _key: &Key, block_bytes: usize) -> usize {
        if block_bytes > MAX_INLINE_BYTES {
            self.piece_bytes
        } else {
            block_bytes
        }
    }

    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        let len = into.len();
        let found = self.clients.moving(|client| {
            if offset == 0 {
                self.touch(client, key)?;
            }
            client.get_range(self.namespace, key, offset, into)
        });
        self.loaded(key, len, found)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let outcome = self.clients.moving(|client| {
            let was_there = client.delete(self.namespace, key)?;
            self.used_bytes.store(client.usage(self.namespace)?, Ordering::Relaxed);
            Ok(was_there)
        });
        self.known.lock().forget(key);
        match outcome {
            Ok(was_there) => Ok(was_there),
            // It was lost with its node.
            Err(PoolError::Lost(_)) => Ok(false),
            Err(source) => Err(self.fault("take a block out of", source)),
        }
    }

    fn refresh(&self) -> Result<()> {
        let attended = self.clients.attend();
        let is_due = {
            let mut learned = self.learned.lock();
            let is_due = learned.elapsed() >= LEARN;
            if is_due {
                *learned = Instant::now();
            }
            is_due
        };
        if is_due {
            self.learn()?;
        }
        attended.map_err(|source| self.fault("stay in", source))
    }

    fn refresh_every(&self) -> Duration {
        REFRESH
    }

    fn entries(&self) -> Vec<Entry> {
        self.known.lock().entries()
    }

    fn stats(&self) -> StoreStats {
        StoreStats {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            capacity_bytes: self.options.capacity_bytes,
            num_blocks: self.known.lock().len() as u64,
            ..*self.counts.lock()
        }
    }
}
