//! From a file's blocks to fixed point.

use std::cell::RefCell;
use std::sync::Mutex;

use super::words::low_sums;
use super::{FixedLinear, GROUP, PANEL};
use crate::buffer::Buffer;
use crate::gguf::{decode_row, Format, FormatError};
use crate::isa::Isa;
use crate::threads::ThreadPool;

/// Largest weight in units: its high byte stays within i8 when the low byte is signed.
const LARGEST_WEIGHT: f32 = 32_500.0;
/// Largest factor in units.
const LARGEST_FACTOR: f32 = 32_767.0;
/// A row's weights add up to less in size, so that its product with any activations fits 32 bits.
const LARGEST_SUM: f64 = 16_400_000.0;

/// The rows of one panel on their way into it.
#[derive(Default)]
struct Rows {
    /// u8 (16, cols).
    codes: Vec<u8>,
    /// f32 (groups of a row,).
    scales: Vec<f32>,
    /// The same.
    mins: Vec<f32>,
}

thread_local! {
    static ROWS: RefCell<Rows> = RefCell::new(Rows::default());
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
        assert!(Isa::Amx.is_available(), "fixed-point weights are for processors with AMX");
        let row_bytes = format.check_rows(data.len(), rows, cols)?;
        let weight = FixedLinear::empty(format, rows, cols);
        let failure = Mutex::new(None);
        pool.run(&|worker| {
            worker.for_each(weight.num_panels(), |panel| {
                ROWS.with_borrow_mut(|rows| {
                    let end = weight.rows.min((panel + 1) * PANEL);
                    let data = &data[panel * PANEL * row_bytes..end * row_bytes];
                    // SAFETY: AMX is available, and each panel is one item.
                    if let Err(error) = unsafe { weight.pack_panel(format, panel, data, rows) } {
                        failure.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert(error);
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
            corrections: Buffer::zeroed(panels * PANEL),
        }
    }

    /// Packs the rows of panel `panel`, whose blocks are `data`.
    ///
    /// # Safety
    /// AMX is available; no other thread packs this panel meanwhile.
    unsafe fn pack_panel(
        &self,
        format: Format,
        panel: usize,
        data: &[u8],
        rows: &mut Rows,
    ) -> Result<(), FormatError> {
        let num_scales = self.cols / format.group_len();
        let stride = self.num_groups * GROUP;
        rows.codes.clear();
        rows.codes.resize(PANEL * stride, 0);
        rows.scales.resize(num_scales, 0.0);
        rows.mins.resize(num_scales, 0.0);
        for (lane, bytes) in data.chunks_exact(format.row_bytes(self.cols)?).enumerate() {
            let codes = &mut rows.codes[lane * stride..][..self.cols];
            decode_row(format, bytes, codes, &mut rows.scales, &mut rows.mins)?;
            // SAFETY: the caller's promise.
            unsafe { self.pack_row(format, panel, lane, codes, &rows.scales, &rows.mins) };
        }
        // SAFETY: the caller's promise; everything lies inside this panel.
        unsafe {
            self.interleave(panel, &rows.codes);
            for (lane, sum) in low_sums(self, self.panel(panel)).into_iter().enumerate() {
                // The low bytes of activations are 128 on average; sums are in 256ths.
                *self.corrections.as_ptr_mut().add(panel * PANEL + lane) = sum >> 1;
            }
        }
        Ok(())
    }

    /// Unit, factors and offsets of one row; its codes become signed, in the upper bits of bytes.
    ///
    /// # Safety
    /// As for [`FixedLinear::pack_panel`].
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pack_row(
        &self,
        format: Format,
        panel: usize,
        lane: usize,
        codes: &mut [u8],
        scales: &[f32],
        mins: &[f32],
    ) {
        let bits = significant_bits(format);
        let center = f32::from(1u16 << (bits - 1));
        let unit = unit(codes, scales, mins, center);
        let inverse = 1.0 / unit;
        let first = panel * self.num_groups * self.subs * PANEL + lane;
        // SAFETY: every index lies inside this row's panel, which is this thread's alone.
        unsafe {
            *self.units.as_ptr_mut().add(panel * PANEL + lane) = 256.0 * unit;
            for (i, (&scale, &min)) in scales.iter().zip(mins).enumerate() {
                let factor = (scale * inverse * center).round_ties_even();
                *self.factors.as_ptr_mut().add(first + i * PANEL) = factor as i16;
                if let Some(offsets) = &self.offsets {
                    let offset = ((min + center * scale) * inverse).round_ties_even();
                    *offsets.as_ptr_mut().add(first + i * PANEL) = offset as i16;
                }
            }
        }
        let center = center as u8;
        for code in codes {
            *code = code.wrapping_sub(center) << (8 - bits);
        }
    }

    /// Brings sixteen rows of codes, (16, groups * 32), into vectors of (16 outputs × 4 inputs).
    ///
    /// # Safety
    /// No other thread touches this panel.
    unsafe fn interleave(&self, panel: usize, codes: &[u8]) {
        let stride = self.num_groups * GROUP;
        let base = panel * self.num_groups * self.group_bytes();
        for (lane, row) in codes.chunks_exact(stride).enumerate() {
            for (group, chunk) in row.as_chunks::<GROUP>().0.iter().enumerate() {
                let quads = chunk.as_chunks::<4>().0;
                let quad = |i: usize| u32::from_ne_bytes(quads[i]);
                // SAFETY: the group's vectors lie inside the panel; buffers are page aligned.
                unsafe {
                    let to = self.codes.as_ptr_mut().add(base + group * self.group_bytes());
                    let to = to.cast::<u32>().add(lane);
                    for i in 0..self.code_bits {
                        // At 4 bits vectors 0 to 3 are the low nibbles of the four stored ones, 4
                        // to
                        // 7 the high.
                        to.add(16 * i).write(if self.code_bits == 8 {
                            quad(i)
                        } else {
                            (quad(i) >> 4 & 0x0f0f_0f0f) | (quad(i + 4) & 0xf0f0_f0f0)
                        });
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
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unit(codes: &[u8], scales: &[f32], mins: &[f32], center: f32) -> f32 {
    const LANES: usize = 16;
    let (mut largest, mut factor) = (0f32, 0f32);
    let (mut sizes, mut maxima) = ([0f32; LANES], [0f32; LANES]);
    let group_len = codes.len() / scales.len().max(1);
    for (codes, (&scale, &min)) in codes.chunks(group_len).zip(scales.iter().zip(mins)) {
        for part in codes.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let weight = (scale * f32::from(part[lane]) + min).abs();
                maxima[lane] = maxima[lane].max(weight);
                sizes[lane] += weight;
            }
        }
        largest = largest.max((min + center * scale).abs());
        factor = factor.max((center * scale).abs());
    }
    let largest = maxima.into_iter().fold(largest, f32::max);
    let sum: f64 = sizes.into_iter().map(f64::from).sum();
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
