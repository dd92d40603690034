//! Values of more than [`MAX_INLINE_BYTES`](super::MAX_INLINE_BYTES): a manifest in the place of
//! the value, which names the pieces.
//!
//! Pieces are written first and read last, so a slot never names what is not there. They are not
//! announced: nobody but the manifest knows of them, and what a dead client had written without
//! linking it lies in its blocks, where no value claims it.

mod manifest;
mod read;
mod write;

pub use manifest::{Manifest, Part, Piece, MAX_VALUE_BYTES};

use super::change::{Change, Done, Rule};
use super::find::Key;
use super::look::Object;
use crate::class::SizeClass;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{object_bytes, Kind, Op};
use crate::rtx::Wait;
use crate::slot::Slot;
use manifest::parts_bytes;

/// Pieces and bytes of one batch at most (but always one piece): small enough that what was copied
/// is still in the CPU's cache when its checksum is made.
const BATCH_PIECES: usize = 16;
const BATCH_BYTES: usize = 1 << 20;

impl Client {
    /// Stores a value in pieces; the operation goes on.
    #[cold]
    pub(super) fn store_large(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        expires_ms: u64,
        rule: Rule,
        op: Op,
    ) -> Result<Done> {
        let piece = self.piece_len();
        self.check_len(key, value.len())?;
        // Better to look before than to write for nothing.
        let refuses = match rule {
            Rule::Absent => self.read_live(key)?.is_some(),
            Rule::Present => self.read_live(key)?.is_none(),
            Rule::Any | Rule::Exactly(_) | Rule::Expired(_) => false,
        };
        if refuses {
            return Ok(Done::Refused);
        }
        let fresh = !rule.holds();
        let mut manifest = Manifest { bytes: value.len(), piece, parts: Vec::new() };
        self.write_parts(key, value, fresh, &mut manifest.parts)?;
        let change = Change { rule, op, kind: Kind::Manifest, value: &[], expires_ms };
        self.link(key, &manifest, 0, &change)
    }

    /// Refuses values whose manifests do not fit an object.
    pub(crate) fn check_len(&self, key: &Key<'_>, size: usize) -> Result<()> {
        let (piece, most) = (self.piece_len(), self.alloc.max_object_bytes());
        let object = |size| object_bytes(key.bytes.len(), Manifest::encoded_bytes(size, piece));
        if size <= MAX_VALUE_BYTES && object(size) <= most {
            return Ok(());
        }
        let parts = (most - object(0)) / (object(1) - object(0));
        let limit = MAX_VALUE_BYTES.min(parts * piece);
        Err(PoolError::TooLarge { what: "value", size, limit })
    }

    /// Puts `bytes` behind a value in pieces, for [`Client::depending`].
    #[cold]
    pub(super) fn append_large(
        &mut self,
        key: &Key<'_>,
        object: &Object,
        bytes: &[u8],
        wait: &mut Wait,
    ) -> Result<Option<usize>> {
        let old = self.manifest_of(key, object)?;
        if old.piece != self.piece_len() {
            return Err(PoolError::Corrupt("manifest: pieces of another pool's length".into()));
        }
        let len = old.bytes + bytes.len();
        self.check_len(key, len)?;
        // The last piece is written anew unless it is full.
        let full = old.bytes / old.piece;
        let mut tail = vec![0; old.bytes - full * old.piece];
        self.read_range(key, &old, full * old.piece, &mut tail)?;
        tail.extend_from_slice(bytes);
        let parts = old.parts[..full].to_vec();
        let mut manifest = Manifest { bytes: len, piece: old.piece, parts };
        if let Err(error) = self.write_parts(key, &tail, false, &mut manifest.parts) {
            return self.exchanged(Err(error), wait).map(|_| None);
        }
        let rule = Rule::Exactly(object.slot());
        let (op, kind) = (Op::Conditional, Kind::Manifest);
        let expires_ms = object.header.expires_ms;
        let change = Change { rule, op, kind, value: &[], expires_ms };
        let outcome = self.link(key, &manifest, full, &change);
        Ok(self.exchanged(outcome, wait)?.map(|_| len))
    }

    /// Puts a new manifest of the same pieces in place, for [`Client::depending`].
    #[cold]
    pub(super) fn relink(
        &mut self,
        key: &Key<'_>,
        object: &Object,
        expires_ms: u64,
        wait: &mut Wait,
    ) -> Result<Option<u64>> {
        let manifest = self.manifest_of(key, object)?;
        let (rule, op, kind) = (Rule::Exactly(object.slot()), Op::Conditional, Kind::Manifest);
        let change = Change { rule, op, kind, value: &[], expires_ms };
        let outcome = self.link(key, &manifest, manifest.parts.len(), &change);
        self.exchanged(outcome, wait)
    }

    /// Puts a manifest in place, whose pieces from `first` on are new.
    fn link(
        &mut self,
        key: &Key<'_>,
        manifest: &Manifest,
        first: usize,
        change: &Change<'_>,
    ) -> Result<Done> {
        let value = manifest.encode();
        let outcome = self.change_within(key, &Change { value: &value, ..*change });
        let unlinked = match &outcome {
            Ok(Done::Changed(_)) => false,
            Ok(Done::Overwritten | Done::Refused) => true,
            // Raised before a round or after one that was lost.
            Err(PoolError::Full { .. } | PoolError::QuotaExceeded { .. }) => true,
            // Nobody can tell: better a leak than a loss.
            Err(_) => false,
        };
        if unlinked {
            self.discard(&manifest.parts[first..]);
        }
        outcome
    }

    /// Gives up the pieces of the manifest in the slot `old`, if `replaced` says that there was
    /// one, except those that the change goes on with. Returns by how many bytes the pieces of the
    /// key's value have grown.
    #[cold]
    pub(super) fn unlink_parts(
        &mut self,
        change: &Change<'_>,
        old: Slot,
        replaced: bool,
    ) -> Result<i64> {
        let new = match change.kind {
            Kind::Manifest => Manifest::decode(change.value)?.parts,
            _ => Vec::new(),
        };
        let bytes = parts_bytes(&new) as i64;
        if !replaced {
            return Ok(bytes);
        }
        Ok(bytes - self.free_pieces(old, &new)? as i64)
    }

    /// Gives up the pieces of the manifest in the slot `old` but those that are `kept`. Returns how
    /// many bytes all its pieces take; if no copy of it can be read, nobody can tell any more.
    pub(crate) fn free_pieces(&mut self, old: Slot, kept: &[Part]) -> Result<u64> {
        let Some(manifest) = self.read_manifest(old)? else { return Ok(0) };
        let mut kept: Vec<_> = kept.iter().map(|part| part.slot.addr()).collect();
        kept.sort_unstable();
        for (addr, class) in manifest.parts.iter().filter_map(Part::object) {
            if kept.binary_search(&addr).is_err() {
                self.alloc.free(addr, class);
            }
        }
        Ok(manifest.parts_bytes())
    }

    /// About how many bytes the pieces take of a manifest of `len` bytes, at least.
    pub(super) fn least_parts_bytes(&self, len: usize) -> u64 {
        let pieces = (len.saturating_sub(Manifest::encoded_bytes(0, 1)) / 16) as u64;
        pieces.saturating_sub(1) * self.alloc.piece_bytes() as u64
    }

    /// The manifest in the client's buffer.
    pub(super) fn manifest_of(&self, key: &Key<'_>, object: &Object) -> Result<Manifest> {
        let start = key.head_bytes();
        Manifest::decode(&self.object[start..start + object.header.value_len as usize])
    }

    /// Puts the value of the manifest in the client's buffer into `into`.
    #[cold]
    pub(crate) fn get_large(
        &mut self,
        key: &Key<'_>,
        object: &Object,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let manifest = self.manifest_of(key, object)?;
        size_for(into, manifest.bytes);
        self.read_parts(key, &manifest, into)
    }
}

/// Makes `into` that long, zeroing as little as possible.
fn size_for(into: &mut Vec<u8>, len: usize) {
    if into.capacity() < len {
        // Zeroed memory may come from the system as it is.
        *into = vec![0; len];
    } else {
        into.resize(len, 0);
    }
}

/// Bytes that an object of a key takes with its pieces, of which the value is a manifest.
pub(super) fn bytes_with_parts(class: SizeClass, manifest: &[u8]) -> Result<u64> {
    Ok(class.bytes() as u64 + Manifest::decode(manifest)?.parts_bytes())
}
