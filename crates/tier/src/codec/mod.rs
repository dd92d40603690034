//! Blocks that take fewer bytes in a store than in the engine's memory.
//!
//! [`Packed`] goes around a store. What its codec makes shorter is saved as a frame,
//!
//! ```text
//! 0 magic | 8 codec | 16 bytes of the block | the codec's bytes
//! ```
//!
//! (little-endian words); any other block as it is. A frame is always shorter than its block, so
//! its length alone tells it apart, and stores with and without a codec can share a directory.

mod int8;
#[cfg(test)]
mod tests;
mod zstd;

use std::sync::Arc;
use std::time::Duration;

pub use self::int8::Int8;
pub use self::zstd::Zstd;

use crate::error::Result;
use crate::store::{Entry, Key, Loaded, Saved, Store, StoreStats};

const MAGIC: u64 = u64::from_le_bytes(*b"ARTPACK1");
const HEAD: usize = 24;

/// Makes the bytes of blocks shorter.
pub trait Codec: Send + Sync {
    /// Says in a frame whose it is.
    fn id(&self) -> u64;

    /// Writes the shorter form behind what is in `into`; false if this block has none.
    fn encode(&self, block: &[u8], into: &mut Vec<u8>) -> bool;

    /// Fills `block` from its shorter form; false if that is not its form.
    fn decode(&self, bytes: &[u8], block: &mut [u8]) -> bool;
}

/// A store of blocks in their shorter forms.
pub struct Packed {
    inner: Arc<dyn Store>,
    codec: Option<Arc<dyn Codec>>,
    /// Reads frames of others' as well.
    codecs: Vec<Arc<dyn Codec>>,
}

impl Packed {
    /// Saves by `codec`, without one as blocks are; loads frames of it and of [`Zstd`].
    pub fn new(inner: Arc<dyn Store>, codec: Option<Arc<dyn Codec>>) -> Packed {
        let mut codecs: Vec<Arc<dyn Codec>> = vec![Arc::new(Zstd::new(1))];
        codecs.extend(codec.clone());
        Packed { inner, codec, codecs }
    }

    fn frame(&self, block: &[u8]) -> Option<Vec<u8>> {
        let codec = self.codec.as_ref()?;
        let mut frame = Vec::with_capacity(block.len());
        for word in [MAGIC, codec.id(), block.len() as u64] {
            frame.extend_from_slice(&word.to_le_bytes());
        }
        let is_shorter = codec.encode(block, &mut frame) && frame.len() < block.len();
        is_shorter.then_some(frame)
    }

    fn unpack(&self, frame: &[u8], block: &mut [u8]) -> bool {
        let Some((head, bytes)) = frame.split_at_checked(HEAD) else { return false };
        let (words, _) = head.as_chunks::<8>();
        let [magic, id, len] = [0, 1, 2].map(|at| u64::from_le_bytes(words[at]));
        let codec = self.codecs.iter().find(|codec| codec.id() == id);
        let is_ours = magic == MAGIC && len == block.len() as u64;
        is_ours && codec.is_some_and(|codec| codec.decode(bytes, block))
    }

    /// Bytes of the block's frame; `None` if it lies there as it is, or not at all.
    fn frame_bytes(&self, key: &Key, block_bytes: usize) -> Option<usize> {
        let stored = self.inner.stored_bytes(key)? as usize;
        (stored < block_bytes).then_some(stored)
    }
}

impl Store for Packed {
    fn contains(&self, key: &Key) -> bool {
        self.inner.contains(key)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        if self.inner.contains(key) {
            return Ok(Saved::Known);
        }
        match self.frame(bytes) {
            Some(frame) => self.inner.save(key, &frame),
            None => self.inner.save(key, bytes),
        }
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        let Some(stored) = self.frame_bytes(key, into.len()) else {
            return self.inner.load(key, into);
        };
        let mut frame = vec![0; stored];
        let loaded = self.inner.load(key, &mut frame)?;
        if loaded == Loaded::Hit && !self.unpack(&frame, into) {
            self.inner.remove(key)?;
            return Ok(Loaded::Corrupt);
        }
        Ok(loaded)
    }

    /// Frames come whole.
    fn part_bytes(&self, key: &Key, block_bytes: usize) -> usize {
        match self.frame_bytes(key, block_bytes) {
            Some(_) => block_bytes,
            None => self.inner.part_bytes(key, block_bytes),
        }
    }

    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        // A part is shorter than its block; what is longer than all that is stored is no part.
        if offset == 0 && self.frame_bytes(key, into.len()).is_some() {
            return self.load(key, into);
        }
        self.inner.load_part(key, offset, into)
    }

    fn stored_bytes(&self, key: &Key) -> Option<u64> {
        self.inner.stored_bytes(key)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        self.inner.remove(key)
    }

    fn refresh(&self) -> Result<()> {
        self.inner.refresh()
    }

    fn refresh_every(&self) -> Duration {
        self.inner.refresh_every()
    }

    fn entries(&self) -> Vec<Entry> {
        self.inner.entries()
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
}
