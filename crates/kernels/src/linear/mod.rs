//! Linear layers over quantised weights: `out = x · wᵀ`.
//!
//! [`GroupLinear`] has INT8 activations, exact integer dot products in groups and a fixed order of
//! float sums; [`fixed`] computes in 16-bit integers throughout, where the processor has AMX.
//! Either way a row's result is the same bits alone or in any batch.

mod avx2;
mod avx512;
mod block;
pub mod fixed;
mod gated;
mod group;
mod int8;
mod pack;
mod portable;
mod quant;
mod rows;

pub use block::{put_block, BlockPlace};
pub use gated::{gate_group, gate_rows, GatedBlocks};
pub use group::{GroupKind, GroupLinear, GroupPacker, PanelView, RowParts, GROUP_BYTES, PANEL};
pub use int8::round_to_int8;
pub use quant::{is_fixed, LinearScratch, QuantInput, QuantLinear};
pub use rows::{QuantRows, RowTile, GROUP, TILE_ROWS};

use crate::isa::Isa;

/// Most rows that [`GroupLinear::compute`] is best given at once: their operands stay in the
/// second-level cache.
pub const ROW_BLOCK: usize = 256;

impl GroupLinear {
    /// Outputs `16 * panel..` of rows `first_row..first_row + num_rows`: f32 (num_rows, 16), in
    /// `scratch`.
    ///
    /// `rows` holds those rows, `num_groups` groups wide; `first_row` is the first of a tile of 16.
    pub fn compute<'s>(
        &self,
        isa: Isa,
        panel: usize,
        rows: &QuantRows,
        first_row: usize,
        num_rows: usize,
        scratch: &'s mut LinearScratch,
    ) -> &'s mut [f32] {
        assert!(panel < self.num_panels() && num_rows <= scratch.max_rows && isa.is_available());
        assert!(first_row.is_multiple_of(TILE_ROWS));
        let view = self.panel(panel);
        let out = scratch.out.as_ptr_mut();
        for first in (0..num_rows).step_by(TILE_ROWS) {
            let tile = rows.tile((first_row + first) / TILE_ROWS, self.num_groups);
            let count = (num_rows - first).min(TILE_ROWS);
            // SAFETY: `tile` and `view` have `num_groups` groups, `out` has room for whole tiles of
            // rows, and the instruction set was checked above.
            unsafe {
                panel_tile(isa, self.kind, view, tile, count, out.add(first * PANEL));
            }
        }
        &mut scratch.out.as_mut_slice()[..num_rows * PANEL]
    }
}

/// # Safety
/// As for [`portable::panel_tile`]; `isa` is available.
unsafe fn panel_tile(
    isa: Isa,
    kind: GroupKind,
    panel: PanelView,
    tile: RowTile,
    num_rows: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
                avx512::panel_tile(kind, panel, tile, num_rows, out)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::panel_tile(kind, panel, tile, num_rows, out),
            _ => portable::panel_tile(kind, panel, tile, num_rows, out),
        }
    }
}
