//! The group kernel with AVX2 and FMA.
//!
//! `maddubs` multiplies unsigned by signed bytes and adds pairs into 16 bits with saturation. Codes
//! below 64 leave room for two such sums (below 16: for eight) before widening; full bytes are
//! split into size and sign instead.

use std::arch::x86_64::*;

use super::group::{GroupKind, PanelView, PANEL};
use super::rows::{RowTile, GROUP, TILE_ROWS};

/// How a group's integer dot product stays inside 16 bits.
const NIBBLES: u8 = 0;
const SMALL: u8 = 1;
const FULL: u8 = 2;

/// Dot products of 8 outputs (one half of each vector) with inputs `4 * first..4 * last` of one
/// row.
#[inline(always)]
unsafe fn dot<const MODE: u8>(
    codes: *const u8,
    x: *const i32,
    first: usize,
    last: usize,
) -> __m256i {
    // SAFETY: vectors first..last of the group's half and of the row's 32 codes exist.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let input = |i: usize| _mm256_set1_epi32(x.add(i).read_unaligned());
        let mut sum = _mm256_setzero_si256();
        match MODE {
            NIBBLES => {
                let mask = _mm256_set1_epi8(15);
                for i in 0..4 {
                    let pair = _mm256_loadu_si256(codes.add(64 * i).cast());
                    let low = _mm256_and_si256(pair, mask);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pair), mask);
                    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low, input(i)));
                    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high, input(i + 4)));
                }
                _mm256_madd_epi16(sum, ones)
            }
            SMALL => {
                let mut i = first;
                while i < last {
                    let a = _mm256_loadu_si256(codes.add(64 * i).cast());
                    let b = _mm256_loadu_si256(codes.add(64 * (i + 1)).cast());
                    let pair = _mm256_add_epi16(
                        _mm256_maddubs_epi16(a, input(i)),
                        _mm256_maddubs_epi16(b, input(i + 1)),
                    );
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pair, ones));
                    i += 2;
                }
                sum
            }
            _ => {
                let flip = _mm256_set1_epi8(i8::MIN);
                for i in first..last {
                    let w = _mm256_xor_si256(_mm256_loadu_si256(codes.add(64 * i).cast()), flip);
                    let product =
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(input(i), w));
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(product, ones));
                }
                sum
            }
        }
    }
}

#[inline(always)]
unsafe fn load_factors(half: bool, base: *const u8, index: usize) -> __m256 {
    // SAFETY: eight factors from index on exist.
    unsafe {
        if half {
            _mm256_cvtph_ps(_mm_loadu_si128(base.add(index * 2).cast()))
        } else {
            _mm256_loadu_ps(base.add(index * 4).cast())
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const M: usize, const MODE: u8, const SUBS: usize>(
    kind: GroupKind,
    panel: PanelView,
    tile: RowTile,
    first: usize,
    out: *mut f32,
) {
    // In FULL mode the sign split takes the zero point of 128 off by itself.
    let zero = if MODE == FULL { 0 } else { -i32::from(panel.zero) };
    let group_bytes = 64 * kind.code_bits;
    for side in 0..2 {
        let mut acc = [_mm256_setzero_ps(); M];
        for group in 0..panel.num_groups {
            // SAFETY: every address is inside the panel or the tile, by the caller's promise.
            unsafe {
                let codes = panel.codes.add(group * group_bytes + 32 * side);
                for sub in 0..SUBS {
                    let index = (group * SUBS + sub) * PANEL + 8 * side;
                    let scale_w = load_factors(kind.half, panel.scales, index);
                    for m in 0..M {
                        let row = group * TILE_ROWS + first + m;
                        let x = tile.codes.add(row * GROUP).cast::<i32>();
                        let mut dots = dot::<MODE>(codes, x, sub * 8 / SUBS, (sub + 1) * 8 / SUBS);
                        if zero != 0 {
                            let halves = tile.half_sums.add(group * 2 * TILE_ROWS + first + m);
                            let sum = if SUBS == 2 {
                                *halves.add(sub * TILE_ROWS)
                            } else {
                                *halves + *halves.add(TILE_ROWS)
                            };
                            dots = _mm256_add_epi32(dots, _mm256_set1_epi32(zero * sum));
                        }
                        let scale = _mm256_mul_ps(scale_w, _mm256_set1_ps(*tile.scales.add(row)));
                        acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, acc[m]);
                        if kind.has_mins {
                            let min = load_factors(kind.half, panel.mins, index);
                            let sum = _mm256_set1_ps(*tile.scaled_sums.add(row));
                            acc[m] = _mm256_fmadd_ps(min, sum, acc[m]);
                        }
                    }
                }
            }
        }
        for m in 0..M {
            // SAFETY: room for M rows of 16.
            unsafe { _mm256_storeu_ps(out.add(m * PANEL + 8 * side), acc[m]) };
        }
    }
}

unsafe fn with_kind<const M: usize>(
    kind: GroupKind,
    panel: PanelView,
    tile: RowTile,
    first: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise; the instantiation fits the kind.
    unsafe {
        match (kind.code_bits, kind.subs, kind.zero) {
            (4, 1, _) => rows::<M, NIBBLES, 1>(kind, panel, tile, first, out),
            (8, 1, 128) => rows::<M, FULL, 1>(kind, panel, tile, first, out),
            (8, 1, _) => rows::<M, SMALL, 1>(kind, panel, tile, first, out),
            (8, 2, _) => rows::<M, SMALL, 2>(kind, panel, tile, first, out),
            _ => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

/// As [`super::portable::panel_tile`], for a processor with AVX2 and FMA.
///
/// # Safety
/// As there, and the instructions are available.
pub unsafe fn panel_tile(
    kind: GroupKind,
    panel: PanelView,
    tile: RowTile,
    num_rows: usize,
    out: *mut f32,
) {
    let mut first = 0;
    while first < num_rows {
        // SAFETY: rows first.. of the tile and of out exist.
        unsafe {
            let out = out.add(first * PANEL);
            let left = num_rows - first;
            if left >= 4 {
                with_kind::<4>(kind, panel, tile, first, out);
                first += 4;
            } else if left >= 2 {
                with_kind::<2>(kind, panel, tile, first, out);
                first += 2;
            } else {
                with_kind::<1>(kind, panel, tile, first, out);
                first += 1;
            }
        }
    }
}
