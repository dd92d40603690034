//! What a client counts of a cache.

use super::policy::MOST_EXPERTS;
use super::Cache;
use crate::client::Client;
use crate::error::Result;

/// One expert of a cache.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertStats {
    /// The algorithm.
    pub name: String,
    /// Its weight, as this client last saw it.
    pub weight: f64,
    /// Evictions by this client that it wanted. Several may have wanted the same.
    pub evictions: u64,
}

/// What a client did in a cache since it opened it, and how full the cache is.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheStats {
    /// Reads and touches that found their key.
    pub hits: u64,
    /// Those that did not, and how many of them found a value that had expired or was lost.
    pub misses: u64,
    /// Misses on keys whose object was there but expired, lost with its node or damaged.
    pub unusable: u64,
    /// Values put.
    pub puts: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Objects evicted by this client.
    pub evictions: u64,
    /// Those of them that gave way in a full bucket.
    pub crowded: u64,
    /// Keys that came back while their eviction was remembered: each taught the experts something.
    pub regrets: u64,
    /// Pieces of the table that were lost with their nodes and made anew by this client.
    pub lost_pieces: u64,
    /// Objects in the cache, as far as clients have told.
    pub objects: u64,
    /// Their bytes, headers and padding included.
    pub bytes: u64,
    /// Most objects; 0 for no limit.
    pub most_objects: u64,
    /// Most bytes; 0 for no limit.
    pub most_bytes: u64,
    /// Its experts.
    pub experts: Vec<ExpertStats>,
}

/// The counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub unusable: u64,
    pub puts: u64,
    pub deletes: u64,
    pub evictions: u64,
    pub crowded: u64,
    pub regrets: u64,
    pub lost_pieces: u64,
    by_expert: [u64; MOST_EXPERTS],
}

impl Counts {
    /// An object was evicted that the experts of `bitmap` wanted gone.
    pub(super) fn evicted(&mut self, bitmap: u8) {
        self.evictions += 1;
        for (expert, count) in self.by_expert.iter_mut().enumerate() {
            *count += u64::from(bitmap >> expert & 1);
        }
    }
}

impl Cache {
    fn stats(&self) -> CacheStats {
        let Cache { counts, usage, policy, table, .. } = self;
        let (total, config) = (usage.total(), &table.shape.config);
        let expert = |((name, weight), evictions): ((&str, f64), &u64)| ExpertStats {
            name: name.to_owned(),
            weight,
            evictions: *evictions,
        };
        CacheStats {
            hits: counts.hits,
            misses: counts.misses,
            unusable: counts.unusable,
            puts: counts.puts,
            deletes: counts.deletes,
            evictions: counts.evictions,
            crowded: counts.crowded,
            regrets: counts.regrets,
            lost_pieces: counts.lost_pieces,
            objects: total.objects.max(0) as u64,
            bytes: total.granules.max(0) as u64 * crate::address::GRANULE,
            most_objects: config.objects,
            most_bytes: config.bytes,
            experts: policy.weights().zip(&counts.by_expert).map(expert).collect(),
        }
    }
}

impl Client {
    /// What this client did in the cache, and how full that is. One round trip.
    pub fn cache_stats(&mut self, namespace: u16) -> Result<CacheStats> {
        self.in_cache(namespace, |client, cache| {
            cache.settle(&client.fabric)?;
            Ok(cache.stats())
        })
    }
}
