//! Blocks that lost their owner.
//!
//! A client that leaves marks everything that is free, so its blocks can be taken over by their
//! bits alone. Of a dead client's block ("wreck") nobody knows which objects it had not handed
//! out yet. Whoever adopts it asks the index about every object, and waits for the grace period:
//! what was not in use then, and has been flushed by all who may have unlinked it, is free,
//! whatever its bit says.

use artesian_bus::Verb;

use super::block::Block;
use super::frees::bitmap;
use super::geometry::Shape;
use super::quiesce::{read_epoch, Census};
use super::table::{self, BlockState, BlockWord};
use super::Allocator;
use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::object::word;

/// Tells whether an object is in use: referred to by an index, a manifest, an intent, or being
/// a part of an index.
pub trait Liveness {
    /// Whether the object of `class` at `addr` is in use. Its bytes may be anything.
    fn is_live(&self, fabric: &Fabric, addr: PoolAddr, class: SizeClass) -> Result<bool>;
}

/// A wreck whose objects are being looked up.
pub(super) struct Inspection {
    /// The block.
    pub(super) id: u32,
    /// Objects that are in use, by word of the bitmap.
    live: Vec<u64>,
    /// The next object to be looked up.
    next: u32,
    /// The epoch after the last look; 0 until then.
    epoch: u64,
}

impl Inspection {
    /// Whether all objects have been looked up.
    pub(super) fn is_complete(&self) -> bool {
        self.epoch != 0
    }

    /// Whether it waits for an epoch beyond `epoch`.
    pub(super) fn is_unripe(&self, epoch: u64) -> bool {
        self.is_complete() && epoch < self.epoch + 2
    }
}

/// Declares all blocks of `dead` wrecks and returns how many there were: the last step of its
/// recovery. May be done again.
pub fn abandon_blocks(fabric: &Fabric, dead: ClientId) -> Result<u64> {
    let mut count = 0;
    for region in 0..fabric.view().regions.len() {
        let blocks = match steadily(|| table::read_region(fabric, region)) {
            Err(PoolError::Lost(_)) => continue,
            blocks => blocks?,
        };
        for (addr, found) in blocks {
            if found.state == BlockState::Owned && found.owner == dead {
                let owner = ClientId::NOBODY;
                let wreck = BlockWord { state: BlockState::Wreck, owner, ..found };
                count += u64::from(table::change(fabric, addr, found, wreck)?);
            }
        }
    }
    Ok(count)
}

impl Allocator {
    /// Takes over a block of a client that left, preferably one of `class`; false: there is none.
    pub(super) fn adopt(&mut self, fabric: &Fabric, class: SizeClass) -> Result<bool> {
        let of_class = |word: BlockWord| word.state == BlockState::Orphan && word.class == class;
        let any = |word: BlockWord| word.state == BlockState::Orphan;
        Ok(self.take_over(fabric, of_class)?.is_some() || self.take_over(fabric, any)?.is_some())
    }

    /// Looks up the objects of a wreck, which it takes over if it has none yet; false if there is
    /// none, or all has been looked up. Its free objects come back after the grace period, with
    /// the turns of [`Allocator::quiesce`]. Between operations.
    pub fn inspect(&mut self, fabric: &Fabric, live: &dyn Liveness) -> Result<bool> {
        self.inspect_some(fabric, live, u32::MAX)
    }

    /// [`Allocator::inspect`], only `most` objects: the next call goes on. What is not in use
    /// stays so, as nobody else hands objects of the block out.
    pub fn inspect_some(
        &mut self,
        fabric: &Fabric,
        live: &dyn Liveness,
        most: u32,
    ) -> Result<bool> {
        if self.pace.inspection.as_ref().is_some_and(Inspection::is_complete) {
            return Ok(false);
        }
        if self.pace.inspection.is_none() {
            let wreck = |word: BlockWord| word.state == BlockState::Wreck;
            let Some(id) = self.take_over(fabric, wreck)? else { return Ok(false) };
            let Some(block) = self.supply.block(id) else { return Ok(false) };
            let live = vec![0; block.shape.words()];
            self.pace.inspection = Some(Inspection { id, live, next: 0, epoch: 0 });
        }
        let Some(mut now) = self.pace.inspection.take() else { return Ok(false) };
        // It may have been lost with its nodes.
        let Some(block) = self.supply.block(now.id) else { return Ok(false) };
        let (addr, class, shape) = (block.addr, block.class, block.shape);
        match self.look_up(fabric, live, (addr, class, shape), &mut now, most) {
            Ok(()) => {
                self.pace.inspection = Some(now);
                Ok(true)
            }
            Err(error) => {
                self.supply.remove(now.id);
                let owned = BlockWord { state: BlockState::Owned, class, owner: fabric.me() };
                let owner = ClientId::NOBODY;
                let wreck = BlockWord { state: BlockState::Wreck, owner, ..owned };
                table::change(fabric, addr, owned, wreck)?;
                Err(error)
            }
        }
    }

    /// Whether a wreck is being looked through.
    pub fn is_inspecting(&self) -> bool {
        self.pace.inspection.is_some()
    }

    /// One step towards a pool without wrecks: takes one over, or waits a while for the one being
    /// looked at. False: there is none left. Between operations.
    pub fn clear_wreck(&mut self, fabric: &Fabric, live: &dyn Liveness) -> Result<bool> {
        if self.inspect(fabric, live)? {
            return Ok(true);
        }
        if self.pace.inspection.is_none() {
            return Ok(false);
        }
        fabric.verbs().relax(200_000);
        self.settle(fabric)?;
        Ok(true)
    }

    /// Looks up the next objects of a block.
    fn look_up(
        &self,
        fabric: &Fabric,
        live: &dyn Liveness,
        (block, class, shape): (PoolAddr, SizeClass, Shape),
        now: &mut Inspection,
        most: u32,
    ) -> Result<()> {
        let end = shape.objects.min(now.next.saturating_add(most));
        while now.next < end {
            let addr = self.geometry.object(block, shape, now.next);
            if steadily(|| live.is_live(fabric, addr, class))? {
                now.live[now.next as usize / 64] |= 1 << (now.next % 64);
            }
            now.next += 1;
        }
        if end == shape.objects {
            now.epoch = steadily(|| read_epoch(fabric))?;
        }
        Ok(())
    }

    fn take_over(
        &mut self,
        fabric: &Fabric,
        wanted: impl Fn(BlockWord) -> bool,
    ) -> Result<Option<u32>> {
        for region in 0..fabric.view().regions.len() {
            let blocks = match steadily(|| table::read_region(fabric, region)) {
                Err(PoolError::Lost(_)) => continue,
                blocks => blocks?,
            };
            for (addr, found) in blocks {
                let Some(shape) = self.geometry.shape(found.class) else { continue };
                if wanted(found) && table::take(fabric, addr, found, found.class, 0)? {
                    return Ok(Some(self.supply.add(Block::adopted(addr, found.class, shape))));
                }
            }
        }
        Ok(None)
    }

    /// Frees what an inspection found unused, once the grace period is over.
    pub(super) fn finish_inspection(&mut self, fabric: &Fabric, census: &Census) -> Result<()> {
        let ripe = |now: &mut Inspection| now.is_complete() && !now.is_unripe(census.epoch);
        let Some(inspection) = self.pace.inspection.take_if(ripe) else { return Ok(()) };
        let pinned = self.pinned(fabric, census)?;
        let Some(block) = self.supply.block(inspection.id) else { return Ok(()) };
        let mut free = Vec::new();
        for (at, &live) in inspection.live.iter().enumerate() {
            let unused = !live & block.shape.mask(at);
            if unused != 0 {
                free.push((at, unused));
            }
        }
        let held = block.held(&free, &pinned);
        settle_bits(fabric, block.addr, &free, &held)?;
        for (at, unused) in &mut free {
            *unused &= !held[*at];
        }
        block.release_unseen(&free);
        self.supply.offer(inspection.id);
        self.give_away_if_free(fabric, inspection.id, None)
    }
}

/// Makes the bits of unused objects the same on all copies, as the dead owner may have changed
/// some of them only: set where somebody `held` the object, for the owner to collect them later,
/// clear otherwise. Nobody else changes bits of unused objects.
fn settle_bits(
    fabric: &Fabric,
    block: PoolAddr,
    unused: &[(usize, u64)],
    held: &[u64],
) -> Result<()> {
    for &(at, unused) in unused {
        let word = bitmap(block).add(at as u64 * 8);
        steadily(|| settle_word(fabric, word, unused, held[at]))?;
    }
    Ok(())
}

/// [`settle_bits`] of one word, as the view has it now.
fn settle_word(fabric: &Fabric, at: PoolAddr, unused: u64, held: u64) -> Result<()> {
    for copy in fabric.copies(at) {
        let mut bytes = [0; 8];
        fabric.batch(&mut [Verb::read(copy, &mut bytes)])?;
        let found = word(&bytes, 0);
        let (set, clear) = (held & !found, unused & !held & found);
        if set | clear != 0 {
            fabric.batch(&mut [Verb::faa(copy, set.wrapping_sub(clear))])?;
        }
    }
    Ok(())
}
