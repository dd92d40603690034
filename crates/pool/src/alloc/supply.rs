//! From blocks to announced objects.

use std::collections::HashMap;

use crate::xxh3::xxh3_64;
use smallvec::SmallVec;

use super::block::Block;
use super::geometry::Geometry;
use super::ring::BATCH;
use super::table::{self, BlockState};
use super::Allocator;
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Bytes of objects announced at once, so that large ones do not lie about unused.
const BATCH_BYTES: usize = 64 << 10;

/// In so many regions the last free block is kept back: a pool that is full of values can still
/// write down that some are deleted.
const KEPT_BACK: usize = 4;

/// What the client has to hand out.
pub(super) struct Supply {
    classes: Vec<Class>,
    blocks: Vec<Option<Block>>,
    vacant: Vec<u32>,
    by_addr: HashMap<PoolAddr, u32>,
    /// The region in which the next block is looked for, and a number of this client's own.
    region: u64,
    salt: u64,
    /// Whether the last free blocks may be taken, which are kept back for what makes room.
    pub(super) takes_last: bool,
    /// The epoch of the view that lost blocks were last dropped for.
    view: u64,
    /// Regions from this on are to be vacated: nothing there is handed out.
    closing: usize,
    region_shift: u8,
}

/// Objects and blocks of one class.
#[derive(Default)]
struct Class {
    /// Announced objects with their places in the ring, the lowest at the end.
    announced: Vec<(PoolAddr, u64)>,
    /// Blocks with free objects.
    sources: Vec<u32>,
}

impl Supply {
    pub(super) fn new(fabric: &Fabric) -> Supply {
        let salt = xxh3_64(&fabric.me().word().to_le_bytes());
        Supply {
            classes: (0..SizeClass::COUNT).map(|_| Class::default()).collect(),
            blocks: Vec::new(),
            vacant: Vec::new(),
            by_addr: HashMap::new(),
            region: salt,
            salt,
            takes_last: false,
            view: fabric.view().epoch,
            closing: fabric.view().closing(fabric.config()),
            region_shift: fabric.config().region_shift,
        }
    }

    /// Whether the block or object lies where nothing is handed out.
    fn is_closing(&self, addr: PoolAddr) -> bool {
        (addr.0 >> self.region_shift) as usize >= self.closing
    }

    /// Whether there are regions to be vacated.
    pub(super) fn vacates(&self) -> bool {
        self.closing != usize::MAX
    }

    /// Whether the block of that number is to be given away as soon as it is all free.
    pub(super) fn is_unwanted(&self, id: u32) -> bool {
        let block = self.blocks.get(id as usize).and_then(Option::as_ref);
        block.is_some_and(|block| self.is_closing(block.addr))
    }

    /// Without them there is no room: until the view changes, nothing is vacated any more. False
    /// if nothing was.
    pub(super) fn reopen(&mut self) -> bool {
        let vacated = self.vacates();
        self.close_from(usize::MAX);
        vacated
    }

    fn close_from(&mut self, closing: usize) {
        if closing == self.closing {
            return;
        }
        self.closing = closing;
        for class in &mut self.classes {
            class.sources.clear();
        }
        for id in 0..self.numbers() {
            if let Some(block) = self.block(id) {
                block.offered = false;
                self.offer(id);
            }
        }
    }

    /// Takes back what was announced and is not to be handed out any more; returns the places.
    fn vacate(&mut self, geometry: &Geometry) -> Vec<u64> {
        let mut withdrawn = Vec::new();
        for class in 0..self.classes.len() {
            let announced = std::mem::take(&mut self.classes[class].announced);
            let (gone, kept): (Vec<_>, Vec<_>) =
                announced.into_iter().partition(|&(addr, _)| self.is_closing(addr));
            self.classes[class].announced = kept;
            let objects: Vec<PoolAddr> = gone.iter().map(|&(addr, _)| addr).collect();
            self.put_back(geometry, SizeClass(class as u8), &objects);
            withdrawn.extend(gone.iter().map(|&(_, place)| place));
        }
        withdrawn
    }

    #[inline]
    pub(super) fn pop(&mut self, class: SizeClass) -> Option<(PoolAddr, u64)> {
        self.classes[class.0 as usize].announced.pop()
    }

    #[inline]
    pub(super) fn push(&mut self, class: SizeClass, addr: PoolAddr, place: u64) {
        self.classes[class.0 as usize].announced.push((addr, place));
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.by_addr.len()
    }

    /// One more than the largest block number.
    pub(super) fn numbers(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub(super) fn block(&mut self, id: u32) -> Option<&mut Block> {
        self.blocks.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn find(&self, addr: PoolAddr) -> Option<u32> {
        self.by_addr.get(&addr).copied()
    }

    pub(super) fn add(&mut self, block: Block) -> u32 {
        let addr = block.addr;
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() as u32 - 1
        });
        self.blocks[id as usize] = Some(block);
        self.by_addr.insert(addr, id);
        self.offer(id);
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Block> {
        let block = self.blocks.get_mut(id as usize)?.take()?;
        self.vacant.push(id);
        self.by_addr.remove(&block.addr);
        self.classes[block.class.0 as usize].sources.retain(|&source| source != id);
        Some(block)
    }

    /// The block has free objects, perhaps for the first time.
    pub(super) fn offer(&mut self, id: u32) {
        if self.is_unwanted(id) {
            return;
        }
        let Some(block) = self.blocks.get_mut(id as usize).and_then(Option::as_mut) else { return };
        if block.num_free() > 0 && !block.offered {
            block.offered = true;
            self.classes[block.class.0 as usize].sources.push(id);
        }
    }

    /// How many free blocks of a region are not to be taken now.
    fn keeps_back(&self, region: usize, regions: usize) -> usize {
        usize::from(!self.takes_last && region < KEPT_BACK.min(regions.div_ceil(4)))
    }

    /// Whether objects of `class` can be had without another block.
    pub(super) fn has(&self, class: SizeClass) -> bool {
        let class = &self.classes[class.0 as usize];
        !class.announced.is_empty() || !class.sources.is_empty()
    }

    /// Whether at least `least` objects of `class` are announced, or free in a block.
    #[inline]
    pub(super) fn stocks(&self, class: SizeClass, least: usize) -> bool {
        let class = &self.classes[class.0 as usize];
        let free = |id: &u32| self.blocks[*id as usize].as_ref().map_or(0, Block::num_free);
        let in_block = || class.sources.last().map_or(0, free) as usize;
        class.announced.len() >= least || class.announced.len() + in_block() >= least
    }

    /// Blocks of the class of which some object is free.
    pub(super) fn sources(&self, class: SizeClass) -> usize {
        self.classes[class.0 as usize].sources.len()
    }

    /// Up to `most` free objects of `class`.
    fn pick(&mut self, geometry: &Geometry, class: SizeClass, most: usize) -> Objects {
        let mut objects = Objects::new();
        while objects.len() < most {
            let Some(&id) = self.classes[class.0 as usize].sources.last() else { break };
            let Some(block) = self.blocks[id as usize].as_mut() else { break };
            let mut picked = SmallVec::new();
            block.pick(most - objects.len(), &mut picked);
            let object = |index| geometry.object(block.addr, block.shape, index);
            objects.extend(picked.into_iter().map(object));
            if block.num_free() == 0 {
                block.offered = false;
                self.classes[class.0 as usize].sources.pop();
            }
        }
        objects
    }

    /// Takes objects back that were picked and not used.
    fn put_back(&mut self, geometry: &Geometry, class: SizeClass, objects: &[PoolAddr]) {
        for &addr in objects {
            let Ok(place) = geometry.place(addr, class) else { continue };
            let Some(id) = self.find(place.block) else { continue };
            // In a pool that somebody scribbled on, the block may be of another class by now.
            match self.block(id).filter(|block| block.class == class) {
                Some(block) => block.put_back(place.index),
                None => continue,
            }
            self.offer(id);
        }
    }

    /// Withdraws the unused announcements with places below `below`; returns these.
    fn withdraw(&mut self, geometry: &Geometry, below: u64) -> Vec<u64> {
        let mut withdrawn = Vec::new();
        for class in 0..self.classes.len() {
            let announced = &mut self.classes[class].announced;
            let (old, kept) = announced.iter().partition(|(_, sequence)| *sequence < below);
            let old: Vec<(PoolAddr, u64)> = old;
            *announced = kept;
            let objects: Vec<PoolAddr> = old.iter().map(|(addr, _)| *addr).collect();
            self.put_back(geometry, SizeClass(class as u8), &objects);
            withdrawn.extend(old.iter().map(|(_, sequence)| *sequence));
        }
        withdrawn
    }

    /// Drops blocks and objects in regions that were lost with their nodes.
    fn drop_lost(&mut self, fabric: &Fabric) -> Vec<u64> {
        let view = fabric.view();
        if view.epoch == self.view {
            return Vec::new();
        }
        self.view = view.epoch;
        self.close_from(view.closing(fabric.config()));
        let lost = |addr| view.placement(fabric.config(), addr).is_empty();
        for id in 0..self.numbers() {
            if self.block(id).is_some_and(|block| lost(block.addr)) {
                self.remove(id);
            }
        }
        let mut dropped = Vec::new();
        for class in &mut self.classes {
            class.announced.retain(|&(addr, sequence)| {
                if lost(addr) {
                    dropped.push(sequence);
                }
                !lost(addr)
            });
        }
        dropped
    }
}

/// A batch of objects.
type Objects = SmallVec<[PoolAddr; BATCH]>;

impl Allocator {
    /// Room for a part of a large object, of `bytes` bytes. It is not announced: that the whole is
    /// not linked yet must tell recovery enough. [`PoolError::Full`] and [`PoolError::ViewChanged`]
    /// as for [`Allocator::allocate`].
    pub fn take_part(&mut self, fabric: &Fabric, bytes: usize) -> Result<(PoolAddr, SizeClass)> {
        let class = self.class_for(bytes)?;
        self.drop_lost(fabric);
        if let Some(&addr) = self.supply.pick(&self.geometry, class, 1).first() {
            return Ok((addr, class));
        }
        if self.take_block(fabric, class)? {
            if let Some(&addr) = self.supply.pick(&self.geometry, class, 1).first() {
                return Ok((addr, class));
            }
        }
        Err(PoolError::Full { bytes })
    }

    /// Takes back room of [`Allocator::take_part`] that nobody has seen the address of.
    pub fn put_back_part(&mut self, addr: PoolAddr, class: SizeClass) {
        self.supply.put_back(&self.geometry, class, &[addr]);
    }

    /// Announces more objects of `class`, from the client's blocks or from a new one.
    #[cold]
    pub(super) fn refill(&mut self, fabric: &Fabric, class: SizeClass, bytes: usize) -> Result<()> {
        let view = fabric.view().epoch;
        self.drop_lost(fabric);
        let batch = (BATCH_BYTES / class.bytes()).clamp(1, BATCH);
        self.make_ring_room(fabric, batch)?;
        let mut objects = self.supply.pick(&self.geometry, class, batch);
        if objects.is_empty() {
            if !self.take_block(fabric, class)? {
                return Err(PoolError::Full { bytes });
            }
            objects = self.supply.pick(&self.geometry, class, batch);
        }
        match self.ring.announce(fabric, class, &objects) {
            Ok(first) => {
                for (at, &addr) in objects.iter().enumerate().rev() {
                    self.supply.push(class, addr, first + at as u64);
                }
            }
            Err(error) => {
                self.supply.put_back(&self.geometry, class, &objects);
                return Err(error);
            }
        }
        // The objects are there; but the caller's addresses may be those of an older view.
        if fabric.view().epoch == view {
            Ok(())
        } else {
            Err(PoolError::ViewChanged)
        }
    }

    pub(super) fn drop_lost(&mut self, fabric: &Fabric) {
        for place in self.supply.drop_lost(fabric) {
            self.ring.retire(place);
        }
        if self.supply.vacates() {
            for place in self.supply.vacate(&self.geometry) {
                self.ring.retire(place);
            }
        }
    }

    /// Frees at least `batch` entries of the ring by finishing what is complete, if need be
    /// withdrawing announcements that were not used for long.
    fn make_ring_room(&mut self, fabric: &Fabric, batch: usize) -> Result<()> {
        for keep in [u64::MAX, 1024, 0] {
            if self.ring.room() >= batch {
                return Ok(());
            }
            self.withdraw(keep);
            self.flush(fabric)?;
        }
        if self.ring.room() >= batch {
            return Ok(());
        }
        Err(PoolError::Invalid(format!(
            "more than {} objects in one operation: split it",
            crate::config::area::NUM_ANNOUNCED as usize - BATCH
        )))
    }

    /// Withdraws the unused announcements except the last `keep`.
    pub(super) fn withdraw(&mut self, keep: u64) {
        let below = self.ring.next().saturating_sub(keep);
        for place in self.supply.withdraw(&self.geometry, below) {
            self.ring.retire(place);
        }
    }

    /// Sets the deferred free bits and tells how far operations are finished: at any moment.
    pub(super) fn flush(&mut self, fabric: &Fabric) -> Result<()> {
        let outcome = self.frees.flush(fabric, &self.geometry);
        self.tell_finished(fabric)?;
        outcome
    }

    /// Takes a free block for `class`, looking through the regions from where it last was. An
    /// orphan of the same class that is met on the way is taken along.
    pub(super) fn take_block(&mut self, fabric: &Fabric, class: SizeClass) -> Result<bool> {
        let Some(shape) = self.geometry.shape(class) else { return Ok(false) };
        let regions = fabric.view().regions.len() as u64;
        for _ in 0..regions {
            let region = (self.supply.region % regions) as usize;
            self.supply.region = self.supply.region.wrapping_add(1);
            if region >= self.supply.closing {
                continue;
            }
            let blocks = match table::read_region(fabric, region) {
                Err(PoolError::Lost(_)) => continue,
                blocks => blocks?,
            };
            let free = blocks.iter().filter(|(_, word)| word.state == BlockState::Free).count();
            let kept = self.supply.keeps_back(region, regions as usize);
            // Clients start at different blocks, so that they do not all want the same one.
            let start = self.supply.salt as usize % blocks.len().max(1);
            let (before, after) = blocks.split_at(start.min(blocks.len()));
            let (mut taken, mut adopted) = (false, false);
            for &(addr, word) in after.iter().chain(before) {
                let fits = match word.state {
                    BlockState::Free => !taken && free > kept,
                    BlockState::Orphan => !adopted && word.class == class,
                    _ => false,
                };
                if !fits || !table::take(fabric, addr, word, class, shape.words() * 8)? {
                    continue;
                }
                if word.state == BlockState::Free {
                    taken = true;
                    self.supply.add(Block::fresh(addr, class, shape));
                } else {
                    adopted = true;
                    self.supply.add(Block::adopted(addr, class, shape));
                }
            }
            if taken {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
