//! The kernel for bf16 keys and values on AVX-512 BF16, whose product adds two pairs of bf16 to an
//! f32 at once.
//!
//! Groups are read as they lie in the arena. Queries and weights are rounded to bf16; a softmax's
//! sum is that of the rounded weights, so that they are weights of a mean. The products take and
//! give no subnormal numbers.

use std::arch::x86_64::*;

use super::amx::store_bf16;
use super::attend::{Kernel, RowTile, Softmax};
use super::buffers::{Scratch, SCORE_STRIDE, WEIGHT_STRIDE};
use super::simd::{Avx512, Simd};
use super::softmax::maximum;
use crate::kv::GROUP_TOKENS;

/// Products of bf16 pairs on AVX-512.
pub(super) struct Bf16Kernel;

/// Bytes of two dimensions of 16 keys, or of 16 dimensions of two values.
const VECTOR_BYTES: usize = 64;
/// Bytes of 16 dimensions of the values of a group.
const VALUE_CHUNK_BYTES: usize = GROUP_TOKENS / 2 * VECTOR_BYTES;

/// Coefficients of 2^x on [-0.5, 0.5], from the constant up. Relative error 8e-5, a twentieth of
/// what rounding to bf16 adds.
const EXP2: [f32; 4] = [0.999_928_07, 0.693_260_99, 0.242_611_12, 0.055_171_67];
/// Where 2^x ends in 0: what the exponent's lowest value means to the rounding to bf16.
const EXP2_END: f32 = -126.75;
/// Added to a small number, leaves the integer nearest to it in the lowest bits.
const TO_INTEGER: f32 = 12_582_912.0;

impl Kernel for Bf16Kernel {
    type S = Avx512;

    #[inline(always)]
    unsafe fn begin(_: &mut Scratch) {}

    #[inline(always)]
    unsafe fn put_query(scratch: &mut Scratch, row: usize, head: &[f32]) {
        // SAFETY: the caller's promise; a query has room for f32 and takes half of it.
        unsafe {
            let to = scratch.queries.as_mut_ptr().cast::<u16>().add(row * head.len());
            for dim in (0..head.len()).step_by(16) {
                let halves = _mm512_cvtneps_pbh(_mm512_loadu_ps(head.as_ptr().add(dim)));
                to.add(dim).cast::<__m256bh>().write_unaligned(halves);
            }
        }
    }

    #[inline(always)]
    unsafe fn scores(tile: &RowTile<'_>, scratch: &mut Scratch) {
        let head_dim = tile.plan.shape.head_dim;
        // SAFETY: the caller's promise.
        unsafe {
            let queries = scratch.queries.as_mut_ptr().cast::<u16>();
            let queries = queries.add(tile.first_query * head_dim);
            let scores = tile.scores(scratch);
            let wide = if tile.num_queries <= 2 { 4 } else { 2 };
            let mut index = 0;
            while index < tile.groups.len() {
                let groups = &tile.groups[index..];
                let taken = if tile.num_queries <= 4 && groups.len() >= wide { wide } else { 1 };
                for group in index..index + taken {
                    tile.prefetch(group);
                }
                let at = scores.add(index * GROUP_TOKENS);
                match (taken, tile.num_queries) {
                    (4, 1) => score_rows::<1, 4>(queries, groups, at, head_dim),
                    (4, _) => score_rows::<2, 4>(queries, groups, at, head_dim),
                    (2, 3) => score_rows::<3, 2>(queries, groups, at, head_dim),
                    (2, _) => score_rows::<4, 2>(queries, groups, at, head_dim),
                    (_, num_rows) => score_group(queries, groups, at, head_dim, num_rows),
                };
                index += taken;
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
            let scores = tile.scores(scratch);
            let weights = scratch.weights.as_mut_ptr().cast::<u16>();
            // The maxima first: the latency of one is then hidden behind the next.
            for row in 0..tile.num_queries {
                let scores = scores.add(row * SCORE_STRIDE);
                softmax[row].0 = maximum::<Avx512>(scores, tile.num_keys(), factor);
            }
            for row in 0..tile.num_queries {
                let scores = scores.add(row * SCORE_STRIDE);
                let weights = weights.add(row * WEIGHT_STRIDE);
                softmax[row].1 = weigh(scores, weights, tile.num_keys(), factor, softmax[row].0);
            }
            let sums = scratch.sums.as_mut_ptr();
            let mut dim = 0;
            while dim < head_dim {
                let offset = tile.plan.layout.side_bytes() + dim / 16 * VALUE_CHUNK_BYTES;
                if dim + 64 <= head_dim {
                    sum_columns::<4>(tile, weights, offset, sums.add(dim));
                    dim += 64;
                } else {
                    sum_columns::<1>(tile, weights, offset, sums.add(dim));
                    dim += 16;
                }
            }
            if let Some(next) = next {
                Self::scores(next, scratch);
            }
        }
        softmax
    }
}

/// Scores of up to 16 queries with the first of `groups`; returns how many queries.
///
/// # Safety
/// As for [`score_rows`].
#[inline(always)]
unsafe fn score_group(
    queries: *const u16,
    groups: &[*const u8],
    scores: *mut f32,
    head_dim: usize,
    num_rows: usize,
) -> usize {
    let mut row = 0;
    while row < num_rows {
        // SAFETY: the caller's promise.
        unsafe {
            let (q, s) = (queries.add(row * head_dim), scores.add(row * SCORE_STRIDE));
            row += match num_rows - row {
                8.. => score_rows::<8, 1>(q, groups, s, head_dim),
                6..8 => score_rows::<6, 1>(q, groups, s, head_dim),
                4..6 => score_rows::<4, 1>(q, groups, s, head_dim),
                3 => score_rows::<3, 1>(q, groups, s, head_dim),
                2 => score_rows::<2, 1>(q, groups, s, head_dim),
                _ => score_rows::<1, 1>(q, groups, s, head_dim),
            };
        }
    }
    row
}

/// Scores of `R` queries with the first `G` groups; returns `R`.
///
/// # Safety
/// AVX-512 BF16, readable groups, and `queries` and `scores` of `R` rows.
#[inline(always)]
unsafe fn score_rows<const R: usize, const G: usize>(
    queries: *const u16,
    groups: &[*const u8],
    scores: *mut f32,
    head_dim: usize,
) -> usize {
    let half_bytes = head_dim / 2 * VECTOR_BYTES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); 2]; G]; R];
        for pair in 0..head_dim / 2 {
            let mut keys = [[zero_bf16(); 2]; G];
            for group in 0..G {
                let at = groups.get_unchecked(group).add(pair * VECTOR_BYTES);
                keys[group] = [load_bf16(at), load_bf16(at.add(half_bytes))];
            }
            for row in 0..R {
                let q = splat_pair(queries.add(row * head_dim + 2 * pair));
                for group in 0..G {
                    for half in 0..2 {
                        let sum = &mut sums[row][group][half];
                        *sum = _mm512_dpbf16_ps(*sum, q, keys[group][half]);
                    }
                }
            }
        }
        for row in 0..R {
            for group in 0..G {
                let at = scores.add(row * SCORE_STRIDE + group * GROUP_TOKENS);
                _mm512_storeu_ps(at, sums[row][group][0]);
                _mm512_storeu_ps(at.add(16), sums[row][group][1]);
            }
        }
    }
    R
}

/// Scores of a row to bf16 weights; returns their sum.
///
/// # Safety
/// AVX-512 BF16, and `scores` and `weights` of `len` numbers, a multiple of 32.
#[inline(always)]
unsafe fn weigh(
    scores: *const f32,
    weights: *mut u16,
    len: usize,
    factor: f32,
    maximum: f32,
) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, minus_maximum) = (_mm512_set1_ps(factor), _mm512_set1_ps(-maximum));
        let ones = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi16(0x3f80));
        let mut sum = _mm512_setzero_ps();
        for i in (0..len).step_by(GROUP_TOKENS) {
            let low = weight(scores.add(i), factor, minus_maximum);
            let high = weight(scores.add(i + 16), factor, minus_maximum);
            store_bf16(weights.add(i), low, high);
            sum = _mm512_dpbf16_ps(sum, _mm512_cvtne2ps_pbh(high, low), ones);
        }
        Avx512::sum(sum)
    }
}

/// Weights of 16 scores, which may be subnormal where they should be 0.
///
/// # Safety
/// AVX-512, and `at` of 16 numbers.
#[inline(always)]
unsafe fn weight(at: *const f32, factor: __m512, minus_maximum: __m512) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let x = _mm512_fmadd_ps(_mm512_loadu_ps(at), factor, minus_maximum);
        let x = _mm512_max_ps(_mm512_set1_ps(EXP2_END), x);
        let shifted = _mm512_add_ps(x, _mm512_set1_ps(TO_INTEGER));
        let f = _mm512_sub_ps(x, _mm512_sub_ps(shifted, _mm512_set1_ps(TO_INTEGER)));
        let mut p = _mm512_set1_ps(EXP2[3]);
        for i in (0..3).rev() {
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[i]));
        }
        let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
    }
}

/// Weighted sums of `16 * C` dimensions of the values, which start `offset` bytes into each group.
///
/// # Safety
/// AVX-512 BF16, a readable tile, weights of its rows, and `sums` with room for them.
#[inline(always)]
unsafe fn sum_columns<const C: usize>(
    tile: &RowTile<'_>,
    weights: *const u16,
    offset: usize,
    sums: *mut f32,
) {
    let head_dim = tile.plan.shape.head_dim;
    let mut row = 0;
    while row < tile.num_queries {
        // SAFETY: the caller's promise.
        unsafe {
            let (w, s) = (weights.add(row * WEIGHT_STRIDE), sums.add(row * head_dim));
            row += match tile.num_queries - row {
                6.. => sum_rows::<6, C>(tile, w, offset, s),
                5 => sum_rows::<5, C>(tile, w, offset, s),
                4 => sum_rows::<4, C>(tile, w, offset, s),
                3 => sum_rows::<3, C>(tile, w, offset, s),
                2 => sum_rows::<2, C>(tile, w, offset, s),
                _ => sum_rows::<1, C>(tile, w, offset, s),
            };
        }
    }
}

/// [`sum_columns`] for `R` rows; returns `R`.
///
/// # Safety
/// As for [`sum_columns`].
#[inline(always)]
unsafe fn sum_rows<const R: usize, const C: usize>(
    tile: &RowTile<'_>,
    weights: *const u16,
    offset: usize,
    sums: *mut f32,
) -> usize {
    let head_dim = tile.plan.shape.head_dim;
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); C]; R];
        for (index, group) in tile.groups.iter().enumerate() {
            let (values, weights) = (group.add(offset), weights.add(index * GROUP_TOKENS));
            for pair in 0..GROUP_TOKENS / 2 {
                let mut columns = [zero_bf16(); C];
                for column in 0..C {
                    let at = column * VALUE_CHUNK_BYTES + pair * VECTOR_BYTES;
                    columns[column] = load_bf16(values.add(at));
                }
                for row in 0..R {
                    let weight = splat_pair(weights.add(row * WEIGHT_STRIDE + 2 * pair));
                    for column in 0..C {
                        acc[row][column] =
                            _mm512_dpbf16_ps(acc[row][column], weight, columns[column]);
                    }
                }
            }
        }
        for row in 0..R {
            for column in 0..C {
                _mm512_storeu_ps(sums.add(row * head_dim + column * 16), acc[row][column]);
            }
        }
    }
    R
}

/// # Safety
/// AVX-512.
#[inline(always)]
unsafe fn zero_bf16() -> __m512bh {
    // SAFETY: a bh vector is 64 bytes like any other.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_setzero_si512()) }
}

/// # Safety
/// AVX-512, and `at` of 64 bytes.
#[inline(always)]
unsafe fn load_bf16(at: *const u8) -> __m512bh {
    // SAFETY: the caller's promise; a bh vector is 64 bytes like any other.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())) }
}

/// The two bf16 at `at`, sixteen times.
///
/// # Safety
/// AVX-512, and `at` of two numbers.
#[inline(always)]
unsafe fn splat_pair(at: *const u16) -> __m512bh {
    // SAFETY: the caller's promise; a bh vector is 64 bytes like any other.
    unsafe {
        let pair = at.cast::<i32>().read_unaligned();
        std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair))
    }
}
