//! What each step does. A step's items touch disjoint parts of its destination; its loop ends in a
//! barrier.

use super::exec::{Matrix, Run, ThreadScratch};
use super::steps::{AttentionStep, Dest, Slot, Source, Step};
use super::{Activation, SharedWeight, Weight};
use crate::activation::{add_row, gated_row, softcap_row};
use crate::attention::{attend, store as store_kv, AttentionLayer};
use crate::float::Epilogue;
use crate::isa::Isa;
use crate::linear::{GroupLinear, LinearScratch, QuantRows, GROUP, PANEL, ROW_BLOCK};
use crate::norm::rms_norm_row;
use crate::threads::Worker;

/// Items of a loop for each thread, where there is a choice: enough to even out, few enough to cost
/// nothing.
const ITEMS_PER_THREAD: usize = 6;

impl Step {
    /// The widest matrix that the step reads or writes.
    pub(super) fn widest(&self) -> usize {
        match self {
            Step::Linear { from, to, .. } | Step::GatedLinear { from, to, .. } => {
                from.width.max(to.width)
            }
            Step::Embed { to, .. }
            | Step::Norm { to, .. }
            | Step::Quantize { to, .. }
            | Step::Add { to, .. }
            | Step::LogitRows { to, .. }
            | Step::Softcap { to, .. }
            | Step::Attention { to, .. } => to.width,
            Step::Gated { to, .. } => 2 * to.width,
        }
    }
}

impl Run<'_> {
    /// Runs this thread's share of `step`.
    ///
    /// # Safety
    /// All threads of the pool call this for the same steps in the same order.
    pub(super) unsafe fn step(&self, step: &Step, worker: &Worker<'_>) {
        // SAFETY: the caller's promise; this worker holds no other borrow of its scratch.
        unsafe {
            let scratch = self.program.threads.get(worker);
            match step {
                Step::Embed { table, factor, to } => self.embed(table, *factor, to, worker),
                Step::Norm { from, weight, eps, residual, to } => {
                    self.norm(*from, weight, *eps, *residual, to, worker, scratch);
                }
                Step::Quantize { from, to } => self.quantize(*from, to, worker),
                Step::Linear { from, parts, bias, residual, to } => {
                    self.linear(*from, parts, bias.as_deref(), *residual, to, worker, scratch);
                }
                Step::GatedLinear { from, gate, up, activation, to } => {
                    self.gated_linear(*from, [gate, up], *activation, to, worker, scratch);
                }
                Step::Gated { from, activation, to } => {
                    let from = self.matrix(*from, 2 * to.width);
                    self.rows(to, worker, |row, out| {
                        gated_row(self.program.isa, from.row(row), *activation, out);
                    });
                }
                Step::Add { a, b, to } => {
                    let (a, b) = (self.matrix(*a, to.width), self.matrix(*b, to.width));
                    self.rows(to, worker, |row, out| {
                        out.copy_from_slice(a.row(row));
                        add_row(self.program.isa, b.row(row), out);
                    });
                }
                Step::LogitRows { from, to } => {
                    let from = self.matrix(*from, to.width);
                    self.rows(to, worker, |row, out| {
                        out.copy_from_slice(from.row(self.batch.logit_rows[row] as usize));
                    });
                }
                Step::Softcap { from, cap, to } => {
                    let from = self.matrix(*from, to.width);
                    self.rows(to, worker, |row, out| {
                        out.copy_from_slice(from.row(row));
                        softcap_row(self.program.isa, out, *cap);
                    });
                }
                Step::Attention { from, op, to } => self.attend(*from, op, to, worker),
            }
        }
    }

    /// Calls `body` with each row's number and its floats in `to`.
    unsafe fn rows(&self, to: &Dest, worker: &Worker<'_>, mut body: impl FnMut(usize, &mut [f32])) {
        let out = self.floats(to);
        worker.for_each(self.num_rows(to.domain), |row| {
            // SAFETY: each row is one item.
            body(row, unsafe { out.part(row, 0, to.width) });
        });
    }

    unsafe fn embed(&self, table: &SharedWeight, factor: f32, to: &Dest, worker: &Worker<'_>) {
        // SAFETY: forwarded; the batch's tokens were checked against the table.
        unsafe {
            self.rows(to, worker, |row, out| {
                table.dequantize_row(self.batch.tokens[row] as usize, factor, out);
            });
        }
    }

    unsafe fn norm(
        &self,
        from: Slot,
        weight: &[f32],
        eps: f32,
        residual: Option<Slot>,
        to: &Dest,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
    ) {
        let (from, out) = (self.matrix(from, to.width), self.floats(to));
        let residual = residual.map(|slot| self.matrix(slot, to.width));
        let isa = self.program.isa;
        worker.for_each(self.num_rows(to.domain), |row| {
            // SAFETY: each row is one item; its input was finished behind an earlier barrier.
            unsafe {
                let y: &mut [f32] = if to.quant_only {
                    &mut scratch.row[..to.width]
                } else {
                    out.part(row, 0, to.width)
                };
                rms_norm_row(isa, from.row(row), weight, eps, y);
                if let Some(residual) = residual {
                    add_row(isa, residual.row(row), y);
                }
                if let Some(quant) = self.quant(to) {
                    quant.quantize(isa, row, to.width.div_ceil(GROUP), 0, y);
                }
            }
        });
    }

    unsafe fn quantize(&self, from: Slot, to: &Dest, worker: &Worker<'_>) {
        let from = self.matrix(from, to.width);
        let quant = self.quant(to).expect("a quantise step has quantised rows to write");
        worker.for_each(self.num_rows(to.domain), |row| {
            // SAFETY: each row is one item.
            unsafe {
                quant.quantize(self.program.isa, row, to.width.div_ceil(GROUP), 0, from.row(row))
            };
        });
    }

    unsafe fn linear(
        &self,
        from: Source,
        parts: &[SharedWeight],
        bias: Option<&[f32]>,
        residual: Option<Slot>,
        to: &Dest,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
    ) {
        let num_rows = self.num_rows(to.domain);
        let out = self.floats(to);
        let residual = residual.map(|slot| self.matrix(slot, to.width));
        let row_blocks = num_rows.div_ceil(ROW_BLOCK);
        let chunk = self.panels_per_item(to.width.div_ceil(PANEL), row_blocks);
        let items_of = |part: &SharedWeight| match &**part {
            Weight::Group(weight) => weight.num_panels().div_ceil(chunk) * row_blocks,
            Weight::Float(weight) => weight.num_items(num_rows),
        };
        worker.for_each(parts.iter().map(items_of).sum(), |index| {
            let (mut item, mut col) = (index, 0);
            for part in parts {
                let count = items_of(part);
                if item >= count {
                    item -= count;
                    col += part.rows();
                    continue;
                }
                match &**part {
                    Weight::Group(weight) => {
                        let quant =
                            &self.program.quants[from.quant.expect("group weights read codes")];
                        let panels = count / row_blocks;
                        let first_row = item / panels * ROW_BLOCK;
                        let count = (num_rows - first_row).min(ROW_BLOCK);
                        let first = item % panels * chunk;
                        for panel in first..weight.num_panels().min(first + chunk) {
                            let scratch = &mut scratch.linear[0];
                            let isa = self.program.isa;
                            let values =
                                weight.compute(isa, panel, quant, first_row, count, scratch);
                            let width = PANEL.min(weight.rows - panel * PANEL);
                            let col = col + panel * PANEL;
                            // SAFETY: these rows and columns belong to this item.
                            unsafe { store(values, out, first_row, col, width, bias, residual) };
                        }
                    }
                    Weight::Float(weight) => {
                        let x =
                            self.matrix(from.slot.expect("float weights read floats"), from.width);
                        let epilogue = Epilogue {
                            bias: bias.map(|bias| &bias[col..col + part.rows()]),
                            residual: residual.map(|residual| residual.base().cast_const()),
                        };
                        // SAFETY: items of a float linear write disjoint parts of the output.
                        unsafe {
                            let (x, out) = (x.base(), out.base());
                            weight.compute(
                                item, x, from.width, num_rows, out, to.width, col, &epilogue,
                            );
                        }
                    }
                }
                return;
            }
        });
    }

    /// How many panels make an item, for `panels` panels over `row_blocks` blocks of rows.
    fn panels_per_item(&self, panels: usize, row_blocks: usize) -> usize {
        let wanted = self.program.num_threads() * ITEMS_PER_THREAD;
        (panels * row_blocks / wanted).max(1)
    }

    /// Gate, up and activation for 32 columns at a time: one group of the quantised result.
    unsafe fn gated_linear(
        &self,
        from: Source,
        [gate, up]: [&SharedWeight; 2],
        activation: Activation,
        to: &Dest,
        worker: &Worker<'_>,
        scratch: &mut ThreadScratch,
    ) {
        let (Weight::Group(gate), Weight::Group(up)) = (&**gate, &**up) else {
            unreachable!("only group weights are fused");
        };
        let num_rows = self.num_rows(to.domain);
        let quant = &self.program.quants[from.quant.expect("group weights read quantised rows")];
        let groups = to.width.div_ceil(GROUP);
        let row_blocks = num_rows.div_ceil(ROW_BLOCK);
        let chunk = self.panels_per_item(groups, row_blocks);
        let items = groups.div_ceil(chunk);
        let isa = self.program.isa;
        let out = self.floats(to);
        worker.for_each(items * row_blocks, |index| {
            let (first_row, item) = (index / items * ROW_BLOCK, index % items);
            let count = (num_rows - first_row).min(ROW_BLOCK);
            for group in item * chunk..groups.min((item + 1) * chunk) {
                let width = GROUP.min(to.width - group * GROUP);
                let panels = [
                    (gate, 2 * group),
                    (gate, 2 * group + 1),
                    (up, 2 * group),
                    (up, 2 * group + 1),
                ];
                let mut blocks =
                    scratch.linear.iter_mut().zip(panels).map(|(scratch, (weight, panel))| {
                        block(isa, weight, panel, quant, first_row, count, scratch)
                    });
                let blocks: [&[f32]; 4] =
                    std::array::from_fn(|_| blocks.next().expect("four panels"));
                for row in 0..count {
                    let mut pair = [0f32; 2 * GROUP];
                    for (part, values) in pair.as_chunks_mut::<PANEL>().0.iter_mut().zip(blocks) {
                        part.copy_from_slice(&values[row * PANEL..][..PANEL]);
                    }
                    let mut h = [0f32; GROUP];
                    gated_row(isa, &pair, activation, &mut h);
                    // SAFETY: this group of this row belongs to this item.
                    unsafe {
                        if !to.quant_only {
                            out.part(first_row + row, group * GROUP, width)
                                .copy_from_slice(&h[..width]);
                        }
                        if let Some(to) = self.quant(to) {
                            to.quantize(isa, first_row + row, groups, group, &h[..width]);
                        }
                    }
                }
            }
        });
    }

    unsafe fn attend(&self, from: Slot, op: &AttentionStep, to: &Dest, worker: &Worker<'_>) {
        let plan = &self.plans[op.plan];
        let shape = &self.program.plans[op.plan];
        let qkv_stride = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
        let layer = AttentionLayer {
            layer: op.layer,
            q_norm: op.q_norm.as_deref(),
            k_norm: op.k_norm.as_deref(),
            norm_eps: op.norm_eps,
            rope: op.rope.map_or(&self.no_rope, |index| &self.ropes[index]),
            qkv: self.matrix(from, qkv_stride).base(),
            qkv_stride,
            out: self.floats(to).base(),
            out_stride: to.width,
            arena: self.arena,
        };
        // SAFETY: the plan was made for this batch, layout and arena; each thread uses its own
        // number; the loops' barriers keep storing before attending, and attending before the next
        // step.
        unsafe {
            if plan.num_store_items() > 0 {
                worker.for_each(plan.num_store_items(), |item| store_kv(plan, &layer, item));
            }
            worker.for_each(plan.num_attend_items(), |item| {
                attend(plan, &layer, self.attention, worker.id(), item);
            });
        }
    }
}

/// One panel's outputs; zeros for a panel past the end, which fills up an odd pair.
fn block<'s>(
    isa: Isa,
    weight: &GroupLinear,
    panel: usize,
    quant: &QuantRows,
    first_row: usize,
    count: usize,
    scratch: &'s mut LinearScratch,
) -> &'s [f32] {
    if panel < weight.num_panels() {
        weight.compute(isa, panel, quant, first_row, count, scratch)
    } else {
        scratch.zeros(count)
    }
}

/// Writes a panel's block, adding bias and residual.
unsafe fn store(
    values: &[f32],
    out: Matrix,
    first_row: usize,
    col: usize,
    width: usize,
    bias: Option<&[f32]>,
    residual: Option<Matrix>,
) {
    for (r, values) in values.as_chunks::<PANEL>().0.iter().enumerate() {
        // SAFETY: the caller owns these rows and columns; the residual is an earlier value.
        unsafe {
            let out = out.part(first_row + r, col, width);
            out.copy_from_slice(&values[..width]);
            if let Some(bias) = bias {
                out.iter_mut().zip(&bias[col..]).for_each(|(out, b)| *out += b);
            }
            if let Some(residual) = residual {
                out.iter_mut()
                    .zip(&residual.row(first_row + r)[col..])
                    .for_each(|(out, r)| *out += r);
            }
        }
    }
}
