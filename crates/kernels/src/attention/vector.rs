//! The kernel for any KV format on vectors of f32.
//!
//! A group is brought to f32 once for all the row tile's queries; then scores are sums over the
//! head's dimensions with keys in the lanes, and outputs are sums over the tokens with the head's
//! dimensions in the lanes.

use std::marker::PhantomData;

use super::attend::{Kernel, RowTile, Softmax};
use super::buffers::{Scratch, SCORE_STRIDE};
use super::simd::Simd;
use super::softmax::{maximum, weigh};
use crate::kv::{KvDtype, GROUP_TOKENS};

/// f32 arithmetic in vectors `S`.
pub(super) struct VectorKernel<S>(PhantomData<S>);

impl<S: Simd> Kernel for VectorKernel<S> {
    type S = S;

    #[inline(always)]
    unsafe fn begin(_: &mut Scratch) {}

    #[inline(always)]
    unsafe fn put_query(scratch: &mut Scratch, row: usize, head: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = scratch.queries.as_mut_ptr().add(row * head.len());
            std::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len());
        }
    }

    #[inline(always)]
    unsafe fn scores(tile: &RowTile<'_>, scratch: &mut Scratch) {
        let head_dim = tile.plan.shape.head_dim;
        // SAFETY: the caller's promise.
        unsafe {
            let queries = scratch.queries.as_mut_ptr().add(tile.first_query * head_dim);
            for (index, &group) in tile.groups.iter().enumerate() {
                tile.prefetch(index);
                let keys = keys_as_f32::<S>(
                    tile.plan.layout.dtype(),
                    group,
                    head_dim,
                    scratch.keys.as_mut_ptr(),
                );
                let scores = tile.scores(scratch).add(index * GROUP_TOKENS);
                let mut row = 0;
                while row < tile.num_queries {
                    let (q, s) = (queries.add(row * head_dim), scores.add(row * SCORE_STRIDE));
                    row += match tile.num_queries - row {
                        6.. => score_rows::<S, 6>(q, keys, s, head_dim),
                        5 => score_rows::<S, 5>(q, keys, s, head_dim),
                        4 => score_rows::<S, 4>(q, keys, s, head_dim),
                        3 => score_rows::<S, 3>(q, keys, s, head_dim),
                        2 => score_rows::<S, 2>(q, keys, s, head_dim),
                        _ => score_rows::<S, 1>(q, keys, s, head_dim),
                    };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(
        tile: &RowTile<'_>,
        next: Option<&RowTile<'_>>,
        scratch: &mut Scratch,
        factor: f32,
    ) -> Softmax {
        let head_dim = tile.plan.shape.head_dim;
        let mut softmax = Softmax::default();
        // SAFETY: the caller's promise.
        unsafe {
            // The maxima first: the latency of one is then hidden behind the next.
            for row in 0..tile.num_queries {
                let scores = tile.scores(scratch).add(row * SCORE_STRIDE);
                softmax[row].0 = maximum::<S>(scores, tile.num_keys(), factor);
            }
            for row in 0..tile.num_queries {
                let scores = tile.scores(scratch).add(row * SCORE_STRIDE);
                softmax[row].1 = weigh::<S>(scores, tile.num_keys(), factor, softmax[row].0);
            }
            let sums = scratch.sums.as_mut_ptr();
            std::ptr::write_bytes(sums, 0, tile.num_queries * head_dim);
            for (index, &group) in tile.groups.iter().enumerate() {
                let dtype = tile.plan.layout.dtype();
                let values =
                    values_as_f32::<S>(dtype, group, head_dim, scratch.values.as_mut_ptr());
                let weights = tile.scores(scratch).add(index * GROUP_TOKENS);
                let mut row = 0;
                while row < tile.num_queries {
                    let (w, s) = (weights.add(row * SCORE_STRIDE), sums.add(row * head_dim));
                    row += match (tile.num_queries - row).min(S::VALUE_ROWS) {
                        4.. => sum_rows::<S, 4>(w, values, s, head_dim),
                        3 => sum_rows::<S, 3>(w, values, s, head_dim),
                        2 => sum_rows::<S, 2>(w, values, s, head_dim),
                        _ => sum_rows::<S, 1>(w, values, s, head_dim),
                    };
                }
            }
            if let Some(next) = next {
                Self::scores(next, scratch);
            }
        }
        softmax
    }
}

/// The keys of a group as f32 `[head_dim][GROUP_TOKENS]`, in place or in `out`.
///
/// # Safety
/// `S` must be available, `group` a group of that format and `out` have room.
#[inline(always)]
pub(super) unsafe fn keys_as_f32<S: Simd>(
    dtype: KvDtype,
    group: *const u8,
    head_dim: usize,
    out: *mut f32,
) -> *const f32 {
    let len = head_dim * GROUP_TOKENS;
    // SAFETY: the caller's promise; see `kv` for the forms.
    unsafe {
        match dtype {
            KvDtype::F32 => return group.cast(),
            KvDtype::F16 => widen_f16::<S>(group.cast(), len, out),
            KvDtype::Bf16 => {
                for half in 0..2 {
                    for dim in (0..head_dim).step_by(2) {
                        for lane in (0..16).step_by(S::LANES) {
                            let pairs =
                                group.cast::<u16>().add(half * len / 2 + dim * 16 + 2 * lane);
                            let (even, odd) = S::load_bf16_pairs(pairs);
                            let to = out.add(dim * GROUP_TOKENS + half * 16 + lane);
                            S::store(to, even);
                            S::store(to.add(GROUP_TOKENS), odd);
                        }
                    }
                }
            }
            KvDtype::Int8 => {
                let scales = group.add(2 * len).cast::<f32>();
                for dim in 0..head_dim {
                    for lane in (0..GROUP_TOKENS).step_by(S::LANES) {
                        let at = dim * GROUP_TOKENS + lane;
                        let keys = S::load_i8(group.cast::<i8>().add(at));
                        S::store(out.add(at), S::mul(keys, S::load(scales.add(lane))));
                    }
                }
            }
        }
    }
    out
}

/// The values of a group as f32 `[GROUP_TOKENS][head_dim]`, in place or in `out`.
///
/// # Safety
/// As for [`keys_as_f32`].
#[inline(always)]
unsafe fn values_as_f32<S: Simd>(
    dtype: KvDtype,
    group: *const u8,
    head_dim: usize,
    out: *mut f32,
) -> *const f32 {
    let len = head_dim * GROUP_TOKENS;
    // SAFETY: the caller's promise; see `kv` for the forms.
    unsafe {
        match dtype {
            KvDtype::F32 => return group.cast::<f32>().add(len),
            KvDtype::F16 => widen_f16::<S>(group.cast::<u16>().add(len), len, out),
            KvDtype::Bf16 => {
                for dim in (0..head_dim).step_by(S::LANES) {
                    for token in (0..GROUP_TOKENS).step_by(2) {
                        let place = dim / 16 * 512 + token * 16 + dim % 16 * 2;
                        let (even, odd) = S::load_bf16_pairs(group.cast::<u16>().add(len + place));
                        S::store(out.add(token * head_dim + dim), even);
                        S::store(out.add((token + 1) * head_dim + dim), odd);
                    }
                }
            }
            KvDtype::Int8 => {
                let scales = group.add(2 * len).cast::<f32>().add(GROUP_TOKENS);
                for token in 0..GROUP_TOKENS {
                    let scale = S::splat(*scales.add(token));
                    for at in (token * head_dim..(token + 1) * head_dim).step_by(S::LANES) {
                        S::store(
                            out.add(at),
                            S::mul(S::load_i8(group.cast::<i8>().add(len + at)), scale),
                        );
                    }
                }
            }
        }
    }
    out
}

/// # Safety
/// `S` must be available and both sides hold `len` numbers, a multiple of the lanes.
#[inline(always)]
unsafe fn widen_f16<S: Simd>(from: *const u16, len: usize, to: *mut f32) {
    for i in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to.add(i), S::load_f16(from.add(i))) }
    }
}

/// Scores of `R` queries with the keys of a group; returns `R`.
///
/// # Safety
/// `S` must be available, `queries` hold `R` heads, `keys` a group, and `scores` `R` rows.
#[inline(always)]
unsafe fn score_rows<S: Simd, const R: usize>(
    queries: *const f32,
    keys: *const f32,
    scores: *mut f32,
    head_dim: usize,
) -> usize {
    for lane in (0..GROUP_TOKENS).step_by(2 * S::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); 2]; R];
            for dim in 0..head_dim {
                let at = keys.add(dim * GROUP_TOKENS + lane);
                let (low, high) = (S::load(at), S::load(at.add(S::LANES)));
                for row in 0..R {
                    let q = S::splat(*queries.add(row * head_dim + dim));
                    sums[row][0] = S::fma(q, low, sums[row][0]);
                    sums[row][1] = S::fma(q, high, sums[row][1]);
                }
            }
            for row in 0..R {
                S::store(scores.add(row * SCORE_STRIDE + lane), sums[row][0]);
                S::store(scores.add(row * SCORE_STRIDE + lane + S::LANES), sums[row][1]);
            }
        }
    }
    R
}

/// Adds the weighted values of a group to the sums of `R` rows; returns `R`.
///
/// # Safety
/// `S` must be available, `weights` hold `R` rows, `values` a group, and `sums` `R` heads.
#[inline(always)]
unsafe fn sum_rows<S: Simd, const R: usize>(
    weights: *const f32,
    values: *const f32,
    sums: *mut f32,
    head_dim: usize,
) -> usize {
    let mut dim = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while dim + 4 * S::LANES <= head_dim {
            sum_columns::<S, R, 4>(weights, values.add(dim), sums.add(dim), head_dim);
            dim += 4 * S::LANES;
        }
        while dim < head_dim {
            sum_columns::<S, R, 1>(weights, values.add(dim), sums.add(dim), head_dim);
            dim += S::LANES;
        }
    }
    R
}

/// [`sum_rows`] for `C` vectors of the head's dimensions.
///
/// # Safety
/// As for [`sum_rows`].
#[inline(always)]
unsafe fn sum_columns<S: Simd, const R: usize, const C: usize>(
    weights: *const f32,
    values: *const f32,
    sums: *mut f32,
    head_dim: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[S::splat(0.0); C]; R];
        for row in 0..R {
            for column in 0..C {
                acc[row][column] = S::load(sums.add(row * head_dim + column * S::LANES));
            }
        }
        for token in 0..GROUP_TOKENS {
            for row in 0..R {
                let weight = S::splat(*weights.add(row * SCORE_STRIDE + token));
                for column in 0..C {
                    let value = S::load(values.add(token * head_dim + column * S::LANES));
                    acc[row][column] = S::fma(weight, value, acc[row][column]);
                }
            }
        }
        for row in 0..R {
            for column in 0..C {
                S::store(sums.add(row * head_dim + column * S::LANES), acc[row][column]);
            }
        }
    }
}
