//! The other half of remote attention: a program's attention layers alone, over rows of peers.
//!
//! It stores and attends by the code that programs run, so that a peer's output rows are those it
//! would have computed itself with the same keys and values, bit for bit.

use super::exec::{fill_ropes, renew_plans, Program};
use super::remote::{Rows, RowsMut};
use super::steps::{AttentionStep, Step};
use super::ProgramError;
use crate::attention::{
    attend, AttentionBatch, AttentionBuffers, AttentionLayer, AttentionPlan, AttentionShape, Rope,
    RopeRows,
};
use crate::isa::Isa;
use crate::kv::KvLayout;
use crate::threads::ThreadPool;

/// A program's attention layers, without its weights and its memory.
pub struct AttentionServer {
    steps: Vec<AttentionStep>,
    shapes: Vec<AttentionShape>,
    ropes: Vec<Rope>,
    layout: KvLayout,
    isa: Isa,
}

/// What is made anew for every step of a client, in memory that is kept.
#[derive(Default)]
pub struct ServedStep {
    row_starts: Vec<i32>,
    context_lens: Vec<i32>,
    plans: Vec<AttentionPlan>,
    ropes: Vec<RopeRows>,
    buffers: AttentionBuffers,
    no_rope: RopeRows,
}

impl ServedStep {
    /// No memory yet.
    pub fn new() -> ServedStep {
        ServedStep::default()
    }

    /// Rows of the step.
    pub fn num_rows(&self) -> usize {
        self.context_lens.len()
    }
}

impl Program {
    /// How many attention layers this program has.
    pub fn num_attention_layers(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Attention { .. })).count()
    }

    /// The attention layers of this program.
    pub fn attention_server(&self) -> AttentionServer {
        let step = |step: &Step| match step {
            Step::Attention { op, .. } => Some(op.clone()),
            _ => None,
        };
        AttentionServer {
            steps: self.steps.iter().filter_map(step).collect(),
            shapes: self.plans.clone(),
            ropes: self.ropes.clone(),
            layout: self.layout,
            isa: self.isa,
        }
    }
}

impl AttentionServer {
    /// Attention layers; they are named by their place in the program.
    pub fn num_layers(&self) -> usize {
        self.steps.len()
    }

    /// Which layer of the KV blocks the layer at `place` has.
    pub fn layer(&self, place: usize) -> usize {
        self.steps[place].layer
    }

    /// Shape of the KV.
    pub fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn shape(&self, place: usize) -> &AttentionShape {
        &self.shapes[self.steps[place].plan]
    }

    /// Floats of a row of queries, keys and values.
    pub fn qkv_width(&self, place: usize) -> usize {
        let shape = self.shape(place);
        (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    }

    /// Floats of an output row.
    pub fn out_width(&self, place: usize) -> usize {
        self.shape(place).num_heads * self.shape(place).head_dim
    }

    /// Bytes of keys and values that all layers of the step read.
    pub fn num_kv_bytes(&self, step: &ServedStep) -> usize {
        self.steps.iter().map(|op| step.plans[op.plan].num_kv_bytes()).sum()
    }

    /// Makes `step` one of a row for each of `positions`, whose blocks are the rows of
    /// `block_tables`, (num_rows, table_stride), of an arena of `num_blocks`, for `num_threads`.
    ///
    /// # Errors
    /// [`ProgramError::Batch`] for positions and blocks that do not fit; the step has no rows then.
    pub fn prepare(
        &self,
        step: &mut ServedStep,
        positions: &[i32],
        block_tables: &[i32],
        table_stride: usize,
        num_blocks: usize,
        num_threads: usize,
    ) -> Result<(), ProgramError> {
        step.row_starts.clear();
        step.row_starts.extend(0..=positions.len() as i32);
        step.context_lens.clear();
        step.context_lens.extend(positions.iter().map(|position| position.saturating_add(1)));
        let planned =
            self.plan(step, positions, block_tables, table_stride, num_blocks, num_threads);
        if planned.is_err() {
            step.context_lens.clear();
        }
        fill_ropes(&mut step.ropes, &self.ropes, positions);
        planned
    }

    fn plan(
        &self,
        step: &mut ServedStep,
        positions: &[i32],
        block_tables: &[i32],
        table_stride: usize,
        num_blocks: usize,
        num_threads: usize,
    ) -> Result<(), ProgramError> {
        let batch = AttentionBatch {
            positions,
            row_starts: &step.row_starts,
            context_lens: &step.context_lens,
            block_tables,
            table_stride,
            sparse: &[],
        };
        let shapes = (&self.shapes[..], &self.layout, self.isa);
        renew_plans(&mut step.plans, shapes, &batch, num_blocks, num_threads)?;
        step.plans.iter().for_each(|plan| step.buffers.reserve(plan, num_threads));
        Ok(())
    }

    /// Stores the keys and values of `qkv` and attends, for the layer at `place`. The rows `skip`
    /// are passed over: nothing is stored for them, and their output is arbitrary.
    ///
    /// # Safety
    /// `arena` is writable memory of the blocks that `step` was prepared for, 64-byte aligned;
    /// nobody writes the blocks of the step's rows, but for those to skip, meanwhile, and nobody
    /// but this call uses the places of their last tokens.
    ///
    /// # Panics
    /// When the rows or the threads are not those of the step.
    pub unsafe fn attend(
        &self,
        step: &ServedStep,
        pool: &ThreadPool,
        place: usize,
        skip: &[usize],
        qkv: Rows<'_>,
        mut out: RowsMut<'_>,
        arena: *mut u8,
    ) {
        let op = &self.steps[place];
        let plan = &step.plans[op.plan];
        let fits = (qkv.len(), out.len()) == (step.num_rows(), step.num_rows())
            && (qkv.width(), out.width()) == (self.qkv_width(place), self.out_width(place));
        assert!(fits, "rows {qkv:?} and {out:?} for a step of {} rows", step.num_rows());
        let layer = AttentionLayer {
            layer: op.layer,
            q_norm: op.q_norm.as_deref(),
            k_norm: op.k_norm.as_deref(),
            norm_eps: op.norm_eps,
            rope: op.rope.map_or(&step.no_rope, |index| &step.ropes[index]),
            qkv: qkv.base(),
            qkv_stride: qkv.stride(),
            out: out.base(),
            out_stride: out.stride(),
            arena,
        };
        pool.run(&|worker| {
            worker.for_each(plan.num_attend_items(), |item| {
                if !skip.contains(&plan.sequence_of(item)) {
                    // SAFETY: every row is a sequence's only one, so that attending stores; the
                    // rest is the caller's promise, and each thread uses its own number.
                    unsafe { attend(plan, &layer, &step.buffers, worker.id(), item) };
                }
            });
            #[cfg(target_arch = "x86_64")]
            if self.isa == Isa::Amx {
                // SAFETY: AMX is available, and nothing in the tiles is needed any more.
                unsafe { crate::amx::release() };
            }
        });
    }
}
