//! The key-value store: objects in the pool, found through the hash index.
//!
//! Every operation is a few batches. A read: the slot (or, without a hint, both buckets), then the
//! object. A change: the new object is written while the slot is looked up, then a SNAPSHOT round
//! puts it in place. Who replaced an object frees it.

mod atomic;
mod attempt;
mod batch;
mod change;
mod expire;
mod find;
mod get;
pub(crate) mod image;
mod intend;
pub mod large;
mod live;
mod look;
mod ops;
mod pinned;
mod play;
mod quota;
mod scan;
mod spaces;
mod stats;
mod sweep;

pub use change::{Change, Done, Rule};
pub(crate) use find::Key;
pub use get::Version;
pub(crate) use image::{build, Parts};
pub(crate) use intend::Expected;
pub use live::InUse;
pub(crate) use look::Object;
pub use ops::Expiry;
pub use pinned::Pinned;
pub(crate) use pinned::Releases;
pub use scan::{KeyEntry, Page};
pub use stats::Stats;
pub(crate) use sweep::Sweeper;

/// Values up to this many bytes lie in one object with their key.
pub const MAX_INLINE_BYTES: usize = 16 << 10;

/// Keys that one call changes at a time at most: in common batches, with their insert locks held at
/// the same time.
pub const GROUP: usize = 64;

/// Milliseconds of the clock by which values expire. It begins at 1: what expires at once has
/// expired in a young clock's first millisecond too.
#[inline]
pub(crate) fn now_ms(fabric: &crate::Fabric) -> u64 {
    1 + fabric.verbs().now_ns() / 1_000_000
}

#[cfg(test)]
mod tests;
