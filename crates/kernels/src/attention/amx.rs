//! The kernel for bf16 keys and values on AMX tiles.
//!
//! Groups are read as they lie in the arena. A product takes as many cycles as there are query
//! rows, each row on its own, so that a decoding row and a row of prefill go through the same code.

use std::arch::x86_64::*;

use super::attend::{Kernel, RowTile, Softmax};
use super::buffers::{Scratch, SCORE_STRIDE, WEIGHT_STRIDE};
use super::simd::{Avx512, Simd};
use super::softmax::{maximum, weight};
use super::ROW_TILE;
use crate::amx::{self, TileConfig};
use crate::kv::GROUP_TOKENS;

/// bf16 products on AMX, softmax on AVX-512.
pub(super) struct AmxKernel;

/// Bytes of an AMX tile, and of 32 dimensions of 16 keys, or of 16 dimensions of 32 values.
const TILE_BYTES: usize = 1024;
/// Tiles that hold query rows, their weights, scores or sums; the others hold keys or values.
const QUERY_TILES: [usize; 7] = [0, 1, 2, 3, 4, 6, 7];

impl Kernel for AmxKernel {
    type S = Avx512;

    #[inline(always)]
    unsafe fn begin(scratch: &mut Scratch) {
        scratch.tile_rows = 0;
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
            configure(tile.num_queries, scratch);
            let queries =
                scratch.queries.as_mut_ptr().cast::<u8>().add(tile.first_query * row_bytes);
            for (index, pair) in tile.groups.chunks(2).enumerate() {
                let scores = tile.scores(scratch).add(index * 2 * GROUP_TOKENS);
                tile.prefetch(2 * index);
                if let &[first, second] = pair {
                    tile.prefetch(2 * index + 1);
                    score_pair(queries, row_bytes, first, second, scores);
                } else {
                    score_group(queries, row_bytes, pair[0], scores);
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
        let side_bytes = tile.plan.layout.side_bytes();
        let mut softmax = Softmax::default();
        // SAFETY: the caller's promise.
        unsafe {
            // The maxima first: the latency of one is then hidden behind the next.
            for row in 0..tile.num_queries {
                let scores = tile.scores(scratch).add(row * SCORE_STRIDE);
                softmax[row].0 = maximum::<Avx512>(scores, tile.num_keys(), factor);
            }
            let sums = scratch.sums.as_mut_ptr();
            let beside = next.filter(|next| next.num_queries == tile.num_queries && head_dim <= 64);
            let mut dim = if head_dim >= 64 {
                weigh_and_sum::<4>(tile, beside, scratch, factor, &mut softmax)
            } else {
                weigh_and_sum::<2>(tile, beside, scratch, factor, &mut softmax)
            };
            let weights = scratch.weights.as_mut_ptr().cast::<u8>();
            while dim < head_dim {
                let offset = side_bytes + dim / 16 * TILE_BYTES;
                zero_sums();
                if dim + 64 <= head_dim {
                    for (index, &group) in tile.groups.iter().enumerate() {
                        add_values::<4>(weights.add(index * 64), group.add(offset));
                    }
                    store_sums::<4>(sums.add(dim), 4 * head_dim);
                    dim += 64;
                } else {
                    for (index, &group) in tile.groups.iter().enumerate() {
                        add_values::<2>(weights.add(index * 64), group.add(offset));
                    }
                    store_sums::<2>(sums.add(dim), 4 * head_dim);
                    dim += 32;
                }
            }
            if let Some(next) = next.filter(|_| beside.is_none()) {
                Self::scores(next, scratch);
            }
        }
        softmax
    }
}

/// Shapes the tiles for `num_queries` rows: 0 to 4 and 6, 7 for query rows, 5 for keys or values.
///
/// # Safety
/// AMX must be available.
#[inline(always)]
unsafe fn configure(num_queries: usize, scratch: &mut Scratch) {
    if scratch.tile_rows != num_queries {
        scratch.tile_rows = num_queries;
        let mut config = TileConfig::full();
        for tile in QUERY_TILES {
            config = config.tile(tile, num_queries, amx::MAX_ROW_BYTES);
        }
        // SAFETY: the caller's promise.
        unsafe { config.load() }
    }
}

/// Scores to bf16 weights, their sums, and the weighted sums of the first `16 * C` dimensions of
/// the values, whose number it returns; and all scores of `next`.
///
/// The products of the weights of one group, and those of the next tile, are spread among the
/// exponentials, which keep the vector units busy all the time.
///
/// # Safety
/// As for [`Kernel::sums`]; the rows' maxima must be known, and `next` have as many rows and heads
/// of at most 64.
#[inline(always)]
unsafe fn weigh_and_sum<const C: usize>(
    tile: &RowTile<'_>,
    next: Option<&RowTile<'_>>,
    scratch: &mut Scratch,
    factor: f32,
    softmax: &mut Softmax,
) -> usize {
    let head_dim = tile.plan.shape.head_dim;
    let side_bytes = tile.plan.layout.side_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        let scores = tile.scores(scratch);
        let weights = scratch.weights.as_mut_ptr().cast::<u16>();
        let mut weigh = Weigh { scores, weights, factor, sums: [_mm512_setzero_ps(); ROW_TILE] };
        let queries = scratch.queries.as_mut_ptr().cast::<u8>();
        let next = next.map(|next| {
            (queries.add(next.first_query * 2 * head_dim), next.scores(scratch), next.groups)
        });
        let num_groups = tile.groups.len();
        zero_sums();
        // Products lag one group behind the weights.
        for index in 0..=num_groups {
            let values =
                if index > 0 { tile.groups[index - 1].add(side_bytes) } else { std::ptr::null() };
            let before =
                weights.wrapping_add(index.wrapping_sub(1).wrapping_mul(GROUP_TOKENS)).cast::<u8>();
            for quarter in 0..4 {
                if index < num_groups {
                    let rows =
                        quarter * ROW_TILE / 4..tile.num_queries.min((quarter + 1) * ROW_TILE / 4);
                    weigh.rows(rows, index * GROUP_TOKENS, softmax);
                }
                if index > 0 {
                    add_value_tile::<C>(quarter, before, values);
                }
                if let Some((queries, scores, groups)) = next {
                    if index < groups.len() {
                        let scores = scores.add(index * GROUP_TOKENS);
                        score_quarter(quarter, queries, 2 * head_dim, groups[index], scores);
                    }
                }
            }
        }
        if let Some((queries, scores, groups)) = next {
            for index in num_groups + 1..groups.len() {
                for quarter in 0..4 {
                    let scores = scores.add(index * GROUP_TOKENS);
                    score_quarter(quarter, queries, 2 * head_dim, groups[index], scores);
                }
            }
        }
        store_sums::<C>(scratch.sums.as_mut_ptr(), 4 * head_dim);
        for row in 0..tile.num_queries {
            softmax[row].1 = Avx512::sum(weigh.sums[row]);
        }
    }
    16 * C
}

/// Turning scores to bf16 weights.
struct Weigh {
    scores: *const f32,
    weights: *mut u16,
    factor: f32,
    sums: [__m512; ROW_TILE],
}

impl Weigh {
    /// Weighs 32 keys of some rows.
    ///
    /// # Safety
    /// AVX-512 with BF16, and room for the rows.
    #[inline(always)]
    unsafe fn rows(&mut self, rows: std::ops::Range<usize>, key: usize, softmax: &Softmax) {
        // SAFETY: the caller's promise.
        unsafe {
            let factor = _mm512_set1_ps(self.factor);
            for row in rows {
                let at = self.scores.add(row * SCORE_STRIDE + key);
                let minus_maximum = _mm512_set1_ps(-softmax[row].0);
                let low = weight::<Avx512>(at, factor, minus_maximum);
                let high = weight::<Avx512>(at.add(16), factor, minus_maximum);
                self.sums[row] = _mm512_add_ps(self.sums[row], _mm512_add_ps(low, high));
                store_bf16(self.weights.add(row * WEIGHT_STRIDE + key), low, high);
            }
        }
    }
}

/// # Safety
/// AVX-512 BF16, and room for 32 numbers.
#[inline(always)]
pub(super) unsafe fn store_bf16(to: *mut u16, low: __m512, high: __m512) {
    // SAFETY: the caller's promise; a bh vector is 64 bytes like any other.
    unsafe {
        let packed = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(to.cast(), packed);
    }
}

/// Scores with the 64 keys of two groups.
///
/// # Safety
/// The configuration of [`configure`], readable queries and groups, writable scores.
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
            amx::load::<5>(first.add(half_bytes + at), 64);
            amx::dot_bf16::<1, 4, 5>();
            amx::load::<5>(second.add(at), 64);
            amx::dot_bf16::<2, 4, 5>();
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
    for quarter in 0..4 {
        // SAFETY: the caller's promise.
        unsafe { score_quarter(quarter, queries, row_bytes, group, scores) }
    }
}

/// One of four steps of [`score_group`]: half of the dimensions of 16 keys.
///
/// # Safety
/// As for [`score_pair`]; steps in order.
#[inline(always)]
unsafe fn score_quarter(
    quarter: usize,
    queries: *const u8,
    row_bytes: usize,
    group: *const u8,
    scores: *mut f32,
) {
    let (half, second) = (quarter / 2, quarter % 2);
    let num_chunks = row_bytes / 64;
    let chunks = if second == 0 { 0..num_chunks / 2 } else { num_chunks / 2..num_chunks };
    // SAFETY: the caller's promise.
    unsafe {
        if second == 0 {
            amx::zero::<6>();
        }
        for chunk in chunks {
            amx::load::<7>(queries.add(chunk * 64), row_bytes);
            amx::load::<5>(group.add(half * 16 * row_bytes + chunk * TILE_BYTES), 64);
            amx::dot_bf16::<6, 7, 5>();
        }
        if second == 1 {
            amx::store::<6>(scores.add(half * 16).cast(), 4 * SCORE_STRIDE);
        }
    }
}

/// Zeroes the tiles that accumulate.
///
/// # Safety
/// The configuration of [`configure`].
#[inline(always)]
unsafe fn zero_sums() {
    // SAFETY: the caller's promise.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        amx::zero::<3>();
    }
}

/// Adds `16 * C` dimensions (`C` 2 or 4) of the weighted values of a group.
///
/// # Safety
/// The configuration of [`configure`], readable weights and values.
#[inline(always)]
unsafe fn add_values<const C: usize>(weights: *const u8, values: *const u8) {
    for quarter in 0..4 {
        // SAFETY: the caller's promise.
        unsafe { add_value_tile::<C>(quarter, weights, values) }
    }
}

/// One of four steps of [`add_values`].
///
/// # Safety
/// As for [`add_values`]; steps in order.
#[inline(always)]
unsafe fn add_value_tile<const C: usize>(quarter: usize, weights: *const u8, values: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        match quarter {
            0 => {
                amx::load::<4>(weights, 2 * WEIGHT_STRIDE);
                amx::load::<5>(values, 64);
                amx::dot_bf16::<0, 4, 5>();
            }
            1 => {
                amx::load::<5>(values.add(TILE_BYTES), 64);
                amx::dot_bf16::<1, 4, 5>();
            }
            2 if C == 4 => {
                amx::load::<5>(values.add(2 * TILE_BYTES), 64);
                amx::dot_bf16::<2, 4, 5>();
            }
            3 if C == 4 => {
                amx::load::<5>(values.add(3 * TILE_BYTES), 64);
                amx::dot_bf16::<3, 4, 5>();
            }
            _ => {}
        }
    }
}

/// Writes `16 * C` dimensions (`C` 2 or 4) of the sums.
///
/// # Safety
/// The configuration of [`configure`], writable sums.
#[inline(always)]
unsafe fn store_sums<const C: usize>(sums: *mut f32, row_bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        amx::store::<0>(sums.cast(), row_bytes);
        amx::store::<1>(sums.add(16).cast(), row_bytes);
        if C == 4 {
            amx::store::<2>(sums.add(32).cast(), row_bytes);
            amx::store::<3>(sums.add(48).cast(), row_bytes);
        }
    }
}
