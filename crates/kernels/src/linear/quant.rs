//! One face for both ways of computing with quantised weights: 16-bit fixed point with AMX, INT8
//! groups elsewhere.

use super::fixed::{FixedLinear, FixedRows, FixedScratch};
use super::group::{GroupLinear, PANEL};
use super::rows::{QuantRows, GROUP, TILE_ROWS};
use crate::buffer::Buffer;
use crate::gguf::{Format, FormatError};
use crate::isa::Isa;
use crate::threads::ThreadPool;

/// A quantised (rows, cols) weight, packed for an instruction set.
pub enum QuantLinear {
    /// INT8 activations in groups.
    Group(GroupLinear),
    /// 16-bit fixed point, for AMX.
    Fixed(FixedLinear),
}

/// Quantised activations of one value.
pub enum QuantInput {
    /// For [`QuantLinear::Group`].
    Group(QuantRows),
    /// For [`QuantLinear::Fixed`].
    Fixed(FixedRows),
}

/// One thread's working memory for [`QuantLinear::compute`].
pub struct LinearScratch {
    fixed: FixedScratch,
    pub(super) out: Buffer<f32>,
    pub(super) max_rows: usize,
}

impl LinearScratch {
    /// Room for weights of `max_cols` inputs over `max_rows` rows.
    pub fn new(max_rows: usize, max_cols: usize) -> LinearScratch {
        let max_rows = max_rows.next_multiple_of(TILE_ROWS);
        LinearScratch {
            fixed: FixedScratch::new(max_cols),
            out: Buffer::zeroed(max_rows * PANEL),
            max_rows,
        }
    }

    /// Call it before the first [`QuantLinear::compute`] of a loop: other kernels may have run
    /// since.
    pub fn begin(&mut self) {
        self.fixed.begin();
    }

    /// A block of zeros in place of a panel's outputs: f32 (num_rows, 16).
    pub fn zeros(&mut self, num_rows: usize) -> &mut [f32] {
        let block = &mut self.out.as_mut_slice()[..num_rows * PANEL];
        block.fill(0.0);
        block
    }
}

/// Whether `isa` computes in fixed point.
pub fn is_fixed(isa: Isa) -> bool {
    isa == Isa::Amx
}

impl QuantInput {
    /// Room for `max_rows` rows of `max_width` activations, in the form `isa` computes with.
    pub fn new(isa: Isa, max_rows: usize, max_width: usize) -> QuantInput {
        if is_fixed(isa) {
            QuantInput::Fixed(FixedRows::new(max_rows, max_width))
        } else {
            QuantInput::Group(QuantRows::new(max_rows, max_width))
        }
    }

    /// Quantises a whole row.
    ///
    /// # Safety
    /// `isa` is available and that of [`QuantInput::new`]; nobody else touches the row meanwhile.
    pub unsafe fn quantize_row(&self, isa: Isa, row: usize, x: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                QuantInput::Group(rows) => rows.quantize(isa, row, x.len().div_ceil(GROUP), 0, x),
                QuantInput::Fixed(rows) => rows.quantize(row, x),
            }
        }
    }
}

impl QuantLinear {
    /// A quantised weight out of a file's blocks, packed for `isa`.
    ///
    /// # Errors
    /// When `data` is not exactly `rows` rows of `cols` weights of `format`.
    pub fn from_blocks(
        pool: &ThreadPool,
        isa: Isa,
        format: Format,
        data: &[u8],
        rows: usize,
        cols: usize,
    ) -> Result<QuantLinear, FormatError> {
        Ok(if is_fixed(isa) {
            QuantLinear::Fixed(FixedLinear::from_blocks(pool, format, data, rows, cols)?)
        } else {
            QuantLinear::Group(GroupLinear::from_blocks(pool, format, data, rows, cols)?)
        })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            QuantLinear::Group(weight) => weight.rows,
            QuantLinear::Fixed(weight) => weight.rows,
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            QuantLinear::Group(weight) => weight.cols,
            QuantLinear::Fixed(weight) => weight.cols,
        }
    }

    /// Number of panels of 16 outputs.
    pub fn num_panels(&self) -> usize {
        self.rows().div_ceil(PANEL)
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        match self {
            QuantLinear::Group(weight) => weight.num_bytes(),
            QuantLinear::Fixed(weight) => weight.num_bytes(),
        }
    }

    /// Row `row` in f32, times `factor`: `out` is (cols,).
    pub fn dequantize_row(&self, row: usize, factor: f32, out: &mut [f32]) {
        match self {
            QuantLinear::Group(weight) => weight.dequantize_row(row, factor, out),
            QuantLinear::Fixed(weight) => weight.dequantize_row(row, factor, out),
        }
    }

    /// Outputs `16 * panel..` of rows `first_row..first_row + num_rows`: f32 (num_rows, 16), in
    /// `scratch`.
    ///
    /// `first_row` is the first of a tile of 16.
    ///
    /// # Panics
    /// When `x` is of the other form, `isa` is not available, or the panel or rows are out of
    /// range.
    pub fn compute<'s>(
        &self,
        isa: Isa,
        panel: usize,
        x: &QuantInput,
        first_row: usize,
        num_rows: usize,
        scratch: &'s mut LinearScratch,
    ) -> &'s mut [f32] {
        match (self, x) {
            (QuantLinear::Group(weight), QuantInput::Group(x)) => {
                weight.compute(isa, panel, x, first_row, num_rows, scratch)
            }
            (QuantLinear::Fixed(weight), QuantInput::Fixed(x)) => {
                assert!(is_fixed(isa) && isa.is_available());
                let out = scratch.out.as_mut_slice();
                // SAFETY: AMX is available.
                unsafe { weight.compute(panel, x, first_row, num_rows, &mut scratch.fixed, out) };
                &mut scratch.out.as_mut_slice()[..num_rows * PANEL]
            }
            _ => panic!("weights and activations are quantised in different ways"),
        }
    }
}
