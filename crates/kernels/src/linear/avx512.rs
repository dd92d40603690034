//! The group kernel with AVX-512 VNNI: few rows, weights streamed once at memory speed.

use std::arch::x86_64::*;

use super::group::{GroupKind, PanelView, PANEL};
use super::rows::{RowTile, GROUP, TILE_ROWS};

/// Most rows that one pass over a panel serves.
pub const MAX_ROWS: usize = 8;

/// The eight vectors of a group, (16 outputs × 4 inputs) unsigned codes each.
#[inline(always)]
unsafe fn load_codes<const BITS: usize>(codes: *const u8) -> [__m512i; 8] {
    // SAFETY: the caller's group holds 8 (or at 4 bits 4) whole vectors.
    unsafe {
        let mut vectors = [_mm512_setzero_si512(); 8];
        if BITS == 8 {
            for i in 0..8 {
                vectors[i] = _mm512_loadu_si512(codes.add(64 * i).cast());
            }
        } else {
            let mask = _mm512_set1_epi8(15);
            for i in 0..4 {
                let pair = _mm512_loadu_si512(codes.add(64 * i).cast());
                vectors[i] = _mm512_and_si512(pair, mask);
                vectors[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), mask);
            }
        }
        vectors
    }
}

/// Sixteen factors from `index` on.
#[inline(always)]
pub(super) unsafe fn load_factors<const HALF: bool>(base: *const u8, index: usize) -> __m512 {
    // SAFETY: the caller's index lies inside the panel's factors.
    unsafe {
        if HALF {
            _mm512_cvtph_ps(_mm256_loadu_si256(base.add(index * 2).cast()))
        } else {
            _mm512_loadu_ps(base.add(index * 4).cast())
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn rows<
    const M: usize,
    const BITS: usize,
    const SUBS: usize,
    const MINS: bool,
    const HALF: bool,
>(
    panel: PanelView,
    tile: RowTile,
    first: usize,
    out: *mut f32,
) {
    let mut acc = [_mm512_setzero_ps(); M];
    let zero = -i32::from(panel.zero);
    for group in 0..panel.num_groups {
        // SAFETY: every address is inside the panel or the tile, by the caller's promise.
        unsafe {
            let w = load_codes::<BITS>(panel.codes.add(group * 64 * BITS));
            for sub in 0..SUBS {
                let index = (group * SUBS + sub) * PANEL;
                let scale_w = load_factors::<HALF>(panel.scales, index);
                for m in 0..M {
                    let row = group * TILE_ROWS + first + m;
                    let x = tile.codes.add(row * GROUP).cast::<i32>();
                    let mut dot = if MINS {
                        _mm512_setzero_si512()
                    } else {
                        let halves = tile.half_sums.add(group * 2 * TILE_ROWS + first + m);
                        let sum = if SUBS == 2 {
                            *halves.add(sub * TILE_ROWS)
                        } else {
                            *halves + *halves.add(TILE_ROWS)
                        };
                        _mm512_set1_epi32(zero * sum)
                    };
                    for i in sub * 8 / SUBS..(sub + 1) * 8 / SUBS {
                        dot = _mm512_dpbusd_epi32(
                            dot,
                            w[i],
                            _mm512_set1_epi32(x.add(i).read_unaligned()),
                        );
                    }
                    let scale = _mm512_mul_ps(scale_w, _mm512_set1_ps(*tile.scales.add(row)));
                    acc[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, acc[m]);
                    if MINS {
                        let sum = _mm512_set1_ps(*tile.scaled_sums.add(row));
                        acc[m] =
                            _mm512_fmadd_ps(load_factors::<HALF>(panel.mins, index), sum, acc[m]);
                    }
                }
            }
        }
    }
    for m in 0..M {
        // SAFETY: room for M rows of 16.
        unsafe { _mm512_storeu_ps(out.add(m * PANEL), acc[m]) };
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
        match (kind.code_bits, kind.subs, kind.has_mins, kind.half) {
            (4, 1, true, true) => rows::<M, 4, 1, true, true>(panel, tile, first, out),
            (4, 1, true, false) => rows::<M, 4, 1, true, false>(panel, tile, first, out),
            (4, 1, false, true) => rows::<M, 4, 1, false, true>(panel, tile, first, out),
            (4, 1, false, false) => rows::<M, 4, 1, false, false>(panel, tile, first, out),
            (8, 1, true, true) => rows::<M, 8, 1, true, true>(panel, tile, first, out),
            (8, 1, true, false) => rows::<M, 8, 1, true, false>(panel, tile, first, out),
            (8, 1, false, true) => rows::<M, 8, 1, false, true>(panel, tile, first, out),
            (8, 1, false, false) => rows::<M, 8, 1, false, false>(panel, tile, first, out),
            (8, 2, false, true) => rows::<M, 8, 2, false, true>(panel, tile, first, out),
            (8, 2, false, false) => rows::<M, 8, 2, false, false>(panel, tile, first, out),
            _ => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

/// As [`super::portable::panel_tile`], for a processor with AVX-512 VNNI.
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
            first += match left {
                1 => (with_kind::<1>(kind, panel, tile, first, out), 1).1,
                2 => (with_kind::<2>(kind, panel, tile, first, out), 2).1,
                3 => (with_kind::<3>(kind, panel, tile, first, out), 3).1,
                4..=7 => (with_kind::<4>(kind, panel, tile, first, out), 4).1,
                _ => (with_kind::<MAX_ROWS>(kind, panel, tile, first, out), MAX_ROWS).1,
            };
        }
    }
}
