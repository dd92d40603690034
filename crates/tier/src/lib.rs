//! Tiers of the context cache: stores for KV blocks outside of the engine's memory, and the threads
//! that move blocks between them and that memory.
//!
//! A block is some bytes with a name of 32 bytes that says all that the bytes depend on; so a block
//! never changes, and two of the same name are equal. A store may forget any block at any time, and
//! never returns bytes that differ from those that were saved: what does not verify is a miss.

mod codec;
mod disk;
mod error;
mod mover;
mod pool;
mod store;
mod throttled;

pub use codec::{Codec, Int8, Packed, Zstd};
pub use disk::{DiskOptions, DiskStore};
pub use error::{Result, TierError};
pub use mover::{
    Done, Event, GateState, LayerGate, Loading, Memory, Mover, Outcome, Place, Ticket,
};
pub use pool::{PoolOptions, PoolStore, NAMESPACE};
pub use store::{Entry, Key, Loaded, Saved, Store, StoreStats, KEY_BYTES};
pub use throttled::Throttled;
