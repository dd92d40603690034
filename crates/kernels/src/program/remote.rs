//! Sequences whose keys and values lie with peers, which attend for them.
//!
//! They are the last of the batch, one row each. At every attention step the first thread hands
//! their rows of queries, keys and values out (before norm and rotation: whoever attends does what
//! would be done here), attends the other rows together with all threads, and then waits for the
//! results before it comes to the step's barrier. So no barrier is missed whatever a peer does,
//! and when a peer has failed its rows are arbitrary from there on, while all others are as ever,
//! for no row depends on another sequence's.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::BatchView;
use super::exec::Matrix;
use super::ProgramError;

/// Rows of floats, at equal distances.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    base: *const f32,
    stride: usize,
    width: usize,
    len: usize,
    borrow: PhantomData<&'a [f32]>,
}

impl<'a> Rows<'a> {
    /// All whole rows of `width` in `values`, one behind the other.
    pub fn new(values: &'a [f32], width: usize) -> Rows<'a> {
        let len = values.len().checked_div(width).unwrap_or(0);
        Rows { base: values.as_ptr(), stride: width, width, len, borrow: PhantomData }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Floats of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &'a [f32] {
        assert!(index < self.len, "row {index} of {}", self.len);
        // SAFETY: whoever made this borrowed `len` rows of `width`, `stride` apart.
        unsafe { std::slice::from_raw_parts(self.base.add(index * self.stride), self.width) }
    }

    pub(super) fn base(&self) -> *const f32 {
        self.base
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

/// Rows of floats to be written, at equal distances.
#[derive(Debug)]
pub struct RowsMut<'a> {
    base: *mut f32,
    stride: usize,
    width: usize,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> RowsMut<'a> {
    /// All whole rows of `width` in `values`, one behind the other.
    pub fn new(values: &'a mut [f32], width: usize) -> RowsMut<'a> {
        let len = values.len().checked_div(width).unwrap_or(0);
        RowsMut { base: values.as_mut_ptr(), stride: width, width, len, borrow: PhantomData }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Floats of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.len, "row {index} of {}", self.len);
        // SAFETY: as in `Rows::row`, borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(index * self.stride), self.width) }
    }

    /// All of them, in order.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let (base, stride, width) = (self.base, self.stride, self.width);
        // SAFETY: as in `row_mut`; the rows have no float in common.
        (0..self.len).map(move |row| unsafe {
            std::slice::from_raw_parts_mut(base.add(row * stride), width)
        })
    }

    pub(super) fn base(&mut self) -> *mut f32 {
        self.base
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

/// A peer that attends. One thread calls it, for all attention layers in their order: first `send`,
/// then `receive`.
pub trait RemoteAttention: Sync {
    /// Hands the sequences' rows of a layer out, without waiting for anything. False: it cannot.
    fn send(&self, layer: usize, qkv: Rows<'_>) -> bool;

    /// Waits, for a bounded time, for the output rows. False: they are arbitrary, and the peer is
    /// not asked again in this run.
    fn receive(&self, layer: usize, out: RowsMut<'_>) -> bool;

    /// Which of its sequences, counted from 0, the peer would not serve in this run, though it
    /// answered.
    fn refused(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// Sequences of a batch that one peer attends for.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// How many.
    pub num_sequences: usize,
    /// The peer.
    pub attention: &'a dyn RemoteAttention,
}

/// The remote sequences of one run.
pub(super) struct RemoteRun<'a> {
    remotes: &'a [Remote<'a>],
    /// Which have failed.
    lost: Vec<AtomicBool>,
    num_local: usize,
    first_row: usize,
}

impl<'a> RemoteRun<'a> {
    /// Checks that the batch ends with the sequences of `remotes`, one row each.
    pub fn new(
        batch: &BatchView<'_>,
        remotes: &'a [Remote<'a>],
    ) -> Result<RemoteRun<'a>, ProgramError> {
        let num_remote: usize = remotes.iter().map(|remote| remote.num_sequences).sum();
        let num_sequences = batch.context_lens.len();
        let Some(num_local) = num_sequences.checked_sub(num_remote) else {
            return Err(ProgramError::Batch(format!(
                "{num_remote} remote sequences in a batch of {num_sequences}"
            )));
        };
        if batch.row_starts[num_local..].windows(2).any(|pair| pair[1] - pair[0] != 1) {
            return Err(ProgramError::Batch(format!(
                "remote sequences have one row each, but row_starts are {:?}",
                &batch.row_starts[num_local..]
            )));
        }
        if let Some(row) = batch.sparse.iter().find(|row| row.sequence >= num_local) {
            return Err(ProgramError::Batch(format!(
                "sequence {} is remote: its peer attends to everything",
                row.sequence
            )));
        }
        let lost = remotes.iter().map(|_| AtomicBool::new(false)).collect();
        let first_row = batch.row_starts[num_local] as usize;
        Ok(RemoteRun { remotes, lost, num_local, first_row })
    }

    /// The part of the batch that is attended here.
    pub fn local<'b>(&self, batch: BatchView<'b>) -> BatchView<'b> {
        batch.first(self.num_local)
    }

    /// Each remote that has not failed, with its mark and first row.
    fn living(&self) -> impl Iterator<Item = (&Remote<'a>, &AtomicBool, usize)> {
        let mut next_row = self.first_row;
        let placed = self.remotes.iter().zip(&self.lost).map(move |(remote, lost)| {
            let first_row = next_row;
            next_row += remote.num_sequences;
            (remote, lost, first_row)
        });
        placed.filter(|(_, lost, _)| !lost.load(Ordering::Relaxed))
    }

    /// Hands the remote rows out.
    ///
    /// # Safety
    /// The rows of `qkv` are finished.
    pub unsafe fn send(&self, layer: usize, qkv: Matrix) {
        for (remote, lost, first_row) in self.living() {
            // The batch has these rows, and nobody writes them before the next barrier.
            let rows = Rows {
                base: qkv.base().wrapping_add(first_row * qkv.stride()),
                stride: qkv.stride(),
                width: qkv.width(),
                len: remote.num_sequences,
                borrow: PhantomData,
            };
            lost.store(!remote.attention.send(layer, rows), Ordering::Relaxed);
        }
    }

    /// Waits for the remote rows of `out`.
    ///
    /// # Safety
    /// Nobody else touches these rows before the next barrier.
    pub unsafe fn receive(&self, layer: usize, out: Matrix) {
        for (remote, lost, first_row) in self.living() {
            // The batch has these rows, and no item of the local plan writes them.
            let rows = RowsMut {
                base: out.base().wrapping_add(first_row * out.stride()),
                stride: out.stride(),
                width: out.width(),
                len: remote.num_sequences,
                borrow: PhantomData,
            };
            lost.store(!remote.attention.receive(layer, rows), Ordering::Relaxed);
        }
    }

    /// The sequences of the batch whose rows are arbitrary.
    pub fn failed(&self) -> Vec<usize> {
        let mut failed = Vec::new();
        let mut first = self.num_local;
        for (remote, lost) in self.remotes.iter().zip(&self.lost) {
            if lost.load(Ordering::Relaxed) {
                failed.extend(first..first + remote.num_sequences);
            } else {
                failed.extend(remote.attention.refused().iter().map(|index| first + index));
            }
            first += remote.num_sequences;
        }
        failed
    }
}
