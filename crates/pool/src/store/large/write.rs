//! Writing the pieces of a large value, straight from the caller's bytes.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::manifest::{Part, Piece, PIECE_EXTRA};
use super::{BATCH_BYTES, BATCH_PIECES};
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{log_addr, LogEntry, Op, LOG_BYTES};
use crate::slot::Slot;
use crate::store::find::Key;
use crate::store::InUse;

/// How often a batch is written again because the membership changed.
const ATTEMPTS: u32 = 32;

/// A piece that is written.
struct Outgoing<'a> {
    addr: PoolAddr,
    class: SizeClass,
    head: [u8; 64],
    bytes: &'a [u8],
}

impl Client {
    /// Bytes of a large value in every piece but the last; each has a checksum of its own.
    pub fn piece_len(&self) -> usize {
        self.alloc.piece_bytes() - PIECE_EXTRA
    }

    /// Writes `value` as the pieces from number `parts.len()` on and adds them to `parts`. Nobody
    /// knows of them yet: [`Client::discard`] takes them back. Room is made if need be, but only
    /// if `fresh` says that the operation holds no address that it has read.
    pub(crate) fn write_parts(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        fresh: bool,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let kept = parts.len();
        let outcome = self.write_all_parts(key, value, fresh, parts);
        if outcome.is_err() {
            self.discard(&parts[kept..]);
            parts.truncate(kept);
        }
        outcome
    }

    fn write_all_parts(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        fresh: bool,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let len = self.piece_len();
        let at_once = (BATCH_BYTES / len).clamp(1, BATCH_PIECES);
        for some in value.chunks(len * at_once) {
            let mut out: SmallVec<[Outgoing<'_>; BATCH_PIECES]> = SmallVec::new();
            for bytes in some.chunks(len) {
                let (addr, class) = self.take_part(bytes.len() + PIECE_EXTRA, fresh)?;
                let piece = Piece::new(key.namespace, key.hash, parts.len(), bytes.len());
                let sum = piece.sum(bytes);
                parts.push(Part { slot: Slot::new(0, 0, class.0, addr), sum });
                out.push(Outgoing { addr, class, head: piece.head(sum), bytes });
            }
            self.post_parts(&out)?;
        }
        Ok(())
    }

    fn take_part(&mut self, bytes: usize, fresh: bool) -> Result<(PoolAddr, SizeClass)> {
        for _ in 0..ATTEMPTS {
            match self.alloc.take_part(&self.fabric, bytes) {
                Err(PoolError::ViewChanged) => {}
                Err(PoolError::Full { .. }) if fresh => {
                    match self.alloc.make_room(&self.fabric, bytes, &InUse) {
                        // The last piece fits where a whole one does.
                        Err(PoolError::Full { .. }) if bytes < self.alloc.piece_bytes() => {
                            let whole = self.alloc.piece_bytes();
                            return self.alloc.take_part(&self.fabric, whole);
                        }
                        outcome => outcome?,
                    }
                }
                outcome => return outcome,
            }
        }
        Err(PoolError::Full { bytes })
    }

    fn post_parts(&self, out: &[Outgoing<'_>]) -> Result<()> {
        let (client, op) = (self.fabric.me(), Op::Part);
        let log = LogEntry { client, op, sequence: 0, decided: None }.encode();
        let gathers = out.iter().map(|piece| [&piece.head, piece.bytes, &log[..]]);
        let gathers: SmallVec<[[&[u8]; 3]; BATCH_PIECES]> = gathers.collect();
        for _ in 0..ATTEMPTS {
            let mut verbs: Vec<Verb<'_>> = Vec::with_capacity(out.len() * 2);
            for (piece, gather) in out.iter().zip(&gathers) {
                let full = piece.bytes.len() + PIECE_EXTRA == piece.class.bytes();
                let parts = &gather[..if full { 3 } else { 2 }];
                let copies = self.fabric.copies(piece.addr);
                if copies.is_empty() {
                    return Err(PoolError::ViewChanged);
                }
                verbs.extend(copies.into_iter().map(|addr| Verb::Gather { addr, parts }));
                if !full {
                    let logs = self.fabric.copies(log_addr(piece.addr, piece.class));
                    verbs.extend(logs.into_iter().map(|addr| Verb::write(addr, &log[..LOG_BYTES])));
                }
            }
            match self.fabric.batch(&mut verbs) {
                Err(PoolError::ViewChanged) => {}
                outcome => return outcome,
            }
        }
        Err(PoolError::ViewChanged)
    }

    /// Takes pieces back that no manifest ever named in a slot.
    pub(crate) fn discard(&mut self, parts: &[Part]) {
        for (addr, class) in parts.iter().filter_map(Part::object) {
            self.alloc.put_back_part(addr, class);
        }
    }
}
