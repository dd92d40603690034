//! One lane: scan the summaries, attend to what is always attended to, then chunk by chunk to what
//! was chosen.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::super::attend::{prefetch, put_queries, simd, write_out, Kernel, RowTile};
use super::super::buffers::{Scratch, PARTIAL_HEADER, SCORE_STRIDE};
use super::super::plan::{AttendItem, Sequence};
use super::super::softmax::{clear, fold, mask, mass, maximum, soft_cap, NO_MAXIMUM};
use super::super::store::store_rows;
use super::super::{AttentionBuffers, AttentionLayer, AttentionPlan, ROW_TILE};
use super::choose::{choose, Source};
use super::{Lane, Selector};
use crate::kv::GROUP_TOKENS;

/// Groups of a chunk of progressive attention. The stop rule looks at the last four groups.
pub(super) const CHUNK_GROUPS: usize = 4;
/// Groups that are attended to together otherwise.
pub(super) const MAX_GROUPS: usize = 8;
/// Numbers of a result's header behind its maximum and sum, all relative to the maximum: the weight
/// that the stop rule expects in what was left out, and that the audit found in it.
const EXPECTED: usize = 2;
const FOUND: usize = 3;
/// Groups read.
const READ: usize = 4;

/// Numbers of some groups of a sequence.
#[derive(Clone, Copy, Default)]
pub(super) struct Groups {
    numbers: [usize; MAX_GROUPS],
    len: usize,
}

impl Groups {
    /// Adds one; there must be room.
    pub fn push(&mut self, group: usize) {
        self.numbers[self.len] = group;
        self.len += 1;
    }

    pub fn as_slice(&self) -> &[usize] {
        &self.numbers[..self.len]
    }

    pub fn as_mut_slice(&mut self) -> &mut [usize] {
        &mut self.numbers[..self.len]
    }
}

/// What an item of a sparse layer works on.
pub(super) struct View<'a> {
    pub plan: &'a AttentionPlan,
    pub layer: &'a AttentionLayer<'a>,
    pub item: &'a AttendItem,
    pub lane: Lane,
    pub sequence: Sequence,
    /// The group that the token itself lies in.
    pub open: usize,
}

/// Maximum and sum of weights, for each query.
type Weights = [(f32, f32); ROW_TILE];

impl View<'_> {
    /// Start of a group in the arena.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn group(&self, group: usize) -> *const u8 {
        let (layer, kv_head) = (self.layer.layer, self.item.kv_head);
        let offset = self.plan.group_offset(&self.sequence, layer, kv_head, group);
        // SAFETY: the plan's blocks lie in the arena by the caller's promise.
        unsafe { self.layer.arena.add(offset) }
    }

    /// What scores are multiplied with, once they were capped.
    #[inline(always)]
    pub fn factor(&self) -> f32 {
        self.plan.shape.softcap.map_or(self.plan.shape.scale, |_| 1.0) * std::f32::consts::LOG2_E
    }

    /// Asks for the keys of groups.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn announce(&self, groups: &[usize]) {
        for &group in groups {
            // SAFETY: the caller's promise.
            prefetch(unsafe { self.group(group) }, self.plan.layout.side_bytes());
        }
    }

    /// Where groups lie in the arena.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn places(&self, groups: &Groups) -> [*const u8; MAX_GROUPS] {
        let mut places = [std::ptr::null(); MAX_GROUPS];
        for (place, &group) in places.iter_mut().zip(groups.as_slice()) {
            // SAFETY: the caller's promise.
            *place = unsafe { self.group(group) };
        }
        places
    }

    /// The item's queries beside groups that lie at `places`.
    #[inline(always)]
    fn tile<'t>(&'t self, places: &'t [*const u8]) -> RowTile<'t> {
        RowTile {
            plan: self.plan,
            first_query: 0,
            num_queries: self.item.num_queries,
            buffer: 0,
            start: 0,
            groups: places,
        }
    }

    /// The scores of a row tile, capped, and hidden from key `num_visible` on; `ahead` are groups
    /// that will be read next.
    ///
    /// This and its callers pass no closures around: what is in one would be compiled without the
    /// kernel's instruction set.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn score<K: Kernel>(
        &self,
        tile: &RowTile<'_>,
        ahead: &[usize],
        num_visible: usize,
        scratch: &mut Scratch,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            K::scores(tile, scratch);
            self.announce(ahead);
            for row in 0..tile.num_queries {
                let scores = tile.scores(scratch).add(row * SCORE_STRIDE);
                if let Some(cap) = self.plan.shape.softcap {
                    let factor = self.plan.shape.scale / cap;
                    soft_cap::<K::S>(scores, tile.num_keys(), factor, cap);
                }
                if num_visible < tile.num_keys() {
                    mask(scores, tile.num_keys(), 0..num_visible);
                }
            }
        }
    }

    /// Folds groups into the scratch's results; returns their weights.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn attend<K: Kernel>(
        &self,
        groups: &Groups,
        ahead: &[usize],
        num_visible: usize,
        scratch: &mut Scratch,
    ) -> Weights {
        let head_dim = self.plan.shape.head_dim;
        // SAFETY: the caller's promise.
        unsafe {
            let places = self.places(groups);
            let tile = self.tile(&places[..groups.len]);
            self.score::<K>(&tile, ahead, num_visible, scratch);
            let softmax = K::sums(&tile, None, scratch, self.factor());
            let (results, sums) = (scratch.results.as_mut_ptr(), scratch.sums.as_mut_ptr());
            for row in 0..tile.num_queries {
                let (maximum, sum) = softmax[row];
                let result = results.add(row * (PARTIAL_HEADER + head_dim));
                fold::<K::S>(result, maximum, sum, sums.add(row * head_dim), head_dim);
            }
            softmax
        }
    }

    /// The weights of groups, of which only the keys are read.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn weights<K: Kernel>(&self, groups: &Groups, scratch: &mut Scratch) -> Weights {
        let mut weights = Weights::default();
        // SAFETY: the caller's promise.
        unsafe {
            let places = self.places(groups);
            let tile = self.tile(&places[..groups.len]);
            self.score::<K>(&tile, &[], tile.num_keys(), scratch);
            for row in 0..tile.num_queries {
                let scores = tile.scores(scratch).add(row * SCORE_STRIDE);
                let largest = maximum::<K::S>(scores, tile.num_keys(), self.factor());
                let sum = mass::<K::S>(scores, tile.num_keys(), self.factor(), largest);
                weights[row] = (largest, sum);
            }
        }
        weights
    }

    /// The result of a query so far.
    ///
    /// # Safety
    /// As for [`attend_lane`].
    #[inline(always)]
    unsafe fn result(&self, scratch: &mut Scratch, query: usize) -> *mut f32 {
        let place = query * (PARTIAL_HEADER + self.plan.shape.head_dim);
        // SAFETY: the scratch has results for all queries of an item.
        unsafe { scratch.results.as_mut_ptr().add(place) }
    }
}

/// What weight `w` is beside a maximum.
#[inline(always)]
fn relative((maximum, sum): (f32, f32), to: f32) -> f32 {
    if maximum == to {
        return sum;
    }
    sum * (maximum - to).exp2()
}

/// One lane of a sequence that does not attend to everything in this layer.
///
/// # Safety
/// As for [`attend`](super::super::attend).
#[inline(always)]
pub(in super::super) unsafe fn attend_lane<K: Kernel>(
    kernel: PhantomData<K>,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    buffers: &AttentionBuffers,
    thread: usize,
    item: &AttendItem,
    lane: &Lane,
) {
    let sequence = plan.sequences[item.sequence];
    let open = sequence.first_position / GROUP_TOKENS;
    let view = View { plan, layer, item, lane: *lane, sequence, open };
    // SAFETY: the caller's promise; each thread has a scratch of its own.
    unsafe {
        let scratch = buffers.scratch(thread);
        if item.stores {
            store_rows(simd::<K>(), plan, layer, item.sequence, 0, 1, item.kv_head);
        }
        view.announce(&[0, open - 1]);
        K::begin(scratch);
        let queries = scratch.sparse.queries.as_mut_ptr();
        let sizes = scratch.sparse.sizes.as_mut_ptr();
        put_queries(kernel, plan, layer, item, scratch, |query, head| {
            for (dim, &x) in head.iter().enumerate() {
                *queries.add(query * head.len() + dim) = x;
                *sizes.add(query * head.len() + dim) = x.abs();
            }
        });
        for query in 0..item.num_queries {
            clear(view.result(scratch, query), plan.shape.head_dim);
        }
        let mut source = choose::<K::S>(&view, &mut scratch.sparse);
        walk::<K>(&view, &mut source, scratch);
        finish_lane::<K>(&view, buffers, scratch);
    }
}

/// Attends to what is always attended to, then to what `source` has until that is enough, and
/// leaves the numbers of the header in the results.
///
/// # Safety
/// As for [`attend_lane`].
#[inline(always)]
unsafe fn walk<K: Kernel>(view: &View<'_>, source: &mut Source, scratch: &mut Scratch) {
    let is_progressive = view.lane.rule.selector == Selector::Progressive;
    let mut chunk = source.take(&mut scratch.sparse);
    // SAFETY: the caller's promise.
    unsafe {
        let shared = attend_fixed::<K>(view, chunk.as_slice(), scratch);
        let (mut num_left, mut num_read) = (source.num_candidates(&scratch.sparse), 0);
        let mut last = ([(NO_MAXIMUM, 0.0); ROW_TILE], 1);
        while !chunk.as_slice().is_empty() {
            let next = source.take(&mut scratch.sparse);
            let ahead = &next.as_slice()[..next.len.min(2)];
            last = (view.attend::<K>(&chunk, ahead, chunk.len * GROUP_TOKENS, scratch), chunk.len);
            num_left -= chunk.len;
            num_read += chunk.len;
            chunk = next;
            if is_progressive && is_enough(view, &shared, &last, num_left, scratch) {
                break;
            }
        }
        for query in 0..view.item.num_queries {
            let result = view.result(scratch, query);
            let each = relative(last.0[query], *result) / last.1 as f32;
            *result.add(EXPECTED) = if is_progressive { each * num_left as f32 } else { f32::NAN };
            *result.add(READ) = (num_read + if view.item.stores { 3 } else { 0 }) as f32;
        }
        if view.lane.rule.audit {
            audit::<K>(view, source, chunk, scratch);
        }
    }
}

/// Attends to the first, the last full and the open group if this lane stores, and returns what
/// weight this lane may take as its own of the first two beyond what is in its results: all lanes
/// share it, for it would be arbitrary which of them may stop because of it.
///
/// # Safety
/// As for [`attend_lane`].
#[inline(always)]
unsafe fn attend_fixed<K: Kernel>(
    view: &View<'_>,
    ahead: &[usize],
    scratch: &mut Scratch,
) -> Weights {
    let (lanes, open) = (view.lane.count as f32, view.open);
    let mut groups = Groups::default();
    groups.push(0);
    groups.push(open - 1);
    // SAFETY: the caller's promise.
    unsafe {
        let mut shared = Weights::default();
        if view.lane.count > 1 {
            let part = if view.item.stores { 1.0 / lanes - 1.0 } else { 1.0 / lanes };
            shared = view.weights::<K>(&groups, scratch);
            shared.iter_mut().for_each(|(_, sum)| *sum *= part);
        }
        if view.item.stores {
            groups.push(open);
            let num_visible = 2 * GROUP_TOKENS + view.sequence.first_position % GROUP_TOKENS + 1;
            view.announce(&ahead[..ahead.len().min(2)]);
            view.attend::<K>(&groups, &[], num_visible, scratch);
        } else {
            view.announce(&ahead[..ahead.len().min(2)]);
        }
        shared
    }
}

/// Whether, for every query, the candidates that are left weigh no more than 1 - epsilon of the
/// whole if each weighs as much as those of the last chunk (our reading of PSA's verification).
///
/// # Safety
/// As for [`attend_lane`].
#[inline(always)]
unsafe fn is_enough(
    view: &View<'_>,
    shared: &Weights,
    (last, len): &(Weights, usize),
    num_left: usize,
    scratch: &mut Scratch,
) -> bool {
    let epsilon = view.lane.rule.epsilon;
    (0..view.item.num_queries).all(|query| {
        // SAFETY: the caller's promise.
        let (maximum, sum) = unsafe {
            let result = view.result(scratch, query);
            (*result, *result.add(1))
        };
        let kept = sum + relative(shared[query], maximum);
        let rest = relative(last[query], maximum) / *len as f32 * num_left as f32;
        kept * (1.0 - epsilon) >= epsilon * rest
    })
}

/// Finds out what was left out.
///
/// # Safety
/// As for [`attend_lane`].
#[inline(always)]
unsafe fn audit<K: Kernel>(
    view: &View<'_>,
    source: &Source,
    untouched: Groups,
    scratch: &mut Scratch,
) {
    let mut rest = source.rest(&scratch.sparse);
    rest.extend_from_slice(untouched.as_slice());
    rest.sort_unstable();
    for part in rest.chunks(MAX_GROUPS) {
        let mut groups = Groups::default();
        part.iter().for_each(|&group| groups.push(group));
        // SAFETY: the caller's promise.
        unsafe {
            let weights = view.weights::<K>(&groups, scratch);
            for (query, &weights) in weights[..view.item.num_queries].iter().enumerate() {
                let result = view.result(scratch, query);
                *result.add(FOUND) += relative(weights, *result);
            }
        }
    }
}

/// Writes the output, or leaves the result to the last lane.
///
/// # Safety
/// As for [`attend_lane`].
#[inline(always)]
unsafe fn finish_lane<K: Kernel>(
    view: &View<'_>,
    buffers: &AttentionBuffers,
    scratch: &mut Scratch,
) {
    let (plan, num_queries) = (view.plan, view.item.num_queries);
    let head_dim = plan.shape.head_dim;
    let result_len = PARTIAL_HEADER + head_dim;
    // SAFETY: the caller's promise; a merge's partial results are the items' own until all have
    // finished.
    unsafe {
        let own = scratch.results.as_mut_ptr();
        let Some(merge) = view.item.merge.map(|merge| &plan.merges[merge]) else {
            note(view, buffers, own, 1);
            return write_out::<K::S>(plan, view.layer, view.item, own);
        };
        let results = buffers.partials().add(merge.first_partial * result_len);
        let place = results.add(view.lane.index * num_queries * result_len);
        std::ptr::copy_nonoverlapping(own, place, num_queries * result_len);
        if merge.num_finished.fetch_add(1, Ordering::AcqRel) + 1 < merge.num_items {
            return;
        }
        merge.num_finished.store(0, Ordering::Relaxed);
        note(view, buffers, results, view.lane.count);
        for lane in 1..view.lane.count {
            for query in 0..num_queries {
                let next = results.add((lane * num_queries + query) * result_len);
                let sums = next.add(PARTIAL_HEADER);
                let result = results.add(query * result_len);
                fold::<K::S>(result, *next, *next.add(1), sums, head_dim);
            }
        }
        write_out::<K::S>(plan, view.layer, view.item, results);
    }
}

/// Notes what all lanes read and kept.
///
/// # Safety
/// As for [`attend_lane`]; `results` are those of `num_lanes`, not yet folded.
#[inline(always)]
unsafe fn note(view: &View<'_>, buffers: &AttentionBuffers, results: *const f32, num_lanes: usize) {
    let Some((entry, rule)) = view.sequence.sparse else { return };
    let (num_queries, head_dim) = (view.item.num_queries, view.plan.shape.head_dim);
    let at = |lane: usize, query: usize, field: usize| {
        let place = (lane * num_queries + query) * (PARTIAL_HEADER + head_dim) + field;
        // SAFETY: the caller's promise.
        unsafe { *results.add(place) }
    };
    for query in 0..num_queries {
        let maximum = (0..num_lanes).map(|lane| at(lane, query, 0)).fold(NO_MAXIMUM, f32::max);
        let sum = |field| -> f32 {
            let weight = |lane| (at(lane, query, 0), at(lane, query, field));
            (0..num_lanes).map(|lane| relative(weight(lane), maximum)).sum()
        };
        let (kept, found) = (sum(1), if rule.audit { sum(FOUND) } else { f32::NAN });
        let numbers = [
            (0..num_lanes).map(|lane| at(lane, query, READ)).sum(),
            (view.open + 1) as f32,
            kept / (kept + sum(EXPECTED)),
            kept / (kept + found),
        ];
        let head = view.item.kv_head * num_queries + query;
        // SAFETY: one item of the layer notes for this KV head: the only or the last one.
        unsafe { buffers.note(entry, view.layer.layer, head, numbers) };
    }
}
