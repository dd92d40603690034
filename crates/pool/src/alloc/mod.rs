//! Allocation on two levels: nodes' regions are cut into blocks, which clients take through the
//! regions' block tables; a client cuts its blocks into objects of one size class.
//!
//! The rules of this directory (grace period, announcements, who may change a bit) stand in the
//! crate's README. Moments matter: [`Allocator::quiesce`], [`Allocator::make_room`],
//! [`Allocator::idle`] and [`Allocator::give_back`] are for moments at which the client is in no
//! operation and holds no address that it has read; `allocate` may be called at any time.

mod block;
mod frees;
pub mod geometry;
mod orphan;
mod quiesce;
mod reclaim;
mod ring;
mod supply;
pub mod table;
#[cfg(test)]
mod tests;

pub use frees::free_once;
pub(crate) use frees::undo_doubles;
pub use geometry::{Geometry, Place, Shape};
pub use orphan::{abandon_blocks, Liveness};
pub use ring::{announced, Announced, Announcements};

use frees::Frees;
use quiesce::Pace;
use ring::Ring;
use supply::Supply;

use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Objects that [`Allocator::stock`] keeps.
const STOCK: usize = 16;

/// Room for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Where.
    pub addr: PoolAddr,
    /// The class: its bytes are the caller's.
    pub class: SizeClass,
    /// The operation number that belongs into its log entry.
    pub sequence: u64,
}

/// One client's allocator.
pub struct Allocator {
    geometry: Geometry,
    supply: Supply,
    ring: Ring,
    frees: Frees,
    pace: Pace,
}

impl Allocator {
    /// The allocator of the client of `fabric`, which has just joined and has no other.
    pub fn new(fabric: &Fabric) -> Result<Allocator> {
        let mut allocator = Allocator {
            geometry: Geometry::of(fabric.config()),
            supply: Supply::new(fabric),
            ring: Ring::new(),
            frees: Frees::default(),
            pace: Pace::new(fabric.config()),
        };
        allocator.resume(fabric)?;
        Ok(allocator)
    }

    /// The most bytes of one object; larger values are cut in pieces.
    pub fn max_object_bytes(&self) -> usize {
        self.geometry.largest().bytes()
    }

    /// The object size that suits the pieces of large values best.
    pub fn piece_bytes(&self) -> usize {
        self.geometry.piece().bytes()
    }

    /// Room for an object of `bytes` bytes, log entry included.
    ///
    /// [`PoolError::Full`]: end the operation and let [`Allocator::make_room`] try.
    /// [`PoolError::ViewChanged`]: as for any batch; call again.
    #[inline]
    pub fn allocate(&mut self, fabric: &Fabric, bytes: usize) -> Result<Allocation> {
        debug_assert!(!self.is_idle(), "resume before the next operation");
        let class = self.class_for(bytes)?;
        if let Some(allocation) = self.pop(fabric, class) {
            return Ok(allocation);
        }
        self.refill(fabric, class, bytes)?;
        self.pop(fabric, class).ok_or(PoolError::Full { bytes })
    }

    #[inline]
    fn pop(&mut self, fabric: &Fabric, class: SizeClass) -> Option<Allocation> {
        while let Some((addr, place)) = self.supply.pop(class) {
            if fabric.primary(addr).is_ok() {
                let sequence = self.ring.begin(place);
                return Some(Allocation { addr, class, sequence });
            }
            // Lost with its node.
            self.ring.retire(place);
        }
        None
    }

    /// Room for an object of `bytes` bytes for what makes room, when [`Allocator::allocate`] finds
    /// none: in any larger class that this client still has objects of, or in a block that is kept
    /// back for this.
    #[cold]
    pub fn allocate_spare(&mut self, fabric: &Fabric, bytes: usize) -> Result<Allocation> {
        match self.spare_class(bytes)? {
            Some(class) => self.allocate(fabric, class.bytes()),
            None => {
                self.supply.takes_last = true;
                let outcome = self.allocate(fabric, bytes);
                self.supply.takes_last = false;
                outcome
            }
        }
    }

    /// The least class for objects of `bytes` bytes that this client still has objects of.
    pub fn spare_class(&self, bytes: usize) -> Result<Option<SizeClass>> {
        let least = self.class_for(bytes)?;
        let larger = (least.0..SizeClass::COUNT as u8).map(SizeClass);
        let mut fitting = larger.take_while(|&class| self.geometry.shape(class).is_some());
        Ok(fitting.find(|&class| self.supply.has(class)))
    }

    /// Sees to it, as long as the pool has room, that a few objects of `class` can still be had
    /// when it is full: for those who make room by writing such objects. Looks for a block if
    /// there are few; false if there was none.
    #[inline]
    pub fn stock(&mut self, fabric: &Fabric, class: SizeClass) -> Result<bool> {
        if self.stocks(class) {
            return Ok(true);
        }
        match self.refill(fabric, class, class.bytes()) {
            Err(PoolError::Full { .. }) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Whether there are at least a few objects of `class`, without looking for a block.
    #[inline]
    pub fn stocks(&self, class: SizeClass) -> bool {
        self.supply.stocks(class, STOCK)
    }

    #[inline]
    fn class_for(&self, bytes: usize) -> Result<SizeClass> {
        match SizeClass::for_bytes(bytes) {
            Some(class) if self.geometry.shape(class).is_some() => Ok(class),
            _ => {
                let limit = self.max_object_bytes();
                Err(PoolError::TooLarge { what: "object", size: bytes, limit })
            }
        }
    }

    /// Takes back room that no other client can have seen the address of, instead of
    /// [completing](Allocator::complete) its operation.
    #[inline]
    pub fn recycle(&mut self, allocation: Allocation) {
        if let Some(place) = self.ring.abandon(allocation.sequence) {
            self.supply.push(allocation.class, allocation.addr, place);
        }
    }

    /// Gives up an object that others may have seen, after it was unlinked: exactly once, by the
    /// owner of the operation that unlinked it.
    #[inline]
    pub fn free(&mut self, addr: PoolAddr, class: SizeClass) {
        self.frees.push(addr, class);
        self.pace.owe(class.bytes());
    }

    /// The bit that says that an object is free, with its word in the bitmap: for who sets it in
    /// a batch of its own instead of leaving that to [`Allocator::free`].
    pub(crate) fn free_bit(&mut self, addr: PoolAddr, class: SizeClass) -> Result<(PoolAddr, u64)> {
        let place = self.geometry.place(addr, class)?;
        self.pace.owe(class.bytes());
        Ok((place.word(), place.bit()))
    }

    /// The epoch that this client has reported last.
    pub(crate) fn reported(&self) -> u64 {
        self.pace.reported
    }

    /// The operation with that number is over, and what it had to free has been freed.
    #[inline]
    pub fn complete(&mut self, sequence: u64) {
        self.ring.complete(sequence);
    }
}
