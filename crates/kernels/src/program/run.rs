//! What each step does. A step's items touch disjoint parts of its destination; its loop ends in a
//! barrier.

use std::ops::Range;

use super::exec::{Matrix, Run, ThreadScratch};
use super::skip::{Cut, Place};
use super::steps::{AttentionStep, Dest, Domain, Slot, Source, Step};
use super::{Activation, SharedWeight, Weight};
use crate::activation::{add_row, gated_row, softcap_row};
use crate::attention::{attend, store as store_kv, AttentionLayer};
use crate::float::{Epilogue, FloatLinear};
use crate::isa::Isa;
use crate::linear::{
    gate_group, gate_rows, put_block, BlockPlace, LinearScratch, QuantInput, QuantLinear, GROUP,
    PANEL, ROW_BLOCK, TILE_ROWS,
};
use crate::norm::rms_norm_row;
use crate::threads::Worker;

/// Items of a loop for each thread, where there is a choice: enough to even out, few enough to cost
/// nothing.
const ITEMS_PER_THREAD: usize = 6;
/// From this many rows for each thread on, threads take blocks of rows instead of columns.
const MIN_ROWS_PER_THREAD: usize = 24;
/// Most rows of such a block: their values fit the second-level cache.
const MAX_BLOCK_ROWS: usize = 256;
/// The same where some rows have less to do than others.
const MIXED_BLOCK_ROWS: usize = 64;

/// Who does a step: all threads together on all rows, or this thread alone on a block of rows.
struct Scope<'a, 'w> {
    worker: &'a Worker<'w>,
    block: Option<Range<usize>>,
    /// The rows that need the step, if not all do.
    cut: Option<&'a Cut>,
}

impl Scope<'_, '_> {
    /// Calls `body` for each item, or for this thread's share of them; then they are all done.
    fn for_each(&self, num_items: usize, body: impl FnMut(usize)) {
        match self.block {
            Some(_) => (0..num_items).for_each(body),
            None => self.worker.for_each(num_items, body),
        }
    }
}

impl Run<'_> {
    /// Rows that a thread takes at once through a run of row-wise steps; `None` where there are too
    /// few rows and the threads share the columns of each step instead.
    pub(super) fn block_rows(&self) -> Option<usize> {
        let (rows, threads) = (self.batch.num_rows(), self.program.num_threads());
        if rows < MIN_ROWS_PER_THREAD * threads {
            return None;
        }
        let most = if self.skipping.is_mixed() { MIXED_BLOCK_ROWS } else { MAX_BLOCK_ROWS };
        let rounds = rows.div_ceil(threads * most);
        Some(rows.div_ceil(threads * rounds).next_multiple_of(TILE_ROWS))
    }

    /// Runs this thread's share of a segment, which is the steps `steps` of the program.
    ///
    /// # Safety
    /// All threads of the pool call this for the same segments in the same order, with the same
    /// `block_rows`.
    pub(super) unsafe fn segment(
        &self,
        steps: Range<usize>,
        block_rows: Option<usize>,
        worker: &Worker<'_>,
    ) {
        let num_rows = self.batch.num_rows();
        match block_rows {
            // A block's values stay in its thread's cache from step to step, and nobody waits
            // between them.
            Some(size) if self.program.steps[steps.start].is_row_wise() => {
                worker.for_each(num_rows.div_ceil(size), |block| {
                    let block = block * size..num_rows.min((block + 1) * size);
                    // SAFETY: blocks have disjoint rows, of whole tiles.
                    steps.clone().for_each(|step| unsafe {
                        self.placed_step(step, Some(block.clone()), worker);
                    });
                });
            }
            // SAFETY: every step ends with all its items done.
            _ => steps.for_each(|step| unsafe { self.placed_step(step, None, worker) }),
        }
    }

    /// Runs step number `index` over the rows of `block`, or with all threads over all, as far as
    /// they need its sublayer, and does what is to be done behind that.
    ///
    /// # Safety
    /// As for [`Run::step`].
    unsafe fn placed_step(&self, index: usize, block: Option<Range<usize>>, worker: &Worker<'_>) {
        let (step, place) = (&self.program.steps[index], self.program.places[index]);
        let cut = place.and_then(|place| self.skipping.of(place.sublayer));
        let scope = Scope { worker, block, cut };
        let is_idle = cut.is_some() && self.rows_in(step.to().domain, &scope).is_empty();
        if !is_idle {
            // SAFETY: the caller's promise.
            unsafe { self.step(step, &scope) };
        } else if let Step::Attention { op, .. } = step {
            // What others write must not outlast the run.
            self.aside.missing(self.program.layout.layer_range(op.layer).end);
        }
        let Some(Place { sublayer, is_end: true }) = place else { return };
        if self.skipping.has_epilogue(sublayer) {
            // SAFETY: the step above ended with all its items done.
            unsafe { self.finish_sublayer(sublayer, &Scope { cut: None, ..scope }) };
        }
    }

    /// Writes the output of a sublayer for the rows that leave it out, and measures the others.
    ///
    /// # Safety
    /// As for [`Run::step`].
    unsafe fn finish_sublayer(&self, index: usize, scope: &Scope<'_, '_>) {
        let sublayer = &self.program.sublayers[index];
        let (input, out) =
            (self.matrix(sublayer.input, sublayer.to.width), self.floats(&sublayer.to));
        let rows = self.rows_in(sublayer.to.domain, scope);
        scope.for_each(rows.len(), |item| {
            let row = rows.start + item;
            // SAFETY: each row is one item.
            unsafe {
                let is_written =
                    self.skipping.finish((index, sublayer), &self.batch, row, input, out);
                if let (true, Some(quant)) = (is_written, self.quant(&sublayer.to)) {
                    quant.quantize_row(self.program.isa, row, out.row(row));
                }
            }
        });
    }

    /// The rows of `scope` that a step does, whose result has rows of that kind.
    fn rows_in(&self, domain: Domain, scope: &Scope<'_, '_>) -> Range<usize> {
        let num_rows = match (domain, scope.cut) {
            (Domain::Tokens, Some(cut)) => cut.num_rows,
            (Domain::Logits, Some(cut)) => cut.num_logits,
            (_, None) => self.num_rows(domain),
        };
        let block = scope.block.clone().unwrap_or(0..num_rows);
        block.start.min(num_rows)..block.end.min(num_rows)
    }

    /// Runs `step` in `scope`.
    ///
    /// # Safety
    /// As for [`Run::segment`]; what the step reads is finished, and nobody else does the rows of
    /// `scope`.
    unsafe fn step(&self, step: &Step, scope: &Scope<'_, '_>) {
        // SAFETY: the caller's promise; this worker holds no other borrow of its scratch.
        unsafe {
            let scratch = self.program.threads.get(scope.worker);
            match step {
                Step::Embed { table, factor, to } => self.embed(table, *factor, to, scope),
                Step::Norm { from, weight, eps, residual, to } => {
                    self.norm(*from, weight, *eps, *residual, to, scope, scratch);
                }
                Step::Quantize { from, to } => self.quantize(*from, to, scope),
                Step::Linear { from, parts, bias, residual, to } => {
                    let residual = residual.map(|slot| self.matrix(slot, to.width));
                    let add = Addends { bias: bias.as_deref(), residual };
                    self.linear(*from, parts, add, to, scope, scratch);
                }
                Step::GatedLinear { from, gate, up, activation, to } => {
                    self.gated_linear(*from, [gate, up], *activation, to, scope, scratch);
                }
                Step::Gated { from, activation, to } => {
                    let from = self.matrix(*from, 2 * to.width);
                    self.rows(to, scope, |row, out| {
                        gated_row(self.program.isa, from.row(row), *activation, out);
                    });
                }
                Step::Add { a, b, to } => {
                    let (a, b) = (self.matrix(*a, to.width), self.matrix(*b, to.width));
                    self.rows(to, scope, |row, out| {
                        out.copy_from_slice(a.row(row));
                        add_row(self.program.isa, b.row(row), out);
                    });
                }
                Step::LogitRows { from, to } => {
                    let from = self.matrix(*from, to.width);
                    self.rows(to, scope, |row, out| {
                        out.copy_from_slice(from.row(self.batch.logit_rows[row] as usize));
                    });
                }
                Step::Softcap { from, cap, to } => {
                    let from = self.matrix(*from, to.width);
                    self.rows(to, scope, |row, out| {
                        out.copy_from_slice(from.row(row));
                        softcap_row(self.program.isa, out, *cap);
                    });
                }
                Step::Attention { from, op, to } => self.attend(*from, op, to, scope),
            }
        }
    }

    /// Calls `body` with each row's number and its floats in `to`.
    unsafe fn rows(
        &self,
        to: &Dest,
        scope: &Scope<'_, '_>,
        mut body: impl FnMut(usize, &mut [f32]),
    ) {
        let out = self.floats(to);
        let rows = self.rows_in(to.domain, scope);
        scope.for_each(rows.len(), |item| {
            let row = rows.start + item;
            // SAFETY: each row is one item.
            body(row, unsafe { out.part(row, 0, to.width) });
        });
    }

    unsafe fn embed(&self, table: &SharedWeight, factor: f32, to: &Dest, scope: &Scope<'_, '_>) {
        // SAFETY: forwarded; the batch's tokens were checked against the table.
        unsafe {
            self.rows(to, scope, |row, out| {
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
        scope: &Scope<'_, '_>,
        scratch: &mut ThreadScratch,
    ) {
        let (from, out) = (self.matrix(from, to.width), self.floats(to));
        let residual = residual.map(|slot| self.matrix(slot, to.width));
        let isa = self.program.isa;
        let rows = self.rows_in(to.domain, scope);
        scope.for_each(rows.len(), |item| {
            let row = rows.start + item;
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
                    quant.quantize_row(isa, row, y);
                }
            }
        });
    }

    unsafe fn quantize(&self, from: Slot, to: &Dest, scope: &Scope<'_, '_>) {
        let from = self.matrix(from, to.width);
        let quant = self.quant(to).expect("a quantise step has quantised rows to write");
        let rows = self.rows_in(to.domain, scope);
        scope.for_each(rows.len(), |item| {
            let row = rows.start + item;
            // SAFETY: each row is one item.
            unsafe { quant.quantize_row(self.program.isa, row, from.row(row)) };
        });
    }

    unsafe fn linear(
        &self,
        from: Source,
        parts: &[SharedWeight],
        add: Addends<'_>,
        to: &Dest,
        scope: &Scope<'_, '_>,
        scratch: &mut ThreadScratch,
    ) {
        let rows = self.rows_in(to.domain, scope);
        let row_blocks = rows.len().div_ceil(ROW_BLOCK);
        let chunk = self.panels_per_item(to.width.div_ceil(PANEL), row_blocks);
        let items_of = |part: &SharedWeight| match &**part {
            Weight::Quant(weight) => weight.num_panels().div_ceil(chunk) * row_blocks,
            Weight::Float(weight) => weight.num_items(rows.len()),
        };
        let out = self.floats(to);
        scope.for_each(parts.iter().map(items_of).sum(), |index| {
            let (mut item, mut col) = (index, 0);
            for part in parts {
                let count = items_of(part);
                if item >= count {
                    item -= count;
                    col += part.rows();
                    continue;
                }
                // SAFETY: items write disjoint parts of the rows of `scope`.
                unsafe {
                    match &**part {
                        Weight::Quant(weight) => {
                            let panels = count / row_blocks;
                            let first = rows.start + item / panels * ROW_BLOCK;
                            let block = first..rows.end.min(first + ROW_BLOCK);
                            let first = item % panels * chunk;
                            let panels = first..weight.num_panels().min(first + chunk);
                            let scratch = &mut scratch.linear[0];
                            self.group_item(from, weight, panels, block, add, out, col, scratch);
                        }
                        Weight::Float(weight) => {
                            self.float_item(from, weight, item, rows.clone(), add.bias, out, col);
                        }
                    }
                }
                return;
            }
        });
        let (Some(residual), true) = (add.residual, parts.iter().any(|part| !part.is_quantized()))
        else {
            return;
        };
        // SAFETY: each row is one item, and the products above are done.
        unsafe {
            self.rows(to, scope, |row, out| {
                let mut first = 0;
                for part in parts {
                    let cols = first..first + part.rows();
                    first = cols.end;
                    if !part.is_quantized() {
                        add_row(self.program.isa, &residual.row(row)[cols.clone()], &mut out[cols]);
                    }
                }
            });
        }
    }

    /// Some panels of a group weight over a block of rows; its outputs begin at column `col`.
    unsafe fn group_item(
        &self,
        from: Source,
        weight: &QuantLinear,
        panels: Range<usize>,
        rows: Range<usize>,
        add: Addends<'_>,
        out: Matrix,
        col: usize,
        scratch: &mut LinearScratch,
    ) {
        let quant = &self.program.quants[from.quant.expect("group weights read codes")];
        scratch.begin();
        for panel in panels {
            let isa = self.program.isa;
            let values = weight.compute(isa, panel, quant, rows.start, rows.len(), scratch);
            let width = PANEL.min(weight.rows() - panel * PANEL);
            // SAFETY: these rows and columns belong to the caller's item.
            unsafe { store(isa, values, out, rows.start, col + panel * PANEL, width, add) };
        }
    }

    /// One item of a float weight, without the residual.
    unsafe fn float_item(
        &self,
        from: Source,
        weight: &FloatLinear,
        item: usize,
        rows: Range<usize>,
        bias: Option<&[f32]>,
        out: Matrix,
        col: usize,
    ) {
        let x = self.matrix(from.slot.expect("float weights read floats"), from.width);
        let bias = bias.map(|bias| &bias[col..col + weight.out_features()]);
        // SAFETY: the rows lie inside both matrices; items write disjoint parts of the output.
        unsafe {
            weight.compute(
                item,
                x.base().add(rows.start * x.stride()),
                x.stride(),
                rows.len(),
                out.base().add(rows.start * out.stride()),
                out.stride(),
                col,
                &Epilogue { bias, residual: None },
            );
        }
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
        scope: &Scope<'_, '_>,
        scratch: &mut ThreadScratch,
    ) {
        let (Weight::Quant(gate), Weight::Quant(up)) = (&**gate, &**up) else {
            unreachable!("only group weights are fused");
        };
        let rows = self.rows_in(to.domain, scope);
        let num_rows = rows.len();
        let quant = &self.program.quants[from.quant.expect("group weights read quantised rows")];
        let groups = to.width.div_ceil(GROUP);
        let row_blocks = num_rows.div_ceil(ROW_BLOCK);
        let chunk = self.panels_per_item(groups, row_blocks);
        let items = groups.div_ceil(chunk);
        let isa = self.program.isa;
        let out = self.floats(to);
        let stride = out.stride();
        scope.for_each(items * row_blocks, |index| {
            let (first_row, item) = (rows.start + index / items * ROW_BLOCK, index % items);
            let count = (rows.end - first_row).min(ROW_BLOCK);
            scratch.linear.iter_mut().for_each(LinearScratch::begin);
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
                // SAFETY: this group of these rows belongs to this item.
                unsafe {
                    if let Some(QuantInput::Group(to)) = self.quant(to) {
                        gate_group(isa, blocks, activation, to, first_row, groups, group);
                    }
                    if !to.quant_only {
                        let out = out.part(first_row, group * GROUP, width).as_mut_ptr();
                        gate_rows(isa, blocks, activation, out, stride, width);
                    }
                }
            }
        });
    }

    unsafe fn attend(&self, from: Slot, op: &AttentionStep, to: &Dest, scope: &Scope<'_, '_>) {
        let worker = scope.worker;
        let plan = &self.plans[scope.cut.map_or(0, |cut| cut.prefix)][op.plan];
        let shape = &self.program.plans[op.plan];
        let width = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
        let (qkv, out) = (self.matrix(from, width), self.floats(to));
        let layer = AttentionLayer {
            layer: op.layer,
            q_norm: op.q_norm.as_deref(),
            k_norm: op.k_norm.as_deref(),
            norm_eps: op.norm_eps,
            rope: op.rope.map_or(&self.no_rope, |index| &self.ropes[index]),
            qkv: qkv.base(),
            qkv_stride: qkv.stride(),
            out: out.base(),
            out_stride: out.stride(),
            arena: self.arena,
        };
        if worker.id() == 0 {
            // SAFETY: the rows were finished behind an earlier barrier.
            unsafe { self.remote.send(op.layer, qkv) };
        }
        let start_s = self.aside.now_s();
        let missing = self.aside.missing(self.program.layout.layer_range(op.layer).end);
        let ready_s = self.aside.now_s();
        // SAFETY: the plan was made for this batch, layout and arena; each thread uses its own
        // number; the loops' barriers keep storing before attending, and attending before the next
        // step. New tokens are stored in blocks that nobody else writes, and of blocks that others
        // write no more is read than gates have told of.
        unsafe {
            if plan.num_store_items() > 0 {
                worker.for_each(plan.num_store_items(), |item| store_kv(plan, &layer, item));
            }
            let local = |item| {
                if !missing.contains(&plan.sequence_of(item)) {
                    attend(plan, &layer, self.attention, worker.id(), item);
                }
            };
            worker.for_each_then(plan.num_attend_items(), local, || {
                if worker.id() == 0 {
                    self.remote.receive(op.layer, out);
                    self.pushes.begin(op.layer);
                }
            });
        }
        if !self.pushes.is_empty() {
            self.pushes.spoil(&missing);
            let range = self.program.layout.layer_range(op.layer);
            // SAFETY: the layer was stored behind an earlier barrier, and is not stored again.
            unsafe { self.pushes.share(op.layer, range, self.arena) };
        }
        if worker.id() == 0 {
            self.aside.note(op.layer, start_s, ready_s, self.aside.now_s());
        }
    }
}

/// One panel's outputs; zeros for a panel past the end, which fills up an odd pair.
fn block<'s>(
    isa: Isa,
    weight: &QuantLinear,
    panel: usize,
    quant: &QuantInput,
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

/// What is added to the products of a linear.
#[derive(Clone, Copy)]
struct Addends<'a> {
    bias: Option<&'a [f32]>,
    residual: Option<Matrix>,
}

/// Writes a panel's block, adding bias and residual.
unsafe fn store(
    isa: Isa,
    values: &[f32],
    out: Matrix,
    first_row: usize,
    col: usize,
    width: usize,
    add: Addends<'_>,
) {
    let bias = add.bias.map(|bias| &bias[col..col + width]);
    // SAFETY: the caller owns these rows and columns; the residual is an earlier value.
    unsafe {
        if width == PANEL {
            let place = |matrix: Matrix| BlockPlace {
                base: matrix.base().add(first_row * matrix.stride() + col),
                stride: matrix.stride(),
            };
            let bias = bias.and_then(|bias| bias.first_chunk::<PANEL>());
            return put_block(isa, values, place(out), bias, add.residual.map(place));
        }
        for (r, values) in values.as_chunks::<PANEL>().0.iter().enumerate() {
            let residual = add.residual.map(|residual| &residual.row(first_row + r)[col..]);
            for (i, out) in out.part(first_row + r, col, width).iter_mut().enumerate() {
                *out = values[i] + bias.map_or(0.0, |bias| bias[i]);
                *out += residual.map_or(0.0, |residual| residual[i]);
            }
        }
    }
}
