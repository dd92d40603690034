//! Activations in INT8: for each row and each group of 32, `x ≈ scale * code`, `scale = max|x| /
//! 127`.
//!
//! Rows lie in tiles of 16, so that one group of a tile is one contiguous AMX operand. Beside the
//! codes each group keeps its scale, the sums of its codes (for weights with a zero point) and
//! `scale * sum` (for weights with minimums).

use crate::buffer::Buffer;
use crate::isa::Isa;

/// Activations of a quantisation group.
pub const GROUP: usize = 32;
/// The largest code.
const LARGEST: f32 = 127.0;
/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
const TILE_CODES: usize = TILE_ROWS * GROUP;

/// Room for quantised rows of up to a given width, reused by every linear of a program.
pub struct QuantRows {
    max_rows: usize,
    max_groups: usize,
    codes: Buffer<i8>,
    scales: Buffer<f32>,
    scaled_sums: Buffer<f32>,
    half_sums: Buffer<i32>,
}

/// One tile of [`QuantRows`]: pointers to its first group. Groups follow each other.
#[derive(Clone, Copy)]
pub struct RowTile {
    /// i8 (groups, 16 rows, 32).
    pub codes: *const i8,
    /// f32 (groups, 16 rows).
    pub scales: *const f32,
    /// f32 (groups, 16 rows): scale times the sum of the codes.
    pub scaled_sums: *const f32,
    /// i32 (groups, 2 halves, 16 rows): sums of 16 codes each.
    pub half_sums: *const i32,
}

impl QuantRows {
    /// Room for `max_rows` rows of `max_width` activations.
    pub fn new(max_rows: usize, max_width: usize) -> QuantRows {
        let max_groups = max_width.div_ceil(GROUP);
        let tiles = max_rows.div_ceil(TILE_ROWS);
        let per_group = tiles * max_groups * TILE_ROWS;
        QuantRows {
            max_rows,
            max_groups,
            codes: Buffer::zeroed(per_group * GROUP),
            scales: Buffer::zeroed(per_group),
            scaled_sums: Buffer::zeroed(per_group),
            half_sums: Buffer::zeroed(per_group * 2),
        }
    }

    /// Tile `tile` of rows whose width is `num_groups` groups.
    pub fn tile(&self, tile: usize, num_groups: usize) -> RowTile {
        assert!(num_groups <= self.max_groups && tile * TILE_ROWS < self.max_rows);
        // Tiles keep their places whatever the width, so that rows of one block never meet those of
        // another.
        let first = tile * self.max_groups;
        // SAFETY: the assertion keeps every offset inside the buffers' (tiles * max_groups) groups.
        unsafe {
            RowTile {
                codes: self.codes.as_ptr().add(first * TILE_CODES),
                scales: self.scales.as_ptr().add(first * TILE_ROWS),
                scaled_sums: self.scaled_sums.as_ptr().add(first * TILE_ROWS),
                half_sums: self.half_sums.as_ptr().add(first * 2 * TILE_ROWS),
            }
        }
    }

    /// Quantises `x` as groups `first_group..` of row `row`; rows are `num_groups` groups wide.
    ///
    /// A last group of fewer than 32 values is filled up with zeros.
    ///
    /// # Safety
    /// No other thread reads or writes these groups of this row meanwhile.
    pub unsafe fn quantize(
        &self,
        isa: Isa,
        row: usize,
        num_groups: usize,
        first_group: usize,
        x: &[f32],
    ) {
        assert!(first_group + x.len().div_ceil(GROUP) <= num_groups);
        let tile = self.tile(row / TILE_ROWS, num_groups);
        let lane = row % TILE_ROWS;
        let (groups, rest) = x.as_chunks::<GROUP>();
        // SAFETY: all groups are below num_groups, and the caller keeps others away from this row's
        // groups.
        unsafe {
            quantize_groups(isa, groups, tile, first_group, lane);
            if !rest.is_empty() {
                let mut padded = [0f32; GROUP];
                padded[..rest.len()].copy_from_slice(rest);
                quantize_groups(isa, &[padded], tile, first_group + groups.len(), lane);
            }
        }
    }
}

/// # Safety
/// The groups from `first` on and `lane` lie inside the tile, and nobody else touches them.
unsafe fn quantize_groups(isa: Isa, x: &[[f32; GROUP]], tile: RowTile, first: usize, lane: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
                avx512::quantize_groups(x, tile, first, lane)
            }
            _ => {
                for (i, x) in x.iter().enumerate() {
                    let (codes, scale, low, high) = quantize_group(x);
                    put(tile, first + i, lane, scale, low, high);
                    let to = tile.codes.add(((first + i) * TILE_ROWS + lane) * GROUP).cast_mut();
                    to.cast::<[i8; GROUP]>().write(codes);
                }
            }
        }
    }
}

/// Stores what a group has beside its codes.
///
/// # Safety
/// As for [`quantize_groups`].
#[inline(always)]
pub(super) unsafe fn put(
    tile: RowTile,
    group: usize,
    lane: usize,
    scale: f32,
    low: i32,
    high: i32,
) {
    // SAFETY: the caller's promise; the tile's buffers are writable memory of `QuantRows`.
    unsafe {
        *tile.scales.add(group * TILE_ROWS + lane).cast_mut() = scale;
        *tile.scaled_sums.add(group * TILE_ROWS + lane).cast_mut() = scale * (low + high) as f32;
        *tile.half_sums.add(group * 2 * TILE_ROWS + lane).cast_mut() = low;
        *tile.half_sums.add((group * 2 + 1) * TILE_ROWS + lane).cast_mut() = high;
    }
}

/// Codes, scale and the sums of the codes' halves.
fn quantize_group(x: &[f32; GROUP]) -> ([i8; GROUP], f32, i32, i32) {
    let max = x.iter().fold(0f32, |max, v| max.max(v.abs()));
    let inverse = if max > 0.0 { LARGEST / max } else { 0.0 };
    let codes = x.map(|v| (v * inverse).round_ties_even() as i32 as i8);
    let sum = |half: &[i8]| half.iter().map(|&code| i32::from(code)).sum();
    (codes, max * (1.0 / LARGEST), sum(&codes[..16]), sum(&codes[16..]))
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    //! The same with AVX-512.

    use std::arch::x86_64::*;

    use super::{put, RowTile, GROUP, LARGEST, TILE_ROWS};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn quantize_groups(
        x: &[[f32; GROUP]],
        tile: RowTile,
        first: usize,
        lane: usize,
    ) {
        for (i, x) in x.iter().enumerate() {
            // SAFETY: the caller's promise for every group.
            unsafe {
                let (low, high) =
                    (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
                quantize(low, high, tile, first + i, lane);
            }
        }
    }

    /// Quantises one group that is in registers.
    ///
    /// # Safety
    /// As for [`super::quantize_groups`], and the instructions are available.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub unsafe fn quantize(low: __m512, high: __m512, tile: RowTile, group: usize, lane: usize) {
        let max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        let inverse = _mm512_set1_ps(if max > 0.0 { LARGEST / max } else { 0.0 });
        let low = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
        let high = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
        let ones = _mm_set1_epi8(1);
        let low_sums = _mm_dpbusd_epi32(_mm_setzero_si128(), ones, low);
        let high_sums = _mm_dpbusd_epi32(_mm_setzero_si128(), ones, high);
        let sums = _mm_hadd_epi32(low_sums, high_sums);
        let sums = _mm_hadd_epi32(sums, sums);
        // SAFETY: the caller's promise.
        unsafe {
            let codes = tile.codes.add((group * TILE_ROWS + lane) * GROUP).cast_mut();
            _mm_storeu_si128(codes.cast(), low);
            _mm_storeu_si128(codes.add(16).cast(), high);
            let scale = max * (1.0 / LARGEST);
            put(tile, group, lane, scale, _mm_cvtsi128_si32(sums), _mm_extract_epi32::<1>(sums));
        }
    }
}
