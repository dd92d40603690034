//! Snapshot files: namespaces and their keys, saved to and loaded from one file.
//!
//! A file is a header and blocks, each with its checksum and compressed for itself ([`blocks`]);
//! the blocks hold a stream of records, each with a checksum of its own ([`record`]), of which the
//! last tells how many there were. It is written under another name, synced and renamed, so that
//! under its own name there is a whole file or none; and it is read through once before anything
//! is restored.
//!
//! What a file holds: every key that had a value all the time while it was saved, with one of the
//! values that it had meanwhile. Each key is read atomically, all keys at one moment only if asked
//! for ([`SaveOptions::frozen`]).

mod blocks;
mod entries;
mod file;
mod load;
mod record;
mod save;
#[cfg(test)]
mod tests;

pub use load::{load, verify, LoadProgress};
pub use save::{save, SaveOptions, SaveProgress};

/// Version of the files' format; others are refused.
pub const VERSION: u32 = 1;

/// What a file holds, or what of it was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Namespaces.
    pub namespaces: u64,
    /// Values with their keys. A key may be counted twice if the index grew while it was saved.
    pub values: u64,
    /// Bytes of those keys and values.
    pub bytes: u64,
    /// Keys that were left out as no copy of their data verifies (saved), or whose time had run out
    /// meanwhile (restored).
    pub left_out: u64,
    /// Namespaces that were left out: caches.
    pub namespaces_left_out: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// When it was saved, in milliseconds since 1970.
    pub saved_unix_ms: u64,
    /// All keys were read at one moment.
    pub frozen: bool,
}
