//! Committing: intents into all slots, the reads checked, the status word decided, the new values
//! put in place.

use std::collections::BTreeMap;

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::format::{header, Intent, Status, STATUS_AT};
use super::resolve::{decide, finish, replacement};
use super::transaction::Name;
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{object_bytes, Kind, Op};
use crate::slot::Slot;
use crate::snapshot::Round;
use crate::store::{self, Change, Expected, Expiry, InUse, Key, Rule, Version};

/// What a transaction has read of a key.
pub(crate) struct Read {
    /// The object it saw; `None` if the key had no value.
    pub version: Option<Version>,
}

impl Read {
    const NOTHING: Read = Read { version: None };
}

/// What a transaction does with a key.
pub(crate) enum Write {
    /// Gives it a value.
    Put { value: Vec<u8>, expiry: Expiry },
    /// Takes its value away.
    Delete,
}

/// An intent that stands in a slot.
pub(crate) struct Placed {
    /// The slot.
    pub at: PoolAddr,
    /// The slot's value.
    pub held: Slot,
    /// What it says.
    pub intent: Intent,
    /// Rooms of the intent and of the new object.
    pub rooms: [Allocation; 2],
    /// Namespace of the key.
    pub namespace: u16,
    /// By how many bytes the namespace's use changes.
    pub bytes: i64,
    /// The old value lies in pieces.
    pub pieces: bool,
}

impl Client {
    /// See [`super::Transaction::commit`]: one operation.
    pub(super) fn commit(
        &mut self,
        reads: &BTreeMap<Name, Read>,
        writes: &BTreeMap<Name, Write>,
    ) -> Result<()> {
        let outcome = loop {
            match self.commit_once(reads, writes) {
                // Everything was taken back.
                Err(PoolError::ViewChanged) => {}
                Err(PoolError::Full { bytes }) => {
                    if let Err(error) = self.alloc.make_room(&self.fabric, bytes, &InUse) {
                        break Err(error);
                    }
                }
                outcome => break outcome,
            }
        };
        self.settle_down()?;
        outcome
    }

    fn commit_once(
        &mut self,
        reads: &BTreeMap<Name, Read>,
        writes: &BTreeMap<Name, Write>,
    ) -> Result<()> {
        let only_read = || reads.iter().filter(|(name, _)| !writes.contains_key(*name));
        if writes.is_empty() {
            return self.check_reads(only_read());
        }
        let status = self.begin()?;
        let at = status.addr.add(STATUS_AT);
        let (mut placed, mut absent) = (Vec::new(), Vec::new());
        let outcome = self
            .place_all(at, reads, writes, &mut placed, &mut absent)
            .and_then(|()| {
                let absent = absent.iter().map(|name| (name, &Read::NOTHING));
                self.check_reads(only_read().chain(absent))
            })
            .and_then(|()| decide(&self.fabric, at, Status::Committed));
        let decided = match &outcome {
            Ok(decided) => *decided,
            Err(_) => decide(&self.fabric, at, Status::Aborted)?,
        };
        self.end(status, &placed, decided)?;
        match outcome {
            _ if decided == Status::Committed => Ok(()),
            Ok(_) => Err(PoolError::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Writes the status word: pending.
    fn begin(&mut self) -> Result<Allocation> {
        let room = self.alloc.allocate(&self.fabric, object_bytes(0, 8))?;
        let word = Status::Pending.slot(room.addr.add(STATUS_AT)).0.to_le_bytes();
        let written = self.write_part(&room, 0, &word, Op::Part);
        if written.is_err() {
            self.alloc.recycle(room);
        }
        written.map(|()| room)
    }

    /// Writes an object that has no key.
    pub(crate) fn write_part(
        &mut self,
        room: &Allocation,
        namespace: u16,
        value: &[u8],
        op: Op,
    ) -> Result<()> {
        let header = header(namespace, value.len());
        let parts = store::Parts { header, key: &[], value, op, proposed: None };
        let mut bytes = Vec::with_capacity(room.class.bytes());
        store::build(&self.fabric, room, &parts, &mut bytes);
        let copies = self.fabric.copies(room.addr);
        let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
        verbs.extend(copies.iter().map(|&copy| Verb::write(copy, &bytes)));
        self.fabric.batch(&mut verbs)
    }

    /// Puts an intent into the slot of every key, in the order of the keys. Deletions of keys
    /// without a value become reads.
    fn place_all(
        &mut self,
        status: PoolAddr,
        reads: &BTreeMap<Name, Read>,
        writes: &BTreeMap<Name, Write>,
        placed: &mut Vec<Placed>,
        absent: &mut Vec<Name>,
    ) -> Result<()> {
        for (name, write) in writes {
            let key = Key::new(name.0, &name.1)?;
            let (rule, kind, value, expires_ms) = match write {
                Write::Put { value, expiry } => {
                    let expires_ms = self.expires_ms(name.0, *expiry)?;
                    (Rule::Any, Kind::Value, value.as_slice(), expires_ms)
                }
                Write::Delete => (Rule::Present, Kind::Deletion, &[][..], 0),
            };
            let change = Change { rule, op: Op::Conditional, kind, value, expires_ms };
            let read = reads.get(name).map(|read| Expected::Version(read.version));
            match self.intend(&key, &change, status, read.unwrap_or(Expected::Anything))? {
                Some(one) => placed.push(one),
                None => absent.push(name.clone()),
            }
        }
        Ok(())
    }

    /// Checks that keys still have the values that were read.
    fn check_reads<'r>(&mut self, reads: impl Iterator<Item = (&'r Name, &'r Read)>) -> Result<()> {
        for ((namespace, key), read) in reads {
            if self.version_within(*namespace, key)? != read.version {
                return Err(PoolError::Conflict);
            }
        }
        Ok(())
    }

    /// Takes the intents out of the slots and gives up what is not needed any more.
    fn end(&mut self, status: Allocation, placed: &[Placed], decided: Status) -> Result<()> {
        let round = |one: &Placed| replacement(one.at, one.held, &one.intent, decided);
        let mut rounds: Vec<Round> = placed.iter().map(round).collect();
        finish(&self.fabric, &mut rounds)?;
        for one in placed {
            if decided != Status::Committed {
                self.free_parts(one);
                continue;
            }
            let [intent, value] = one.rooms;
            self.alloc.free(intent.addr, intent.class);
            self.free_replaced(one)?;
            self.alloc.complete(intent.sequence);
            self.alloc.complete(value.sequence);
        }
        self.alloc.free(status.addr, status.class);
        self.alloc.complete(status.sequence);
        Ok(())
    }

    fn free_replaced(&mut self, one: &Placed) -> Result<()> {
        let old = one.intent.old;
        if one.pieces {
            let bytes = self.free_pieces(old, &[])?;
            self.spaces.count(one.namespace, -(bytes as i64));
        }
        if let Some(class) = old.logged_class().filter(|_| !old.addr().is_null()) {
            self.alloc.free(old.addr(), class);
        }
        self.spaces.count(one.namespace, one.bytes);
        Ok(())
    }
}
