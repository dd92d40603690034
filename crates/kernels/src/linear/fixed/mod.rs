//! Quantised weights in 16-bit fixed point, for processors with AMX.
//!
//! Each output channel has a unit, about 1/32,000 of its largest weight; every weight is an
//! integer number of units, worked out in integers from the file's 4 to 8 bit code: `w =
//! mulhrs(code << (16 - bits), factor) + offset`. It differs from the file's value by at most 1.5
//! units. Activations are 16-bit as well (see [`FixedRows`]). With `w = 256 * wh + wl` (`wl`
//! signed) and `x = 256 * xh + xl` (`xl` from 0 to 255) a product is, but for `wl * xl`, whose
//! mean (`xl` = 128) is added to each output as a constant,
//!
//! ```text
//! sum(w * x) / 256 = sum(w * xh) + sum(wh * xl) = 256 * sum(wh * xh) + sum(wl * xh) + sum(wh * xl)
//! ```
//!
//! Few rows compute the middle form with word products while the codes stream by; many rows
//! compute the right one with AMX from bytes that a panel's codes are spread to once. Both are the
//! same exact integer, so that a row's result has the same bits whatever shares its batch; and it
//! is some twenty times closer to float32 than INT8 activations in groups.

mod pack;
mod rows;
mod tiles;
mod words;

pub use rows::FixedRows;

use rows::{STEP, TILE_BYTES, WORD_ROWS};

use super::{GROUP, PANEL, TILE_ROWS};
use crate::buffer::Buffer;

/// A (rows, cols) weight in panels of 16 outputs.
pub struct FixedLinear {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Groups of 32 inputs, an even number; those past the end are zeros.
    num_groups: usize,
    /// Bits of a stored code: 4, or 8 with the code in the upper bits.
    code_bits: usize,
    /// Factors to a group: 1, or 2 where the format's groups are of 16.
    subs: usize,
    /// (panels, groups, 8 or 4 vectors, 64): vectors of (16 outputs × 4 inputs).
    codes: Buffer<u8>,
    /// i16 (panels, groups, subs, 16).
    factors: Buffer<i16>,
    /// The same for offsets, where the format has minimums.
    offsets: Option<Buffer<i16>>,
    /// f32 (panels, 16): 256 units.
    units: Buffer<f32>,
    /// i32 (panels, 16): what the dropped products of low bytes come to on average.
    corrections: Buffer<i32>,
}

/// One panel's addresses.
#[derive(Clone, Copy)]
struct PanelView {
    codes: *const u8,
    factors: *const i16,
    /// Null without minimums.
    offsets: *const i16,
    units: *const f32,
    corrections: *const i32,
    num_groups: usize,
}

/// One thread's working memory.
pub struct FixedScratch {
    /// i8 (steps, 2 planes, 16, 64).
    spread: Buffer<i8>,
    sums: [tiles::Sums; 4],
    /// Rows that this thread's tiles are shaped for; 0 when unknown.
    configured_rows: usize,
}

impl FixedScratch {
    /// Room for weights of `max_cols` inputs.
    pub fn new(max_cols: usize) -> FixedScratch {
        FixedScratch {
            spread: Buffer::zeroed(FixedRows::steps(max_cols) * 2 * TILE_BYTES),
            sums: [tiles::Sums::ZERO; 4],
            configured_rows: 0,
        }
    }

    /// Forgets the shapes of this thread's tiles: call it where other code may have used AMX since.
    pub fn begin(&mut self) {
        self.configured_rows = 0;
    }
}

impl FixedLinear {
    /// Number of panels.
    pub fn num_panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        self.codes.num_bytes()
            + self.factors.num_bytes()
            + self.offsets.as_ref().map_or(0, Buffer::num_bytes)
            + self.units.num_bytes()
            + self.corrections.num_bytes()
    }

    fn panel(&self, panel: usize) -> PanelView {
        let factors = panel * self.num_groups * self.subs * PANEL;
        PanelView {
            codes: self.codes.as_slice()[panel * self.num_groups * self.group_bytes()..].as_ptr(),
            factors: self.factors.as_slice()[factors..].as_ptr(),
            offsets: self
                .offsets
                .as_ref()
                .map_or(std::ptr::null(), |o| o.as_slice()[factors..].as_ptr()),
            units: self.units.as_slice()[panel * PANEL..].as_ptr(),
            corrections: self.corrections.as_slice()[panel * PANEL..].as_ptr(),
            num_groups: self.num_groups,
        }
    }

    fn group_bytes(&self) -> usize {
        PANEL * GROUP * self.code_bits / 8
    }

    /// Weight (row, col) in units: the definition that the kernels vectorise.
    pub fn weight(&self, row: usize, col: usize) -> i16 {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let (group, i) = (col / GROUP, col % GROUP);
        let base = (panel * self.num_groups + group) * self.group_bytes();
        let (vector, offset) = (i / 4, lane * 4 + i % 4);
        let codes = self.codes.as_slice();
        let top = if self.code_bits == 8 {
            codes[base + vector * 64 + offset]
        } else {
            codes[base + vector % 4 * 64 + offset] >> (4 * (vector / 4)) << 4
        };
        let sub = i * self.subs / GROUP;
        let index = ((panel * self.num_groups + group) * self.subs + sub) * PANEL + lane;
        let code = i32::from(top as i8) << 8;
        let product = (code * i32::from(self.factors.as_slice()[index]) + 0x4000) >> 15;
        product as i16 + self.offsets.as_ref().map_or(0, |offsets| offsets.as_slice()[index])
    }

    /// Row `row` in f32, times `factor`: `out` is (cols,).
    pub fn dequantize_row(&self, row: usize, factor: f32, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let unit = self.units.as_slice()[row] * (1.0 / 256.0) * factor;
        for (col, value) in out.iter_mut().enumerate() {
            *value = f32::from(self.weight(row, col)) * unit;
        }
    }

    /// Outputs `16 * panel..` of rows `first_row..first_row + num_rows`: f32 (num_rows, 16), in
    /// `out`.
    ///
    /// `first_row` is the first of a tile of 16; `out` has room for whole tiles.
    ///
    /// # Safety
    /// AMX is available.
    pub unsafe fn compute(
        &self,
        panel: usize,
        x: &FixedRows,
        first_row: usize,
        num_rows: usize,
        scratch: &mut FixedScratch,
        out: &mut [f32],
    ) {
        assert!(panel < self.num_panels() && first_row.is_multiple_of(TILE_ROWS));
        assert!(out.len() >= num_rows.next_multiple_of(TILE_ROWS) * PANEL);
        assert!(scratch.spread.len() >= self.num_groups * GROUP / STEP * 2 * TILE_BYTES);
        let view = self.panel(panel);
        // SAFETY: the caller's promise; the assertions keep every address inside its buffer.
        unsafe {
            if first_row + num_rows < WORD_ROWS {
                words::panel(self, view, x, first_row, num_rows, out.as_mut_ptr());
            } else {
                tiles::spread(self, view, scratch.spread.as_ptr_mut());
                tiles::panel(view, scratch, x, first_row, num_rows, out.as_mut_ptr());
            }
        }
    }
}
