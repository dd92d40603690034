//! Packing of a float weight, and its product with rows of activations.

use super::panel::PANEL_LEN;
use super::tile::{tile_for, Shape, TileArgs, MAX_PANELS, SUMS_STRIDE};
use crate::buffer::Buffer;
use crate::gguf::{dequantize_row, Format, FormatError};
use crate::isa::Isa;
use crate::threads::ThreadPool;

/// Outputs of one item of work.
const ITEM_OUTPUTS: usize = MAX_PANELS * PANEL_LEN;
/// Rows of one item of work: their activations stay in the second-level cache.
const ITEM_ROWS: usize = 96;
/// Inputs after which sums are put aside, so that weights and activations stay in that cache too.
const BLOCK_INPUTS: usize = 2048;

/// Panels start on a cache line.
const CACHE_LINE_BYTES: usize = 64;

/// Why a weight cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Quantised formats have their own linear kernels.
    #[error("{0} is not a float format: expected F32, F16 or BF16")]
    NotFloat(&'static str),
    /// Nothing to multiply with.
    #[error("a weight of {out_features} x {in_features} is empty")]
    Empty {
        /// Rows of the weight.
        out_features: usize,
        /// Columns of the weight.
        in_features: usize,
    },
    /// The bytes are not out_features rows of in_features weights.
    #[error(
        "a {format} weight of {out_features} x {in_features} has {expected} bytes, got {found}"
    )]
    Length {
        /// Name of the format.
        format: &'static str,
        /// Rows of the weight.
        out_features: usize,
        /// Columns of the weight.
        in_features: usize,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// The shape does not fit the address space.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// What is added to the product.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One value for each output of this weight.
    pub bias: Option<&'a [f32]>,
    /// Rows with the geometry of the output (same stride, same first column); may be the output.
    pub residual: Option<*const f32>,
}

/// A weight of shape (out_features, in_features) in float32, float16 or bfloat16.
pub struct FloatLinear {
    format: Format,
    out_features: usize,
    in_features: usize,
    isa: Isa,
    panel_bytes: usize,
    panels: Buffer<u8>,
}

impl FloatLinear {
    /// Packs a weight stored row after row, little-endian, for kernels of `isa`, with all threads.
    ///
    /// # Panics
    /// When the instruction set is not available.
    pub fn pack(
        pool: &ThreadPool,
        isa: Isa,
        format: Format,
        bytes: &[u8],
        out_features: usize,
        in_features: usize,
    ) -> Result<FloatLinear, PackError> {
        assert!(isa.is_available(), "{} is not available on this machine", isa.name());
        if format.is_quantized() {
            return Err(PackError::NotFloat(format.name()));
        }
        if out_features == 0 || in_features == 0 {
            return Err(PackError::Empty { out_features, in_features });
        }
        let row_bytes = format.row_bytes(in_features)?;
        let expected = row_bytes
            .checked_mul(out_features)
            .ok_or(FormatError::TooLarge { format: format.name(), cols: in_features })?;
        if bytes.len() != expected {
            let (format, found) = (format.name(), bytes.len());
            return Err(PackError::Length { format, out_features, in_features, expected, found });
        }
        let panel_bytes = (row_bytes * PANEL_LEN).next_multiple_of(CACHE_LINE_BYTES);
        let num_panels = out_features.div_ceil(PANEL_LEN);
        let panels = Buffer::<u8>::zeroed(num_panels * panel_bytes);
        pool.run(&|worker| {
            worker.for_each(num_panels, |panel| {
                let rows = &bytes[panel * row_bytes * PANEL_LEN..];
                let rows = &rows[..rows.len().min(row_bytes * PANEL_LEN)];
                // SAFETY: panel `panel` of the buffer, which this item alone touches.
                let packed = unsafe {
                    let packed = panels.as_ptr_mut().add(panel * panel_bytes);
                    std::slice::from_raw_parts_mut(packed, panel_bytes)
                };
                match format.block_bytes() {
                    2 => interleave::<2>(rows, row_bytes, packed),
                    _ => interleave::<4>(rows, row_bytes, packed),
                }
            });
        });
        Ok(FloatLinear { format, out_features, in_features, isa, panel_bytes, panels })
    }

    /// Width of the output.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Width of the input.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Memory that the packed weight takes.
    pub fn packed_bytes(&self) -> usize {
        self.panels.num_bytes()
    }

    fn packed(&self) -> &[u8] {
        self.panels.as_slice()
    }

    /// Row `row` of the weight in float32, times `scale`: a lookup in an embedding table.
    ///
    /// # Panics
    /// When `row` or the length of `out` is not the weight's.
    pub fn unpack_row(&self, row: usize, scale: f32, out: &mut [f32]) {
        assert!(row < self.out_features && out.len() == self.in_features);
        let size = self.format.block_bytes();
        let panel = &self.packed()[row / PANEL_LEN * self.panel_bytes..];
        let weights = panel[row % PANEL_LEN * size..].chunks(PANEL_LEN * size);
        for (weight, out) in weights.zip(out) {
            dequantize_row(self.format, &weight[..size], std::slice::from_mut(out))
                .expect("one weight of a float format");
            *out *= scale;
        }
    }

    /// Items of work of a product with `rows` rows; each may run on any thread, in any order.
    pub fn num_items(&self, rows: usize) -> usize {
        self.out_features.div_ceil(ITEM_OUTPUTS) * rows.div_ceil(ITEM_ROWS)
    }

    /// Computes one item of `out[row][out_col0 + j] = x[row] · weight[j] + bias[j] + residual`.
    ///
    /// # Safety
    /// `item < num_items(rows)`; `x` holds `rows` rows of in_features floats, `x_stride` apart;
    /// `out` (and a residual) hold `rows` rows of at least `out_col0 + out_features` floats,
    /// `out_stride` apart. `out` does not overlap `x`, nobody else touches this item's part of
    /// `out`, and a residual is either `out` itself or does not overlap it.
    pub unsafe fn compute(
        &self,
        item: usize,
        x: *const f32,
        x_stride: usize,
        rows: usize,
        out: *mut f32,
        out_stride: usize,
        out_col0: usize,
        epilogue: &Epilogue<'_>,
    ) {
        let num_row_items = rows.div_ceil(ITEM_ROWS);
        let first_output = item / num_row_items * ITEM_OUTPUTS;
        let first_row = item % num_row_items * ITEM_ROWS;
        let num_rows = ITEM_ROWS.min(rows - first_row);
        let num_outputs = ITEM_OUTPUTS.min(self.out_features - first_output);
        let mut sums = [0f32; ITEM_ROWS * SUMS_STRIDE];
        // SAFETY: the item's rows and panels lie inside x and the packed weight.
        unsafe {
            let x = x.add(first_row * x_stride);
            self.product(first_output / PANEL_LEN, num_outputs, x, x_stride, num_rows, &mut sums);
        }
        for (row, sums) in sums.chunks_exact_mut(SUMS_STRIDE).take(num_rows).enumerate() {
            let sums = &mut sums[..num_outputs];
            if let Some(bias) = epilogue.bias {
                let bias = &bias[first_output..first_output + num_outputs];
                sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
            let at = (first_row + row) * out_stride + out_col0 + first_output;
            if let Some(residual) = epilogue.residual {
                // SAFETY: the residual has the output's geometry; no slice of the output exists.
                let residual = unsafe { std::slice::from_raw_parts(residual.add(at), num_outputs) };
                sums.iter_mut().zip(residual).for_each(|(sum, value)| *sum += value);
            }
            // SAFETY: this item's part of the output.
            unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), out.add(at), num_outputs) };
        }
    }

    /// Sums of `num_rows` rows from `x` and the panels of `num_outputs` outputs.
    ///
    /// # Safety
    /// As [`FloatLinear::compute`], for these rows and panels.
    unsafe fn product(
        &self,
        first_panel: usize,
        num_outputs: usize,
        x: *const f32,
        x_stride: usize,
        num_rows: usize,
        sums: &mut [f32; ITEM_ROWS * SUMS_STRIDE],
    ) {
        let shape = Shape::of(self.isa);
        let num_panels = num_outputs.div_ceil(PANEL_LEN);
        let step_bytes = self.format.block_bytes() * PANEL_LEN;
        let weights = &self.packed()[first_panel * self.panel_bytes..];
        assert!(weights.len() >= num_panels * self.panel_bytes && num_rows <= ITEM_ROWS);
        // Tiles of nearly equal heights: 16 rows are better as 8 + 8 than as 12 + 4.
        let num_tiles = num_rows.div_ceil(shape.max_rows);
        for k in (0..self.in_features).step_by(BLOCK_INPUTS) {
            let mut panel = 0;
            while panel < num_panels {
                let widest = shape.panels[num_rows.div_ceil(num_tiles) - 1];
                let width = widest.min(1 << (num_panels - panel).ilog2());
                for t in 0..num_tiles {
                    let row = t * num_rows / num_tiles;
                    let end = (t + 1) * num_rows / num_tiles;
                    let tile = tile_for(self.isa, self.format, end - row, width);
                    // The next panels travel while the last rows are computed.
                    let ahead = if t + 1 == num_tiles { width * self.panel_bytes } else { 0 };
                    let at = panel * self.panel_bytes + k * step_bytes;
                    // SAFETY: rows below num_rows, panels below num_panels, inputs below
                    // in_features; pack checked that the instruction set is available.
                    unsafe {
                        tile(&TileArgs {
                            weights: weights.as_ptr().add(at),
                            next: weights.as_ptr().wrapping_add(at + ahead),
                            panel_bytes: self.panel_bytes,
                            x: x.add(row * x_stride + k),
                            x_stride,
                            num_inputs: BLOCK_INPUTS.min(self.in_features - k),
                            sums: sums.as_mut_ptr().add(row * SUMS_STRIDE + panel * PANEL_LEN),
                            first: k == 0,
                        });
                    }
                }
                panel += width;
            }
        }
    }
}

/// Puts up to sixteen rows of weights of `N` bytes side by side.
fn interleave<const N: usize>(rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    let steps = panel.as_chunks_mut::<N>().0;
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (k, weight) in row.as_chunks::<N>().0.iter().enumerate() {
            steps[k * PANEL_LEN + lane] = *weight;
        }
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
