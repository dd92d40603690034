//! Values that lie in pieces, which a manifest in the value's place names: see `store/large`.

use super::change::{Change, Done};
use super::get::{seen, Found};
use super::usage::Amount;
use super::Cache;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{Kind, Op};
use crate::store::large::{Manifest, Part};
use crate::store::{Key, Object};

/// How often room is made in a full pool for the pieces of a value.
const ATTEMPTS: u32 = 16;

impl Client {
    /// Puts a value in pieces: those first, then the manifest.
    #[cold]
    pub(super) fn cache_put_large(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        value: &[u8],
        expires_ms: u64,
    ) -> Result<()> {
        self.check_len(key, value.len())?;
        let (size, limit) = (value.len(), cache.usage.most_bytes() as usize);
        if size > limit {
            return Err(PoolError::TooLarge { what: "value", size, limit });
        }
        self.evict(cache, Amount::one(value.len() as u64))?;
        let mut parts = Vec::new();
        self.write_pieces(cache, key, value, &mut parts)?;
        let manifest = Manifest { bytes: value.len(), piece: self.piece_len(), parts };
        let (op, kind, pieces) = (Op::Put, Kind::Manifest, manifest.parts_bytes());
        let encoded = manifest.encode();
        let change = Change { op, kind, value: &encoded, pieces, expires_ms };
        let outcome = self.cache_change(cache, key, &change);
        match &outcome {
            Ok(Done::Changed) => {}
            // Nobody has found the manifest in a slot.
            Ok(Done::Vanished | Done::Nothing) => self.discard(&manifest.parts),
            Err(PoolError::Full { .. } | PoolError::TooLarge { .. }) => {
                self.discard(&manifest.parts);
            }
            // Nobody can tell: better a leak than a loss.
            Err(_) => {}
        }
        outcome.map(drop)
    }

    /// Writes the pieces; in a full pool, objects of the cache give way to them.
    fn write_pieces(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        value: &[u8],
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.write_parts(key, value, true, parts) {
                Err(PoolError::Full { bytes }) => self.cache_give_way(cache, bytes)?,
                outcome => return outcome,
            }
        }
        Err(PoolError::Full { bytes: value.len() })
    }

    /// Puts the value of the manifest in the client's buffer into `into`; false if its pieces
    /// cannot be had, which counts as a miss.
    #[cold]
    pub(super) fn cache_get_large(
        &mut self,
        cache: &mut Cache,
        key: &Key<'_>,
        found: &Found,
        into: &mut Vec<u8>,
    ) -> Result<bool> {
        let object = Object { seen: seen(&found.entry), header: found.header };
        match self.get_large(key, &object, into) {
            Err(PoolError::Lost(_) | PoolError::Corrupt(_)) => {
                into.clear();
                cache.counts.unusable += 1;
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }
}
