//! Reading the pieces of a large value, straight into the caller's buffer.
//!
//! Nothing that an operation has seen is reused before it ends, so the pieces of the manifest that
//! it has read stay, whatever becomes of the key.

use std::ops::Range;

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::manifest::{Manifest, Piece};
use super::{BATCH_BYTES, BATCH_PIECES};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object;
use crate::slot::Slot;
use crate::store::find::Key;

/// How often a batch is read again because the membership changed.
const ATTEMPTS: u32 = 32;

impl Client {
    /// Reads the whole value.
    pub(in crate::store) fn read_parts(
        &self,
        key: &Key<'_>,
        manifest: &Manifest,
        into: &mut [u8],
    ) -> Result<()> {
        self.read_pieces(key, manifest, 0..manifest.parts.len(), into)
    }

    /// Reads from byte `offset` of the value on until `into` is full. Pieces of which only a part
    /// is wanted are read whole, for their checksums.
    pub(in crate::store) fn read_range(
        &self,
        key: &Key<'_>,
        manifest: &Manifest,
        offset: usize,
        mut into: &mut [u8],
    ) -> Result<()> {
        let mut at = offset;
        let mut scratch = Vec::new();
        while !into.is_empty() {
            let number = at / manifest.piece;
            let within = at % manifest.piece;
            let whole = if within == 0 { into.len() / manifest.piece } else { 0 };
            let (pieces, len) = if whole > 0 {
                (number..number + whole, whole * manifest.piece)
            } else {
                let len = manifest.len_of(number).saturating_sub(within).min(into.len());
                (number..number + 1, len)
            };
            if len == 0 || pieces.end > manifest.parts.len() {
                return Err(PoolError::Corrupt("manifest: a range beyond its pieces".into()));
            }
            let (now, rest) = into.split_at_mut(len);
            if len == manifest.len_of(number) || whole > 0 {
                self.read_pieces(key, manifest, pieces, now)?;
            } else {
                scratch.resize(manifest.len_of(number), 0);
                self.read_pieces(key, manifest, pieces, &mut scratch)?;
                now.copy_from_slice(&scratch[within..within + len]);
            }
            into = rest;
            at += len;
        }
        Ok(())
    }

    /// Reads whole pieces, which lie one behind the other in `into`, and checks them.
    fn read_pieces(
        &self,
        key: &Key<'_>,
        manifest: &Manifest,
        pieces: Range<usize>,
        into: &mut [u8],
    ) -> Result<()> {
        let at_once = (BATCH_BYTES / manifest.piece).clamp(1, BATCH_PIECES);
        let mut numbers = pieces;
        for some in into.chunks_mut(manifest.piece * at_once) {
            let first = numbers.start;
            numbers.start += some.len().div_ceil(manifest.piece);
            self.read_batch(manifest, first, some)?;
            for (number, bytes) in (first..).zip(some.chunks_mut(manifest.piece)) {
                self.check_piece(key, manifest, number, bytes)?;
            }
        }
        Ok(())
    }

    fn read_batch(&self, manifest: &Manifest, first: usize, into: &mut [u8]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut verbs: SmallVec<[Verb<'_>; BATCH_PIECES]> = SmallVec::new();
            let parts = &manifest.parts[first..];
            for (part, bytes) in parts.iter().zip(into.chunks_mut(manifest.piece)) {
                let at = part.slot.addr().add(Piece::HEAD_BYTES);
                verbs.push(Verb::read(self.fabric.primary(at)?, bytes));
            }
            match self.fabric.batch(&mut verbs) {
                Err(PoolError::ViewChanged) => {}
                outcome => return outcome,
            }
        }
        Err(PoolError::ViewChanged)
    }

    /// Checks a piece; one that does not verify is read from the other copies.
    fn check_piece(
        &self,
        key: &Key<'_>,
        manifest: &Manifest,
        number: usize,
        bytes: &mut [u8],
    ) -> Result<()> {
        let (part, piece) = (manifest.parts[number], piece_of(key, number, bytes.len()));
        if piece.sum(bytes) == part.sum {
            return Ok(());
        }
        for copy in self.fabric.copies(part.slot.addr().add(Piece::HEAD_BYTES)) {
            self.fabric.batch(&mut [Verb::read(copy, bytes)])?;
            if piece.sum(bytes) == part.sum {
                return Ok(());
            }
        }
        let at = part.slot.addr();
        let text = format!("no copy of piece {number} at {at:?} verifies; overwrite its key");
        Err(PoolError::Corrupt(text))
    }

    /// The manifest that a slot's object is; `None` if no copy of it can be read.
    pub(in crate::store) fn read_manifest(&self, slot: Slot) -> Result<Option<Manifest>> {
        let Some(class) = slot.class() else { return Ok(None) };
        let mut bytes = vec![0; class.bytes()];
        for _ in 0..ATTEMPTS {
            match self.read_manifest_into(slot, &mut bytes) {
                Err(PoolError::ViewChanged) => {}
                outcome => return outcome,
            }
        }
        Err(PoolError::ViewChanged)
    }

    fn read_manifest_into(&self, slot: Slot, bytes: &mut [u8]) -> Result<Option<Manifest>> {
        let Some(class) = slot.class() else { return Ok(None) };
        for copy in self.fabric.copies(slot.addr()) {
            self.fabric.batch(&mut [Verb::read(copy, bytes)])?;
            let parsed = object::parse(bytes, class).and_then(|parts| Manifest::decode(parts.2));
            if let Ok(manifest) = parsed {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}

fn piece_of(key: &Key<'_>, number: usize, len: usize) -> Piece {
    Piece::new(key.namespace, key.hash, number, len)
}
