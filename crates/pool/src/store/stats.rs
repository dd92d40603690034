//! What a client counts.

use crate::snapshot;

/// Counts since the client joined. Verbs and round trips are the bus's to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that were read.
    pub reads: u64,
    /// Reads that found a value.
    pub reads_found: u64,
    /// Keys that were to be written: put, insert, update, and conditional writes.
    pub writes: u64,
    /// Keys that were to be deleted.
    pub deletes: u64,
    /// Lookups that a hint of the index cache made short.
    pub hints_right: u64,
    /// Hints that were out of date.
    pub hints_wrong: u64,
    /// Changes that were begun again: lost rounds, locks of others, splits.
    pub retries: u64,
    /// How rounds ended.
    pub rounds: snapshot::Stats,
}
