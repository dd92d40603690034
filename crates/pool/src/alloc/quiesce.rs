//! What happens between operations: frees are flushed, quiescence is reported, the epoch moves,
//! free bits are collected and ripen.
//!
//! Why a bit seen at epoch e may be reused at e + 2: whoever can still hold the object's address
//! began its operation before the bit was set, and has not reported since. Its last report r was
//! made at an epoch <= e, and the epoch does not go beyond r + 1 before it reports again. For the
//! same reason a dead client keeps all bits that it set after its last report from being cleared,
//! so that its recovery can tell from them what was done.

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use super::block::Words;
use super::frees::{bitmap, change_bits, word_of};
use super::orphan::Inspection;
use super::Allocator;
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::config::{meta, record, PoolConfig};
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::object::word;

/// Quiescent moments and time after which the work is done,
pub(super) const CALLS: u32 = 256;
const NANOSECONDS: u64 = 2_000_000;
/// and freed bytes: so many, or this share of a node if that is more, but never more than
const OWED: u64 = 256 << 10;
const OWED_SHARE: u64 = 256;
const MOST_OWED: u64 = 4 << 20;
/// Blocks and bytes of bitmaps looked at in one turn.
const BLOCKS: usize = 32;
const BITMAPS: usize = 8 << 10;
/// How often a report is written anew because the epoch has moved on meanwhile.
const ATTEMPTS: u32 = 16;

/// When the next turn is due, and what was reported.
pub(super) struct Pace {
    calls: u32,
    owed: usize,
    most_owed: usize,
    since: u64,
    idle: bool,
    pub(super) reported: u64,
    /// The block at which the next turn goes on collecting.
    cursor: u32,
    /// Blocks whose bits wait.
    pub(super) waiting: Vec<u32>,
    pub(super) inspection: Option<Inspection>,
    bitmaps: Vec<u8>,
    records: Vec<u8>,
}

impl Pace {
    pub(super) fn new(config: &PoolConfig) -> Pace {
        let most_owed = (config.node_bytes / OWED_SHARE).clamp(OWED, MOST_OWED) as usize;
        Pace {
            calls: 0,
            owed: 0,
            most_owed,
            since: 0,
            idle: true,
            reported: 0,
            cursor: 0,
            waiting: Vec::new(),
            inspection: None,
            bitmaps: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Some bytes were freed.
    #[inline]
    pub(super) fn owe(&mut self, bytes: usize) {
        self.owed += bytes;
    }
}

/// What the client table says about the grace period.
pub(super) struct Census {
    /// The epoch, read before the table.
    pub(super) epoch: u64,
    /// Every client has reported that epoch.
    pub(super) all_reported: bool,
    /// Clients that pin something.
    pinning: SmallVec<[u16; 8]>,
}

impl Allocator {
    /// To be called between operations, after each of them: most calls only count.
    #[inline]
    pub fn quiesce(&mut self, fabric: &Fabric) -> Result<()> {
        self.pace.calls += 1;
        if self.pace.calls < CALLS && self.pace.owed < self.pace.most_owed {
            if !self.pace.calls.is_multiple_of(8) {
                return Ok(());
            }
            if fabric.verbs().now_ns().saturating_sub(self.pace.since) < NANOSECONDS {
                return Ok(());
            }
        }
        self.turn(fabric, None)
    }

    /// [`Allocator::quiesce`] for those who come seldom: the work is done unless it just was.
    pub fn pulse(&mut self, fabric: &Fabric) -> Result<()> {
        if fabric.verbs().now_ns().saturating_sub(self.pace.since) < NANOSECONDS {
            return Ok(());
        }
        self.turn(fabric, None)
    }

    /// [`Allocator::quiesce`] without delay: after long operations, as others wait for the report.
    pub fn settle(&mut self, fabric: &Fabric) -> Result<()> {
        self.turn(fabric, None)
    }

    /// Says that this client will do nothing for a while: nobody waits for it.
    /// [`Allocator::resume`] comes before its next operation.
    pub fn idle(&mut self, fabric: &Fabric) -> Result<()> {
        if self.pace.idle {
            return Ok(());
        }
        self.turn(fabric, None)?;
        steadily(|| report(fabric, u64::MAX))?;
        self.pace.idle = true;
        Ok(())
    }

    /// Whether the client said that it does nothing.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.pace.idle
    }

    /// Ends [`Allocator::idle`].
    pub fn resume(&mut self, fabric: &Fabric) -> Result<()> {
        if !self.pace.idle {
            return Ok(());
        }
        let mut seen = steadily(|| read_epoch(fabric))?;
        // Until the report is there, the epoch moves on without this client; then by one at most.
        for _ in 0..ATTEMPTS {
            steadily(|| report(fabric, seen))?;
            let now = steadily(|| read_epoch(fabric))?;
            if now == seen {
                (self.pace.idle, self.pace.reported) = (false, seen);
                return Ok(());
            }
            seen = now;
        }
        Err(PoolError::Timeout { what: "the reclamation epoch to stand".into(), waited_ms: 0 })
    }

    /// One turn of the work; with `urgent`, over all blocks, and every block that is all free is
    /// given away unless it is of that class.
    pub(super) fn turn(&mut self, fabric: &Fabric, urgent: Option<SizeClass>) -> Result<()> {
        if self.pace.idle {
            return Ok(());
        }
        (self.pace.calls, self.pace.owed) = (0, 0);
        self.pace.since = fabric.verbs().now_ns();
        self.drop_lost(fabric);
        let outcome = self.frees.flush(fabric, &self.geometry);
        let numbers = self.supply.numbers() as usize;
        let (most, bytes) = match urgent {
            None => (BLOCKS.min(numbers), BITMAPS),
            Some(_) => (numbers, usize::MAX),
        };
        let (seen, collected) = self.collect(fabric, most, bytes);
        self.tell_finished(fabric)?;
        let epoch = steadily(|| read_epoch(fabric))?;
        steadily(|| report(fabric, epoch))?;
        self.pace.reported = epoch;
        for id in seen {
            if let Some(block) = self.supply.block(id) {
                block.seen_at(epoch);
                self.pace.waiting.push(id);
            }
        }
        let looked = self.pace.inspection.as_ref().is_some_and(Inspection::is_complete);
        let waits = !self.pace.waiting.is_empty() || looked;
        if self.supply.vacates() {
            for id in 0..self.supply.numbers() {
                if self.supply.is_unwanted(id) {
                    self.give_away_if_free(fabric, id, urgent)?;
                }
            }
        }
        if waits || urgent.is_some() {
            let census = steadily(|| self.census(fabric))?;
            self.ripen(fabric, &census, urgent)?;
            self.finish_inspection(fabric, &census)?;
            if census.all_reported {
                steadily(|| advance(fabric, census.epoch))?;
            }
        }
        if self.ring.room() < 1024 {
            self.withdraw(512);
        }
        outcome.and(collected)
    }

    /// Tells which operations are finished: after their frees are flushed, at any moment.
    pub(super) fn tell_finished(&mut self, fabric: &Fabric) -> Result<()> {
        let finished = self.ring.finished();
        let (flushed, window) = (finished.flushed.to_le_bytes(), finished.window.to_le_bytes());
        steadily(|| {
            let mut verbs: SmallVec<[Verb<'_>; 6]> = SmallVec::new();
            for copy in fabric.client_record(fabric.me().index, 0) {
                verbs.push(Verb::write(copy.add(record::FLUSHED), &flushed));
                verbs.push(Verb::write(copy.add(record::WINDOW), &window));
            }
            fabric.batch(&mut verbs)
        })?;
        self.ring.set_finished(finished);
        Ok(())
    }

    /// Reads bitmaps of some blocks, round robin. Returns the blocks with new bits. A block whose
    /// bits cannot be is set aside, and the error tells.
    fn collect(&mut self, fabric: &Fabric, most: usize, bytes: usize) -> (Vec<u32>, Result<()>) {
        let (mut seen, mut outcome) = (Vec::new(), Ok(()));
        let wanted = self.choose(most, bytes);
        for some in wanted.chunks(BLOCKS) {
            let length = some.iter().map(|bitmap| bitmap.words * 8).sum();
            let bits = &mut self.pace.bitmaps;
            bits.resize(length, 0);
            if let Err(error) = steadily(|| read_bitmaps(fabric, some, bits)) {
                return (seen, Err(error));
            }
            let mut rest = self.pace.bitmaps.as_slice();
            for bitmap in some {
                let (bits, behind) = rest.split_at(bitmap.words * 8);
                rest = behind;
                let Some(block) = self.supply.block(bitmap.block) else { continue };
                match block.see(bits) {
                    Ok(false) => {}
                    Ok(true) => seen.push(bitmap.block),
                    Err(wrong) => {
                        let text = format!("free bits {wrong:#x} of the block {:?}", block.addr);
                        outcome = Err(PoolError::Corrupt(text));
                        self.supply.remove(bitmap.block);
                    }
                }
            }
        }
        (seen, outcome)
    }

    /// The next blocks to look at: those that may have new bits.
    fn choose(&mut self, most: usize, bytes: usize) -> SmallVec<[Bitmap; BLOCKS]> {
        let (mut chosen, mut left) = (SmallVec::new(), bytes);
        let inspected = self.pace.inspection.as_ref().map(|inspection| inspection.id);
        for _ in 0..most {
            let numbers = self.supply.numbers();
            let id = self.pace.cursor % numbers.max(1);
            self.pace.cursor = id + 1;
            let Some(block) = self.supply.block(id) else { continue };
            if block.is_waiting() || block.is_all_free() || inspected == Some(id) {
                continue;
            }
            let words = block.shape.words();
            chosen.push(Bitmap { block: id, at: bitmap(block.addr), words });
            left = left.saturating_sub(words * 8);
            if left == 0 {
                break;
            }
        }
        chosen
    }

    /// Who is in the pool and what each has reported.
    pub(super) fn census(&mut self, fabric: &Fabric) -> Result<Census> {
        let bytes = usize::from(fabric.config().max_clients) * meta::CLIENT_RECORD as usize;
        let records = &mut self.pace.records;
        records.resize(bytes, 0);
        let mut epoch = [0; 8];
        let mut verbs = [
            Verb::read(fabric.meta(meta::EPOCH)[0], &mut epoch),
            Verb::read(fabric.client_record(0, 0)[0], records),
        ];
        fabric.batch(&mut verbs)?;
        let epoch = u64::from_le_bytes(epoch);
        let mut census = Census { epoch, all_reported: true, pinning: SmallVec::new() };
        let places = records.chunks_exact(meta::CLIENT_RECORD as usize);
        for (index, place) in places.enumerate().skip(1) {
            // Whoever is joining has not begun to work.
            if matches!(place[7], record::FREE | record::JOINING) {
                continue;
            }
            census.all_reported &= word(place, record::REPORTED as usize) >= epoch;
            if word(place, record::PINNED as usize) > 0 {
                census.pinning.push(index as u16);
            }
        }
        Ok(census)
    }

    /// Addresses that are pinned now, sorted.
    pub(super) fn pinned(&self, fabric: &Fabric, census: &Census) -> Result<Vec<PoolAddr>> {
        steadily(|| crate::pin::pinned_by(fabric, &census.pinning))
    }

    /// Hands out again what has waited long enough and is not pinned.
    fn ripen(&mut self, fabric: &Fabric, census: &Census, urgent: Option<SizeClass>) -> Result<()> {
        let waiting = std::mem::take(&mut self.pace.waiting);
        self.release_ripe(fabric, census, &waiting)?;
        for id in waiting {
            let Some(block) = self.supply.block(id) else { continue };
            if block.is_waiting() {
                self.pace.waiting.push(id);
            }
            self.supply.offer(id);
            self.give_away_if_free(fabric, id, urgent)?;
        }
        if urgent.is_some() {
            for id in 0..self.supply.numbers() {
                self.give_away_if_free(fabric, id, urgent)?;
            }
        }
        Ok(())
    }

    /// Clears the bits of ripe objects of those blocks in the pool, then hands them out.
    fn release_ripe(&mut self, fabric: &Fabric, census: &Census, blocks: &[u32]) -> Result<()> {
        let mut is_ripe = |id: &u32| {
            let block = self.supply.block(*id);
            block.is_some_and(|block| block.is_ripe(census.epoch))
        };
        let ripe: SmallVec<[u32; BLOCKS]> =
            blocks.iter().copied().filter(|id| is_ripe(id)).collect();
        if ripe.is_empty() {
            return Ok(());
        }
        let pinned = self.pinned(fabric, census)?;
        let mut released: SmallVec<[Words; 8]> = SmallVec::new();
        let mut bits: SmallVec<[(PoolAddr, u64); 64]> = SmallVec::new();
        for &id in &ripe {
            let Some(block) = self.supply.block(id) else { continue };
            let words = block.ripe(&pinned);
            bits.extend(words.iter().map(|&(at, word)| (word_of(block.addr, at), word)));
            released.push(words);
        }
        change_bits(fabric, &bits, false)?;
        for (&id, words) in ripe.iter().zip(released) {
            if let Some(block) = self.supply.block(id) {
                block.release(&words);
            }
        }
        Ok(())
    }
}

/// A bitmap to be read.
struct Bitmap {
    block: u32,
    at: PoolAddr,
    words: usize,
}

/// Reads bitmaps, one behind the other, in one batch. One that was lost with its nodes counts as
/// having no bit.
fn read_bitmaps(fabric: &Fabric, bitmaps: &[Bitmap], into: &mut [u8]) -> Result<()> {
    let mut verbs: SmallVec<[Verb<'_>; BLOCKS]> = SmallVec::new();
    let mut rest = into;
    for bitmap in bitmaps {
        let (bits, behind) = rest.split_at_mut(bitmap.words * 8);
        rest = behind;
        match fabric.primary(bitmap.at) {
            Ok(at) => verbs.push(Verb::read(at, bits)),
            Err(PoolError::Lost(_)) => bits.fill(0),
            Err(error) => return Err(error),
        }
    }
    if verbs.is_empty() {
        return Ok(());
    }
    fabric.batch(&mut verbs)
}

pub(super) fn read_epoch(fabric: &Fabric) -> Result<u64> {
    let epoch = fabric.read_word(fabric.meta(meta::EPOCH)[0])?;
    if epoch == 0 || epoch >= 1 << 62 {
        return Err(PoolError::Corrupt(format!("the reclamation epoch is {epoch}")));
    }
    Ok(epoch)
}

/// Writes REPORTED. What the client did before must be there already, on all copies: the bits that
/// it has set may be reused from now on, and then nothing tells a second time that it set them.
fn report(fabric: &Fabric, epoch: u64) -> Result<()> {
    let bytes = epoch.to_le_bytes();
    let copies = fabric.client_record(fabric.me().index, record::REPORTED);
    let mut verbs: SmallVec<[Verb<'_>; 3]> =
        copies.iter().map(|&copy| Verb::write(copy, &bytes)).collect();
    fabric.batch(&mut verbs)
}

/// Moves the epoch on from `epoch`: the primary last, so that no copy lies behind it.
pub(super) fn advance(fabric: &Fabric, epoch: u64) -> Result<()> {
    let copies = fabric.meta(meta::EPOCH);
    let step = |copy: &GlobalAddr| Verb::cas(*copy, epoch, epoch + 1);
    let mut verbs: SmallVec<[Verb<'_>; 3]> = copies.iter().skip(1).map(step).collect();
    if !verbs.is_empty() {
        fabric.batch(&mut verbs)?;
    }
    fabric.batch(&mut [step(&copies[0])])
}
