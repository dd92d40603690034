//! The hash index: RACE's extendible hashing on pool memory.
//!
//! A directory names subtables by the lower bits of a key's hash; in its subtable a key has two
//! combined buckets (a main bucket and the overflow bucket beside it), each one READ. Slots change
//! by SNAPSHOT rounds, inserts hold the lock in the header of the key's first main bucket.
//!
//! The directory is allocated once, for the largest depth it can reach; doubling it copies its
//! lower half and then moves the depth in `meta::INDEX_ROOT` on. So nothing is freed and every step
//! can be repeated. Clients keep a copy and refresh single entries when a header contradicts them.

mod bucket;
mod cache;
mod directory;
mod format;
mod freeze;
mod hash;
pub(crate) mod layout;
mod lock;
mod reconcile;
mod scan;
mod split;
mod walk;

pub(crate) use format::{directory_bytes, lock_offsets};
pub(crate) use split::{plan, Plan};
pub(crate) use walk::{read_table, slots_of, tables};

pub use bucket::{Buckets, Candidate};
pub use cache::{Hint, IndexCache};
pub use directory::{Directory, Place};
pub use format::format;
pub use hash::KeyHash;
pub use layout::{BucketHeader, SLOTS_PER_TABLE, SUBTABLE_BYTES};
pub use lock::{free_if_dead, held, unlock_bucket, unlock_of, BucketLock};
pub use reconcile::{held_locks, reconcile_tables, Loss};
pub use scan::{piece, Cursor, Piece};
pub use split::{finish_of_dead, split};
pub use walk::{candidates, for_each_slot, header_of, is_index_memory, is_named, memory};
