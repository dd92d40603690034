//! From a file's blocks to fixed point.

use std::cell::RefCell;
use std::sync::Mutex;

use super::{FixedLinear, GROUP, PANEL};
use crate::buffer::Buffer;
use crate::gguf::{decode_row, Format, FormatError};
use crate::threads::ThreadPool;

/// Largest weight in units: its high byte stays within i8 when the low byte is signed.
const LARGEST_WEIGHT: f32 = 32_500.0;
/// Largest factor in units.
const LARGEST_FACTOR: f32 = 32_767.0;
/// A row's weights add up to less in size, so that its product with any activations fits 32 bits.
const LARGEST_SUM: f64 = 16_500_000.0;

/// One row on its way into the panels.
#[derive(Default)]
struct Row {
    codes: Vec<u8>,
    scales: Vec<f32>,
    mins: Vec<f32>,
}

thread_local! {
    static ROW: RefCell<Row> = RefCell::new(Row::default());
}

impl FixedLinear {
    /// A quantised (rows, cols) weight out of a file's blocks.
    ///
    /// # Errors
    /// When `data` is not exactly `rows` rows of `cols` weights of `format`.
    pub fn from_blocks(
        pool: &ThreadPool,
        format: Format,
        data: &[u8],
        rows: usize,
        cols: usize,
    ) -> Result<FixedLinear, FormatError> {
        let row_bytes = format.check_rows(data.len(), rows, cols)?;
        let weight = FixedLinear::empty(format, rows, cols);
        let failure = Mutex::new(None);
        pool.run(&|worker| {
            worker.for_each(weight.num_panels(), |panel| {
                ROW.with_borrow_mut(|row| {
                    row.codes.resize(cols, 0);
                    row.scales.resize(cols / format.group_len(), 0.0);
                    row.mins.resize(cols / format.group_len(), 0.0);
                    for index in panel * PANEL..rows.min((panel + 1) * PANEL) {
                        let bytes = &data[index * row_bytes..][..row_bytes];
                        let (codes, scales, mins) =
                            (&mut row.codes, &mut row.scales, &mut row.mins);
                        match decode_row(format, bytes, codes, scales, mins) {
                            // SAFETY: each panel is one item.
                            Ok(()) => unsafe { weight.pack_row(format, index, row) },
                            Err(error) => {
                                let mut failure = failure.lock().unwrap_or_else(|p| p.into_inner());
                                failure.get_or_insert(error);
                            }
                        }
                    }
                });
            });
        });
        match failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
            Some(error) => Err(error),
            None => Ok(weight),
        }
    }

    fn empty(format: Format, rows: usize, cols: usize) -> FixedLinear {
        let num_groups = cols.div_ceil(GROUP).next_multiple_of(2);
        let code_bits = if format.code_bits() <= 4 { 4 } else { 8 };
        let subs = GROUP / format.group_len();
        let panels = rows.div_ceil(PANEL);
        let num_factors = panels * num_groups * subs * PANEL;
        FixedLinear {
            rows,
            cols,
            num_groups,
            code_bits,
            subs,
            codes: Buffer::zeroed(panels * num_groups * PANEL * GROUP * code_bits / 8),
            factors: Buffer::zeroed(num_factors),
            offsets: format.zero_point().is_none().then(|| Buffer::zeroed(num_factors)),
            units: Buffer::zeroed(panels * PANEL),
        }
    }

    /// Puts row `index` in its place.
    ///
    /// # Safety
    /// No other thread packs a row of the same panel meanwhile.
    unsafe fn pack_row(&self, format: Format, index: usize, row: &Row) {
        let bits = significant_bits(format);
        let center = f32::from(1u16 << (bits - 1));
        let unit = unit(row, center, format.group_len());
        let inverse = 1.0 / unit;
        let (panel, lane) = (index / PANEL, index % PANEL);
        let first = panel * self.num_groups * self.subs * PANEL + lane;
        // SAFETY: every index lies inside this row's panel, which is this thread's alone.
        unsafe {
            *self.units.as_ptr_mut().add(index) = 256.0 * unit;
            for (i, (&scale, &min)) in row.scales.iter().zip(&row.mins).enumerate() {
                let factor = (scale * inverse * center).round_ties_even();
                *self.factors.as_ptr_mut().add(first + i * PANEL) = factor as i16;
                if let Some(offsets) = &self.offsets {
                    let offset = ((min + center * scale) * inverse).round_ties_even();
                    *offsets.as_ptr_mut().add(first + i * PANEL) = offset as i16;
                }
            }
            let base = self.codes.as_ptr_mut().add(panel * self.num_groups * self.group_bytes());
            let center = center as u8;
            for (group, chunk) in row.codes.chunks(GROUP).enumerate() {
                let to = base.add(group * self.group_bytes() + lane * 4);
                for (i, code) in chunk.iter().enumerate() {
                    // Signed, in the upper bits of a byte.
                    let top = code.wrapping_sub(center) << (8 - bits);
                    let (vector, offset) = (i / 4, i % 4);
                    if self.code_bits == 8 {
                        *to.add(vector * 64 + offset) = top;
                    } else {
                        // Vectors 0 to 3 are the low nibbles of the four stored ones, 4 to 7 the
                        // high.
                        *to.add(vector % 4 * 64 + offset) |= (top >> 4) << (4 * (vector / 4));
                    }
                }
            }
        }
    }
}

/// Bits that a format's codes use.
fn significant_bits(format: Format) -> u32 {
    match format {
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 4,
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 5,
        Format::Q6_K => 6,
        _ => 8,
    }
}

/// The row's unit: the smallest for which weights, factors and sums stay in bounds.
fn unit(row: &Row, center: f32, group_len: usize) -> f32 {
    let (mut largest, mut factor, mut sum) = (0f32, 0f32, 0f64);
    let groups = row.codes.chunks(group_len).zip(row.scales.iter().zip(&row.mins));
    for (codes, (&scale, &min)) in groups {
        let mut size = 0f32;
        for &code in codes {
            let weight = (scale * f32::from(code) + min).abs();
            largest = largest.max(weight);
            size += weight;
        }
        sum += f64::from(size);
        largest = largest.max((min + center * scale).abs());
        factor = factor.max((center * scale).abs());
    }
    let unit =
        (largest / LARGEST_WEIGHT).max(factor / LARGEST_FACTOR).max((sum / LARGEST_SUM) as f32);
    // A row of zeros has any unit; one with infinities has none that helps, and keeps them in its
    // unit.
    if unit > 0.0 {
        unit
    } else {
        1.0
    }
}
