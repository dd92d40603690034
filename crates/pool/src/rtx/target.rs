//! What a transaction locks and writes.

use artesian_bus::GlobalAddr;

use crate::address::PoolAddr;
use crate::config::{META_BYTES, NUM_LOCKS};
use crate::error::{PoolError, Result};
use crate::fabric::{Copies, Fabric};

const META_BIT: u64 = 1 << 63;

/// A byte of the pool's replicated space or of the meta area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// In the replicated space.
    Pool(PoolAddr),
    /// In the meta area, so many bytes from its start.
    Meta(u64),
}

impl Target {
    /// As it is written in logs.
    pub fn word(self) -> u64 {
        match self {
            Target::Pool(addr) => addr.0,
            Target::Meta(offset) => META_BIT | offset,
        }
    }

    /// The `len` bytes at the target of `word`, checked to lie within their area.
    pub fn from_word(word: u64, len: u64) -> Result<Target> {
        let (start, limit, target) = if word & META_BIT != 0 {
            let offset = word & !META_BIT;
            (offset, META_BYTES, Target::Meta(offset))
        } else {
            (word, PoolAddr::LIMIT, Target::Pool(PoolAddr(word)))
        };
        match start.checked_add(len) {
            Some(end) if end <= limit => Ok(target),
            _ => Err(PoolError::Corrupt(format!("log: {len} bytes at {word:#x} lie nowhere"))),
        }
    }

    /// All copies, the primary first.
    pub fn copies(self, fabric: &Fabric) -> Copies {
        match self {
            Target::Pool(addr) => fabric.copies(addr),
            Target::Meta(offset) => fabric.meta(offset).into_iter().collect(),
        }
    }

    /// The primary copy.
    pub fn primary(self, fabric: &Fabric) -> Result<GlobalAddr> {
        match self {
            Target::Pool(addr) => fabric.primary(addr),
            Target::Meta(offset) => {
                let first = fabric.meta(offset).first().copied();
                first.ok_or_else(|| PoolError::Lost("no copy of the meta area is left".into()))
            }
        }
    }

    /// The lock word that guards it, on the node of its primary copy. Different targets may share
    /// one.
    pub fn lock_word(self, fabric: &Fabric) -> Result<GlobalAddr> {
        match self {
            Target::Pool(addr) => fabric.lock_of(addr),
            Target::Meta(offset) => {
                let node = self.primary(fabric)?.node();
                let mixed = (offset | META_BIT).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                Ok(GlobalAddr::new(node, fabric.layout().locks + mixed % NUM_LOCKS * 8))
            }
        }
    }
}

/// Whether `lock` is a lock word: a repairer touches nothing else on a log's word.
pub fn is_lock_word(fabric: &Fabric, lock: GlobalAddr) -> bool {
    let start = fabric.layout().locks;
    let is_known = (lock.node().0 as usize) < fabric.view().nodes.len();
    let inside = is_known && (start..start + NUM_LOCKS * 8).contains(&lock.offset());
    inside && lock.offset().is_multiple_of(8)
}
