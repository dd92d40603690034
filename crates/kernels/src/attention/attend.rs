//! One item of attention: its query rows against its splits.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::buffers::{Scratch, PARTIAL_HEADER, SCORE_STRIDE};
use super::plan::AttendItem;
use super::simd::{for_isa, Simd};
use super::softmax::{clear, finish, fold, mask, soft_cap};
use super::sparse::attend_lane;
use super::store::{prepare_head, store_rows};
use super::vector::VectorKernel;
use super::{
    AttentionBuffers, AttentionLayer, AttentionPlan, AttentionShape, ROW_TILE, SPLIT_TOKENS,
};
use crate::kv::{GROUP_TOKENS, MAX_HEAD_DIM};

/// Groups of a split.
pub(super) const SPLIT_GROUPS: usize = SPLIT_TOKENS / GROUP_TOKENS;

/// Up to [`ROW_TILE`] query rows against some groups of a split.
pub(super) struct RowTile<'a> {
    pub plan: &'a AttentionPlan,
    /// First row in the scratch's queries, a multiple of [`ROW_TILE`].
    pub first_query: usize,
    pub num_queries: usize,
    /// Which of the scratch's score buffers is its own.
    pub buffer: usize,
    /// Number of the first group in the sequence.
    pub start: usize,
    /// Start of each group in the arena.
    pub groups: &'a [*const u8],
}

impl RowTile<'_> {
    /// Called before the keys of group `index` are read: asks for the keys of the second group
    /// after it, and for its values. Groups lie scattered, so that the processor does not foresee
    /// them.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: usize) {
        if self.first_query > 0 {
            return; // the first row tile has brought the split into the caches
        }
        let side_bytes = self.plan.layout.side_bytes();
        if let Some(&keys) = self.groups.get(index + 2) {
            prefetch(keys, side_bytes);
        }
        prefetch(self.groups[index].wrapping_add(side_bytes), side_bytes);
    }

    /// Its scores.
    pub(super) fn scores(&self, scratch: &mut Scratch) -> *mut f32 {
        scratch.scores.as_mut_ptr().wrapping_add(self.buffer * ROW_TILE * SCORE_STRIDE)
    }

    /// Keys of the groups.
    pub(super) fn num_keys(&self) -> usize {
        self.groups.len() * GROUP_TOKENS
    }
}

/// Maximum and sum of weights of each row.
pub(super) type Softmax = [(f32, f32); ROW_TILE];

/// The arithmetic of a [`RowTile`].
///
/// # Safety
/// All functions need their instruction set, the row tile's groups to be readable, and a scratch
/// reserved for the plan.
pub(super) trait Kernel {
    /// Vectors for what is not particular to the kernel.
    type S: Simd;

    /// Called at the beginning of an item.
    unsafe fn begin(scratch: &mut Scratch);
    /// Keeps a prepared query as row `row` of the scratch's queries.
    unsafe fn put_query(scratch: &mut Scratch, row: usize, head: &[f32]);
    /// q·k into the scratch's scores, keys from 0.
    unsafe fn scores(tile: &RowTile<'_>, scratch: &mut Scratch);
    /// Turns scores into weights `2^(score * factor - maximum)` and writes the weighted sums of the
    /// values into the scratch's sums; returns the maximum and the sum of the weights of each row.
    /// Computes the scores of `next` meanwhile.
    unsafe fn sums(
        tile: &RowTile<'_>,
        next: Option<&RowTile<'_>>,
        scratch: &mut Scratch,
        factor: f32,
    ) -> Softmax;
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
        #[cfg(target_arch = "x86_64")]
        if plan.uses_bf16_pairs() {
            return attend_bf16(plan, layer, buffers, thread, item);
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
        item: &AttendItem,
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

/// [`attend`] with AVX-512 BF16.
///
/// # Safety
/// As for [`attend`], with AVX-512 BF16 available.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn attend_bf16(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: &AttendItem,
) {
    let kernel = PhantomData::<super::bf16::Bf16Kernel>;
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
    if let Some(lane) = item.lane.filter(|lane| layer.layer >= lane.rule.dense_layers) {
        // SAFETY: the caller's promise.
        return unsafe { attend_lane(kernel, plan, layer, buffers, thread, item, &lane) };
    }
    let result_len = PARTIAL_HEADER + plan.shape.head_dim;
    // SAFETY: the caller's promise; a merge's partial results are the items' own until all have
    // finished.
    unsafe {
        let scratch = buffers.scratch(thread);
        if item.stores {
            store_rows(simd::<K>(), plan, layer, item.sequence, 0, 1, item.kv_head);
        }
        prefetch_split(plan, layer, item, item.first_split);
        K::begin(scratch);
        put_queries(kernel, plan, layer, item, scratch, |_, _| {});
        note_dense(plan, layer, buffers, item);
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
pub(super) fn simd<K: Kernel>() -> K::S {
    K::S::TOKEN
}

/// Notes that a sequence with a rule attends to everything after all. Items that share a head have
/// different ranges of splits: the one that stores notes.
///
/// # Safety
/// As for [`attend`].
unsafe fn note_dense(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    item: &AttendItem,
) {
    let sequence = &plan.sequences[item.sequence];
    let Some((entry, _)) = sequence.sparse.filter(|_| item.stores) else { return };
    let (first, last) = (plan.first_visible(sequence.first_position), sequence.first_position);
    let groups = (last / GROUP_TOKENS + 1 - first / GROUP_TOKENS) as f32;
    for head in item.kv_head * plan.group()..(item.kv_head + 1) * plan.group() {
        // SAFETY: one item of the layer stores for this sequence and KV head.
        unsafe { buffers.note(entry, layer.layer, head, [groups, groups, 1.0, 1.0]) };
    }
}

/// Norms and rotates the item's queries; `also` gets each one's number and numbers.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
pub(super) unsafe fn put_queries<K: Kernel>(
    _: PhantomData<K>,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    item: &AttendItem,
    scratch: &mut Scratch,
    mut also: impl FnMut(usize, &[f32]),
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
            also(query, head);
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
    let row_tile = |index: usize| {
        let first_query = index * ROW_TILE;
        let num_queries = ROW_TILE.min(item.num_queries - first_query);
        let start = (plan.first_visible(position(first_query)) / GROUP_TOKENS).max(split_start);
        let end = (position(first_query + num_queries - 1) / GROUP_TOKENS + 1).min(split_end);
        let groups =
            if start < end { &groups[start - split_start..end - split_start] } else { &[] };
        RowTile { plan, first_query, num_queries, buffer: index % 2, start, groups }
    };
    let num_tiles = item.num_queries.div_ceil(ROW_TILE);
    // The tiles that see anything of the split are consecutive, for positions ascend.
    let mut tile = (0..num_tiles).find(|&index| !row_tile(index).groups.is_empty());
    if let Some(index) = tile {
        // SAFETY: the caller's promise; the groups are those above.
        unsafe {
            K::scores(&row_tile(index), scratch);
            prefetch_split(plan, layer, item, split + 1);
        }
    }
    while let Some(index) = tile {
        let next =
            Some(index + 1).filter(|&next| next < num_tiles && !row_tile(next).groups.is_empty());
        let (this, following) = (row_tile(index), next.map(row_tile));
        // SAFETY: as above; results have room for all queries.
        unsafe {
            let factor = finish_scores::<K::S>(&this, scratch, position);
            let softmax = K::sums(&this, following.as_ref(), scratch, factor);
            let results =
                scratch.results.as_mut_ptr().add(this.first_query * (PARTIAL_HEADER + head_dim));
            let sums = scratch.sums.as_mut_ptr();
            for row in 0..this.num_queries {
                let (maximum, sum) = softmax[row];
                let result = results.add(row * (PARTIAL_HEADER + head_dim));
                fold::<K::S>(result, maximum, sum, sums.add(row * head_dim), head_dim);
            }
        }
        tile = next;
    }
}

/// Asks for the first keys of a split, if the item has it, which nothing else announces to the
/// caches.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
unsafe fn prefetch_split(
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    item: &AttendItem,
    split: usize,
) {
    if split >= item.end_split {
        return;
    }
    let sequence = &plan.sequences[item.sequence];
    let position = |query: usize| sequence.first_position + query / plan.group();
    let start = plan.first_visible(position(item.first_query)) / GROUP_TOKENS;
    let start = start.max(split * SPLIT_GROUPS);
    let end = position(item.first_query + item.num_queries - 1) / GROUP_TOKENS + 1;
    for group in start..end.min(start + 2) {
        let offset = plan.group_offset(sequence, layer.layer, item.kv_head, group);
        // SAFETY: the plan's blocks lie in the arena by the caller's promise.
        prefetch(unsafe { layer.arena.add(offset) }, plan.layout.side_bytes());
    }
}

/// Asks for memory that will be read soon.
#[inline(always)]
pub(super) fn prefetch(start: *const u8, len_bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len_bytes).step_by(64) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: prefetching has no effect but on speed, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len_bytes);
}

/// Caps and masks the scores of a row tile; returns what is left to multiply them with.
///
/// # Safety
/// As for [`attend`]; the tile's scores must be there.
#[inline(always)]
unsafe fn finish_scores<S: Simd>(
    tile: &RowTile<'_>,
    scratch: &mut Scratch,
    position: impl Fn(usize) -> usize,
) -> f32 {
    let AttentionShape { scale, softcap, window, .. } = tile.plan.shape;
    let (start, num_keys) = (tile.start * GROUP_TOKENS, tile.num_keys());
    let hides_some = window.is_some() || position(tile.first_query) + 1 < start + num_keys;
    for row in 0..tile.num_queries {
        let scores = tile.scores(scratch).wrapping_add(row * SCORE_STRIDE);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(cap) = softcap {
                soft_cap::<S>(scores, num_keys, scale / cap, cap);
            }
            if hides_some {
                let position = position(tile.first_query + row);
                let first = tile.plan.first_visible(position).saturating_sub(start);
                mask(scores, num_keys, first..(position + 1).saturating_sub(start));
            }
        }
    }
    softcap.map_or(scale, |_| 1.0) * std::f32::consts::LOG2_E
}

/// Writes the output rows of the item's queries.
///
/// # Safety
/// As for [`attend`]; `results` must hold the results of all queries of the item.
#[inline(always)]
pub(super) unsafe fn write_out<S: Simd>(
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
