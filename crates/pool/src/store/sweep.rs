//! Sweeps over the index: what has expired is taken away, and what deletions have left.
//!
//! A deletion leaves a tombstone with an object of its own (whoever inserts next into that slot
//! frees it). Where there are many, or no room, a round puts a value in the slot that names no
//! object. That round has a log object as well, which is free when it is over: readers of the trail
//! find it as long as they can hold the slot's old value.

use artesian_bus::Verb;

use super::image::{self, Parts};
use super::{now_ms, InUse, GROUP};
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Candidate, Cursor};
use crate::object::{Header, Kind, Op};
use crate::slot::{Slot, HISTORY_CLASS};
use crate::snapshot::{self, Round};

/// Pieces of the index that a tick sweeps at most; it goes on only where much has expired.
const PIECES: u32 = 4;
/// Milliseconds between two ticks' sweeps, and after one for room that found nothing.
const PAUSE_MS: u64 = 250;
/// Pieces that are swept at once for room.
const URGENT: u32 = 64;
/// Objects of a dead client's block that a tick looks up, and milliseconds between two searches
/// for such a block.
const LOOKS: u32 = 256;
const SEARCH_MS: u64 = 1_000;

/// Where this client's sweeps are.
#[derive(Default)]
pub(crate) struct Sweeper {
    cursor: Option<Cursor>,
    /// When the next one is due.
    due_ms: u64,
    /// A sweep for room found nothing: there is none before this.
    barren_ms: u64,
    /// The pool is full, and few objects are left for deletions, and for sweeps.
    pub(super) is_short: bool,
    /// When blocks of dead clients are to be looked for again.
    search_ms: u64,
}

/// What a sweep has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Swept {
    /// Keys' objects.
    pub objects: usize,
    /// Those of them that had expired.
    pub expired: usize,
    /// Tombstones that were emptied.
    pub emptied: usize,
    /// There was no room for the log objects of emptying more.
    pub is_starved: bool,
}

impl Client {
    /// Sweeps a piece of the index now and then. Between operations.
    pub(crate) fn sweep_if_due(&mut self) -> Result<()> {
        let now = now_ms(&self.fabric);
        if now < self.sweeper.due_ms {
            return Ok(());
        }
        self.sweeper.due_ms = now + PAUSE_MS;
        for _ in 0..PIECES {
            let swept = self.sweep_piece(false)?;
            if (swept.expired + swept.emptied) * 4 < swept.objects.max(1) {
                break;
            }
        }
        Ok(())
    }

    /// Goes through a block of a dead client, a little at a time, so that such blocks do not pile
    /// up until somebody needs room. Between operations.
    pub(crate) fn inspect_if_due(&mut self) -> Result<()> {
        let now = now_ms(&self.fabric);
        let searches = !self.alloc.is_inspecting();
        if searches && now < self.sweeper.search_ms {
            return Ok(());
        }
        if searches {
            self.sweeper.search_ms = now + SEARCH_MS;
        }
        match self.alloc.inspect_some(&self.fabric, &InUse, LOOKS) {
            Err(error @ PoolError::Bus(_)) => Err(error),
            // After an error it is a wreck again: whoever needs room, or a check, will complain.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Sweeps for room, from where the last sweep ended: up to [`URGENT`] pieces of the index, or
    /// all of it. Whether anything was found; not at all if it has just been in vain. Between
    /// operations.
    #[cold]
    pub(super) fn sweep_for_room(&mut self) -> Result<bool> {
        let now = now_ms(&self.fabric);
        if now < self.sweeper.barren_ms {
            return Ok(false);
        }
        let swept = self.sweep_pieces(URGENT)?;
        if swept.expired + swept.emptied == 0 && !swept.is_starved {
            self.sweeper.barren_ms = now + PAUSE_MS;
        }
        Ok(swept.expired + swept.emptied > 0)
    }

    /// Sweeps while there still are objects to sweep with: deletions leave tombstones, which only
    /// sweeps empty, and both need log objects. Between operations.
    #[cold]
    pub(super) fn sweep_in_time(&mut self) -> Result<()> {
        self.sweeper.is_short = false;
        self.sweep_for_room().map(drop)
    }

    /// Goes through the whole index once and takes away what has expired and what deletions have
    /// left. Ticks do that bit by bit, and whoever finds no room; so nobody needs to. Returns how
    /// many objects it gave up.
    pub fn sweep_index(&mut self) -> Result<u64> {
        let swept = self.sweep_pieces(u32::MAX)?;
        Ok((swept.expired + swept.emptied) as u64)
    }

    /// Sweeps up to `pieces` pieces of the index; no more than all of it.
    pub(super) fn sweep_pieces(&mut self, pieces: u32) -> Result<Swept> {
        let (mut all, mut ends) = (Swept::default(), 0);
        for _ in 0..pieces {
            let swept = self.sweep_piece(true)?;
            all.objects += swept.objects;
            all.expired += swept.expired;
            all.emptied += swept.emptied;
            all.is_starved |= swept.is_starved;
            if swept.is_starved {
                break;
            }
            ends += u32::from(self.sweeper.cursor == Some(Cursor::START));
            if ends == 2 {
                break;
            }
        }
        Ok(all)
    }

    /// Takes away what has expired in the next piece; with `all`, or if there is more of that than
    /// of keys, empties tombstones. One operation: the slots' values must not come back in it.
    fn sweep_piece(&mut self, all: bool) -> Result<Swept> {
        // Clients begin at different places.
        let scattered =
            |number: u64| Cursor::at((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 38) as u32);
        let me = u64::from(self.fabric.me().index);
        let cursor = self.sweeper.cursor.unwrap_or_else(|| scattered(me));
        let (mut swept, mut expired) = (Swept::default(), Vec::new());
        let now = now_ms(&self.fabric);
        let piece = self.scan_piece(cursor, false, |candidate, header, key| {
            swept.objects += 1;
            if header.is_expired(now) && candidate.slot.class().is_some() {
                expired.push((header.namespace, key.to_vec(), candidate.slot));
            }
        });
        self.sweeper.cursor = match &piece {
            Ok(piece) => Some(piece.next.unwrap_or(Cursor::START)),
            // Somewhere else, lest nothing behind it is ever swept.
            Err(_) => Some(scattered(now)),
        };
        let deleted = match piece {
            Ok(piece) if all || piece.deleted.len() > swept.objects => piece.deleted,
            Ok(_) => Vec::new(),
            // A sweep is no place to complain of a part of the index: who needs it will.
            Err(PoolError::Corrupt(_) | PoolError::Lost(_) | PoolError::Timeout { .. }) => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        swept.expired = expired.len();
        self.reclaim_all(&expired);
        for some in deleted.chunks(GROUP) {
            match self.empty(some) {
                Ok(emptied) => swept.emptied += emptied,
                Err(PoolError::ViewChanged) => break,
                Err(PoolError::Full { .. }) => {
                    swept.is_starved = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.settle_down()?;
        Ok(swept)
    }

    /// Empties slots in which this operation has seen tombstones. Returns how many rounds won.
    fn empty(&mut self, seen: &[Candidate]) -> Result<usize> {
        self.fabric.pass_gate()?;
        let mut rooms = Vec::with_capacity(seen.len());
        let outcome = self.empty_with(seen, &mut rooms);
        if outcome.is_err() {
            // What was not begun by a round, nobody has seen.
            rooms.into_iter().for_each(|room| self.alloc.recycle(room));
        }
        outcome
    }

    fn empty_with(&mut self, seen: &[Candidate], rooms: &mut Vec<Allocation>) -> Result<usize> {
        self.image.clear();
        for &seen in seen {
            match self.log_object() {
                Ok(room) => rooms.push(room),
                // Better some than none.
                Err(PoolError::Full { .. }) if !rooms.is_empty() => break,
                Err(error) => return Err(error),
            }
            self.add_log_image(seen, &rooms[rooms.len() - 1]);
        }
        let mut verbs = Vec::with_capacity(rooms.len() * 2);
        let mut images = &self.image[..];
        for room in rooms.iter() {
            let (image, rest) = images.split_at(room.class.bytes());
            images = rest;
            let copies = self.fabric.copies(room.addr);
            verbs.extend(copies.iter().map(|&copy| Verb::write(copy, image)));
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let alone = self.fabric.config().replicas == 1;
        let round = |(room, seen): (&Allocation, &Candidate)| {
            let new = Slot::emptied(seen.slot.next_version(), room.class, room.addr);
            let log = image::log_of(room);
            let mut round = Round::new(seen.at, seen.slot, new, log, room.sequence);
            round.proposed = alone;
            round
        };
        let mut rounds: Vec<Round> = rooms.iter().zip(seen).map(round).collect();
        let rooms = std::mem::take(rooms);
        if let Err(error) = snapshot::write(&self.fabric, &mut rounds) {
            // Nobody knows what became of them.
            rooms.iter().for_each(|room| self.alloc.complete(room.sequence));
            return Err(error);
        }
        self.stats.rounds.count(&rounds);
        let mut won = 0;
        for ((room, seen), round) in rooms.iter().zip(seen).zip(&rounds) {
            if round.won() {
                won += 1;
                if let Some(class) = seen.slot.logged_class() {
                    self.alloc.free(seen.slot.addr(), class);
                }
            }
            self.alloc.free(room.addr, room.class);
            self.alloc.complete(room.sequence);
        }
        Ok(won)
    }

    /// Room for the log object of a round that makes room.
    fn log_object(&mut self) -> Result<Allocation> {
        let bytes = HISTORY_CLASS.bytes();
        match self.alloc.allocate(&self.fabric, bytes) {
            Err(PoolError::Full { .. }) => self.alloc.allocate_spare(&self.fabric, bytes),
            outcome => outcome,
        }
    }

    /// Adds the log object of a round on that slot to the image buffer. Its key is the slot's
    /// address, as with evictions: so recovery finds the slot.
    fn add_log_image(&mut self, seen: Candidate, room: &Allocation) {
        let key = seen.at.0.to_le_bytes();
        let (kind, key_len) = (Kind::Eviction, key.len() as u16);
        let header =
            Header { kind, version: 0, namespace: 0, key_len, value_len: 0, expires_ms: 0 };
        let alone = self.fabric.config().replicas == 1;
        let proposed = alone.then_some((seen.at, seen.slot));
        let parts = Parts { header, key: &key, value: &[], op: Op::Delete, proposed };
        image::build(&self.fabric, room, &parts, &mut self.image);
    }
}
