//! Memory that attention works in: some for each thread, and partial results that items hand to
//! each other.

use std::cell::UnsafeCell;

use super::sparse::{Report, SparseScratch};
use super::{AttentionPlan, ROW_TILE, SPLIT_TOKENS};
use crate::kv::GROUP_TOKENS;

/// Floats from one row of scores to the next. The extra ones keep rows from sharing cache sets.
pub(super) const SCORE_STRIDE: usize = SPLIT_TOKENS + 16;
/// bf16 numbers from one row of weights to the next, for the same reason.
pub(super) const WEIGHT_STRIDE: usize = SPLIT_TOKENS + 32;
/// Floats of a partial result before its output: the maximum, the sum, and padding.
pub(super) const PARTIAL_HEADER: usize = 16;

/// A cache line of floats.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([f32; 16]);

/// Floats on a cache line boundary.
#[derive(Debug, Default)]
pub(super) struct AlignedFloats {
    lines: Vec<Line>,
}

impl AlignedFloats {
    /// At least `len` floats.
    pub(super) fn reserve(&mut self, len: usize) {
        let num_lines = len.div_ceil(16);
        if self.lines.len() < num_lines {
            self.lines.resize(num_lines, Line([0.0; 16]));
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// One thread's memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Queries of an item: f32 or bf16 `[queries][head_dim]`, whole row tiles.
    pub queries: AlignedFloats,
    /// `[2][ROW_TILE][SCORE_STRIDE]`: scores, then f32 weights, of a row tile and the next.
    pub scores: AlignedFloats,
    /// bf16 `[ROW_TILE][WEIGHT_STRIDE]` weights, for kernels that multiply bf16.
    pub weights: AlignedFloats,
    /// f32 `[head_dim][GROUP_TOKENS]` keys.
    pub keys: AlignedFloats,
    /// f32 `[GROUP_TOKENS][head_dim]` values.
    pub values: AlignedFloats,
    /// `[ROW_TILE][head_dim]` weighted sums of a split.
    pub sums: AlignedFloats,
    /// Rows for which the AMX tiles are configured; 0 at the beginning of an item.
    pub tile_rows: usize,
    /// `[queries]` of `PARTIAL_HEADER + head_dim`: results so far.
    pub results: AlignedFloats,
    /// What choosing groups needs.
    pub sparse: SparseScratch,
}

/// Memory for [`attend`](super::attend), shared by all threads.
#[derive(Debug, Default)]
pub struct AttentionBuffers {
    scratch: Vec<UnsafeCell<Scratch>>,
    partials: UnsafeCell<AlignedFloats>,
    report: Report,
}

// SAFETY: a scratch is used by the thread of its number alone; items write partials and numbers of
// the report of their own,
// and the last of a merge reads them after all have written (`attend`'s callers promise the former,
// its counters see to the latter).
unsafe impl Sync for AttentionBuffers {}

impl AttentionBuffers {
    /// Nothing yet.
    pub fn new() -> AttentionBuffers {
        AttentionBuffers::default()
    }

    /// Makes room for `plan` on `num_threads` threads; call it before the threads start on the
    /// plan.
    pub fn reserve(&mut self, plan: &AttentionPlan, num_threads: usize) {
        let head_dim = plan.shape.head_dim;
        let num_queries = plan.max_item_queries().next_multiple_of(ROW_TILE);
        self.partials.get_mut().reserve(plan.num_partials * (PARTIAL_HEADER + head_dim));
        if self.scratch.len() < num_threads {
            self.scratch.resize_with(num_threads, UnsafeCell::default);
        }
        for scratch in &mut self.scratch {
            let scratch = scratch.get_mut();
            scratch.queries.reserve(num_queries * head_dim);
            scratch.scores.reserve(2 * ROW_TILE * SCORE_STRIDE);
            scratch.weights.reserve(ROW_TILE * WEIGHT_STRIDE / 2);
            scratch.keys.reserve(GROUP_TOKENS * head_dim);
            scratch.values.reserve(GROUP_TOKENS * head_dim);
            scratch.sums.reserve(ROW_TILE * head_dim);
            scratch.results.reserve(num_queries * (PARTIAL_HEADER + head_dim));
            scratch.sparse.reserve(plan.max_sparse_groups(), plan.group(), head_dim);
        }
    }

    /// Begins a report of the sequences that do not attend to everything: without one, nothing is
    /// noted of them.
    pub fn start_report(&mut self, num_entries: usize, num_layers: usize, num_heads: usize) {
        self.report.start(num_entries, num_layers, num_heads);
    }

    /// f32 `[entry][layer][query head]` of [`REPORT_FIELDS`](super::REPORT_FIELDS) numbers.
    pub fn report(&mut self) -> &[f32] {
        self.report.numbers()
    }

    /// Notes the numbers of a query head.
    ///
    /// # Safety
    /// No other thread notes the same head meanwhile.
    pub(super) unsafe fn note(&self, entry: usize, layer: usize, head: usize, numbers: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { self.report.note(entry, layer, head, numbers) };
    }

    /// The scratch of a thread.
    ///
    /// # Safety
    /// No other reference to it may be alive.
    #[allow(clippy::mut_from_ref)] // each thread has its own
    pub(super) unsafe fn scratch(&self, thread: usize) -> &mut Scratch {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.scratch[thread].get() }
    }

    /// Start of the partial results.
    pub(super) fn partials(&self) -> *mut f32 {
        // SAFETY: only the address of the floats is taken; the vector itself changes in `reserve`
        // alone.
        unsafe { (*self.partials.get()).lines.as_ptr().cast_mut().cast() }
    }
}
