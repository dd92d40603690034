//! Putting a transaction's intent into a key's slot.

use super::attempt::Attempt;
use super::change::{Change, Sought};
use super::find::Key;
use super::get::Version;
use super::image;
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{self, Candidate};
use crate::object::{log_addr, object_bytes, Header, Kind, Op, LOG_BYTES};
use crate::rtx::Wait;
use crate::slot::{tag, Slot};
use crate::snapshot::{self, Round};
use crate::txn::{Intent, Placed};

/// What must be known of the key for an intent to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    Anything,
    /// It has this value, or none.
    Version(Option<Version>),
}

impl Client {
    /// Writes the new object of `change` and puts an intent on it into the slot of `key`. `None` if
    /// the change is a deletion and there is no value. [`PoolError::Conflict`] if the key does not
    /// have what is expected, or somebody else was quicker.
    pub(crate) fn intend(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        status: PoolAddr,
        expected: Expected,
    ) -> Result<Option<Placed>> {
        self.image.clear();
        let mut attempt = Attempt::default();
        let outcome = self.intend_from(key, change, &mut attempt, status, expected);
        let unlocked = match (self.unlock(&mut attempt), &outcome) {
            // A lock that was lost with the view has nothing to give back.
            (_, Err(_)) => Ok(()),
            (unlocked, Ok(_)) => unlocked,
        };
        self.give_up(&mut attempt);
        unlocked.and(outcome)
    }

    fn intend_from(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        status: PoolAddr,
        expected: Expected,
    ) -> Result<Option<Placed>> {
        let mut wait = Wait::new();
        let (seen, header) = loop {
            match self.seek(key, change, attempt, &mut wait)? {
                Sought::Again => self.stats.retries += 1,
                Sought::Refused => match expected {
                    Expected::Version(Some(_)) => return Err(PoolError::Conflict),
                    _ => return Ok(None),
                },
                Sought::Found(seen, header) => break (seen, header),
            }
        };
        if let Expected::Version(version) = expected {
            if self.version_of_slot(seen.slot, header)? != version {
                return Err(PoolError::Conflict);
            }
        }
        self.admit(key, change, attempt, seen.slot, header)?;
        self.place(key, change, attempt, status, (seen, header)).map(Some)
    }

    /// The version of the object that `slot` names, if it has not expired.
    fn version_of_slot(&mut self, slot: Slot, header: Option<Header>) -> Result<Option<Version>> {
        let live = header.filter(|header| !header.is_expired(super::now_ms(&self.fabric)));
        let (Some(_), Some(class)) = (live, slot.class()) else { return Ok(None) };
        let mut bytes = [0; LOG_BYTES];
        self.fabric.read(log_addr(slot.addr(), class), &mut bytes)?;
        Ok(Some(Version::of_log(&bytes)))
    }

    fn place(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        status: PoolAddr,
        (seen, header): (Candidate, Option<Header>),
    ) -> Result<Placed> {
        let room = self.alloc.allocate(&self.fabric, Intent::OBJECT_BYTES)?;
        let Some(value) = attempt.room else {
            self.alloc.recycle(room);
            return Err(PoolError::ViewChanged);
        };
        let fingerprint = key.hash.fingerprint();
        let held = Slot::new(fingerprint, seen.slot.next_version(), tag::INTENT, room.addr);
        let new = if change.kind == Kind::Deletion {
            Slot::tombstone(held.next_version(), value.class, value.addr)
        } else {
            Slot::new(fingerprint, held.next_version(), value.class.0, value.addr)
        };
        let (hash, old, sequence) = (key.hash.0, seen.slot, value.sequence);
        let intent = Intent { hash, status, old, new, sequence };
        if let Err(error) = self.write_part(&room, key.namespace, &intent.encode(), Op::Intend) {
            self.alloc.recycle(room);
            return Err(error);
        }
        // From here on others may see both objects.
        attempt.room = None;
        let log = image::log_of(&room);
        let mut round = Round::new(seen.at, seen.slot, held, log, room.sequence);
        let lock = attempt.lock.take();
        let me = self.fabric.me();
        round.unlock = lock.map(|(place, hash)| index::unlock_of(place, hash, me));
        let mut rounds = [round];
        let outcome = snapshot::write(&self.fabric, &mut rounds);
        if outcome.is_err() || rounds[0].holds_lock() {
            attempt.lock = lock;
        }
        self.stats.rounds.count(&rounds);
        let namespace = key.namespace;
        let bytes = grown(change, &value, seen.slot, header);
        let pieces = header.is_some_and(|header| header.kind == Kind::Manifest);
        let (at, rooms) = (seen.at, [room, value]);
        let placed = Placed { at, held, intent, rooms, namespace, bytes, pieces };
        match outcome {
            Ok(()) if rounds[0].won() => Ok(placed),
            Ok(()) => {
                self.free_parts(&placed);
                Err(PoolError::Conflict)
            }
            // The slot went on while the membership changed. Whether or not it held the intent, it
            // does no more, and nothing that was not committed takes effect.
            Err(PoolError::Lost(_)) if ![seen.slot, held].contains(&rounds[0].current()) => {
                self.free_parts(&placed);
                Err(PoolError::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up the intent and the new object.
    pub(crate) fn free_parts(&mut self, placed: &Placed) {
        for room in placed.rooms {
            self.alloc.free(room.addr, room.class);
            self.alloc.complete(room.sequence);
        }
    }
}

/// By how many bytes the namespace grows: tombstones count for none.
fn grown(change: &Change<'_>, new: &Allocation, old: Slot, replaces: Option<Header>) -> i64 {
    let new = if change.kind == Kind::Deletion { 0 } else { new.class.bytes() as i64 };
    let old = replaces.and(old.class()).map_or(0, |class| class.bytes() as i64);
    new - old
}

const _: () = assert!(object_bytes(0, 0) < Intent::OBJECT_BYTES);
