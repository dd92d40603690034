//! The register tile: a few rows against a few panels, accumulated in registers.

use super::panel::{Bf16, Panel, Weight, F16, F32, PANEL_LEN};
use crate::gguf::Format;
use crate::isa::Isa;

/// Panels of the widest tile.
pub(super) const MAX_PANELS: usize = 4;
/// Floats between the rows of a tile's accumulators.
pub(super) const SUMS_STRIDE: usize = MAX_PANELS * PANEL_LEN;

/// What one tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct TileArgs {
    /// First panel, at the first input of the tile.
    pub weights: *const u8,
    /// Distance of the panels in bytes.
    pub panel_bytes: usize,
    /// First row, at the first input of the tile.
    pub x: *const f32,
    /// Distance of the rows in floats.
    pub x_stride: usize,
    /// Number of inputs.
    pub num_inputs: usize,
    /// Accumulators, [`SUMS_STRIDE`] floats between rows.
    pub sums: *mut f32,
    /// Where the weights lie that are wanted next, with the same distances; only prefetched.
    pub next: *const u8,
    /// Whether the accumulators start from zero instead of from `sums`.
    pub first: bool,
}

/// Adds to the sums of `ROWS` rows and `PANELS` panels.
///
/// # Safety
/// The conditions of [`TileArgs`]' pointers and of [`Panel`].
pub(super) type Tile = unsafe fn(&TileArgs);

/// # Safety
/// As [`Tile`], where `P`'s instruction set is enabled.
#[inline(always)]
unsafe fn tile<P: Panel, W: Weight, const ROWS: usize, const PANELS: usize>(args: &TileArgs) {
    let TileArgs { weights, panel_bytes, x, x_stride, num_inputs, sums, next, first } = *args;
    // SAFETY: the caller's pointers cover ROWS rows and PANELS panels of num_inputs inputs.
    unsafe {
        let mut acc = [[P::zero(); PANELS]; ROWS];
        if !first {
            for row in 0..ROWS {
                for panel in 0..PANELS {
                    acc[row][panel] = P::load_f32(sums.add(row * SUMS_STRIDE + panel * PANEL_LEN));
                }
            }
        }
        for k in 0..num_inputs {
            let mut w = [P::zero(); PANELS];
            for panel in 0..PANELS {
                let at = panel * panel_bytes + k * W::STEP_BYTES;
                w[panel] = W::load::<P>(weights.add(at));
                P::prefetch(next.wrapping_add(at));
            }
            for row in 0..ROWS {
                let x = P::splat(x.add(row * x_stride + k));
                for panel in 0..PANELS {
                    acc[row][panel] = acc[row][panel].mul_add(x, w[panel]);
                }
            }
        }
        for row in 0..ROWS {
            for panel in 0..PANELS {
                acc[row][panel].store(sums.add(row * SUMS_STRIDE + panel * PANEL_LEN));
            }
        }
    }
}

/// How many rows and panels the registers of an instruction set hold.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Rows of the tallest tile.
    pub max_rows: usize,
    /// Panels beside each other, for tiles of 1, 2, ... rows; a power of two.
    pub panels: [usize; 12],
}

impl Shape {
    pub(super) fn of(isa: Isa) -> Shape {
        match isa {
            // 32 registers: 24 sums at most.
            Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => {
                Shape { max_rows: 12, panels: [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2] }
            }
            // 16 registers of half a panel: 6 sums at most.
            Isa::Avx2 | Isa::Portable => {
                Shape { max_rows: 6, panels: [4, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0] }
            }
        }
    }
}

/// Picks the instance of a generic tile function, for the shapes that [`Shape::of`] lists.
macro_rules! instance {
    ($function:ident, $weight:ty, $rows:expr, $panels:expr, [$($row:literal)*]) => {
        match ($rows, $panels) {
            $(($row, 1) => $function::<$weight, $row, 1>,
            ($row, 2) => $function::<$weight, $row, 2>,
            ($row, 4) => $function::<$weight, $row, 4>,)*
            (rows, panels) => unreachable!("no tile of {rows} rows and {panels} panels"),
        }
    };
}

macro_rules! instances {
    ($function:ident, $format:expr, $rows:expr, $panels:expr, $list:tt) => {
        match $format {
            Format::F16 => instance!($function, F16, $rows, $panels, $list),
            Format::BF16 => instance!($function, Bf16, $rows, $panels, $list),
            _ => instance!($function, F32, $rows, $panels, $list),
        }
    };
}

/// The tile of `rows` rows and `panels` panels (as [`Shape::of`] allows) for float `format`.
pub(super) fn tile_for(isa: Isa, format: Format, rows: usize, panels: usize) -> Tile {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => {
            instances!(avx512, format, rows, panels, [1 2 3 4 5 6 7 8 9 10 11 12])
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => instances!(avx2, format, rows, panels, [1 2 3 4 5 6]),
        _ => instances!(portable, format, rows, panels, [1 2 3 4 5 6]),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<W: Weight, const ROWS: usize, const PANELS: usize>(args: &TileArgs) {
    // SAFETY: the set is enabled; pointers by the caller.
    unsafe { tile::<super::panel::x86::Avx512, W, ROWS, PANELS>(args) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<W: Weight, const ROWS: usize, const PANELS: usize>(args: &TileArgs) {
    // SAFETY: the set is enabled; pointers by the caller.
    unsafe { tile::<super::panel::x86::Avx2, W, ROWS, PANELS>(args) }
}

unsafe fn portable<W: Weight, const ROWS: usize, const PANELS: usize>(args: &TileArgs) {
    // SAFETY: plain Rust; pointers by the caller.
    unsafe { tile::<[f32; PANEL_LEN], W, ROWS, PANELS>(args) }
}
