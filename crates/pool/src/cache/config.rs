//! What a cache is to be like.

use super::policy::MOST_EXPERTS;
use crate::error::{PoolError, Result};

/// Longest name of an eviction algorithm in bytes.
pub const MAX_ALGORITHM_BYTES: usize = 24;
/// Most slots that are looked at for one victim.
pub const MAX_SAMPLE: u32 = 1024;
/// Bytes of an object, if only bytes are limited: what the table is made for.
const EXPECTED_BYTES: u64 = 512;
/// Most objects that a cache is made for.
const MOST_OBJECTS: u64 = 1 << 32;

/// The shape of a cache, fixed when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most objects; 0 for no limit of their number.
    pub objects: u64,
    /// Most bytes of objects, headers and padding included; 0 for no limit. A cache with this
    /// limit alone has a table for objects of 512 bytes: if they are smaller, say how many.
    pub bytes: u64,
    /// The eviction algorithms among which it chooses, by name.
    pub algorithms: Vec<String>,
    /// Whether it learns which algorithm to follow. If not, all are followed alike.
    pub adaptive: bool,
    /// Neighbouring slots that are looked at for a victim, empty ones and history included: in a
    /// full cache about a third of them are objects.
    pub sample: u32,
    /// Evictions that are remembered if it is adaptive; 0 for as many as objects. Each takes a slot
    /// and 64 bytes.
    pub history: u64,
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig {
            objects: 0,
            bytes: 0,
            algorithms: vec!["quick-demotion".into(), "lru".into()],
            adaptive: true,
            sample: 96,
            history: 0,
        }
    }
}

impl CacheConfig {
    /// A cache of at most so many objects, all else as usual.
    pub fn of_objects(objects: u64) -> CacheConfig {
        CacheConfig { objects, ..CacheConfig::default() }
    }

    /// A cache of at most so many bytes, all else as usual.
    pub fn of_bytes(bytes: u64) -> CacheConfig {
        CacheConfig { bytes, ..CacheConfig::default() }
    }

    /// Refuses what cannot be. Whether there are such algorithms is for the registry to say.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(PoolError::Invalid(what));
        if self.objects == 0 && self.bytes == 0 {
            return wrong("a cache needs a limit: of objects, of bytes, or both".into());
        }
        if self.expected() > MOST_OBJECTS || self.remembered() > MOST_OBJECTS {
            return wrong(format!("a cache of {} objects: at most 2^32 can be", self.expected()));
        }
        if self.sample == 0 || self.sample > MAX_SAMPLE {
            return wrong(format!("a sample of {}: 1 to {MAX_SAMPLE} slots can be", self.sample));
        }
        let named = |name: &String| !name.is_empty() && name.len() <= MAX_ALGORITHM_BYTES;
        let count = self.algorithms.len();
        if count == 0 || count > MOST_EXPERTS || !self.algorithms.iter().all(named) {
            return wrong(format!(
                "eviction algorithms {:?}: 1 to {MOST_EXPERTS} names of 1 to \
                 {MAX_ALGORITHM_BYTES} bytes can be",
                self.algorithms
            ));
        }
        Ok(())
    }

    /// Objects that the table is made for.
    pub(super) fn expected(&self) -> u64 {
        let by_bytes = match self.bytes {
            0 => u64::MAX,
            bytes => bytes / if self.objects == 0 { EXPECTED_BYTES } else { 64 },
        };
        let by_number = if self.objects == 0 { u64::MAX } else { self.objects };
        by_bytes.min(by_number).max(1)
    }

    /// Evictions that are remembered.
    pub(super) fn remembered(&self) -> u64 {
        match (self.adaptive, self.history) {
            (false, _) => 0,
            (true, 0) => self.expected(),
            (true, history) => history,
        }
    }
}
