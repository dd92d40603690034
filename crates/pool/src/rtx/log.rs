//! Redo logs: the format of a log place.
//!
//! ```text
//! 0 repairer | 8 name of the last transaction that is done | 16 checksum of all that follows
//! 24 name | 32 writes u16, locks u8, frees u8, bytes u32 | 40 reported | writes* | locks* | frees*
//! ```
//!
//! A write is target, length and image, padded to words; a lock is node 16 | offset 48; a free is
//! class 8 | address in granules 40. `reported` is the reclamation epoch that the client had
//! reported last: it tells recovery whether the frees may have been reclaimed (see `repair`).

use crate::xxh3::xxh3_64;
use artesian_bus::GlobalAddr;
use smallvec::SmallVec;

use crate::address::{ClientId, PoolAddr, GRANULE};
use crate::class::SizeClass;
use crate::config::CLIENT_AREA;
use crate::error::{PoolError, Result};
use crate::object::word;
use crate::rtx::target::Target;

/// Where the log places start in a client area.
pub const LOG_AREA: u64 = 24 << 10;
/// Log places of a client: transactions that it may have open at once.
pub const NUM_PLACES: usize = 8;
/// Bytes of a log place.
pub const PLACE_BYTES: usize = (CLIENT_AREA - LOG_AREA) as usize / NUM_PLACES;
/// Most lock words that one transaction holds.
pub const MAX_LOCKS: usize = 8;
/// Most objects that one transaction gives up.
pub const MAX_FREES: usize = 4;

/// Bytes before the checksummed part: they change while the log stays.
pub const MARKS: usize = 16;
/// The word of the repairer.
pub const REPAIRER: u64 = 0;
/// The word that names the last transaction that is done.
pub const DONE: u64 = 8;
/// Bytes before the writes.
pub const HEAD: usize = 48;
/// Bytes that are kept for locks and frees.
const TAIL: usize = 8 * (MAX_LOCKS + MAX_FREES);

/// An object that a transaction gives up.
pub type Object = (PoolAddr, SizeClass);

/// A transaction's name: what the lock words it holds contain. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(pub u64);

impl Name {
    /// Transaction `number` of `client` in its log place `place`.
    pub fn new(client: ClientId, number: u32, place: usize) -> Name {
        Name(client.word() << 32 | u64::from(number & 0xff_ffff) << 8 | place as u64)
    }

    /// The client.
    pub fn owner(self) -> ClientId {
        ClientId::from_word(self.0 >> 32)
    }

    /// The later one of two transactions of one place.
    pub fn newer(self, other: Name) -> Name {
        let ahead = ((self.0 >> 8).wrapping_sub(other.0 >> 8)) & 0xff_ffff;
        if ahead < 1 << 23 {
            self
        } else {
            other
        }
    }

    /// Its log place; `None` if there is no such place.
    pub fn place(self) -> Option<usize> {
        let place = (self.0 & 0xff) as usize;
        (place < NUM_PLACES).then_some(place)
    }
}

/// Offset of log place `place` in a client area.
pub fn place_offset(place: usize) -> u64 {
    LOG_AREA + (place * PLACE_BYTES) as u64
}

/// A log that is being written, in a buffer that is used again and again.
#[derive(Default)]
pub struct Draft {
    bytes: Vec<u8>,
    writes: u16,
}

impl Draft {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
        self.writes = 0;
    }

    /// Adds a write.
    pub fn push(&mut self, target: Target, image: &[u8]) -> Result<()> {
        let size = self.bytes.len() + 16 + image.len().next_multiple_of(8) + TAIL;
        if size > PLACE_BYTES {
            return Err(PoolError::TooLarge { what: "log", size, limit: PLACE_BYTES });
        }
        self.bytes.extend_from_slice(&target.word().to_le_bytes());
        self.bytes.extend_from_slice(&(image.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(image);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.writes += 1;
        Ok(())
    }

    /// Completes the log of a client that had last reported epoch `reported`.
    pub fn seal(&mut self, name: Name, locks: &[GlobalAddr], frees: &[Object], reported: u64) {
        for lock in locks {
            self.bytes.extend_from_slice(&lock_bytes(*lock));
        }
        for (addr, class) in frees {
            let word = (u64::from(class.0) << 40) | (addr.0 / GRANULE);
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        let size = self.bytes.len() as u32;
        self.bytes[24..32].copy_from_slice(&name.0.to_le_bytes());
        self.bytes[32..34].copy_from_slice(&self.writes.to_le_bytes());
        self.bytes[34..36].copy_from_slice(&[locks.len() as u8, frees.len() as u8]);
        self.bytes[36..40].copy_from_slice(&size.to_le_bytes());
        self.bytes[40..48].copy_from_slice(&reported.to_le_bytes());
        let sum = xxh3_64(&self.bytes[24..]);
        self.bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    }

    /// The sealed log from [`MARKS`] on.
    pub fn sealed(&self) -> &[u8] {
        &self.bytes[MARKS..]
    }

    /// The writes so far, in order.
    pub fn writes(&self) -> Writes<'_> {
        Writes { bytes: &self.bytes[HEAD.min(self.bytes.len())..], left: self.writes }
    }
}

fn lock_bytes(lock: GlobalAddr) -> [u8; 8] {
    (u64::from(lock.node().0) << 48 | lock.offset()).to_le_bytes()
}

/// The writes of a log.
#[derive(Clone)]
pub struct Writes<'a> {
    bytes: &'a [u8],
    left: u16,
}

impl<'a> Iterator for Writes<'a> {
    type Item = (Target, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let (target, len) = (word(self.bytes, 0), word(self.bytes, 8));
        let image = &self.bytes[16..16 + len as usize];
        self.bytes = &self.bytes[16 + image.len().next_multiple_of(8)..];
        self.left -= 1;
        // Checked when the log was parsed, and true of all that a draft was given.
        Some((Target::from_word(target, len).ok()?, image))
    }
}

/// A whole log that was read.
pub struct Log<'a> {
    /// Whose it is.
    pub name: Name,
    /// What it writes.
    pub writes: Writes<'a>,
    /// What it locks.
    pub locks: SmallVec<[GlobalAddr; MAX_LOCKS]>,
    /// What it gives up, and the epoch that its client had reported last.
    pub frees: SmallVec<[Object; MAX_FREES]>,
    /// See `frees`.
    pub reported: u64,
    /// Its bytes from [`MARKS`] on.
    pub sealed: &'a [u8],
}

impl<'a> Log<'a> {
    /// The log of a place that was read; `None` if it was never written whole.
    pub fn parse(place: &'a [u8]) -> Option<Log<'a>> {
        if place.len() < HEAD {
            return None;
        }
        let counts = word(place, 32);
        let (writes, locks) = (counts as u16, (counts >> 16) as u8 as usize);
        let (frees, size) = ((counts >> 24) as u8 as usize, (counts >> 32) as usize);
        let room = size.checked_sub(HEAD + 8 * (locks + frees))?;
        let fits = size <= place.len() && locks <= MAX_LOCKS && frees <= MAX_FREES;
        if !fits || word(place, 16) != xxh3_64(&place[24..size]) {
            return None;
        }
        let (images, rest) = place[HEAD..size].split_at(room);
        check_writes(images, writes)?;
        let (locks, frees) = rest.split_at(8 * locks);
        let locks = locks.chunks_exact(8).map(|at| {
            let word = word(at, 0);
            GlobalAddr::new(artesian_bus::NodeId((word >> 48) as u16), word)
        });
        let frees = frees.chunks_exact(8).map(|at| {
            let word = word(at, 0);
            (PoolAddr((word & ((1 << 40) - 1)) * GRANULE), SizeClass((word >> 40) as u8))
        });
        Some(Log {
            name: Name(word(place, 24)),
            writes: Writes { bytes: images, left: writes },
            locks: locks.collect(),
            frees: frees.collect(),
            reported: word(place, 40),
            sealed: &place[MARKS..size],
        })
    }
}

/// A checksum proves that somebody wrote the log whole, not that its numbers are sane.
fn check_writes(mut images: &[u8], writes: u16) -> Option<()> {
    for _ in 0..writes {
        if images.len() < 16 {
            return None;
        }
        let len = word(images, 8);
        Target::from_word(word(images, 0), len).ok()?;
        let step = usize::try_from(len).ok()?.checked_next_multiple_of(8)?.checked_add(16)?;
        images = images.get(step..)?;
    }
    images.is_empty().then_some(())
}
