//! What a region holds and where, as its header says it.
//!
//! A header of one page; control words; mailboxes; and, from a multiple of 2 MiB on, the arena of
//! blocks. All numbers are little-endian words.

use std::ops::Range;

use artesian_bus::{GlobalAddr, Identity, NodeId};
use twox_hash::XxHash3_64;

use crate::PeerError;

/// The one node of a region's pool.
pub const NODE: NodeId = NodeId(0);
/// Bytes of a huge page: arenas begin at a multiple, and grow by as much.
pub const HUGE_PAGE: u64 = 2 << 20;
/// Control words and mailboxes begin and end at multiples of this.
pub(super) const PAGE: u64 = 4096;
/// Blocks begin at multiples of a cache line.
const LINE: u64 = 64;

const MAGIC: u64 = u64::from_le_bytes(*b"ARTKVREG");
const VERSION: u64 = 1;
/// Words of the header; the first of them, the magic, is written last.
pub(super) const HEADER_WORDS: usize = 10;

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Words by which owner and peers agree who may write what.
    Control,
    /// Messages of peers, and answers to them.
    Mailboxes,
    /// The KV blocks.
    Arena,
}

/// Sizes of a region's areas, and what its blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionShape {
    /// Bytes of control words.
    pub control_bytes: u64,
    /// Bytes of mailboxes.
    pub mailbox_bytes: u64,
    /// Bytes of a block, a multiple of 64.
    pub block_bytes: u64,
    /// Blocks of the arena.
    pub num_blocks: u64,
    /// What the blocks' bytes mean: see [`fingerprint`].
    pub fingerprint: u64,
    /// Which of the worker's lives made it.
    pub generation: u64,
}

/// The hash of a text that names all on which the bytes of a block depend: model, number format,
/// shape. Peers with another one cannot read each other's blocks.
pub fn fingerprint(text: &str) -> u64 {
    XxHash3_64::oneshot(text.as_bytes())
}

impl RegionShape {
    /// Refuses sizes that cannot be.
    pub(super) fn check(&self) -> Result<(), PeerError> {
        let wrong = |what: String| Err(PeerError::Shape(format!("a region {what}")));
        if self.num_blocks == 0 || self.block_bytes == 0 || !self.block_bytes.is_multiple_of(LINE) {
            return wrong(format!(
                "has at least one block, of a multiple of {LINE} bytes: not {} of {}",
                self.num_blocks, self.block_bytes
            ));
        }
        let areas = [self.control_bytes, self.mailbox_bytes];
        let arena = self.num_blocks.checked_mul(self.block_bytes);
        let room = GlobalAddr::MAX_OFFSET / 4;
        if areas.iter().any(|&bytes| bytes > room) || arena.is_none_or(|bytes| bytes > room) {
            return wrong(format!(
                "of {} blocks of {} bytes, {} bytes of control words and {} of mailboxes is too \
                 large",
                self.num_blocks, self.block_bytes, self.control_bytes, self.mailbox_bytes
            ));
        }
        Ok(())
    }

    /// Where an area lies in the region, in bytes.
    pub fn range(&self, area: Area) -> Range<u64> {
        let control = PAGE..PAGE + self.control_bytes;
        let start = control.end.next_multiple_of(PAGE);
        let mailboxes = start..start + self.mailbox_bytes;
        let start = mailboxes.end.next_multiple_of(HUGE_PAGE);
        match area {
            Area::Control => control,
            Area::Mailboxes => mailboxes,
            Area::Arena => start..start + self.num_blocks * self.block_bytes,
        }
    }

    /// The first byte of an area, on the bus.
    pub fn addr(&self, area: Area) -> GlobalAddr {
        GlobalAddr::new(NODE, self.range(area).start)
    }

    /// Bytes of the region: whole huge pages.
    pub fn num_bytes(&self) -> u64 {
        self.range(Area::Arena).end.next_multiple_of(HUGE_PAGE)
    }

    pub(super) fn to_words(self, owner: Identity) -> [u64; HEADER_WORDS] {
        [
            MAGIC,
            VERSION,
            self.generation,
            u64::from(owner.pid),
            owner.started,
            self.control_bytes,
            self.mailbox_bytes,
            self.block_bytes,
            self.num_blocks,
            self.fingerprint,
        ]
    }

    /// What the header of a region of `num_bytes` bytes says; the reason why it says nothing.
    pub(super) fn of_words(
        words: [u64; HEADER_WORDS],
        num_bytes: u64,
    ) -> Result<(RegionShape, Identity), String> {
        let [magic, version, generation, pid, started, rest @ ..] = words;
        let [control_bytes, mailbox_bytes, block_bytes, num_blocks, fingerprint] = rest;
        if magic == 0 {
            return Err("its owner has not finished to make it: try again".into());
        }
        if magic != MAGIC || version != VERSION {
            return Err(format!(
                "it was made by another version ({version}, this one is {VERSION}): run the same \
                 version of Artesian everywhere"
            ));
        }
        let shape = RegionShape {
            control_bytes,
            mailbox_bytes,
            block_bytes,
            num_blocks,
            fingerprint,
            generation,
        };
        shape.check().map_err(|error| error.to_string())?;
        if shape.num_bytes() > num_bytes {
            return Err(format!(
                "its header speaks of {} bytes, but it has {num_bytes}: remove it",
                shape.num_bytes()
            ));
        }
        let pid = u32::try_from(pid).map_err(|_| format!("its owner is no process: {pid}"))?;
        Ok((shape, Identity { pid, started }))
    }
}
