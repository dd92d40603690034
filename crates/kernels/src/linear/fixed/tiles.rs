//! Many rows: a panel's codes are spread to the two bytes of each weight once and multiplied with
//! AMX.

use std::arch::x86_64::*;

use super::rows::{FixedRows, STEP, TILE_BYTES};
use super::words::{self, high_bytes, load_codes, low_bytes, prefetch, spread_factors, weights};
use super::{FixedLinear, FixedScratch, PanelView, GROUP, PANEL, TILE_ROWS};
use crate::amx::{self, TileConfig};

/// Bytes of one step of spread weights: both planes.
const STEP_BYTES: usize = 2 * TILE_BYTES;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
unsafe fn spread_panel<const BITS: usize, const SUBS: usize, const MINS: bool>(
    panel: PanelView,
    out: *mut i8,
) {
    for group in 0..panel.num_groups {
        // SAFETY: every address lies inside the panel or the caller's room.
        unsafe {
            prefetch::<BITS, SUBS, MINS>(panel, group);
            let codes = panel.codes.add(group * 64 * BITS);
            let to = out.add(group / 2 * STEP_BYTES + group % 2 * (TILE_BYTES / 2));
            for sub in 0..SUBS {
                let index = (group * SUBS + sub) * PANEL;
                let factors = spread_factors(panel.factors.add(index));
                let offsets = if MINS { spread_factors(panel.offsets.add(index)) } else { factors };
                for i in sub * 8 / SUBS..(sub + 1) * 8 / SUBS {
                    let w = weights::<MINS>(load_codes::<BITS>(codes, i), factors, offsets);
                    _mm512_store_si512(to.add(64 * i).cast(), high_bytes(w));
                    _mm512_store_si512(to.add(TILE_BYTES + 64 * i).cast(), low_bytes(w));
                }
            }
        }
    }
}

/// Spreads a panel to i8 (steps, 2 planes, 16, 64).
///
/// # Safety
/// AVX-512 with VBMI is available; `out` has the room, 64-byte aligned.
pub(super) unsafe fn spread(weight: &FixedLinear, panel: PanelView, out: *mut i8) {
    // SAFETY: the caller's promise; the instantiation fits the weight.
    unsafe {
        match (weight.code_bits, weight.subs, weight.offsets.is_some()) {
            (4, 1, true) => spread_panel::<4, 1, true>(panel, out),
            (4, 1, false) => spread_panel::<4, 1, false>(panel, out),
            (8, 1, true) => spread_panel::<8, 1, true>(panel, out),
            (8, 1, false) => spread_panel::<8, 1, false>(panel, out),
            (8, 2, false) => spread_panel::<8, 2, false>(panel, out),
            kind => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

/// A tile of integer sums, written by AMX and read back as vectors.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct Sums([[i32; PANEL]; TILE_ROWS]);

impl Sums {
    pub(super) const ZERO: Sums = Sums([[0; PANEL]; TILE_ROWS]);
}

/// Sums over all steps for two tiles of rows: high by high in tiles 0 and 2, the rest in 1 and 3.
///
/// A product takes three times as long to arrive as to start, and products start in order: those
/// into the same tile are kept three apart.
#[inline(always)]
unsafe fn multiply_pair(
    spread: *const u8,
    num_steps: usize,
    tiles: [*const u8; 2],
    sums: &mut [Sums; 4],
) {
    // SAFETY: the configured shapes lie inside all operands.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        amx::zero::<3>();
        for at in (0..num_steps).map(|step| step * STEP_BYTES) {
            let (weights, first, second) = (spread.add(at), tiles[0].add(at), tiles[1].add(at));
            amx::load::<7>(weights.add(TILE_BYTES), 64);
            amx::load::<4>(first, STEP);
            amx::dot_i8::<1, 4, 7>();
            amx::load::<5>(second, STEP);
            amx::dot_i8::<3, 5, 7>();
            amx::load::<6>(weights, 64);
            amx::dot_i8::<0, 4, 6>();
            amx::load::<4>(first.add(TILE_BYTES), STEP);
            amx::dot_u8_i8::<1, 4, 6>();
            amx::load::<7>(second.add(TILE_BYTES), STEP);
            amx::dot_u8_i8::<3, 7, 6>();
            amx::dot_i8::<2, 5, 6>();
        }
        amx::store::<0>(sums[0].0.as_mut_ptr().cast(), 64);
        amx::store::<1>(sums[1].0.as_mut_ptr().cast(), 64);
        amx::store::<2>(sums[2].0.as_mut_ptr().cast(), 64);
        amx::store::<3>(sums[3].0.as_mut_ptr().cast(), 64);
    }
}

/// Sums over all steps for one tile of rows: high by high in tile 0, high by low in 1, low by high
/// in 2.
#[inline(always)]
unsafe fn multiply_one(spread: *const u8, num_steps: usize, tile: *const u8, sums: &mut [Sums; 4]) {
    // SAFETY: the configured shapes lie inside all operands.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        for at in (0..num_steps).map(|step| step * STEP_BYTES) {
            let (weights, rows) = (spread.add(at), tile.add(at));
            amx::load::<6>(weights, 64);
            amx::load::<4>(rows, STEP);
            amx::dot_i8::<0, 4, 6>();
            amx::load::<7>(weights.add(TILE_BYTES), 64);
            amx::dot_i8::<1, 4, 7>();
            amx::load::<5>(rows.add(TILE_BYTES), STEP);
            amx::dot_u8_i8::<2, 5, 6>();
        }
        amx::store::<0>(sums[0].0.as_mut_ptr().cast(), 64);
        amx::store::<1>(sums[1].0.as_mut_ptr().cast(), 64);
        amx::store::<2>(sums[2].0.as_mut_ptr().cast(), 64);
    }
}

/// Shapes for `num_rows` rows to a tile.
unsafe fn configure(num_rows: usize) {
    let mut config = TileConfig::full();
    for tile in 0..6 {
        config = config.tile(tile, num_rows, 64);
    }
    // SAFETY: the caller has AMX.
    unsafe { config.load() };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn finish(
    panel: PanelView,
    sums: &[Sums],
    x: &FixedRows,
    first_row: usize,
    num_rows: usize,
    out: *mut f32,
) {
    for row in 0..num_rows {
        // SAFETY: rows of whole tiles; sixteen units; the caller's room.
        unsafe {
            let load = |sum: &Sums| _mm512_load_si512(sum.0[row].as_ptr().cast());
            let mut total = _mm512_slli_epi32::<8>(load(&sums[0]));
            for rest in &sums[1..] {
                total = _mm512_add_epi32(total, load(rest));
            }
            words::finish(panel, total, x.scale(first_row + row), out.add(row * PANEL));
        }
    }
}

/// Any number of rows: f32 (num_rows, 16) into `out`.
///
/// # Safety
/// AMX is available, `scratch` holds the spread panel, `out` has room for the rows, `first_row`
/// begins a tile.
pub(super) unsafe fn panel(
    panel: PanelView,
    scratch: &mut FixedScratch,
    x: &FixedRows,
    first_row: usize,
    num_rows: usize,
    out: *mut f32,
) {
    let num_steps = panel.num_groups * GROUP / STEP;
    let FixedScratch { spread, sums, configured_rows } = scratch;
    let spread = spread.as_ptr().cast::<u8>();
    let mut done = 0;
    let mut configure = |num_rows: usize| {
        if num_rows != *configured_rows {
            // SAFETY: AMX is available, by the caller's promise.
            unsafe { configure(num_rows) };
            *configured_rows = num_rows;
        }
    };
    // SAFETY: the caller's promise for every tile of rows.
    unsafe {
        while done < num_rows {
            let left = num_rows - done;
            let row = first_row + done;
            let at = out.add(done * PANEL);
            let tile = x.tile(row / TILE_ROWS).cast::<u8>();
            configure(left.min(TILE_ROWS));
            if left >= 2 * TILE_ROWS {
                let next = x.tile(row / TILE_ROWS + 1).cast::<u8>();
                multiply_pair(spread, num_steps, [tile, next], sums);
                finish(panel, &sums[..2], x, row, TILE_ROWS, at);
                finish(panel, &sums[2..], x, row + TILE_ROWS, TILE_ROWS, at.add(TILE_ROWS * PANEL));
                done += 2 * TILE_ROWS;
            } else {
                let count = left.min(TILE_ROWS);
                multiply_one(spread, num_steps, tile, sums);
                finish(panel, &sums[..3], x, row, count, at);
                done += count;
            }
        }
    }
}
