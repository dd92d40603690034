//! A store that is as slow as one likes, to see what slow disks do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Result, TierError};
use crate::store::{Entry, Key, Loaded, Saved, Store, StoreStats};

/// Another store, through which so many bytes pass in a second, read and written ones together.
pub struct Throttled {
    inner: Arc<dyn Store>,
    bytes_per_s: f64,
    /// When everything that was asked for so far has passed.
    free: Mutex<Instant>,
}

impl Throttled {
    /// Of a positive number of bytes in a second.
    pub fn new(inner: Arc<dyn Store>, bytes_per_s: f64) -> Result<Throttled> {
        if !(bytes_per_s.is_finite() && bytes_per_s >= 1.0) {
            let text = format!("{bytes_per_s} bytes in a second are none: name a number above 1");
            return Err(TierError::Invalid(text));
        }
        Ok(Throttled { inner, bytes_per_s, free: Mutex::new(Instant::now()) })
    }

    /// Returns when so many bytes have had their turn.
    fn pass(&self, bytes: usize) {
        let took = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let until = {
            let mut free = self.free.lock();
            *free = (*free).max(Instant::now()) + took;
            *free
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

impl Store for Throttled {
    fn contains(&self, key: &Key) -> bool {
        self.inner.contains(key)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        let saved = self.inner.save(key, bytes)?;
        if saved == Saved::New {
            self.pass(bytes.len());
        }
        Ok(saved)
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        self.load_part(key, 0, into)
    }

    fn part_bytes(&self, key: &Key, block_bytes: usize) -> usize {
        self.inner.part_bytes(key, block_bytes)
    }

    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        let loaded = self.inner.load_part(key, offset, into)?;
        if loaded == Loaded::Hit {
            self.pass(into.len());
        }
        Ok(loaded)
    }

    fn stored_bytes(&self, key: &Key) -> Option<u64> {
        self.inner.stored_bytes(key)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        self.inner.remove(key)
    }

    fn refresh(&self) -> Result<()> {
        self.inner.refresh()
    }

    fn refresh_every(&self) -> Duration {
        self.inner.refresh_every()
    }

    fn entries(&self) -> Vec<Entry> {
        self.inner.entries()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
}
