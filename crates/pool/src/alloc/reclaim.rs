//! Making room, and giving blocks away.

use super::frees::{change_bits, word_of};
use super::quiesce::{advance, read_epoch};
use super::table::{self, BlockState, BlockWord};
use super::{Allocator, Liveness};
use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};

/// Waits in [`Allocator::make_room`]; most are of about a millisecond.
const WAITS: u32 = 48;
/// How much longer it waits if only the grace period is in the way: for clients that have not been
/// given any time, or are dead and about to be recovered.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Leases that operations under way are waited for.
const GRACE_LEASES: u64 = 4;

impl Allocator {
    /// Reclaims all it can for an object of `bytes`, waiting for the grace period in bounds;
    /// [`PoolError::Full`] if that is not enough.
    pub fn make_room(&mut self, fabric: &Fabric, bytes: usize, live: &dyn Liveness) -> Result<()> {
        match self.reclaim_room(fabric, bytes, live) {
            Err(PoolError::Full { .. }) if self.supply.reopen() => {
                self.reclaim_room(fabric, bytes, live)
            }
            outcome => outcome,
        }
    }

    fn reclaim_room(&mut self, fabric: &Fabric, bytes: usize, live: &dyn Liveness) -> Result<()> {
        let class = self.class_for(bytes)?;
        let (mut waits, started) = (0, fabric.verbs().now_ns());
        let waited = || fabric.verbs().now_ns().saturating_sub(started);
        while waits < WAITS || (self.awaits_grace() && waited() < PATIENCE_NS) {
            self.turn(fabric, Some(class))?;
            let before = self.supply.num_blocks();
            if self.supply.has(class) || steadily(|| self.take_block(fabric, class))? {
                return Ok(());
            }
            // The search may have taken over an orphan on its way.
            let adopted = self.supply.num_blocks() > before || self.adopt(fabric, class)?;
            if adopted || self.inspect(fabric, live)? {
                continue;
            }
            if self.pace.waiting.is_empty() && !self.is_inspecting() {
                break;
            }
            fabric.verbs().relax(1_000 << waits.min(10));
            waits += 1;
        }
        Err(PoolError::Full { bytes })
    }

    /// Waits until every operation is over that was under way in the pool. Between operations.
    pub(crate) fn wait_for_grace(&mut self, fabric: &Fabric) -> Result<()> {
        let target = steadily(|| read_epoch(fabric))? + 2;
        let started = fabric.verbs().now_ns();
        let patience = u64::from(fabric.config().lease_ms) * 1_000_000 * GRACE_LEASES;
        loop {
            // Whoever died on the way holds the epoch until he is recovered.
            match crate::membership::tick(fabric) {
                Ok(()) | Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
            self.turn(fabric, None)?;
            let census = steadily(|| self.census(fabric))?;
            if census.epoch >= target {
                return Ok(());
            }
            if census.all_reported {
                steadily(|| advance(fabric, census.epoch))?;
            }
            let waited = fabric.verbs().now_ns().saturating_sub(started);
            if waited > patience {
                let what = "all operations that are under way in the pool".into();
                return Err(PoolError::Timeout { what, waited_ms: waited / 1_000_000 });
            }
            fabric.verbs().relax(100_000);
        }
    }

    /// Whether something would come back if the epoch moved on.
    fn awaits_grace(&mut self) -> bool {
        let Allocator { supply, pace, .. } = self;
        let ripens = |id: &u32| {
            supply
                .block(*id)
                .is_some_and(|block| block.is_waiting() && !block.is_ripe(pace.reported))
        };
        pace.waiting.iter().any(ripens)
            || pace.inspection.as_ref().is_some_and(|now| now.is_unripe(pace.reported))
    }

    /// Gives a block that is all free back to its table, if the client has enough without it.
    pub(super) fn give_away_if_free(
        &mut self,
        fabric: &Fabric,
        id: u32,
        urgent: Option<SizeClass>,
    ) -> Result<()> {
        let Some(block) = self.supply.block(id) else { return Ok(()) };
        let (addr, class) = (block.addr, block.class);
        let enough = match urgent {
            None => self.supply.sources(class) > 1,
            Some(wanted) => wanted != class,
        };
        let enough = enough || self.supply.is_unwanted(id);
        if !enough || !self.supply.block(id).is_some_and(|block| block.is_all_free()) {
            return Ok(());
        }
        self.supply.remove(id);
        let owned = BlockWord { state: BlockState::Owned, class, owner: fabric.me() };
        table::change(fabric, addr, owned, BlockWord::FREE)?;
        Ok(())
    }

    /// Gives all blocks away: what is free in them is marked, so that anybody can adopt them.
    /// Before leaving the pool, or before a long sleep.
    pub fn give_back(&mut self, fabric: &Fabric) -> Result<()> {
        self.resume(fabric)?;
        self.withdraw(0);
        self.turn(fabric, None)?;
        for id in 0..self.supply.numbers() {
            let Some(block) = self.supply.remove(id) else { continue };
            let owned =
                BlockWord { state: BlockState::Owned, class: block.class, owner: fabric.me() };
            let mut next = BlockWord::FREE;
            let inspected = self.pace.inspection.as_ref().is_some_and(|now| now.id == id);
            if inspected || !block.is_all_free() {
                let words = block.free_words().iter().copied().enumerate().filter(|w| w.1 != 0);
                let bits: Vec<(PoolAddr, u64)> =
                    words.map(|(at, word)| (word_of(block.addr, at), word)).collect();
                change_bits(fabric, &bits, true)?;
                let state = if inspected { BlockState::Wreck } else { BlockState::Orphan };
                next = BlockWord { state, owner: ClientId::NOBODY, ..owned };
            }
            table::change(fabric, block.addr, owned, next)?;
        }
        self.pace.inspection = None;
        Ok(())
    }
}
