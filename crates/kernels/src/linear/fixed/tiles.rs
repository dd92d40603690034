//! Many rows: a panel's codes are spread to the two bytes of each weight once and multiplied with
//! AMX.

use std::arch::x86_64::*;

use super::rows::{FixedRows, STEP, TILE_BYTES};
use super::words::{self, high_bytes, load_codes, low_bytes, prefetch, spread_factors, weights};
use super::{FixedLinear, PanelView, GROUP, PANEL, TILE_ROWS};
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
struct Sums([[i32; PANEL]; TILE_ROWS]);

/// Sums of both planes over all steps for one tile of rows (and the next, if `PAIR`).
///
/// Tiles 0 and 2: high by high; 1 and 3: high by low and low by high; 4 and 5: rows; 6 and 7:
/// weights.
#[inline(always)]
unsafe fn multiply<const PAIR: bool>(
    spread: *const u8,
    num_steps: usize,
    tiles: [*const u8; 2],
    sums: &mut [Sums; 4],
) {
    // SAFETY: the configured shapes lie inside all operands.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        if PAIR {
            amx::zero::<2>();
            amx::zero::<3>();
        }
        for step in 0..num_steps {
            let at = step * STEP_BYTES;
            amx::load::<6>(spread.add(at), 64);
            amx::load::<4>(tiles[0].add(at), STEP);
            amx::dot_i8::<0, 4, 6>();
            amx::load::<7>(spread.add(at + TILE_BYTES), 64);
            amx::dot_i8::<1, 4, 7>();
            amx::load::<5>(tiles[0].add(at + TILE_BYTES), STEP);
            amx::dot_u8_i8::<1, 5, 6>();
            if PAIR {
                amx::load::<4>(tiles[1].add(at), STEP);
                amx::dot_i8::<2, 4, 6>();
                amx::dot_i8::<3, 4, 7>();
                amx::load::<5>(tiles[1].add(at + TILE_BYTES), STEP);
                amx::dot_u8_i8::<3, 5, 6>();
            }
        }
        amx::store::<0>(sums[0].0.as_mut_ptr().cast(), 64);
        amx::store::<1>(sums[1].0.as_mut_ptr().cast(), 64);
        if PAIR {
            amx::store::<2>(sums[2].0.as_mut_ptr().cast(), 64);
            amx::store::<3>(sums[3].0.as_mut_ptr().cast(), 64);
        }
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
            let high = _mm512_load_si512(sums[0].0[row].as_ptr().cast());
            let low = _mm512_load_si512(sums[1].0[row].as_ptr().cast());
            let total = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
            words::finish(panel, total, x.scale(first_row + row), out.add(row * PANEL));
        }
    }
}

/// Any number of rows: f32 (num_rows, 16) into `out`.
///
/// # Safety
/// AMX is available, `spread` holds the panel, `out` has room for the rows, `first_row` begins a
/// tile.
pub(super) unsafe fn panel(
    panel: PanelView,
    spread: *const i8,
    x: &FixedRows,
    first_row: usize,
    num_rows: usize,
    out: *mut f32,
) {
    let zeros = || Sums([[0; PANEL]; TILE_ROWS]);
    let mut sums = [zeros(), zeros(), zeros(), zeros()];
    let num_steps = panel.num_groups * GROUP / STEP;
    let spread = spread.cast::<u8>();
    let mut done = 0;
    // SAFETY: the caller's promise for every tile of rows.
    unsafe {
        configure(TILE_ROWS.min(num_rows));
        while done < num_rows {
            let left = num_rows - done;
            let row = first_row + done;
            let at = out.add(done * PANEL);
            let tile = x.tile(row / TILE_ROWS).cast::<u8>();
            if left >= 2 * TILE_ROWS {
                let next = x.tile(row / TILE_ROWS + 1).cast::<u8>();
                multiply::<true>(spread, num_steps, [tile, next], &mut sums);
                finish(panel, &sums[..2], x, row, TILE_ROWS, at);
                finish(panel, &sums[2..], x, row + TILE_ROWS, TILE_ROWS, at.add(TILE_ROWS * PANEL));
                done += 2 * TILE_ROWS;
            } else {
                let count = left.min(TILE_ROWS);
                if count < TILE_ROWS && done > 0 {
                    configure(count);
                }
                multiply::<false>(spread, num_steps, [tile, tile], &mut sums);
                finish(panel, &sums[..2], x, row, count, at);
                done += count;
            }
        }
    }
}
