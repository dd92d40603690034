//! Changing one key: a transaction on its leaf.

use super::edit::{used, Draft, Entry};
use super::locked::{write_changes, Tree};
use super::node::{Node, Record, MAX_INLINE, MAX_KEY_BYTES, STORED};
use super::seek::Seek;
use super::split::Arrival;
use super::value::{prepare, Reference};
use super::walk::Walk;
use super::{create, SPARSE};
use crate::address::PoolAddr;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::object_bytes;
use crate::rtx::Wait;
use crate::store::{InUse, MAX_INLINE_BYTES};

/// What shall become of a key.
#[derive(Clone, Copy)]
pub(super) enum Want<'v> {
    /// This value, whatever it had.
    Put(&'v [u8]),
    /// This value if it has none.
    Insert(&'v [u8]),
    /// None.
    Delete,
}

impl<'v> Want<'v> {
    fn value(self) -> Option<&'v [u8]> {
        match self {
            Want::Put(value) | Want::Insert(value) => Some(value),
            Want::Delete => None,
        }
    }
}

/// A value's object that no leaf names yet.
struct Stored {
    room: Allocation,
    reference: Reference,
    written: bool,
}

/// How a change ended.
struct Done {
    changed: bool,
    /// The low fence of the leaf, if it has become so empty that it should be merged.
    sparse: Option<Vec<u8>>,
}

impl Done {
    const REFUSED: Done = Done { changed: false, sparse: None };
}

/// Refuses keys that are too long.
#[inline]
pub(super) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY_BYTES {
        let limit = MAX_KEY_BYTES;
        return Err(PoolError::TooLarge { what: "ordered key", size: key.len(), limit });
    }
    Ok(())
}

impl Client {
    /// The tree of `namespace`, if it has a root.
    pub(super) fn tree(&mut self, namespace: u16) -> Result<Option<Tree<'_>>> {
        let Client { fabric, alloc, logs, trees, spaces, .. } = self;
        let walk = Walk::new(fabric, trees, namespace)?;
        Ok(walk.map(|walk| Tree { walk, alloc, logs, spaces }))
    }

    /// Carries a change out. True if it did something.
    pub(super) fn tree_change(
        &mut self,
        namespace: u16,
        key: &[u8],
        want: Want<'_>,
    ) -> Result<bool> {
        check_key(key)?;
        let size = want.value().map_or(0, <[u8]>::len);
        if size > MAX_INLINE_BYTES {
            let limit = MAX_INLINE_BYTES;
            return Err(PoolError::TooLarge { what: "value", size, limit });
        }
        match want {
            Want::Delete => self.stats.deletes += 1,
            _ => self.stats.writes += 1,
        }
        self.trees.begin();
        let (mut stored, mut wait, mut searched) = (None, Wait::new(), false);
        let outcome = loop {
            let again = match self.tree_change_once(namespace, key, want, &mut stored) {
                Ok(Some(done)) => break Ok(done),
                Ok(None) => {
                    self.stats.retries += 1;
                    Ok(())
                }
                Err(PoolError::ViewChanged) => {
                    self.unstore(&mut stored);
                    Ok(())
                }
                Err(PoolError::Conflict) => wait.pause(&self.fabric, "an ordered key"),
                Err(PoolError::Full { bytes }) => {
                    self.unstore(&mut stored);
                    self.alloc.make_room(&self.fabric, bytes, &InUse)
                }
                Err(PoolError::QuotaExceeded { .. }) if !searched => {
                    self.unstore(&mut stored);
                    searched = true;
                    self.search_quota(namespace).map(drop)
                }
                Err(error) => Err(error),
            };
            match again {
                Ok(()) | Err(PoolError::ViewChanged) => {}
                Err(error) => break Err(error),
            }
        };
        self.unstore(&mut stored);
        let mended = match &outcome {
            Ok(done) => self.mend(namespace, done.sparse.as_deref()),
            Err(_) => Ok(()),
        };
        self.settle_down()?;
        let changed = outcome?.changed;
        mended.map(|()| changed)
    }

    /// Takes back a value's object that was not used.
    fn unstore(&mut self, stored: &mut Option<Stored>) {
        if let Some(unused) = stored.take() {
            self.alloc.recycle(unused.room);
        }
    }

    /// What an operation leaves to do: parents that lack a child, a leaf that is nearly empty.
    /// Others can do it as well, so it may fail.
    pub(super) fn mend(&mut self, namespace: u16, sparse: Option<&[u8]>) -> Result<()> {
        if self.trees.missing.is_empty() && sparse.is_none() {
            return Ok(());
        }
        let missing = std::mem::take(&mut self.trees.missing);
        self.trees.begin();
        let Some(mut tree) = self.tree(namespace)? else { return Ok(()) };
        tree.walk.trees.missing = missing;
        let posted = tree.post_all();
        let outcome = posted.and_then(|()| match sparse {
            Some(low) => tree.merge(low).and_then(|()| tree.post_all()),
            None => Ok(()),
        });
        match outcome {
            Err(PoolError::Full { .. } | PoolError::Timeout { .. }) => Ok(()),
            Err(PoolError::ViewChanged | PoolError::Conflict) => Ok(()),
            outcome => outcome,
        }
    }

    fn tree_change_once(
        &mut self,
        namespace: u16,
        key: &[u8],
        want: Want<'_>,
        stored: &mut Option<Stored>,
    ) -> Result<Option<Done>> {
        if self.spaces.get(namespace).is_none() {
            self.spaces.refresh(&self.fabric)?;
        }
        if let Some(value) = want.value().filter(|value| value.len() > MAX_INLINE) {
            if stored.is_none() {
                let bytes = object_bytes(key.len(), value.len());
                self.spaces.admit(&self.fabric, namespace, bytes as u64)?;
                let room = self.alloc.allocate(&self.fabric, bytes)?;
                let (fabric, image) = (&self.fabric, &mut self.image);
                let reference = prepare(fabric, &room, namespace, key, value, image);
                *stored = Some(Stored { room, reference, written: false });
            }
        }
        let Client { fabric, alloc, logs, trees, spaces, image, .. } = self;
        let Some(walk) = Walk::new(fabric, trees, namespace)? else {
            if matches!(want, Want::Delete) {
                return Ok(Some(Done::REFUSED));
            }
            create::create(fabric, alloc, logs, spaces, namespace)?;
            return Ok(None);
        };
        Tree { walk, alloc, logs, spaces }.change(key, want, stored, image)
    }
}

impl<'a> Tree<'a> {
    fn change(
        &mut self,
        key: &[u8],
        want: Want<'_>,
        stored: &mut Option<Stored>,
        image: &[u8],
    ) -> Result<Option<Done>> {
        let seek = Seek::At(key);
        let Some(route) = self.walk.route(seek, 0)? else { return Ok(None) };
        let unwritten = stored.as_ref().filter(|stored| !stored.written);
        let new = unwritten.map(|stored| (stored.room.addr, image));
        let locked = self.lock(route, seek, 0, new)?;
        if let Some(stored) = stored {
            stored.written = true;
        }
        let Some((mut rtx, addr)) = locked else { return Ok(None) };
        let old = *self.walk.trees.page;
        let node = Node::of(&old);
        let (index, found) = match node.find(key)? {
            Ok(index) => (index, Some(node.record(index)?)),
            Err(index) => (index, None),
        };
        let refused = match want {
            Want::Put(_) => false,
            Want::Insert(_) => found.is_some(),
            Want::Delete => found.is_none(),
        };
        if refused {
            rtx.abort()?;
            return Ok(Some(Done::REFUSED));
        }
        let gives_up = match found {
            Some(Record { tag: STORED, payload, .. }) => {
                Some(Reference::decode(payload)?.object()?)
            }
            _ => None,
        };
        let mut new = old;
        let mut draft = Draft(&mut new);
        let encoded = stored.as_ref().map(|stored| stored.reference.encode());
        let (tag, payload) = match (&encoded, want.value()) {
            (Some(reference), _) => (STORED, &reference[..]),
            (None, value) => (value.map_or(0, <[u8]>::len) as u8, value.unwrap_or_default()),
        };
        let fits = match (want, found) {
            (Want::Delete, _) => draft.remove(index).map(|()| true)?,
            (_, Some(_)) => draft.replace(index, tag, payload)?,
            (_, None) => draft.insert(index, &key[node.prefix().len()..], tag, payload)?,
        };
        if !fits {
            let entry = Entry::new(key, tag, payload);
            let arrival = Arrival { index, replaces: found.is_some(), entry, gives_up };
            let outcome = self.split(rtx, addr, &old, &arrival);
            let arrived = self.settle_stored(stored, outcome, |&arrived| arrived)?;
            if arrived {
                self.count(-gives_up.map_or(0, |(_, class)| class.bytes() as i64));
            }
            return Ok(arrived.then_some(Done { changed: true, sparse: None }));
        }
        draft.seal(addr);
        if let Some((addr, class)) = gives_up {
            rtx.free(self.alloc, addr, class)?;
        }
        write_changes(&mut rtx, addr, &old, &new)?;
        let outcome = rtx.commit();
        self.settle_stored(stored, outcome, |()| true)?;
        self.count(-gives_up.map_or(0, |(_, class)| class.bytes() as i64));
        let sparse = self.is_sparse(addr, &old, &new).then(|| node.low().to_vec());
        Ok(Some(Done { changed: true, sparse }))
    }

    /// The value's object is part of the tree if the transaction linked it, and may be after errors
    /// that do not tell.
    fn settle_stored<T>(
        &mut self,
        stored: &mut Option<Stored>,
        outcome: Result<T>,
        linked: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let stays_unlinked = match &outcome {
            Ok(value) => !linked(value),
            Err(PoolError::Bus(_) | PoolError::Corrupt(_) | PoolError::Lost(_)) => false,
            Err(_) => true,
        };
        if !stays_unlinked {
            if let Some(used) = stored.take() {
                self.count(used.room.class.bytes() as i64);
                self.alloc.complete(used.room.sequence);
            }
        }
        outcome
    }

    /// Whether a node has just become so empty that it should be merged with a neighbour.
    pub fn is_sparse(
        &self,
        addr: PoolAddr,
        old: &super::node::Bytes,
        new: &super::node::Bytes,
    ) -> bool {
        let (before, after) = (Node::of(old), Node::of(new));
        let crossed = used(before) >= SPARSE && used(after) < SPARSE;
        let emptied = after.is_empty() && !before.is_empty();
        !self.is_root(addr) && (crossed || emptied)
    }
}
