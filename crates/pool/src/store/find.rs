//! From a key to its slot.

use artesian_bus::Verb;
use smallvec::SmallVec;

use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{self, BucketHeader, Buckets, Candidate, Directory, KeyHash, Place};
use crate::object::{Header, HEADER_BYTES};
use crate::rtx::Wait;
use crate::slot::{tag, Slot};
use crate::txn;

/// Pauses after which another client's transaction is aborted: about half a millisecond.
const PATIENCE: u32 = 12;

/// A key with its hash.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub namespace: u16,
    pub bytes: &'a [u8],
    pub hash: KeyHash,
}

impl<'a> Key<'a> {
    #[inline]
    pub fn new(namespace: u16, bytes: &'a [u8]) -> Result<Key<'a>> {
        let limit = crate::object::MAX_KEY_BYTES;
        if bytes.len() > limit {
            return Err(PoolError::TooLarge { what: "key", size: bytes.len(), limit });
        }
        Ok(Key { namespace, bytes, hash: KeyHash::of(namespace, bytes) })
    }

    /// Bytes of an object up to the end of this key.
    #[inline]
    pub fn head_bytes(&self) -> usize {
        HEADER_BYTES + self.bytes.len()
    }

    /// The header, if the object that `slot` names is this key's.
    #[inline]
    pub fn header_in(&self, object: &[u8], slot: Slot) -> Option<Header> {
        let class = slot.class()?;
        let header = Header::decode(object, class).ok()?;
        let end = self.head_bytes();
        let same = header.namespace == self.namespace
            && header.key_len as usize == self.bytes.len()
            && object.len() >= end
            && object[HEADER_BYTES..end] == *self.bytes;
        same.then_some(header)
    }
}

/// How a lookup in the buckets went on.
pub(crate) enum Verdict {
    /// The answer stands.
    Stands,
    /// The directory was old, or a split is under way: look again.
    Again,
}

impl Client {
    /// Whether what the buckets showed is the truth, although the key was not found there or is
    /// frozen by a split. `header` was read after the slots.
    #[inline]
    pub(crate) fn check_place(
        &mut self,
        key: &Key<'_>,
        place: Place,
        header: BucketHeader,
        frozen: bool,
    ) -> Result<Verdict> {
        if header.is_of(place.depth, place.suffix) && !frozen {
            return Ok(Verdict::Stands);
        }
        // As long as the directory names this subtable, nothing was changed elsewhere.
        let now = self.directory.refresh(&self.fabric, key.hash)?;
        Ok(if now == place { Verdict::Stands } else { Verdict::Again })
    }

    /// Pauses before another look at a slot that a split has frozen or a bucket that somebody
    /// has locked; if the holder is dead, finishes its work.
    #[cold]
    pub(crate) fn wait_for_index(
        &mut self,
        key: &Key<'_>,
        place: Place,
        busy: Option<BucketHeader>,
        wait: &mut Wait,
    ) -> Result<()> {
        if wait.is_check_due() {
            index::finish_of_dead(&self.fabric)?;
            if let Some(header) = busy {
                index::free_if_dead(&self.fabric, place, key.hash, header)?;
            }
        }
        wait.pause(&self.fabric, "an insert lock or a split of the hash index")?;
        self.directory.refresh(&self.fabric, key.hash).map(drop)
    }

    /// Takes intents out of the way: those of decided transactions and of dead clients at once,
    /// others after some pauses.
    #[cold]
    pub(crate) fn meet_intents(&mut self, candidates: &[Candidate], wait: &mut Wait) -> Result<()> {
        let force = wait.rounds() >= PATIENCE;
        let mut all_gone = true;
        for candidate in candidates.iter().filter(|candidate| is_intent(candidate.slot)) {
            all_gone &= txn::resolve(&self.fabric, candidate.at, candidate.slot, force)?;
        }
        if all_gone {
            return Ok(());
        }
        wait.pause(&self.fabric, "a transaction on the key")
    }

    /// The candidate whose object is of this key, with its header.
    pub(crate) fn read_heads(
        &mut self,
        key: &Key<'_>,
        candidates: &[Candidate],
    ) -> Result<Option<(Candidate, Header)>> {
        let bytes = key.head_bytes();
        self.object.resize(self.object.len().max(bytes * candidates.len()), 0);
        {
            let heads = self.object.chunks_exact_mut(bytes);
            let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
            for (candidate, head) in candidates.iter().zip(heads) {
                if reaches(candidate.slot, bytes) {
                    verbs.push(Verb::read(self.fabric.primary(candidate.slot.addr())?, head));
                }
            }
            self.fabric.batch(&mut verbs)?;
        }
        let heads = self.object.chunks_exact(bytes);
        for (candidate, head) in candidates.iter().zip(heads) {
            let object = candidate.slot.thawed().unwrap_or(candidate.slot);
            if let Some(header) = key.header_in(head, object).filter(|_| reaches(object, bytes)) {
                return Ok(Some((*candidate, header)));
            }
        }
        Ok(None)
    }
}

/// Whether the object of the slot has `bytes` bytes to be read.
fn reaches(slot: Slot, bytes: usize) -> bool {
    let class = slot.thawed().unwrap_or(slot).class();
    class.is_some_and(|class| class.bytes() >= bytes)
}

/// The buckets of `key` at its place in the directory copy.
#[inline]
pub(crate) fn buckets_of(directory: &Directory, key: &Key<'_>) -> (Place, Buckets) {
    let place = directory.place(key.hash);
    (place, Buckets::new(place, key.hash))
}

/// Reads the buckets.
#[inline]
pub(crate) fn read_buckets(fabric: &Fabric, buckets: &mut Buckets) -> Result<()> {
    let at = buckets.locate(fabric)?;
    let mut verbs: SmallVec<[Verb<'_>; 4]> = SmallVec::new();
    buckets.post(at, &mut verbs);
    fabric.batch(&mut verbs)
}

/// Whether a transaction holds the slot.
pub(crate) fn is_intent(slot: Slot) -> bool {
    slot.kind() == tag::INTENT
}
