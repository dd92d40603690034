//! What a change has done so far, and its object.

use std::ops::Range;

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::change::Change;
use super::find::Key;
use super::image::{self, Parts};
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Copies;
use crate::index::{self, Candidate, KeyHash, Place};
use crate::object::{object_bytes, Header, Kind};

/// What of an operation others can see so far.
#[derive(Default)]
pub(super) struct Attempt {
    /// Room for the new object.
    pub room: Option<Allocation>,
    /// Where it lies in the client's image buffer.
    pub image: Range<usize>,
    /// What its log entry proposes already: in which slot, over what.
    pub proposed: Option<Candidate>,
    /// The object is on all copies.
    pub written: bool,
    /// The insert lock that is held.
    pub lock: Option<(Place, KeyHash)>,
}

impl Attempt {
    /// Where the object is still to be written.
    #[inline]
    pub fn unwritten(&self, client: &Client) -> Copies {
        match self.room {
            Some(room) if !self.written => client.fabric.copies(room.addr),
            _ => Copies::new(),
        }
    }
}

/// Adds the writes of an object.
#[inline]
pub(super) fn post_image<'a>(
    copies: &Copies,
    image: &'a [u8],
    verbs: &mut SmallVec<[Verb<'a>; 8]>,
) {
    for &copy in copies {
        verbs.push(Verb::write(copy, image));
    }
}

impl Client {
    /// Builds the new object at the end of the image buffer. A slot without copies gets its log
    /// entry at once, if it is known.
    #[inline]
    pub(super) fn build(
        &mut self,
        key: &Key<'_>,
        change: &Change<'_>,
        attempt: &mut Attempt,
        hint: Option<Candidate>,
    ) -> Result<()> {
        let room = match attempt.room {
            Some(room) if !self.fabric.copies(room.addr).is_empty() => room,
            lost => {
                if let Some(room) = lost {
                    self.alloc.complete(room.sequence);
                }
                self.room_for(object_bytes(key.bytes.len(), change.value.len()), change.kind)?
            }
        };
        attempt.room = Some(room);
        let header = Header {
            kind: change.kind,
            version: 0,
            namespace: key.namespace,
            key_len: key.bytes.len() as u16,
            value_len: change.value.len() as u32,
            expires_ms: change.expires_ms,
        };
        let alone = self.fabric.config().replicas == 1;
        attempt.proposed = hint.filter(|_| alone);
        let proposed = attempt.proposed.map(|hint| (hint.at, hint.slot));
        let parts = Parts { header, key: key.bytes, value: change.value, op: change.op, proposed };
        let start = self.image.len();
        image::build(&self.fabric, &room, &parts, &mut self.image);
        attempt.image = start..self.image.len();
        Ok(())
    }

    /// Room for an object. Deletions take a larger one rather than fail: they are how room is made.
    #[inline]
    fn room_for(&mut self, bytes: usize, kind: Kind) -> Result<Allocation> {
        match self.alloc.allocate(&self.fabric, bytes) {
            Ok(room) if kind == Kind::Deletion && !self.alloc.stocks(room.class) => {
                let is_stocked = self.alloc.stock(&self.fabric, room.class);
                self.sweeper.is_short |= is_stocked == Ok(false);
                Ok(room)
            }
            Err(PoolError::Full { .. }) if kind == Kind::Deletion => {
                self.alloc.allocate_spare(&self.fabric, bytes)
            }
            outcome => outcome,
        }
    }

    /// Gives back an insert lock that no round gives back.
    pub(super) fn unlock(&mut self, attempt: &mut Attempt) -> Result<()> {
        match attempt.lock.take() {
            Some((place, hash)) => index::unlock_bucket(&self.fabric, place, hash),
            None => Ok(()),
        }
    }

    /// Takes back what nobody has seen.
    pub(super) fn give_up(&mut self, attempt: &mut Attempt) {
        if let Some(room) = attempt.room.take() {
            self.alloc.recycle(room);
        }
        attempt.written = false;
    }
}
