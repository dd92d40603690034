//! A key's two combined buckets, as they were read.

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use super::directory::Place;
use super::hash::KeyHash;
use super::layout::{self, BucketHeader, BUCKET, COMBINED, SLOTS};
use crate::address::PoolAddr;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::slot::Slot;

/// A slot and what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where the slot is.
    pub at: PoolAddr,
    /// Its value.
    pub slot: Slot,
}

/// Both combined buckets, and the header of the first main bucket read behind them.
#[derive(Debug)]
pub struct Buckets {
    bytes: [[u8; COMBINED]; 2],
    header: [u8; 8],
    at: [PoolAddr; 2],
    lock: PoolAddr,
}

impl Buckets {
    /// The buckets of `hash` at `place`, not read yet.
    pub fn new(place: Place, hash: KeyHash) -> Buckets {
        let first = |combined| layout::bucket_addr(place.table, layout::first_bucket(combined));
        Buckets {
            bytes: [[0; COMBINED]; 2],
            header: [0; 8],
            at: hash.buckets().map(first),
            lock: layout::bucket_addr(place.table, layout::main_bucket(hash.buckets()[0])),
        }
    }

    /// The primary copies of what [`Buckets::post`] reads.
    #[inline]
    pub fn locate(&self, fabric: &Fabric) -> Result<[GlobalAddr; 3]> {
        let first = fabric.primary(self.at[0])?;
        // One object lies in one region: the distances are those of the pool's addresses.
        let offset =
            |addr: PoolAddr| GlobalAddr::new(first.node(), first.offset() + addr.0 - self.at[0].0);
        let lock = fabric.primary(self.lock)?;
        Ok([first, offset(self.at[1]), lock])
    }

    /// Adds the reads. The header comes last: if it is the expected one, no split had begun to
    /// empty slots when they were read.
    #[inline]
    pub fn post<'a>(&'a mut self, at: [GlobalAddr; 3], verbs: &mut impl Extend<Verb<'a>>) {
        let [first, second] = &mut self.bytes;
        verbs.extend([
            Verb::read(at[0], first),
            Verb::read(at[1], second),
            Verb::read(at[2], &mut self.header),
        ]);
    }

    /// The header of the first main bucket.
    pub fn header(&self) -> BucketHeader {
        BucketHeader::from_word(word(&self.header, 0))
    }

    /// Where that header lies: the key's insert lock.
    pub fn lock_addr(&self) -> PoolAddr {
        self.lock
    }

    /// All slots.
    pub fn slots(&self) -> impl Iterator<Item = Candidate> + '_ {
        (0..2).flat_map(move |side| {
            (0..2 * SLOTS).map(move |number| {
                let within = number / SLOTS * BUCKET + 8 + number % SLOTS * 8;
                let slot = Slot(word(&self.bytes[side], within as usize));
                Candidate { at: self.at[side].add(within), slot }
            })
        })
    }

    /// Occupied slots whose fingerprint is that of `hash`.
    pub fn matches(&self, hash: KeyHash) -> SmallVec<[Candidate; 2]> {
        let fingerprint = hash.fingerprint();
        let fits = |slot: Slot| slot.fingerprint() == fingerprint && !slot.is_vacant();
        self.slots().filter(|candidate| fits(candidate.slot)).collect()
    }

    /// The slot for a new key: in the emptier combined bucket, main before overflow.
    pub fn vacancy(&self, hash: KeyHash) -> Option<Candidate> {
        let num = |side: usize| {
            let own = self.slots().skip(side * 2 * SLOTS as usize).take(2 * SLOTS as usize);
            own.filter(|candidate| candidate.slot.is_vacant()).count()
        };
        let side = usize::from(num(1) > num(0));
        let main = layout::main_bucket(hash.buckets()[side]);
        let is_main_first = main == layout::first_bucket(hash.buckets()[side]);
        let own = self.slots().skip(side * 2 * SLOTS as usize).take(2 * SLOTS as usize);
        let vacant = own.filter(|candidate| candidate.slot.is_vacant());
        vacant.min_by_key(|candidate| {
            let is_first = candidate.at.0 - self.at[side].0 < BUCKET;
            (is_first != is_main_first, candidate.at)
        })
    }
}
