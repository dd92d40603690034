//! What every tier does.

use std::time::Duration;

use crate::error::{Result, TierError};

/// Bytes of a block's name.
pub const KEY_BYTES: usize = 32;

/// A block's name.
pub type Key = [u8; KEY_BYTES];

/// What a save did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The block is there now.
    New,
    /// It was there already, or is being saved by another thread.
    Known,
}

/// What a load found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The bytes are there, and verified.
    Hit,
    /// There is no such block.
    Absent,
    /// There was one, but somebody took it away since this process last looked.
    Vanished,
    /// The bytes do not verify, or have another length; the block is given up.
    Corrupt,
}

/// A block that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Bytes that it takes, all overheads included.
    pub bytes: u64,
    /// When it was saved, in milliseconds since 1970.
    pub saved_ms: u64,
}

/// How full a tier is, and what became of blocks. Counters are this process's alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that all blocks take, all overheads included, of all processes.
    pub used_bytes: u64,
    /// The bound of that.
    pub capacity_bytes: u64,
    /// Blocks that can be found.
    pub num_blocks: u64,
    /// Blocks that did not verify.
    pub num_corrupt: u64,
    /// Blocks that others took away while this process still knew them.
    pub num_vanished: u64,
    /// Saves that failed half done, by a full disk for example.
    pub num_failed_saves: u64,
}

/// A store of blocks. All calls may be made by any thread. Those that return a `Result` may wait
/// for a disk; the others never do.
pub trait Store: Send + Sync {
    /// Whether there is such a block, as far as this process knows.
    fn contains(&self, key: &Key) -> bool;

    /// Saves a block. An error loses nothing but this block.
    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved>;

    /// Fills `into` with a block's bytes; after anything but [`Loaded::Hit`] they are arbitrary.
    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded>;

    /// How a block of so many bytes is cut into parts that [`Store::load_part`] loads: bytes of
    /// each but the last. Stores that load blocks only whole keep this default.
    fn part_bytes(&self, _key: &Key, block_bytes: usize) -> usize {
        block_bytes
    }

    /// Fills `into` with a block's bytes from `offset` on, which are whole parts; as for
    /// [`Store::load`]. A block may change its parts, or go, between two calls: then this is an
    /// error, or a miss.
    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        if offset != 0 {
            let text = format!("there are no parts, and none from {offset} on");
            return Err(TierError::Invalid(text));
        }
        self.load(key, into)
    }

    /// Bytes of a block as it was saved, if that is known; it may be gone.
    fn stored_bytes(&self, _key: &Key) -> Option<u64> {
        None
    }

    /// Takes a block away, for all processes; false if there is none.
    fn remove(&self, key: &Key) -> Result<bool>;

    /// Learns what others have saved and taken away.
    fn refresh(&self) -> Result<()>;

    /// How often that is to be called.
    fn refresh_every(&self) -> Duration {
        Duration::from_millis(250)
    }

    /// All blocks that this process knows, in no order.
    fn entries(&self) -> Vec<Entry>;

    /// How full it is, and what happened.
    fn stats(&self) -> StoreStats;
}
