//! A change's round: what is proposed, and what follows from how it went.

use super::attempt::Attempt;
use super::change::{Change, Done, Step};
use super::find::Key;
use super::image;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::Result;
use crate::index::{self, Candidate};
use crate::object::{Header, Kind, LogEntry, Op, LOG_BYTES};
use crate::slot::Slot;
use crate::snapshot::{Outcome, Round};

impl Client {
    /// Refuses a change by which the namespace would outgrow its quota. Returns by how many bytes
    /// it grows at most.
    #[inline]
    pub(super) fn admit(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &Attempt,
        old: Slot,
        replaces: Option<Header>,
    ) -> Result<u64> {
        let Some(room) = attempt.room.filter(|_| change.kind != Kind::Deletion) else {
            return Ok(0);
        };
        let mut new = room.class.bytes() as u64;
        if change.kind == Kind::Manifest {
            new = super::large::bytes_with_parts(room.class, change.value)?;
        }
        let mut old = replaces.and(old.class()).map_or(0, |class| class.bytes() as u64);
        if let Some(header) = replaces.filter(|header| header.kind == Kind::Manifest) {
            old += self.least_parts_bytes(header.value_len as usize);
        }
        let grown = new.saturating_sub(old);
        if grown > 0 {
            self.spaces.admit(&self.fabric, key.namespace, grown)?;
        }
        Ok(grown)
    }

    /// The round that puts the attempt's object into the slot that was seen.
    #[inline]
    pub(super) fn round(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        seen: Candidate,
    ) -> Option<(Allocation, Round)> {
        let room = attempt.room.take()?;
        attempt.written = false;
        let version = seen.slot.next_version();
        let new = if change.kind == Kind::Deletion {
            Slot::tombstone(version, room.class, room.addr)
        } else {
            Slot::new(key.hash.fingerprint(), version, room.class.0, room.addr)
        };
        let mut round = Round::new(seen.at, seen.slot, new, image::log_of(&room), room.sequence);
        round.proposed = attempt.proposed == Some(seen);
        let me = self.fabric.me();
        round.unlock = attempt.lock.map(|(place, hash)| index::unlock_of(place, hash, me));
        Some((room, round))
    }

    /// What follows from a finished round.
    #[inline]
    pub(super) fn finish(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        room: Allocation,
        seen: Candidate,
        replaces: Option<Header>,
        round: &Round,
    ) -> Result<Step> {
        if round.won() {
            self.unlink(key, change, &room, seen.slot, replaces)?;
            self.alloc.complete(room.sequence);
            if change.kind == Kind::Deletion {
                self.cache.forget(key.hash);
            } else {
                self.cache.remember(key.hash, Candidate { at: seen.at, slot: round.new });
            }
            return Ok(Step::Done(Done::Changed(room.sequence)));
        }
        self.alloc.free(room.addr, room.class);
        self.alloc.complete(room.sequence);
        self.cache.was_wrong(key.hash);
        let Some(Outcome::Lost { winner, .. }) = round.outcome() else { return Ok(Step::Again) };
        if change.op == Op::Put && replaces.is_some() && self.is_put(seen, winner)? {
            return Ok(Step::Done(Done::Overwritten));
        }
        Ok(Step::Again)
    }

    /// Whether `winner` replaced what was `seen` by a put: then this client's own put may count as
    /// done just before it.
    #[cold]
    fn is_put(&mut self, seen: Candidate, winner: Slot) -> Result<bool> {
        let Some(log) = winner.class().and(winner.log()) else { return Ok(false) };
        let mut bytes = [0; LOG_BYTES];
        self.fabric.read(log, &mut bytes)?;
        let entry = LogEntry::decode(&bytes).filter(|entry| entry.op == Op::Put);
        let over = crate::object::proposal(&bytes);
        Ok(entry.is_some() && over == Some((seen.at, seen.slot)))
    }

    /// Gives up the object that this client's round has replaced, and counts the bytes.
    #[inline]
    fn unlink(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        room: &Allocation,
        old: Slot,
        replaces: Option<Header>,
    ) -> Result<()> {
        let mut bytes = match change.kind {
            Kind::Deletion => 0,
            _ => room.class.bytes() as i64,
        };
        let replaced = replaces.is_some_and(|header| header.kind == Kind::Manifest);
        if replaced || change.kind == Kind::Manifest {
            bytes += self.unlink_parts(change, old, replaced)?;
        }
        if let Some(class) = old.logged_class().filter(|_| !old.addr().is_null()) {
            // Tombstones count for no namespace.
            if replaces.is_some() {
                bytes -= class.bytes() as i64;
            }
            self.alloc.free(old.addr(), class);
        }
        self.spaces.count(key.namespace, bytes);
        Ok(())
    }
}
