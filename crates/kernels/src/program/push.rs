//! Keys and values that leave while the program runs: prompts that are computed for others.
//!
//! When a layer's attention is over, the layer of the blocks that the batch filled, or began to
//! fill, is written to a sink, by all threads together. A sink that does not want it any more costs
//! nothing; the run goes on.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    /// Pieces of the present layer that some thread has taken, and that are written.
    taken: AtomicUsize,
    written: AtomicUsize,
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
        let (taken, written) = Default::default();
        let block_bytes = layout.block_bytes();
        Ok(Pushes { sinks, sequences, pieces, taken, written, block_bytes })
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Asks all sinks whether they want a layer. One thread calls this, before a barrier, and
    /// behind one that is behind all of the last layer's `share`.
    pub(super) fn begin(&self, layer: usize) {
        self.taken.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
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

    /// This thread's share of writing a layer, which is bytes `range` of each block. There is no
    /// barrier in it: whoever writes the last piece tells the sinks that the layer is written.
    ///
    /// # Safety
    /// `arena` is the run's; nobody writes that range of the batch's blocks before all threads have
    /// returned.
    pub(super) unsafe fn share(&self, layer: usize, range: Range<usize>, arena: *const u8) {
        while let Some(piece) = self.pieces.get(self.taken.fetch_add(1, Ordering::Relaxed)) {
            let (sink, is_open) = &self.sinks[piece.push];
            if is_open.load(Ordering::Relaxed) {
                let bytes = arena.wrapping_add(piece.place * self.block_bytes + range.start);
                // SAFETY: the block lies in the arena; the rest is the caller's promise.
                unsafe {
                    sink.write(piece.block, piece.num_tokens, range.start, bytes, range.len());
                }
            }
            if self.written.fetch_add(1, Ordering::AcqRel) + 1 == self.pieces.len() {
                self.end(layer);
            }
        }
    }

    fn end(&self, layer: usize) {
        for (sink, is_open) in &self.sinks {
            if is_open.load(Ordering::Relaxed) {
                sink.end(layer);
            }
        }
    }
}
