//! The ring of announced objects in the client's area, and the numbers of operations.
//!
//! Place `p` of the ring lies at `p % 2048` and is `lap 16 | class 8 | address in granules 40`
//! with lap = p / 2048: an entry tells by itself whether it belongs to the window behind WINDOW,
//! so there is no head to keep. Places are given out when objects are announced, the numbers of
//! operations when objects are used: FLUSHED must not wait for objects that lie about unused.

use std::collections::VecDeque;

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
    /// Where it was announced.
    pub place: u64,
}

/// What a client had announced.
#[derive(Clone, Debug, Default)]
pub struct Announcements {
    /// All operations up to this number are finished: an object was used in another one iff its
    /// log entry has a larger number and the client.
    pub flushed: u64,
    /// The objects, by place.
    pub objects: Vec<Announced>,
}

/// An operation that has begun.
struct Open {
    place: u64,
    over: bool,
}

/// The owner's side of the ring.
pub(super) struct Ring {
    /// The place of the next object announced.
    next: u64,
    /// What WINDOW says in the pool.
    window: u64,
    /// Bit `p % 2048`: place p is done with.
    done: [u64; (PLACES / 64) as usize],
    /// Operations that are not over, and some behind them, in the order of their numbers.
    open: VecDeque<Open>,
    /// The number of the first of them.
    first: u64,
}

/// How far a client is: what WINDOW and FLUSHED may say once all frees so far are flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) window: u64,
    pub(super) flushed: u64,
}

impl Ring {
    pub(super) fn new() -> Ring {
        let done = [0; (PLACES / 64) as usize];
        Ring { next: 1, window: 0, done, open: VecDeque::new(), first: 1 }
    }

    /// Entries that may be announced now.
    pub(super) fn room(&self) -> usize {
        (self.window + PLACES + 1 - self.next) as usize
    }

    /// The next place.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// An operation with the object announced at `place` begins; returns its number.
    #[inline]
    pub(super) fn begin(&mut self, place: u64) -> u64 {
        self.open.push_back(Open { place, over: false });
        self.first + self.open.len() as u64 - 1
    }

    /// Operation `sequence` is over; returns the place of its object, if it was open.
    #[inline]
    fn end(&mut self, sequence: u64) -> Option<u64> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        let open = self.open.get_mut(at).filter(|open| !open.over)?;
        open.over = true;
        let place = open.place;
        while self.open.front().is_some_and(|open| open.over) {
            self.open.pop_front();
            self.first += 1;
        }
        Some(place)
    }

    /// Operation `sequence` is over once the frees so far are flushed.
    #[inline]
    pub(super) fn complete(&mut self, sequence: u64) {
        if let Some(place) = self.end(sequence) {
            self.retire(place);
        }
    }

    /// Operation `sequence` never was: its object is still announced at the place that is returned.
    pub(super) fn abandon(&mut self, sequence: u64) -> Option<u64> {
        self.end(sequence)
    }

    /// Place `place` is done with.
    #[inline]
    pub(super) fn retire(&mut self, place: u64) {
        if place > self.window && place < self.next {
            let at = place % PLACES;
            self.done[(at / 64) as usize] |= 1 << (at % 64);
        }
    }

    /// See [`Finished`].
    pub(super) fn finished(&self) -> Finished {
        let mut window = self.window;
        while window + 1 < self.next {
            let at = (window + 1) % PLACES;
            let word = self.done[(at / 64) as usize] >> (at % 64);
            let run = u64::from(word.trailing_ones()).min(self.next - window - 1);
            window += run;
            if run < 64 - at % 64 {
                break;
            }
        }
        Finished { window, flushed: self.first - 1 }
    }

    /// WINDOW says this now.
    pub(super) fn set_finished(&mut self, finished: Finished) {
        for place in self.window + 1..=finished.window {
            let at = place % PLACES;
            self.done[(at / 64) as usize] &= !(1 << (at % 64));
        }
        self.window = finished.window;
    }

    /// Writes objects of `class` into the ring; returns the first one's place.
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

fn encode(place: u64, class: SizeClass, addr: PoolAddr) -> u64 {
    let lap = (place / PLACES) & 0xffff;
    lap << 48 | u64::from(class.0) << 40 | (addr.0 / GRANULE)
}

/// What `dead` had announced and may have used in operations that are not flushed. An object
/// announced twice (the first time without use) comes once, with the later place. Entries that name
/// no object are left out: they were never used.
pub fn announced(fabric: &Fabric, dead: ClientId) -> Result<Announcements> {
    let words = fabric.client_record(dead.index, 0)[0];
    let ring = fabric.client_area(dead.index, area::RING)[0];
    let mut words_bytes = [0; meta::CLIENT_RECORD as usize];
    let mut bytes = vec![0; (PLACES * 8) as usize];
    fabric.batch(&mut [Verb::read(words, &mut words_bytes), Verb::read(ring, &mut bytes)])?;
    let flushed = word(&words_bytes, record::FLUSHED as usize);
    let window = word(&words_bytes, record::WINDOW as usize);
    if flushed >= 1 << 48 || window >= 1 << 48 {
        return Err(PoolError::Corrupt(format!("{dead:?} claims {flushed} operations")));
    }
    let geometry = Geometry::of(fabric.config());
    let regions = fabric.view().regions.len() as u64;
    let limit = regions << fabric.config().region_shift;
    let mut objects: Vec<Announced> = Vec::new();
    for place in window + 1..=window + PLACES {
        let entry = word(&bytes, (place % PLACES * 8) as usize);
        let addr = PoolAddr((entry & ((1 << 40) - 1)) * GRANULE);
        let class = SizeClass((entry >> 40) as u8);
        let known = addr.0 < limit && geometry.place(addr, class).is_ok();
        if known && encode(place, class, addr) == entry {
            objects.push(Announced { addr, class, place });
        }
    }
    objects.sort_by_key(|object| (object.addr, std::cmp::Reverse(object.place)));
    objects.dedup_by_key(|object| object.addr);
    objects.sort_by_key(|object| object.place);
    Ok(Announcements { flushed, objects })
}
