//! Summaries of the keys of a group: made when the group is full, and read to guess which groups a
//! query cares for.
//!
//! The guess for query q is q·c + |q|·r, with the centre c of the keys and their spread r in each
//! dimension: the largest score of any key within the box c ± r. With the mean deviation as spread
//! (cuboid-mean, as in ArkVale) that is no bound, but a better guess than with half the box's size
//! (min-max, as in Quest).

use std::mem::MaybeUninit;

use super::attend::prefetch;
use super::simd::Simd;
use super::store::MAX_F16;
use super::vector::keys_as_f32;
use crate::kv::{KvLayout, KvSummaries, GROUP_TOKENS, MAX_HEAD_DIM};

/// Summaries asked for ahead of the one that is read.
const PREFETCH: usize = 12;

/// Writes the summary of a full group.
///
/// # Safety
/// `S` must be available, `group` a group of that layout, and `summary` have room for its summary,
/// which nobody else touches.
#[inline(always)]
pub(super) unsafe fn seal<S: Simd>(_: S, layout: &KvLayout, group: *const u8, summary: *mut u16) {
    let (kind, head_dim) = (layout.summaries(), layout.head_dim());
    if kind == KvSummaries::None {
        return;
    }
    let mut wide = MaybeUninit::<[f32; MAX_HEAD_DIM * GROUP_TOKENS]>::uninit();
    let mut vectors = [[0f32; MAX_HEAD_DIM]; 2];
    // SAFETY: the caller's promise; `wide` holds the keys of any group.
    unsafe {
        let keys = keys_as_f32::<S>(layout.dtype(), group, head_dim, wide.as_mut_ptr().cast());
        for dim in 0..head_dim {
            let pair = summarize::<S>(kind, keys.add(dim * GROUP_TOKENS));
            (vectors[0][dim], vectors[1][dim]) = pair;
        }
        for (index, vector) in vectors[..kind.num_vectors()].iter_mut().enumerate() {
            for x in vector.iter_mut() {
                *x = x.clamp(-MAX_F16, MAX_F16);
            }
            for dim in (0..head_dim).step_by(S::LANES) {
                let x = S::load(vector.as_ptr().add(dim));
                S::store_f16(summary.add(index * head_dim + dim), x);
            }
        }
    }
}

/// Centre and spread of one dimension of a group's keys.
///
/// # Safety
/// `S` must be available and `keys` hold [`GROUP_TOKENS`] floats.
#[inline(always)]
unsafe fn summarize<S: Simd>(kind: KvSummaries, keys: *const f32) -> (f32, f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let minus = S::splat(-1.0);
        let (mut largest, mut least) = (S::load(keys), S::mul(S::load(keys), minus));
        let mut sum = S::splat(0.0);
        for token in (0..GROUP_TOKENS).step_by(S::LANES) {
            let x = S::load(keys.add(token));
            largest = S::max(largest, x);
            least = S::max(least, S::mul(x, minus));
            sum = S::add(sum, x);
        }
        if kind == KvSummaries::Mean {
            return (S::sum(sum) / GROUP_TOKENS as f32, 0.0);
        }
        let (largest, least) = (S::max_lane(largest), -S::max_lane(least));
        let centre = 0.5 * (largest + least);
        if kind == KvSummaries::MinMax {
            return (centre, 0.5 * (largest - least));
        }
        let from = S::splat(-centre);
        let mut spread = S::splat(0.0);
        for token in (0..GROUP_TOKENS).step_by(S::LANES) {
            let away = S::add(S::load(keys.add(token)), from);
            spread = S::add(spread, S::max(away, S::mul(away, minus)));
        }
        (centre, S::sum(spread) / GROUP_TOKENS as f32)
    }
}

/// What [`scan`] guesses for.
pub(super) struct Queries {
    /// f32 `[num][head_dim]`.
    pub queries: *const f32,
    /// The same without signs.
    pub sizes: *const f32,
    pub num: usize,
    pub head_dim: usize,
}

/// Guesses of the queries' scores with groups: `out[query * stride + index]` for the summary at
/// `places(index)`.
///
/// # Safety
/// `S` must be available, `places` give summaries of that kind, `queries` be as they say, and `out`
/// have room.
#[inline(always)]
pub(super) unsafe fn scan<S: Simd>(
    kind: KvSummaries,
    queries: &Queries,
    num_groups: usize,
    places: impl Fn(usize) -> *const u16,
    out: *mut f32,
    stride: usize,
) {
    let (num, head_dim) = (queries.num, queries.head_dim);
    let bytes = kind.num_vectors() * head_dim * size_of::<u16>();
    for index in 0..num_groups.min(PREFETCH) {
        prefetch(places(index).cast(), bytes);
    }
    for index in 0..num_groups {
        if index + PREFETCH < num_groups {
            prefetch(places(index + PREFETCH).cast(), bytes);
        }
        let (summary, mut query) = (places(index), 0);
        while query < num {
            // SAFETY: the caller's promise.
            unsafe {
                let q = queries.queries.add(query * head_dim);
                let size = queries.sizes.add(query * head_dim);
                let size = if kind.num_vectors() == 2 { Some(size) } else { None };
                let out = out.add(query * stride + index);
                query += match num - query {
                    4.. => guess::<S, 4>(q, size, summary, head_dim, out, stride),
                    3 => guess::<S, 3>(q, size, summary, head_dim, out, stride),
                    2 => guess::<S, 2>(q, size, summary, head_dim, out, stride),
                    _ => guess::<S, 1>(q, size, summary, head_dim, out, stride),
                };
            }
        }
    }
}

/// Guesses for `R` queries and one group; returns `R`.
///
/// # Safety
/// As for [`scan`].
#[inline(always)]
unsafe fn guess<S: Simd, const R: usize>(
    queries: *const f32,
    sizes: Option<*const f32>,
    summary: *const u16,
    head_dim: usize,
    out: *mut f32,
    stride: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; R];
        for dim in (0..head_dim).step_by(S::LANES) {
            let centre = S::load_f16(summary.add(dim));
            for row in 0..R {
                let q = S::load(queries.add(row * head_dim + dim));
                sums[row][0] = S::fma(q, centre, sums[row][0]);
            }
            if let Some(sizes) = sizes {
                let spread = S::load_f16(summary.add(head_dim + dim));
                for row in 0..R {
                    let size = S::load(sizes.add(row * head_dim + dim));
                    sums[row][1] = S::fma(size, spread, sums[row][1]);
                }
            }
        }
        for row in 0..R {
            *out.add(row * stride) = S::sum(S::add(sums[row][0], sums[row][1]));
        }
    }
    R
}
