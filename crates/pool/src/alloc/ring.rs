//! The ring of announced objects in the client's area.
//!
//! Entry `s % 2048` is `lap 16 | class 8 | address in granules 40` with lap = s / 2048: an entry
//! tells by itself whether it belongs to the window behind FLUSHED, so there is no head to keep.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::geometry::Geometry;
use crate::address::{ClientId, PoolAddr, GRANULE};
use crate::class::SizeClass;
use crate::config::{area, meta, record};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::word;

const PLACES: u64 = area::NUM_ANNOUNCED;
/// Objects announced at once at most.
pub(super) const BATCH: usize = 64;

/// An object that a client has announced and whose operation may not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The object.
    pub addr: PoolAddr,
    /// Its class.
    pub class: SizeClass,
    /// The number of the operation that uses it: it was used iff its log entry has this number
    /// and the client.
    pub sequence: u64,
}

/// The owner's side of the ring.
pub(super) struct Ring {
    /// The number of the next object announced.
    next: u64,
    /// What FLUSHED says in the pool.
    flushed: u64,
    /// Bit `s % 2048`: number s is done with.
    done: [u64; (PLACES / 64) as usize],
}

impl Ring {
    pub(super) fn new() -> Ring {
        Ring { next: 1, flushed: 0, done: [0; (PLACES / 64) as usize] }
    }

    /// Entries that may be announced now.
    pub(super) fn room(&self) -> usize {
        (self.flushed + PLACES + 1 - self.next) as usize
    }

    /// The next number.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Number `sequence` is done with, once the frees so far are flushed.
    #[inline]
    pub(super) fn complete(&mut self, sequence: u64) {
        if sequence > self.flushed && sequence < self.next {
            let place = sequence % PLACES;
            self.done[(place / 64) as usize] |= 1 << (place % 64);
        }
    }

    /// Up to where all numbers are done with: what FLUSHED may say once all frees are flushed.
    pub(super) fn finished(&self) -> u64 {
        let mut last = self.flushed;
        while last + 1 < self.next {
            let place = (last + 1) % PLACES;
            let word = self.done[(place / 64) as usize] >> (place % 64);
            let run = u64::from(word.trailing_ones()).min(self.next - last - 1);
            last += run;
            if run < 64 - place % 64 {
                break;
            }
        }
        last
    }

    /// FLUSHED says `flushed` now.
    pub(super) fn set_flushed(&mut self, flushed: u64) {
        for sequence in self.flushed + 1..=flushed {
            let place = sequence % PLACES;
            self.done[(place / 64) as usize] &= !(1 << (place % 64));
        }
        self.flushed = flushed;
    }

    /// Writes objects of `class` into the ring; returns the first one's number.
    pub(super) fn announce(
        &mut self,
        fabric: &Fabric,
        class: SizeClass,
        objects: &[PoolAddr],
    ) -> Result<u64> {
        debug_assert!(objects.len() <= self.room().min(BATCH));
        let mut bytes = [0; BATCH * 8];
        for (at, addr) in objects.iter().enumerate() {
            let entry = encode(self.next + at as u64, class, *addr);
            bytes[at * 8..at * 8 + 8].copy_from_slice(&entry.to_le_bytes());
        }
        let bytes = &bytes[..objects.len() * 8];
        let place = self.next % PLACES;
        let (before, after) = bytes.split_at(bytes.len().min(((PLACES - place) * 8) as usize));
        for _ in 0..16 {
            let first = fabric.client_area(fabric.me().index, area::RING + place * 8);
            let start = fabric.client_area(fabric.me().index, area::RING);
            let mut verbs: SmallVec<[Verb<'_>; 6]> = SmallVec::new();
            verbs.extend(first.iter().map(|&copy| Verb::write(copy, before)));
            if !after.is_empty() {
                verbs.extend(start.iter().map(|&copy| Verb::write(copy, after)));
            }
            match fabric.batch(&mut verbs) {
                Ok(()) => {
                    let first = self.next;
                    self.next += objects.len() as u64;
                    return Ok(first);
                }
                Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        }
        Err(PoolError::ViewChanged)
    }
}

fn encode(sequence: u64, class: SizeClass, addr: PoolAddr) -> u64 {
    let lap = (sequence / PLACES) & 0xffff;
    lap << 48 | u64::from(class.0) << 40 | (addr.0 / GRANULE)
}

/// What `dead` had announced and may have used in operations that are not flushed, in the order
/// of its numbers. An object announced twice (the first time without use) comes once, with the
/// later number. Entries that name no object are left out: they were never used.
pub fn announced(fabric: &Fabric, dead: ClientId) -> Result<Vec<Announced>> {
    let record = fabric.client_record(dead.index, record::FLUSHED)[0];
    let ring = fabric.client_area(dead.index, area::RING)[0];
    let (mut flushed, mut bytes) = ([0; 8], vec![0; (PLACES * 8) as usize]);
    debug_assert!(u64::from(dead.index) * meta::CLIENT_RECORD < meta::NAMESPACE_TABLE);
    fabric.batch(&mut [Verb::read(record, &mut flushed), Verb::read(ring, &mut bytes)])?;
    let flushed = u64::from_le_bytes(flushed);
    if flushed >= 1 << 48 {
        return Err(PoolError::Corrupt(format!("{dead:?} claims {flushed} operations")));
    }
    let geometry = Geometry::of(fabric.config());
    let regions = fabric.view().regions.len() as u64;
    let limit = regions << fabric.config().region_shift;
    let mut found: Vec<Announced> = Vec::new();
    for sequence in flushed + 1..=flushed + PLACES {
        let entry = word(&bytes, (sequence % PLACES * 8) as usize);
        let addr = PoolAddr((entry & ((1 << 40) - 1)) * GRANULE);
        let class = SizeClass((entry >> 40) as u8);
        let known = addr.0 < limit && geometry.place(addr, class).is_ok();
        if known && encode(sequence, class, addr) == entry {
            found.push(Announced { addr, class, sequence });
        }
    }
    found.sort_by_key(|object| (object.addr, std::cmp::Reverse(object.sequence)));
    found.dedup_by_key(|object| object.addr);
    found.sort_by_key(|object| object.sequence);
    Ok(found)
}
