//! Running a program: every thread walks the steps, shares each step's items, and waits for the
//! others behind it.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::Mutex;

use super::batch::BatchView;
use super::gate::Aside;
use super::push::Pushes;
use super::remote::RemoteRun;
use super::skip::{num_sublayers, Place, Skipping, Sublayer};
use super::steps::{Dest, Domain, Slot, Step};
use super::ProgramError;
use crate::attention::{
    AttentionBatch, AttentionBuffers, AttentionError, AttentionPlan, AttentionShape, Rope,
    RopeRows, REPORT_FIELDS,
};
use crate::buffer::Buffer;
use crate::isa::Isa;
use crate::kv::KvLayout;
use crate::linear::{LinearScratch, QuantInput, ROW_BLOCK};
use crate::threads::{ThreadPool, Worker};

/// Cuts the steps into runs of row-wise ones and single others.
fn segments(steps: &[Step]) -> Vec<Range<usize>> {
    let mut segments: Vec<Range<usize>> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match segments.last_mut() {
            Some(last) if step.is_row_wise() && steps[last.start].is_row_wise() => last.end += 1,
            _ => segments.push(index..index + 1),
        }
    }
    segments
}

/// One thread's own memory.
pub(super) struct ThreadScratch {
    /// Gate and up, each of two panels.
    pub linear: [LinearScratch; 4],
    /// One row of the widest value.
    pub row: Vec<f32>,
}

/// One slot for each thread; a thread only ever takes its own.
pub(super) struct PerThread(Vec<UnsafeCell<ThreadScratch>>);

// SAFETY: `get` is called with the worker's own number only, and one program runs at a time (`run`
// locks).
unsafe impl Sync for PerThread {}

impl PerThread {
    /// This worker's scratch.
    ///
    /// # Safety
    /// The borrow of an earlier call by the same worker is over.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self, worker: &Worker<'_>) -> &mut ThreadScratch {
        // SAFETY: no two workers share a number, and the caller keeps its own borrows apart.
        unsafe { &mut *self.0[worker.id()].get() }
    }
}

/// The rotations of tokens at `positions`, in memory that is kept.
pub(super) fn fill_ropes(rows: &mut Vec<RopeRows>, ropes: &[Rope], positions: &[i32]) {
    rows.resize_with(ropes.len(), RopeRows::none);
    for (rows, rope) in rows.iter_mut().zip(ropes) {
        rows.fill(rope, positions);
    }
}

/// A built forward pass with its memory.
pub struct Program {
    pub(super) steps: Vec<Step>,
    /// The sublayer of each step.
    pub(super) places: Vec<Option<Place>>,
    pub(super) sublayers: Vec<Sublayer>,
    /// Runs of steps in which every row minds its own business, and the steps between them.
    segments: Vec<Range<usize>>,
    pub(super) buffers: Vec<Buffer<f32>>,
    pub(super) quants: Vec<QuantInput>,
    pub(super) threads: PerThread,
    pub(super) plans: Vec<AttentionShape>,
    pub(super) ropes: Vec<Rope>,
    pub(super) layout: KvLayout,
    max_rows: usize,
    output_width: usize,
    vocab_size: usize,
    num_threads: usize,
    pub(super) isa: Isa,
    state: Mutex<State>,
}

/// What is made anew for each batch, in memory that is kept.
#[derive(Default)]
struct State {
    attention: AttentionBuffers,
    /// Of each shape, for each of the prefixes that attend together.
    plans: Vec<Vec<AttentionPlan>>,
    ropes: Vec<RopeRows>,
}

/// What the steps of one run share.
pub(super) struct Run<'a> {
    pub program: &'a Program,
    pub batch: BatchView<'a>,
    pub aside: Aside<'a>,
    pub remote: RemoteRun<'a>,
    pub pushes: Pushes<'a>,
    pub skipping: Skipping<'a>,
    pub plans: &'a [Vec<AttentionPlan>],
    pub ropes: &'a [RopeRows],
    pub attention: &'a AttentionBuffers,
    pub no_rope: RopeRows,
    pub arena: *mut u8,
    pub out: *mut f32,
    pub out_width: usize,
}

// SAFETY: the pointers are the caller's arena and output, which `run` has alone; threads write
// disjoint rows.
unsafe impl Sync for Run<'_> {}

/// A float matrix that threads write in disjoint parts.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    base: *mut f32,
    /// Floats from one row to the next: that of the buffer, not of the value, so that values that
    /// share a buffer one after the other keep each row in the same place.
    stride: usize,
    width: usize,
}

impl Matrix {
    /// Row `row` for reading.
    ///
    /// # Safety
    /// The row exists and nobody writes it.
    pub unsafe fn row<'a>(self, row: usize) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.base.add(row * self.stride), self.width) }
    }

    /// Columns `first..first + len` of row `row` for writing.
    ///
    /// # Safety
    /// They exist and nobody else reads or writes them.
    pub unsafe fn part<'a>(self, row: usize, first: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(row * self.stride + first), len) }
    }

    /// The first element.
    pub fn base(self) -> *mut f32 {
        self.base
    }

    /// Floats from one row to the next.
    pub fn stride(self) -> usize {
        self.stride
    }

    /// Floats of a row.
    pub fn width(self) -> usize {
        self.width
    }
}

impl Run<'_> {
    /// Rows of a value in this batch.
    pub fn num_rows(&self, domain: Domain) -> usize {
        match domain {
            Domain::Tokens => self.batch.num_rows(),
            Domain::Logits => self.batch.logit_rows.len(),
        }
    }

    /// The memory of a value of `width` columns.
    pub fn matrix(&self, slot: Slot, width: usize) -> Matrix {
        match slot {
            Slot::Buffer(index) => {
                let buffer = &self.program.buffers[index];
                let stride = buffer.len() / self.program.max_rows;
                Matrix { base: buffer.as_ptr_mut(), stride, width }
            }
            Slot::Output => Matrix { base: self.out, stride: self.out_width, width },
        }
    }

    /// The float memory of a destination.
    pub fn floats(&self, to: &Dest) -> Matrix {
        self.matrix(to.slot.expect("every value has float memory"), to.width)
    }

    /// The quantised rows of a destination, if anyone reads them.
    pub fn quant(&self, to: &Dest) -> Option<&QuantInput> {
        to.quant.map(|index| &self.program.quants[index])
    }
}

impl Program {
    #[allow(clippy::new_ret_no_self)]
    pub(super) fn new(
        (steps, places, sublayers): (Vec<Step>, Vec<Option<Place>>, Vec<Sublayer>),
        buffers: Vec<Buffer<f32>>,
        quants: Vec<QuantInput>,
        plans: Vec<AttentionShape>,
        ropes: Vec<Rope>,
        layout: KvLayout,
        max_rows: usize,
        output_width: usize,
        vocab_size: usize,
        num_threads: usize,
        isa: Isa,
    ) -> Result<Program, ProgramError> {
        let widest = steps.iter().map(|step| step.widest()).max().unwrap_or(0);
        let scratch = |_| {
            UnsafeCell::new(ThreadScratch {
                linear: std::array::from_fn(|_| {
                    LinearScratch::new(max_rows.min(ROW_BLOCK), widest)
                }),
                row: vec![0.0; widest],
            })
        };
        Ok(Program {
            segments: segments(&steps),
            steps,
            places,
            sublayers,
            buffers,
            quants,
            threads: PerThread((0..num_threads).map(scratch).collect()),
            plans,
            ropes,
            layout,
            max_rows,
            output_width,
            vocab_size,
            num_threads,
            isa,
            state: Mutex::default(),
        })
    }

    /// Threads that run it.
    pub(super) fn num_threads(&self) -> usize {
        self.num_threads
    }

    /// Columns of the output.
    pub fn output_width(&self) -> usize {
        self.output_width
    }

    /// Most rows of a batch.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Numbers below which all sublayers are: 2 * layer for attention, 2 * layer + 1 for FFNs.
    pub fn num_sublayers(&self) -> usize {
        num_sublayers(&self.sublayers)
    }

    /// Runs a batch: stores its KV in the arena and writes its logits to `out`, f32 (num_logits,
    /// output_width). Sequences of which `aside` lacks blocks have arbitrary logits, and so have
    /// those that are returned: remote ones whose peer failed.
    ///
    /// # Safety
    /// `arena` is writable memory of `num_blocks` blocks of the program's layout, 64-byte aligned,
    /// and nobody writes the blocks of this batch's sequences meanwhile, but for bytes that a gate
    /// of `aside` has not told of: they are not touched.
    pub unsafe fn run(
        &self,
        pool: &ThreadPool,
        batch: BatchView<'_>,
        aside: Aside<'_>,
        arena: *mut u8,
        num_blocks: usize,
        out: &mut [f32],
    ) -> Result<Vec<usize>, ProgramError> {
        batch.check(self.max_rows, self.vocab_size)?;
        let wanted = batch.logit_rows.len() * self.output_width;
        if out.len() != wanted || pool.num_threads() != self.num_threads {
            return Err(ProgramError::Batch(format!(
                "an output of {} values and {} threads do not fit; {wanted} and {} do",
                out.len(),
                pool.num_threads(),
                self.num_threads
            )));
        }
        let mut state = self.state.lock().unwrap_or_else(|poison| poison.into_inner());
        let state = &mut *state;
        let remote = RemoteRun::new(&batch, aside.remotes)?;
        let local = remote.local(batch);
        let pushes = Pushes::new(aside.pushes, &batch, &self.layout, num_blocks)?;
        let here = (local.context_lens.len(), !pushes.is_empty());
        let skipping = Skipping::new(&batch, aside.skips, aside.probe, &self.sublayers, here)?;
        self.renew(&mut state.plans, &local, skipping.prefixes(), num_blocks)?;
        for plan in state.plans.iter().take(skipping.prefixes().len()).flatten() {
            state.attention.reserve(plan, self.num_threads);
        }
        let [num_layers, num_heads, _] = self.report_shape();
        let num_entries = aside.report.map_or(0, |_| batch.sparse.len());
        state.attention.start_report(num_entries, num_layers, num_heads);
        fill_ropes(&mut state.ropes, &self.ropes, local.positions);
        let run = Run {
            program: self,
            batch,
            aside,
            remote,
            pushes,
            skipping,
            plans: &state.plans,
            ropes: &state.ropes,
            attention: &state.attention,
            no_rope: RopeRows::none(),
            arena,
            out: out.as_mut_ptr(),
            out_width: self.output_width,
        };
        let block_rows = run.block_rows();
        pool.run(&|worker| {
            // SAFETY: all threads run the same segments in order, each behind a barrier.
            self.segments.iter().for_each(|segment| unsafe {
                run.segment(segment.clone(), block_rows, worker);
            });
            #[cfg(target_arch = "x86_64")]
            if self.isa == Isa::Amx {
                // SAFETY: AMX is available; nothing in the tiles is needed any more, and empty ones
                // need not be saved when the system switches threads.
                unsafe { crate::amx::release() };
            }
        });
        let failed = run.remote.failed();
        if let Some(report) = aside.report {
            let mut report = report.lock().unwrap_or_else(|poison| poison.into_inner());
            report.clear();
            report.extend_from_slice(state.attention.report());
        }
        Ok(failed)
    }

    /// Layers, query heads and fields of a report: for each entry of the batch's `sparse`, in f32.
    pub fn report_shape(&self) -> [usize; 3] {
        let num_heads = self.plans.iter().map(|shape| shape.num_heads).max().unwrap_or(0);
        [self.layout.num_layers(), num_heads, REPORT_FIELDS]
    }

    /// How attention of each shape is shared out, for each number of sequences of `prefixes`.
    fn renew(
        &self,
        plans: &mut Vec<Vec<AttentionPlan>>,
        batch: &BatchView<'_>,
        prefixes: &[usize],
        num_blocks: usize,
    ) -> Result<(), ProgramError> {
        if plans.len() < prefixes.len() {
            plans.resize_with(prefixes.len(), Vec::new);
        }
        let shapes = (&self.plans[..], &self.layout, self.isa);
        for (plans, &prefix) in plans.iter_mut().zip(prefixes) {
            let batch = batch.first(prefix);
            renew_plans(plans, shapes, &batch.attention(), num_blocks, self.num_threads)?;
        }
        Ok(())
    }
}

/// Makes `plans` those of a batch, one for each shape, in memory that is kept.
pub(super) fn renew_plans(
    plans: &mut Vec<AttentionPlan>,
    (shapes, layout, isa): (&[AttentionShape], &KvLayout, Isa),
    batch: &AttentionBatch<'_>,
    num_blocks: usize,
    num_threads: usize,
) -> Result<(), ProgramError> {
    let fail = |error: AttentionError| ProgramError::Batch(error.to_string());
    if plans.len() != shapes.len() {
        let empty = |shape| AttentionPlan::empty(layout, shape, isa).map_err(fail);
        *plans = shapes.iter().map(empty).collect::<Result<_, _>>()?;
    }
    plans.iter_mut().try_for_each(|plan| plan.renew(batch, num_blocks, num_threads).map_err(fail))
}
