//! Eviction after Ditto (SOSP 2023): what slots say of their objects, algorithms that rank a
//! sample of them, and experts that learn from misses which algorithm to follow.
//!
//! Everything here decides; nothing reads or writes the pool. A client of the cache
//! - tells the policy what it knows of the cache ([`Policy::tell`]),
//! - reads neighbouring slots at a random place and lets [`Policy::choose`] pick a victim,
//! - puts a history entry in the victim's slot: its bitmap in the fingerprint byte, so that one
//!   CAS evicts and records who wanted it; the metadata stays beside it,
//! - on a miss that finds such an entry gives it to [`Policy::admit`] as a [`Ghost`],
//! - on a hit writes what [`Policy::hit`] says, and counts the access in a [`CounterCache`],
//! - merges what it learnt into the shared words when [`Policy::sync_is_due`].

mod counter;
mod demotion;
mod experts;
mod frequency;
mod hyperbolic;
mod judge;
pub mod metadata;
mod priority;
mod random;
mod recency;
mod reuse;
mod shadow;
mod size;
mod weights;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use counter::{CounterCache, Flush};
pub use experts::{Candidate, Ghost, Policy, Victim};
pub use judge::{Judge, MOST_EXPERTS, SHARED_WORDS};
pub use metadata::Metadata;
pub use priority::{Formula, Learning, Priority, Registry, Scene};
pub use random::Random;
