//! What an eviction algorithm is: a number for every object; the least goes.

use std::collections::BTreeMap;

use super::experts::Candidate;
use super::metadata::Metadata;
use super::{demotion, frequency, hyperbolic, recency, reuse, size};
use crate::error::{PoolError, Result};

/// When a sample was read, and of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The time.
    pub now: u64,
    /// About how many objects the cache has room for.
    pub objects: u64,
    /// Evictions by all clients so far, as far as known.
    pub evictions: u64,
}

/// Where the experts' judgement comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Learning {
    /// From small caches of metadata that clients run for every expert ([`super::Judge`]): the best
    /// one is followed.
    #[default]
    Shadows,
    /// From misses of what was evicted not long ago, as Ditto does: experts are followed by chance,
    /// according to their weights.
    Regrets,
}

/// An eviction algorithm. Of a sample, the object with the least priority is evicted; among equal
/// ones the one that was not accessed for longest.
pub trait Priority: Send {
    /// Its name, as users write it.
    fn name(&self) -> &str;

    /// How much the object is worth keeping. Not a number counts as least.
    fn priority(&self, object: &Metadata, now: u64) -> f64;

    /// Whether it keeps a number in the metadata. Of the experts of one cache, one may.
    fn keeps_value(&self) -> bool {
        false
    }

    /// The number to keep after an access. `object` is as before the access, except on insertion,
    /// when `object.freq` is 1 and `object.last` is `now`.
    fn value(&self, object: &Metadata, now: u64) -> f32 {
        let _ = now;
        object.value
    }

    /// Looks at a sample before it is asked for priorities.
    fn look(&mut self, sample: &[Candidate], scene: &Scene) {
        let _ = (sample, scene);
    }

    /// An object of this priority was evicted on this algorithm's word.
    fn evicted(&mut self, object: &Metadata, priority: f64, now: u64) {
        let _ = (object, priority, now);
    }
}

/// A user's own algorithm: a name and a function of object and time.
pub struct Formula<F> {
    name: String,
    formula: F,
}

impl<F: Fn(&Metadata, u64) -> f64 + Send> Formula<F> {
    /// The algorithm that evicts the object with the least `formula(object, now)`.
    pub fn new(name: impl Into<String>, formula: F) -> Formula<F> {
        Formula { name: name.into(), formula }
    }
}

impl<F: Fn(&Metadata, u64) -> f64 + Send> Priority for Formula<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn priority(&self, object: &Metadata, now: u64) -> f64 {
        (self.formula)(object, now)
    }
}

type Factory = Box<dyn Fn() -> Box<dyn Priority> + Send>;

/// Algorithms by name.
pub struct Registry {
    factories: BTreeMap<String, Factory>,
    /// How caches that are opened with these algorithms choose among them.
    pub learning: Learning,
}

impl Registry {
    /// The built-in ones: quick-demotion, lru, mru, fifo, lfu, lfuda, gds, gdsf, size, lru-2, lrfu,
    /// lirs, hyperbolic.
    pub fn standard() -> Registry {
        let mut registry = Registry { factories: BTreeMap::new(), learning: Learning::Shadows };
        registry.add(demotion::QuickDemotion::default);
        registry.add(|| recency::Lru);
        registry.add(|| recency::Mru);
        registry.add(|| recency::Fifo);
        registry.add(|| frequency::Lfu);
        registry.add(frequency::Lfuda::default);
        registry.add(size::Gds::default);
        registry.add(size::Gdsf::default);
        registry.add(|| size::Size);
        registry.add(|| reuse::Lru2);
        registry.add(reuse::Lrfu::default);
        registry.add(|| reuse::Lirs);
        registry.add(|| hyperbolic::Hyperbolic);
        registry
    }

    fn add<P: Priority + 'static>(&mut self, make: impl Fn() -> P + Send + 'static) {
        let name = make().name().to_owned();
        self.register(name, move || Box::new(make()));
    }

    /// Adds an algorithm, or replaces the one of that name.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        make: impl Fn() -> Box<dyn Priority> + Send + 'static,
    ) {
        self.factories.insert(name.into(), Box::new(make));
    }

    /// A new instance of the algorithm of that name; [`PoolError::Invalid`] if there is none.
    pub fn make(&self, name: &str) -> Result<Box<dyn Priority>> {
        let factory = self.factories.get(name).ok_or_else(|| {
            let known = self.names().collect::<Vec<_>>().join(", ");
            PoolError::Invalid(format!("no eviction algorithm {name:?}: there are {known}"))
        })?;
        Ok(factory())
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}
