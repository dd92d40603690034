//! One item of attention: its query rows against its splits.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::buffers::{Scratch, PARTIAL_HEADER, SCORE_STRIDE};
use super::plan::AttendItem;
use super::simd::{for_isa, Simd};
use super::softmax::{clear, finish, fold, mask, soft_cap};
use super::store::{prepare_head, store_rows};
use super::vector::VectorKernel;
use super::{AttentionBuffers, AttentionLayer, AttentionPlan, ROW_TILE, SPLIT_TOKENS};
use crate::kv::{GROUP_TOKENS, MAX_HEAD_DIM};

/// Groups of a split.
pub(super) const SPLIT_GROUPS: usize = SPLIT_TOKENS / GROUP_TOKENS;

/// Up to [`ROW_TILE`] query rows against some groups of a split.
pub(super) struct RowTile<'a> {
    pub plan: &'a AttentionPlan,
    /// First row in the scratch's queries, a multiple of [`ROW_TILE`].
    pub first_query: usize,
    pub num_queries: usize,
    /// Start of each group in the arena.
    pub groups: &'a [*const u8],
}

impl RowTile<'_> {
    /// Keys of the groups.
    pub(super) fn num_keys(&self) -> usize {
        self.groups.len() * GROUP_TOKENS
    }
}

/// The arithmetic of a [`RowTile`].
///
/// # Safety
/// All functions need their instruction set, the row tile's groups to be readable, and a scratch
/// reserved for the plan.
pub(super) trait Kernel {
    /// Vectors for what is not particular to the kernel.
    type S: Simd;

    /// Called before the first tile of an item.
    unsafe fn begin(num_queries: usize);
    /// Keeps a prepared query as row `row` of the scratch's queries.
    unsafe fn put_query(scratch: &mut Scratch, row: usize, head: &[f32]);
    /// q·k into the scratch's scores, keys from 0.
    unsafe fn scores(tile: &RowTile<'_>, scratch: &mut Scratch);
    /// Turns a row of scores into weights; returns its maximum and sum.
    unsafe fn weights(
        scratch: &mut Scratch,
        row: usize,
        num_keys: usize,
        factor: f32,
    ) -> (f32, f32);
    /// Weighted sums of the values into the scratch's sums.
    unsafe fn sums(tile: &RowTile<'_>, scratch: &mut Scratch);
}

/// Computes one item of the plan and writes its output rows, or leaves them to the last item that
/// shares them.
///
/// # Safety
/// As for [`store`](super::store); `store` must have ended for all items of this layer, `buffers`
/// must have been reserved for the plan, and `thread` be a number below the threads reserved for
/// that no other thread uses.
///
/// # Panics
/// When `item`, `thread` or `layer` is not of this plan.
pub unsafe fn attend(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: usize,
) {
    layer.check(plan);
    let item = &plan.attends[item];
    // SAFETY: the plan was made for an available instruction set; the rest is the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if plan.uses_amx() {
            return attend_amx(plan, layer, buffers, thread, item);
        }
        attend_vector(plan.isa, plan, layer, buffers, thread, item);
    }
}

for_isa!(
    /// [`attend`] in the plan's vectors.
    unsafe fn attend_vector => attend_with_vectors,
    (
        plan: &AttentionPlan,
        layer: &AttentionLayer<'_>,
        buffers: &AttentionBuffers,
        thread: usize,
        item: &AttendItem
    )
);

#[inline(always)]
unsafe fn attend_with_vectors<S: Simd>(
    _: S,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: &AttendItem,
) {
    let kernel = PhantomData::<VectorKernel<S>>;
    // SAFETY: the caller's promise.
    unsafe { attend_item(kernel, plan, layer, buffers, thread, item) }
}

/// [`attend`] with AMX.
///
/// # Safety
/// As for [`attend`], with AMX and AVX-512 BF16 available.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn attend_amx(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: &AttendItem,
) {
    let kernel = PhantomData::<super::amx::AmxKernel>;
    // SAFETY: the caller's promise.
    unsafe { attend_item(kernel, plan, layer, buffers, thread, item) }
}

#[inline(always)]
unsafe fn attend_item<K: Kernel>(
    kernel: PhantomData<K>,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: &AttendItem,
) {
    let result_len = PARTIAL_HEADER + plan.shape.head_dim;
    // SAFETY: the caller's promise; a merge's partial results are the items' own until all have
    // finished.
    unsafe {
        let scratch = buffers.scratch(thread);
        if item.stores {
            store_rows(simd::<K>(), plan, layer, item.sequence, 0, 1, item.kv_head);
        }
        put_queries(kernel, plan, layer, item, scratch);
        let Some(merge) = item.merge.map(|merge| &plan.merges[merge]) else {
            for query in 0..item.num_queries {
                clear(scratch.results.as_mut_ptr().add(query * result_len), plan.shape.head_dim);
            }
            for split in item.first_split..item.end_split {
                attend_split(kernel, plan, layer, item, scratch, split);
            }
            let results = scratch.results.as_mut_ptr();
            write_out::<K::S>(plan, layer, item, results);
            return;
        };
        for split in item.first_split..item.end_split {
            for query in 0..item.num_queries {
                clear(scratch.results.as_mut_ptr().add(query * result_len), plan.shape.head_dim);
            }
            attend_split(kernel, plan, layer, item, scratch, split);
            let partial = merge.first_partial + (split - merge.first_split) * item.num_queries;
            std::ptr::copy_nonoverlapping(
                scratch.results.as_mut_ptr(),
                buffers.partials().add(partial * result_len),
                item.num_queries * result_len,
            );
        }
        if merge.num_finished.fetch_add(1, Ordering::AcqRel) + 1 == merge.num_items {
            merge.num_finished.store(0, Ordering::Relaxed);
            let results = buffers.partials().add(merge.first_partial * result_len);
            for split in 1..merge.end_split - merge.first_split {
                for query in 0..item.num_queries {
                    let next = results.add((split * item.num_queries + query) * result_len);
                    let sums = next.add(PARTIAL_HEADER);
                    let result = results.add(query * result_len);
                    fold::<K::S>(result, *next, *next.add(1), sums, plan.shape.head_dim);
                }
            }
            write_out::<K::S>(plan, layer, item, results);
        }
    }
}

/// The kernel's vectors, as a value.
#[inline(always)]
fn simd<K: Kernel>() -> K::S {
    K::S::TOKEN
}

/// Norms and rotates the item's queries.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
unsafe fn put_queries<K: Kernel>(
    _: PhantomData<K>,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    item: &AttendItem,
    scratch: &mut Scratch,
) {
    let (group, head_dim) = (plan.group(), plan.shape.head_dim);
    let mut head = [0f32; MAX_HEAD_DIM];
    let head = &mut head[..head_dim];
    for query in 0..item.num_queries {
        let (row, member) =
            ((item.first_query + query) / group, (item.first_query + query) % group);
        let batch_row = plan.sequences[item.sequence].first_row + row;
        let place = batch_row * layer.qkv_stride + (item.kv_head * group + member) * head_dim;
        // SAFETY: the caller's promise: row and head lie in qkv.
        unsafe {
            std::ptr::copy_nonoverlapping(layer.qkv.add(place), head.as_mut_ptr(), head_dim);
            prepare_head::<K::S>(head, layer.q_norm, layer.norm_eps, layer.rope, batch_row);
            K::put_query(scratch, query, head);
        }
    }
}

/// Folds one split into the scratch's results of all the item's queries.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
unsafe fn attend_split<K: Kernel>(
    _: PhantomData<K>,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    item: &AttendItem,
    scratch: &mut Scratch,
    split: usize,
) {
    let sequence = &plan.sequences[item.sequence];
    let (group_size, head_dim) = (plan.group(), plan.shape.head_dim);
    let position = |query: usize| sequence.first_position + (item.first_query + query) / group_size;
    // Groups of this split that the first query to see any, and the last, see.
    let first = plan.first_visible(position(0)) / GROUP_TOKENS;
    let last = position(item.num_queries - 1) / GROUP_TOKENS;
    let (split_start, split_end) = (split * SPLIT_GROUPS, (split + 1) * SPLIT_GROUPS);
    let mut groups = [std::ptr::null::<u8>(); SPLIT_GROUPS];
    for group in first.max(split_start)..split_end.min(last + 1) {
        let offset = plan.group_offset(sequence, layer.layer, item.kv_head, group);
        // SAFETY: the plan's blocks lie in the arena by the caller's promise.
        groups[group - split_start] = unsafe { layer.arena.add(offset) };
    }
    for first_query in (0..item.num_queries).step_by(ROW_TILE) {
        let num_queries = ROW_TILE.min(item.num_queries - first_query);
        let start = (plan.first_visible(position(first_query)) / GROUP_TOKENS).max(split_start);
        let end = (position(first_query + num_queries - 1) / GROUP_TOKENS + 1).min(split_end);
        if start >= end {
            continue;
        }
        let groups = &groups[start - split_start..end - split_start];
        let tile = RowTile { plan, first_query, num_queries, groups };
        // SAFETY: the caller's promise; the groups are those above.
        unsafe {
            K::begin(num_queries);
            K::scores(&tile, scratch);
            let mut softmax = [(0f32, 0f32); ROW_TILE];
            for row in 0..num_queries {
                let position = position(first_query + row);
                let key = |position: usize| position.saturating_sub(start * GROUP_TOKENS);
                let visible = key(plan.first_visible(position))..key(position + 1);
                let scores = scratch.scores.as_mut_ptr().add(row * SCORE_STRIDE);
                let mut factor = plan.shape.scale * std::f32::consts::LOG2_E;
                if let Some(cap) = plan.shape.softcap {
                    soft_cap::<K::S>(scores, tile.num_keys(), plan.shape.scale / cap, cap);
                    factor = std::f32::consts::LOG2_E;
                }
                mask(scores, tile.num_keys(), visible);
                softmax[row] = K::weights(scratch, row, tile.num_keys(), factor);
            }
            K::sums(&tile, scratch);
            for row in 0..num_queries {
                let result = scratch
                    .results
                    .as_mut_ptr()
                    .add((first_query + row) * (PARTIAL_HEADER + head_dim));
                let sums = scratch.sums.as_mut_ptr().add(row * head_dim);
                fold::<K::S>(result, softmax[row].0, softmax[row].1, sums, head_dim);
            }
        }
    }
}

/// Writes the output rows of the item's queries.
///
/// # Safety
/// As for [`attend`]; `results` must hold the results of all queries of the item.
#[inline(always)]
unsafe fn write_out<S: Simd>(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    item: &AttendItem,
    results: *const f32,
) {
    let (group, head_dim) = (plan.group(), plan.shape.head_dim);
    for query in 0..item.num_queries {
        let (row, member) =
            ((item.first_query + query) / group, (item.first_query + query) % group);
        let batch_row = plan.sequences[item.sequence].first_row + row;
        // SAFETY: the caller's promise: row and head lie in the output.
        unsafe {
            let out = layer
                .out
                .add(batch_row * layer.out_stride + (item.kv_head * group + member) * head_dim);
            finish::<S>(results.add(query * (PARTIAL_HEADER + head_dim)), out, head_dim);
        }
    }
}
