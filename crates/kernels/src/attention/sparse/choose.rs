//! Which groups a lane attends to, and in which order.

use std::ops::Range;

use super::super::simd::Simd;
use super::super::softmax::{mass, maximum, soft_cap, weigh};
use super::super::summary::{scan, Queries};
use super::super::ROW_TILE;
use super::lane::{Groups, View, CHUNK_GROUPS, MAX_GROUPS};
use super::{guess_stride, Lane, Selector, SparseScratch};
use crate::kv::GROUP_TOKENS;

/// Groups that are always attended to: the first, the last full one, the open one.
const NUM_FIXED: usize = 3;

/// Groups to choose from: `first + number * step`.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    first: usize,
    step: usize,
    num: usize,
}

impl Candidates {
    #[inline(always)]
    fn group(&self, number: usize) -> usize {
        self.first + number * self.step
    }
}

/// Where a lane's chunks come from.
pub(super) enum Source {
    /// The scratch's ranking, as far as the budget reaches.
    Ranked { candidates: Candidates, budget: usize },
    /// The scratch's list from `next` on: a lane's share of what was chosen from all candidates.
    /// Left out were these groups and, if anything was ranked, what was not taken.
    Listed { next: usize, lane: Lane, left_out: Range<usize>, candidates: Candidates },
}

impl Source {
    /// Groups that the lane could attend to.
    pub fn num_candidates(&self, scratch: &SparseScratch) -> usize {
        match self {
            Source::Ranked { candidates, .. } => candidates.num,
            Source::Listed { .. } => scratch.list.len(),
        }
    }

    /// The next groups, ascending; none when there are no more.
    pub fn take(&mut self, scratch: &mut SparseScratch) -> Groups {
        let mut groups = Groups::default();
        match self {
            Source::Ranked { candidates, budget } => {
                for _ in 0..CHUNK_GROUPS.min(*budget) {
                    let Some(number) = scratch.ranking.take() else { break };
                    groups.push(candidates.group(number));
                    *budget -= 1;
                }
                // In the order of their tokens they are more often neighbours in memory.
                groups.as_mut_slice().sort_unstable();
            }
            Source::Listed { next, .. } => {
                let rest = scratch.list[*next..].iter();
                rest.take(MAX_GROUPS).for_each(|&group| groups.push(group));
                *next += groups.as_slice().len();
            }
        }
        groups
    }

    /// The candidates that were not taken: this lane's, or its share of all lanes'.
    pub fn rest(&self, scratch: &SparseScratch) -> Vec<usize> {
        match self {
            Source::Ranked { candidates, .. } => {
                scratch.ranking.rest().map(|number| candidates.group(number)).collect()
            }
            Source::Listed { lane, left_out, candidates, .. } => {
                let ranked = scratch.ranking.rest().map(|number| candidates.group(number));
                let mut all: Vec<usize> = ranked.chain(left_out.clone()).collect();
                all.sort_unstable();
                all.into_iter().skip(lane.index).step_by(lane.count).collect()
            }
        }
    }
}

/// Chooses for a lane whose queries are in the scratch.
///
/// # Safety
/// As for [`attend_lane`](super::attend_lane), and `S` must be available.
#[inline(always)]
pub(super) unsafe fn choose<S: Simd>(view: &View<'_>, scratch: &mut SparseScratch) -> Source {
    let Lane { rule, index, count } = view.lane;
    let last_full = view.open - 1;
    let groups = match rule.budget_tokens.div_ceil(GROUP_TOKENS) {
        0 => usize::MAX,
        groups => groups.saturating_sub(NUM_FIXED),
    };
    if rule.selector == Selector::Progressive {
        let first = 1 + index;
        let num = last_full.saturating_sub(first).div_ceil(count);
        let candidates = Candidates { first, step: count, num };
        // SAFETY: the caller's promise.
        unsafe { rank::<S>(view, scratch, candidates) };
        let budget = if groups == usize::MAX { groups } else { (groups + index) / count };
        return Source::Ranked { candidates, budget };
    }
    let candidates = Candidates { first: 1, step: 1, num: last_full - 1 };
    let num = groups.min(candidates.num);
    scratch.list.clear();
    let mut left_out = 0..0;
    if rule.selector == Selector::Window {
        left_out = 1..last_full - num;
        scratch.list.extend(last_full - num..last_full);
        scratch.ranking.fill(&[]);
    } else {
        // SAFETY: the caller's promise.
        unsafe {
            rank::<S>(view, scratch, candidates);
            list::<S>(view, scratch, candidates, num);
        }
        scratch.list.sort_unstable();
    }
    let mut place = 0;
    scratch.list.retain(|_| {
        place += 1;
        (place - 1) % count == index
    });
    Source::Listed { next: 0, lane: view.lane, left_out, candidates }
}

/// Ranks candidates by the part of the weight of all of them that the query that wants them most
/// would give them.
///
/// # Safety
/// As for [`choose`].
#[inline(always)]
unsafe fn rank<S: Simd>(view: &View<'_>, scratch: &mut SparseScratch, candidates: Candidates) {
    let (plan, num_queries) = (view.plan, view.item.num_queries);
    let (stride, factor) = (guess_stride(candidates.num), view.factor());
    let queries = Queries {
        queries: scratch.queries.as_mut_ptr(),
        sizes: scratch.sizes.as_mut_ptr(),
        num: num_queries,
        head_dim: plan.shape.head_dim,
    };
    let place = |number: usize| {
        let (layer, kv_head) = (view.layer.layer, view.item.kv_head);
        let group = candidates.group(number);
        let offset = plan.summary_offset(&view.sequence, layer, kv_head, group);
        // SAFETY: the plan's blocks lie in the arena by the caller's promise.
        unsafe { view.layer.arena.add(offset).cast::<u16>().cast_const() }
    };
    let (guesses, ranks) = (scratch.guesses.as_mut_ptr(), scratch.ranks.as_mut_ptr());
    // SAFETY: the caller's promise; the scratch was reserved for as many groups as the longest
    // sequence has.
    unsafe {
        scan::<S>(plan.layout.summaries(), &queries, candidates.num, place, guesses, stride);
        let mut totals = [0f32; ROW_TILE];
        for (query, total) in totals[..num_queries].iter_mut().enumerate() {
            let row = guesses.add(query * stride);
            if let Some(cap) = plan.shape.softcap {
                soft_cap::<S>(row, stride, plan.shape.scale / cap, cap);
            }
            for number in candidates.num..stride {
                *row.add(number) = f32::NEG_INFINITY;
            }
            let largest = maximum::<S>(row, stride, factor);
            *total = largest + mass::<S>(row, stride, factor, largest).log2();
        }
        for number in (0..stride).step_by(S::LANES) {
            let mut best = S::splat(f32::NEG_INFINITY);
            for (query, &total) in totals[..num_queries].iter().enumerate() {
                let row = S::load(guesses.add(query * stride + number));
                best = S::max(best, S::fma(row, S::splat(factor), S::splat(-total)));
            }
            S::store(ranks.add(number), best);
        }
        if view.lane.rule.selector == Selector::TopP {
            for (query, &total) in totals[..num_queries].iter().enumerate() {
                weigh::<S>(guesses.add(query * stride), stride, factor, total);
            }
        }
        scratch.ranking.fill(std::slice::from_raw_parts(ranks, candidates.num));
    }
}

/// Lists the best `most` candidates, or as many of them as promise enough of every query's weight.
///
/// # Safety
/// As for [`choose`]; the candidates must be ranked.
#[inline(always)]
unsafe fn list<S: Simd>(
    view: &View<'_>,
    scratch: &mut SparseScratch,
    candidates: Candidates,
    most: usize,
) {
    let stride = guess_stride(candidates.num);
    let guesses = scratch.guesses.as_mut_ptr();
    let mut kept = [0f32; ROW_TILE];
    let kept = &mut kept[..view.item.num_queries];
    let is_top_p = view.lane.rule.selector == Selector::TopP;
    while scratch.list.len() < most {
        if is_top_p && kept.iter().all(|&part| part >= view.lane.rule.epsilon) {
            break;
        }
        let Some(number) = scratch.ranking.take() else { break };
        scratch.list.push(candidates.group(number));
        for (query, part) in kept.iter_mut().enumerate() {
            // SAFETY: the scratch has a row of guesses for each query.
            *part += unsafe { *guesses.add(query * stride + number) };
        }
    }
}
