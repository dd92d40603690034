//! Keys and values that leave while the program runs: prompts that are computed for others.
//!
//! When a layer's attention is over, the layer of the blocks that the batch filled, or began to
//! fill, is written to a sink, by all threads together. A sink that does not want it any more costs
//! nothing; the run goes on.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::BatchView;
use super::ProgramError;
use crate::kv::KvLayout;

/// Where the keys and values of a sequence go besides the arena.
pub trait LayerSink: Sync {
    /// Called by one thread before a layer is written; false if it is not wanted any more.
    fn begin(&self, layer: usize) -> bool;

    /// Takes `len` bytes at `offset` of a block, of which the sequence has others before; its first
    /// `num_tokens` tokens are there. Called by several threads at once, for different places.
    ///
    /// # Safety
    /// `bytes` are readable, and nobody writes to them meanwhile; `begin` has said yes.
    unsafe fn write(
        &self,
        block: usize,
        num_tokens: usize,
        offset: usize,
        bytes: *const u8,
        len: usize,
    );

    /// Called by one thread when all of the layer is written.
    fn end(&self, layer: usize);

    /// Something of the sequence has not come (see `gate`): what is written is arbitrary from here
    /// on. Called by any thread.
    fn spoil(&self);
}

/// A sequence of the batch, and where its keys and values go.
#[derive(Clone, Copy)]
pub struct Push<'a> {
    /// Number of the sequence in the batch.
    pub sequence: usize,
    /// Where to.
    pub sink: &'a dyn LayerSink,
}

/// A block of a push: its number in the sequence, and in the arena.
struct Piece {
    push: usize,
    block: usize,
    num_tokens: usize,
    place: usize,
}

/// The pushes of one run.
pub(super) struct Pushes<'a> {
    sinks: Vec<(&'a dyn LayerSink, AtomicBool)>,
    /// Of each sink.
    sequences: Vec<usize>,
    pieces: Vec<Piece>,
    block_bytes: usize,
}

impl<'a> Pushes<'a> {
    /// The blocks that `batch` fills. `num_blocks`: of the arena.
    pub(super) fn new(
        pushes: &[Push<'a>],
        batch: &BatchView<'_>,
        layout: &KvLayout,
        num_blocks: usize,
    ) -> Result<Pushes<'a>, ProgramError> {
        let size = layout.block_size_tokens();
        let mut pieces = Vec::new();
        for (number, push) in pushes.iter().enumerate() {
            let Some(&length) = batch.context_lens.get(push.sequence) else {
                return Err(ProgramError::Batch(format!(
                    "sequence {} is pushed, but there are {}",
                    push.sequence,
                    batch.context_lens.len()
                )));
            };
            let row = batch.row_starts[push.sequence] as usize;
            let first = batch.positions[row] as usize / size;
            for block in first..(length as usize).div_ceil(size) {
                let place = batch.block_tables[push.sequence * batch.table_stride + block];
                let place = usize::try_from(place).ok().filter(|&place| place < num_blocks);
                let place = place.ok_or_else(|| {
                    ProgramError::Batch(format!("a block to push is none of {num_blocks}"))
                })?;
                let num_tokens = size.min(length as usize - block * size);
                pieces.push(Piece { push: number, block, num_tokens, place });
            }
        }
        let sinks = pushes.iter().map(|push| (push.sink, AtomicBool::new(false))).collect();
        let sequences = pushes.iter().map(|push| push.sequence).collect();
        Ok(Pushes { sinks, sequences, pieces, block_bytes: layout.block_bytes() })
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Blocks of all sequences.
    pub(super) fn num_items(&self) -> usize {
        self.pieces.len()
    }

    /// Asks all sinks whether they want a layer. One thread calls this, before a barrier.
    pub(super) fn begin(&self, layer: usize) {
        for (sink, is_open) in &self.sinks {
            is_open.store(sink.begin(layer), Ordering::Relaxed);
        }
    }

    /// These sequences have not had all their blocks.
    pub(super) fn spoil(&self, missing: &[usize]) {
        for ((sink, _), sequence) in self.sinks.iter().zip(&self.sequences) {
            if missing.contains(sequence) {
                sink.spoil();
            }
        }
    }

    /// Writes bytes `range` of a block.
    ///
    /// # Safety
    /// `arena` is the run's, and nobody writes that range of the batch's blocks meanwhile.
    pub(super) unsafe fn write(&self, item: usize, range: Range<usize>, arena: *const u8) {
        let piece = &self.pieces[item];
        let (sink, is_open) = &self.sinks[piece.push];
        if is_open.load(Ordering::Relaxed) {
            let bytes = arena.wrapping_add(piece.place * self.block_bytes + range.start);
            // SAFETY: the block lies in the arena; the rest is the caller's promise.
            unsafe {
                sink.write(piece.block, piece.num_tokens, range.start, bytes, range.len());
            }
        }
    }

    /// Tells all sinks that a layer is written. One thread calls this, behind a barrier.
    pub(super) fn end(&self, layer: usize) {
        for (sink, is_open) in &self.sinks {
            if is_open.load(Ordering::Relaxed) {
                sink.end(layer);
            }
        }
    }
}
