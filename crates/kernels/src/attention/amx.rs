//! The kernel for bf16 keys and values on AMX tiles.
//!
//! Groups are read as they lie in the arena. A product takes as many cycles as there are query
//! rows, each row on its own, so that a decoding row and a row of prefill go through the same code.

use std::arch::x86_64::*;

use super::attend::{Kernel, RowTile};
use super::buffers::{Scratch, SCORE_STRIDE};
use super::simd::{Avx512, Simd};
use super::softmax::maximum;
use crate::amx::{self, TileConfig};
use crate::kv::GROUP_TOKENS;

/// bf16 products on AMX, softmax on AVX-512.
pub(super) struct AmxKernel;

/// Bytes of an AMX tile, and of 32 dimensions of 16 keys, or of 16 dimensions of 32 values.
const TILE_BYTES: usize = 1024;

impl Kernel for AmxKernel {
    type S = Avx512;

    /// Tiles 0 to 3 accumulate, 4 holds query rows, 5 to 7 keys or values.
    #[inline(always)]
    unsafe fn begin(num_queries: usize) {
        let mut config = TileConfig::full();
        for tile in 0..5 {
            config = config.tile(tile, num_queries, amx::MAX_ROW_BYTES);
        }
        // SAFETY: the caller's promise.
        unsafe { config.load() }
    }

    #[inline(always)]
    unsafe fn put_query(scratch: &mut Scratch, row: usize, head: &[f32]) {
        // SAFETY: the caller's promise; a query has room for f32 and takes half of it.
        unsafe {
            let to = scratch.queries.as_mut_ptr().cast::<u16>().add(row * head.len());
            for dim in (0..head.len()).step_by(32) {
                let from = head.as_ptr().add(dim);
                store_bf16(to.add(dim), _mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            }
        }
    }

    #[inline(always)]
    unsafe fn scores(tile: &RowTile<'_>, scratch: &mut Scratch) {
        let row_bytes = 2 * tile.plan.shape.head_dim;
        // SAFETY: the caller's promise.
        unsafe {
            let queries =
                scratch.queries.as_mut_ptr().cast::<u8>().add(tile.first_query * row_bytes);
            for (index, pair) in tile.groups.chunks(2).enumerate() {
                let scores = scratch.scores.as_mut_ptr().add(index * 2 * GROUP_TOKENS);
                if let &[first, second] = pair {
                    score_pair(queries, row_bytes, first, second, scores);
                } else {
                    score_group(queries, row_bytes, pair[0], scores);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(
        scratch: &mut Scratch,
        row: usize,
        num_keys: usize,
        factor: f32,
    ) -> (f32, f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let scores = scratch.scores.as_mut_ptr().add(row * SCORE_STRIDE);
            let weights = scratch.weights.as_mut_ptr().cast::<u16>().add(row * SCORE_STRIDE);
            let maximum = maximum::<Avx512>(scores, num_keys, factor);
            let (factor, minus_maximum) = (_mm512_set1_ps(factor), _mm512_set1_ps(-maximum));
            let mut sums = [_mm512_setzero_ps(); 2];
            for key in (0..num_keys).step_by(32) {
                let exp = |at: usize| {
                    Avx512::exp2(Avx512::fma(Avx512::load(scores.add(at)), factor, minus_maximum))
                };
                let (low, high) = (exp(key), exp(key + 16));
                sums[0] = _mm512_add_ps(sums[0], low);
                sums[1] = _mm512_add_ps(sums[1], high);
                store_bf16(weights.add(key), low, high);
            }
            (maximum, Avx512::sum(_mm512_add_ps(sums[0], sums[1])))
        }
    }

    #[inline(always)]
    unsafe fn sums(tile: &RowTile<'_>, scratch: &mut Scratch) {
        let head_dim = tile.plan.shape.head_dim;
        let side_bytes = tile.plan.layout.side_bytes();
        // SAFETY: the caller's promise.
        unsafe {
            let weights = scratch.weights.as_mut_ptr().cast::<u8>();
            let sums = scratch.sums.as_mut_ptr();
            let mut dim = 0;
            while dim < head_dim {
                let offset = side_bytes + dim / 16 * TILE_BYTES;
                if dim + 64 <= head_dim {
                    sum_64_dims(weights, tile.groups, offset, sums.add(dim), 4 * head_dim);
                    dim += 64;
                } else {
                    sum_32_dims(weights, tile.groups, offset, sums.add(dim), 4 * head_dim);
                    dim += 32;
                }
            }
        }
    }
}

/// # Safety
/// AVX-512 BF16, and room for 32 numbers.
#[inline(always)]
unsafe fn store_bf16(to: *mut u16, low: __m512, high: __m512) {
    // SAFETY: the caller's promise; a bh vector is 64 bytes like any other.
    unsafe {
        let packed = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(to.cast(), packed);
    }
}

/// Scores with the 64 keys of two groups.
///
/// # Safety
/// The configuration of [`AmxKernel::begin`], readable queries and groups, writable scores.
#[inline(always)]
unsafe fn score_pair(
    queries: *const u8,
    row_bytes: usize,
    first: *const u8,
    second: *const u8,
    scores: *mut f32,
) {
    // 16 keys of all dimensions.
    let half_bytes = 16 * row_bytes;
    // SAFETY: the caller's promise.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        amx::zero::<3>();
        for chunk in 0..row_bytes / 64 {
            let at = chunk * TILE_BYTES;
            amx::load::<4>(queries.add(chunk * 64), row_bytes);
            amx::load::<5>(first.add(at), 64);
            amx::dot_bf16::<0, 4, 5>();
            amx::load::<6>(first.add(half_bytes + at), 64);
            amx::dot_bf16::<1, 4, 6>();
            amx::load::<7>(second.add(at), 64);
            amx::dot_bf16::<2, 4, 7>();
            amx::load::<5>(second.add(half_bytes + at), 64);
            amx::dot_bf16::<3, 4, 5>();
        }
        amx::store::<0>(scores.cast(), 4 * SCORE_STRIDE);
        amx::store::<1>(scores.add(16).cast(), 4 * SCORE_STRIDE);
        amx::store::<2>(scores.add(32).cast(), 4 * SCORE_STRIDE);
        amx::store::<3>(scores.add(48).cast(), 4 * SCORE_STRIDE);
    }
}

/// Scores with the keys of one group.
///
/// # Safety
/// As for [`score_pair`].
#[inline(always)]
unsafe fn score_group(queries: *const u8, row_bytes: usize, group: *const u8, scores: *mut f32) {
    let half_bytes = 16 * row_bytes;
    // SAFETY: the caller's promise.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        for chunk in 0..row_bytes / 64 {
            let at = chunk * TILE_BYTES;
            amx::load::<4>(queries.add(chunk * 64), row_bytes);
            amx::load::<5>(group.add(at), 64);
            amx::dot_bf16::<0, 4, 5>();
            amx::load::<6>(group.add(half_bytes + at), 64);
            amx::dot_bf16::<1, 4, 6>();
        }
        amx::store::<0>(scores.cast(), 4 * SCORE_STRIDE);
        amx::store::<1>(scores.add(16).cast(), 4 * SCORE_STRIDE);
    }
}

/// Weighted sums of 64 dimensions of the values that lie at `offset` in each group.
///
/// # Safety
/// The configuration of [`AmxKernel::begin`], readable weights and groups, writable sums.
#[inline(always)]
unsafe fn sum_64_dims(
    weights: *const u8,
    groups: &[*const u8],
    offset: usize,
    sums: *mut f32,
    sum_bytes: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        amx::zero::<3>();
        for (index, &group) in groups.iter().enumerate() {
            let values = group.add(offset);
            amx::load::<4>(weights.add(index * 64), 2 * SCORE_STRIDE);
            amx::load::<5>(values, 64);
            amx::dot_bf16::<0, 4, 5>();
            amx::load::<6>(values.add(TILE_BYTES), 64);
            amx::dot_bf16::<1, 4, 6>();
            amx::load::<7>(values.add(2 * TILE_BYTES), 64);
            amx::dot_bf16::<2, 4, 7>();
            amx::load::<5>(values.add(3 * TILE_BYTES), 64);
            amx::dot_bf16::<3, 4, 5>();
        }
        amx::store::<0>(sums.cast(), sum_bytes);
        amx::store::<1>(sums.add(16).cast(), sum_bytes);
        amx::store::<2>(sums.add(32).cast(), sum_bytes);
        amx::store::<3>(sums.add(48).cast(), sum_bytes);
    }
}

/// As [`sum_64_dims`] for 32 dimensions.
///
/// # Safety
/// As for [`sum_64_dims`].
#[inline(always)]
unsafe fn sum_32_dims(
    weights: *const u8,
    groups: &[*const u8],
    offset: usize,
    sums: *mut f32,
    sum_bytes: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        for (index, &group) in groups.iter().enumerate() {
            let values = group.add(offset);
            amx::load::<4>(weights.add(index * 64), 2 * SCORE_STRIDE);
            amx::load::<5>(values, 64);
            amx::dot_bf16::<0, 4, 5>();
            amx::load::<6>(values.add(TILE_BYTES), 64);
            amx::dot_bf16::<1, 4, 6>();
        }
        amx::store::<0>(sums.cast(), sum_bytes);
        amx::store::<1>(sums.add(16).cast(), sum_bytes);
    }
}
