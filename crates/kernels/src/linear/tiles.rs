//! The group kernel with AMX: many rows. A panel's codes are spread to signed bytes once and then
//! serve every row.

use std::arch::x86_64::*;

use super::avx512::load_factors;
use super::group::{GroupKind, PanelView, GROUP_BYTES, PANEL};
use super::rows::{RowTile, GROUP, TILE_ROWS};
use crate::amx::{self, TileConfig};

/// Dot products of one group: tiles are written here and read back as vectors.
#[repr(align(64))]
struct Dots([[i32; PANEL]; TILE_ROWS]);

/// Spreads a panel's codes to i8 (groups, 8, 64), zero point taken off.
///
/// # Safety
/// AVX-512 BW is available; `out` has room for `num_groups * 512` bytes, 64-byte aligned.
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn spread(kind: GroupKind, panel: PanelView, out: *mut i8) {
    let zero = _mm512_set1_epi8(panel.zero as i8);
    let mask = _mm512_set1_epi8(15);
    for group in 0..panel.num_groups {
        // SAFETY: whole vectors of the panel's group and of the caller's room.
        unsafe {
            let to = out.add(group * GROUP_BYTES);
            if kind.code_bits == 8 {
                let from = panel.codes.add(group * GROUP_BYTES);
                for i in 0..8 {
                    let codes = _mm512_loadu_si512(from.add(64 * i).cast());
                    _mm512_store_si512(to.add(64 * i).cast(), _mm512_sub_epi8(codes, zero));
                }
            } else {
                let from = panel.codes.add(group * GROUP_BYTES / 2);
                for i in 0..4 {
                    let pair = _mm512_loadu_si512(from.add(64 * i).cast());
                    let low = _mm512_and_si512(pair, mask);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), mask);
                    _mm512_store_si512(to.add(64 * i).cast(), _mm512_sub_epi8(low, zero));
                    _mm512_store_si512(to.add(64 * (i + 4)).cast(), _mm512_sub_epi8(high, zero));
                }
            }
        }
    }
}

/// Shapes for `num_rows` rows: tile 0 and 1 sums, 2 and 3 rows, 4 and 5 weights.
///
/// # Safety
/// AMX is available.
pub unsafe fn configure(kind: GroupKind, num_rows: usize) {
    let row_bytes = GROUP / kind.subs;
    let config = TileConfig::new()
        .tile(0, num_rows, 64)
        .tile(1, num_rows, 64)
        .tile(2, num_rows, row_bytes)
        .tile(3, num_rows, row_bytes)
        .tile(4, row_bytes / 4, 64)
        .tile(5, row_bytes / 4, 64);
    // SAFETY: the caller's promise.
    unsafe { config.load() };
}

/// The products of sub-groups `index` and `index + 1`, if there are so many, into `dots`.
///
/// Storing a tile takes the processor twice as long as the product itself and lets nothing else
/// through, so products go in pairs: the second is computed while the first is stored.
#[inline(always)]
unsafe fn multiply<const SUBS: usize>(
    spread: *const i8,
    tile: RowTile,
    index: usize,
    count: usize,
    dots: &mut [Dots; 2],
) {
    let operands = |index: usize| {
        let (group, sub) = (index / SUBS, index % SUBS);
        // SAFETY: index is below the panel's sub-groups.
        unsafe {
            (
                tile.codes.add(group * TILE_ROWS * GROUP + sub * (GROUP / SUBS)).cast::<u8>(),
                spread.add(index * (GROUP_BYTES / SUBS)).cast::<u8>(),
            )
        }
    };
    // SAFETY: the configured shapes stay inside both operands and `dots`.
    unsafe {
        let (a, b) = operands(index);
        amx::zero::<0>();
        amx::load::<2>(a, GROUP);
        amx::load::<4>(b, 64);
        amx::dot_i8::<0, 2, 4>();
        if index + 1 < count {
            let (a, b) = operands(index + 1);
            amx::zero::<1>();
            amx::load::<3>(a, GROUP);
            amx::load::<5>(b, 64);
            amx::dot_i8::<1, 3, 5>();
        }
        amx::store::<0>(dots[0].0.as_mut_ptr().cast(), 64);
        if index + 1 < count {
            amx::store::<1>(dots[1].0.as_mut_ptr().cast(), 64);
        }
    }
}

#[inline(always)]
unsafe fn accumulate<const M: usize, const SUBS: usize, const MINS: bool, const HALF: bool>(
    panel: PanelView,
    tile: RowTile,
    index: usize,
    dots: &Dots,
    acc: &mut [__m512; M],
) {
    // SAFETY: index is below the panel's sub-groups.
    unsafe {
        let scale_w = load_factors::<HALF>(panel.scales, index * PANEL);
        let min = if MINS { load_factors::<HALF>(panel.mins, index * PANEL) } else { scale_w };
        let scales = tile.scales.add(index / SUBS * TILE_ROWS);
        let sums = tile.scaled_sums.add(index / SUBS * TILE_ROWS);
        for m in 0..M {
            let dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots.0[m].as_ptr().cast()));
            let scale = _mm512_mul_ps(scale_w, _mm512_set1_ps(*scales.add(m)));
            acc[m] = _mm512_fmadd_ps(dot, scale, acc[m]);
            if MINS {
                acc[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(*sums.add(m)), acc[m]);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn rows<const M: usize, const SUBS: usize, const MINS: bool, const HALF: bool>(
    panel: PanelView,
    spread: *const i8,
    tile: RowTile,
    out: *mut f32,
) {
    let mut acc = [_mm512_setzero_ps(); M];
    let pair = || [Dots([[0; PANEL]; TILE_ROWS]), Dots([[0; PANEL]; TILE_ROWS])];
    let (ready, next) = (&mut pair(), &mut pair());
    let count = panel.num_groups * SUBS;
    // SAFETY: all indexes are below `count`; the shapes were configured for at most 16 rows.
    unsafe {
        let (mut ready, mut next) = (ready, next);
        multiply::<SUBS>(spread, tile, 0, count, ready);
        for index in (0..count).step_by(2) {
            // The next pair is under way while the vectors of this one are added up.
            if index + 2 < count {
                multiply::<SUBS>(spread, tile, index + 2, count, next);
            }
            accumulate::<M, SUBS, MINS, HALF>(panel, tile, index, &ready[0], &mut acc);
            if index + 1 < count {
                accumulate::<M, SUBS, MINS, HALF>(panel, tile, index + 1, &ready[1], &mut acc);
            }
            std::mem::swap(&mut ready, &mut next);
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
    spread: *const i8,
    tile: RowTile,
    out: *mut f32,
) {
    // SAFETY: the caller's promise; the instantiation fits the kind.
    unsafe {
        match (kind.subs, kind.has_mins, kind.half) {
            (1, true, true) => rows::<M, 1, true, true>(panel, spread, tile, out),
            (1, true, false) => rows::<M, 1, true, false>(panel, spread, tile, out),
            (1, false, true) => rows::<M, 1, false, true>(panel, spread, tile, out),
            (1, false, false) => rows::<M, 1, false, false>(panel, spread, tile, out),
            (2, false, true) => rows::<M, 2, false, true>(panel, spread, tile, out),
            (2, false, false) => rows::<M, 2, false, false>(panel, spread, tile, out),
            _ => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

/// Rows of tile shapes that have a kernel of their own; others use the next larger one.
pub fn padded_rows(num_rows: usize) -> usize {
    match num_rows {
        ..=4 => 4,
        5..=8 => 8,
        _ => TILE_ROWS,
    }
}

/// As [`super::portable::panel_tile`] from codes that [`spread`] laid out; writes
/// `padded_rows(num_rows)` rows.
///
/// # Safety
/// As there; AMX is available and [`configure`]d for `padded_rows(num_rows)`; `out` has room for
/// those rows.
pub unsafe fn panel_tile(
    kind: GroupKind,
    panel: PanelView,
    spread: *const i8,
    tile: RowTile,
    num_rows: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match padded_rows(num_rows) {
            4 => with_kind::<4>(kind, panel, spread, tile, out),
            8 => with_kind::<8>(kind, panel, spread, tile, out),
            _ => with_kind::<16>(kind, panel, spread, tile, out),
        }
    }
}
