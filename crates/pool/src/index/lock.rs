//! Locks of the index: one for its structure, one for each main bucket.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::directory::{meta_word, Directory, Place};
use super::hash::KeyHash;
use super::layout::{self, BucketHeader, SLOTS};
use crate::address::{ClientId, PoolAddr};
use crate::config::meta;
use crate::error::Result;
use crate::fabric::{steadily, Fabric};
use crate::membership::{standing, Standing};
use crate::rtx::Wait;
use crate::snapshot::{self, Unlock};

/// What a try to take a bucket's lock has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketLock {
    /// It is mine.
    Mine,
    /// Somebody holds it.
    Busy(BucketHeader),
    /// The bucket is not (or no longer) of that depth and suffix: the directory copy is old.
    Stale,
}

/// The lock's words while free and while `me` holds it.
pub fn held(place: Place, me: ClientId) -> (u64, u64) {
    let word = |owner| BucketHeader { depth: place.depth, suffix: place.suffix, owner }.word();
    (word(ClientId::NOBODY), word(me))
}

impl BucketLock {
    /// What it means that the CAS from free to mine found `found`.
    #[inline]
    pub fn judge(found: u64, place: Place, me: ClientId) -> BucketLock {
        let header = BucketHeader::from_word(found);
        if !header.is_of(place.depth, place.suffix) {
            BucketLock::Stale
        } else if header.owner.is_nobody() || header.owner == me {
            // My own name stays when the view changed just after I took it.
            BucketLock::Mine
        } else {
            BucketLock::Busy(header)
        }
    }
}

/// The give-back of the lock of `hash` at `place` in a round of a slot of the same subtable.
pub fn unlock_of(place: Place, hash: KeyHash, me: ClientId) -> Unlock {
    let (free, held) = held(place, me);
    Unlock { word: Directory::lock_word(place, hash), held, free }
}

/// Gives a bucket's lock back, if it is held.
pub fn unlock_bucket(fabric: &Fabric, place: Place, hash: KeyHash) -> Result<()> {
    let unlock = unlock_of(place, hash, fabric.me());
    loop {
        let outcome = fabric.cas(fabric.primary(unlock.word)?, unlock.held, unlock.free);
        match outcome {
            Err(crate::PoolError::ViewChanged) => {}
            outcome => return outcome.map(drop),
        }
    }
}

/// Frees the lock of the first main bucket of `hash` at `place` if its owner is dead. Its round may
/// be half done, so every slot it can have changed is settled first.
#[cold]
pub fn free_if_dead(
    fabric: &Fabric,
    place: Place,
    hash: KeyHash,
    header: BucketHeader,
) -> Result<()> {
    if header.owner.is_nobody() || standing(fabric, header.owner)? == Standing::Live {
        return Ok(());
    }
    let combined = hash.buckets()[0];
    // The dead client's key is unknown: it has this first bucket, but any second one.
    let mut slots: Vec<PoolAddr> = Vec::new();
    let first = layout::first_bucket(combined);
    for bucket in (first..first + 2).chain(layout::first_bucket(layout::GROUPS)..layout::BUCKETS) {
        let start = layout::bucket_addr(place.table, bucket);
        slots.extend((0..SLOTS).map(|number| start.add(8 + number * 8)));
    }
    for some in slots.chunks(64) {
        snapshot::settle_many(fabric, some)?;
    }
    let word = fabric.primary(Directory::lock_word(place, hash))?;
    let free = BucketHeader { owner: ClientId::NOBODY, ..header };
    fabric.cas(word, header.word(), free.word()).map(drop)
}

/// Writes a word of the meta area on all copies but the primary, then there.
pub(super) fn write_meta(fabric: &Fabric, offset: u64, bytes: &[u8]) -> Result<()> {
    let copies = fabric.meta(offset);
    let (first, rest) = copies.split_at(copies.len().min(1));
    for some in [rest, first] {
        let mut verbs: SmallVec<[Verb<'_>; 3]> =
            some.iter().map(|&copy| Verb::write(copy, bytes)).collect();
        if !verbs.is_empty() {
            fabric.batch(&mut verbs)?;
        }
    }
    Ok(())
}

/// Takes the structural lock if it is free or its holder is dead. Whoever holds it finishes the
/// recorded split before anything else.
pub(super) fn try_structure(fabric: &Fabric) -> Result<bool> {
    let at = meta_word(fabric, meta::INDEX_LOCK)?;
    let me = fabric.me().word();
    let found = fabric.cas(at, 0, me)?;
    if found != 0 && found != me {
        let owner = ClientId::from_word(found);
        if standing(fabric, owner)? == Standing::Live || fabric.cas(at, found, me)? != found {
            return Ok(false);
        }
    }
    // The first copy may be lost before the others know, and the lock with it.
    steadily(|| match holds_structure(fabric)? {
        true => write_meta(fabric, meta::INDEX_LOCK, &me.to_le_bytes()).map(|()| true),
        false => Ok(false),
    })
}

/// [`try_structure`], waiting for the holder.
pub(super) fn lock_structure(fabric: &Fabric) -> Result<()> {
    let mut wait = Wait::new();
    loop {
        match try_structure(fabric) {
            Ok(true) => return Ok(()),
            Ok(false) | Err(crate::PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        match wait.pause(fabric, "the hash index's structural lock") {
            Ok(()) | Err(crate::PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether this client still holds the structural lock: a change of the view may have lost it.
pub(super) fn holds_structure(fabric: &Fabric) -> Result<bool> {
    Ok(fabric.read_word(meta_word(fabric, meta::INDEX_LOCK)?)? == fabric.me().word())
}

/// Gives the structural lock back, unless it was lost: it may be somebody else's by now. Whatever
/// becomes of the membership, nobody forgets a lock that is held: others take the holder to be at
/// work.
pub(super) fn unlock_structure(fabric: &Fabric) -> Result<()> {
    steadily(|| match holds_structure(fabric)? {
        true => write_meta(fabric, meta::INDEX_LOCK, &0u64.to_le_bytes()),
        false => Ok(()),
    })
}
