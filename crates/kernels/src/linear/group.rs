//! Weights of 4 or 8 bits in groups of 32 (or 16) along the input, each with a scale and perhaps a
//! minimum.
//!
//! `weight = scale * (code - zero) ` or `scale * code + min`. The values are those of the file they
//! came from; only their order changes: panels of 16 outputs, each group of a panel one contiguous
//! run of vectors of (16 outputs × 4 inputs), so that one INT8 dot-product instruction serves 16
//! outputs at once.
//!
//! Every form of the kernel computes, for each output and each row, with groups in ascending order,
//! `acc = fma(dot as f32, scale_w * scale_x, acc)` and then, where there are minimums,
//! `acc = fma(min, scale_x * sum_x, acc)`; `dot` is an exact integer. So all forms agree bit for
//! bit.

use half::f16;

use super::rows::GROUP;
use crate::buffer::Buffer;

/// Outputs of a panel.
pub const PANEL: usize = 16;
/// Bytes of one group's codes in a panel at 8 bits; 4-bit codes take half.
pub const GROUP_BYTES: usize = PANEL * GROUP;

/// Scales or minimums, (panels, groups * subs, 16): f16 where that holds them exactly, else f32.
pub enum Factors {
    /// Exact in half precision.
    Half(Buffer<u16>),
    /// Others.
    Single(Buffer<f32>),
}

impl Factors {
    fn from_f32(values: &Buffer<f32>) -> Option<Buffer<u16>> {
        let exact =
            values.as_slice().iter().all(|&v| f16::from_f32(v).to_f32().to_bits() == v.to_bits());
        exact.then(|| {
            let mut half = Buffer::zeroed(values.len());
            for (to, from) in half.as_mut_slice().iter_mut().zip(values.as_slice()) {
                *to = f16::from_f32(*from).to_bits();
            }
            half
        })
    }

    /// The factor at `index`.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Factors::Half(values) => f16::from_bits(values.as_slice()[index]).to_f32(),
            Factors::Single(values) => values.as_slice()[index],
        }
    }

    /// Address of the factor at `index`, as bytes.
    pub fn address(&self, index: usize) -> *const u8 {
        match self {
            Factors::Half(values) => values.as_slice()[index..].as_ptr().cast(),
            Factors::Single(values) => values.as_slice()[index..].as_ptr().cast(),
        }
    }

    fn num_bytes(&self) -> usize {
        match self {
            Factors::Half(values) => values.num_bytes(),
            Factors::Single(values) => values.num_bytes(),
        }
    }
}

/// What the kernels need to know of a weight at compile time, and its zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupKind {
    /// 4 or 8.
    pub code_bits: usize,
    /// Scales to 32 inputs: 1, or 2 where the format's groups are of 16.
    pub subs: usize,
    /// What to subtract from each code; 0 where there are minimums.
    pub zero: u8,
    /// Whether groups have a minimum.
    pub has_mins: bool,
    /// Whether the factors are half precision.
    pub half: bool,
}

/// A (rows, cols) weight in panels.
pub struct GroupLinear {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Groups of 32 inputs, the last filled up with zeros.
    pub num_groups: usize,
    /// Its kind.
    pub kind: GroupKind,
    pub(super) codes: Buffer<u8>,
    pub(super) scales: Factors,
    pub(super) mins: Option<Factors>,
}

/// One weight row before packing: unsigned codes with a scale and a minimum to each `group_len`.
pub struct RowParts<'a> {
    /// u8 (cols,).
    pub codes: &'a [u8],
    /// f32 (cols / group_len,).
    pub scales: &'a [f32],
    /// f32 (cols / group_len,).
    pub mins: &'a [f32],
}

/// Fills panels row by row; rows of different panels may come from different threads.
pub struct GroupPacker {
    rows: usize,
    cols: usize,
    num_groups: usize,
    kind: GroupKind,
    codes: Buffer<u8>,
    scales: Buffer<f32>,
    mins: Option<Buffer<f32>>,
}

impl GroupPacker {
    /// A packer for a (rows, cols) weight with codes of `code_bits`, groups of `group_len` (16 or
    /// 32), and either a zero point or minimums.
    pub fn new(
        rows: usize,
        cols: usize,
        code_bits: usize,
        group_len: usize,
        zero: Option<u8>,
    ) -> GroupPacker {
        let num_groups = cols.div_ceil(GROUP);
        let subs = GROUP / group_len;
        let panels = rows.div_ceil(PANEL);
        let num_factors = panels * num_groups * subs * PANEL;
        GroupPacker {
            rows,
            cols,
            num_groups,
            kind: GroupKind {
                code_bits,
                subs,
                zero: zero.unwrap_or(0),
                has_mins: zero.is_none(),
                half: false,
            },
            codes: Buffer::zeroed(panels * num_groups * GROUP_BYTES * code_bits / 8),
            scales: Buffer::zeroed(num_factors),
            mins: zero.is_none().then(|| Buffer::zeroed(num_factors)),
        }
    }

    /// Number of panels: `pack_row` of rows in different panels may run at once.
    pub fn num_panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Puts row `row` in its place.
    ///
    /// # Safety
    /// No other thread packs a row of the same panel meanwhile.
    pub unsafe fn pack_row(&self, row: usize, parts: &RowParts<'_>) {
        assert!(row < self.rows && parts.codes.len() == self.cols);
        let (panel, lane) = (row / PANEL, row % PANEL);
        let group_bytes = GROUP_BYTES * self.kind.code_bits / 8;
        let codes = self.codes.as_ptr_mut();
        for (group, chunk) in parts.codes.chunks(GROUP).enumerate() {
            // SAFETY: panel and group are in range, so a whole group lies behind this address.
            let base = unsafe { codes.add((panel * self.num_groups + group) * group_bytes) };
            for (i, &code) in chunk.iter().enumerate() {
                let (vector, offset) = (i / 4, lane * 4 + i % 4);
                // SAFETY: within the group; the caller keeps other threads out of this panel.
                unsafe {
                    if self.kind.code_bits == 8 {
                        *base.add(vector * 64 + offset) = code;
                    } else {
                        // Vectors 0 to 3 are the low nibbles of the four stored ones, 4 to 7 the
                        // high.
                        let shift = 4 * (vector / 4);
                        *base.add(vector % 4 * 64 + offset) |= code << shift;
                    }
                }
            }
        }
        let first = panel * self.num_groups * self.kind.subs * PANEL + lane;
        for (i, (&scale, &min)) in parts.scales.iter().zip(parts.mins).enumerate() {
            // SAFETY: there is a factor for each of the panel's groups and subs.
            unsafe {
                *self.scales.as_ptr_mut().add(first + i * PANEL) = scale;
                if let Some(mins) = &self.mins {
                    *mins.as_ptr_mut().add(first + i * PANEL) = min;
                }
            }
        }
    }

    /// The packed weight.
    pub fn finish(self) -> GroupLinear {
        let half_scales = Factors::from_f32(&self.scales);
        let half_mins = self.mins.as_ref().map(Factors::from_f32);
        let half = half_scales.is_some() && !matches!(half_mins, Some(None));
        let (scales, mins) = if half {
            (
                Factors::Half(half_scales.expect("checked above")),
                half_mins.map(|mins| Factors::Half(mins.expect("checked above"))),
            )
        } else {
            (Factors::Single(self.scales), self.mins.map(Factors::Single))
        };
        GroupLinear {
            rows: self.rows,
            cols: self.cols,
            num_groups: self.num_groups,
            kind: GroupKind { half, ..self.kind },
            codes: self.codes,
            scales,
            mins,
        }
    }
}

/// One panel's addresses, each to its first group.
#[derive(Clone, Copy)]
pub struct PanelView {
    /// u8 (groups, 8 or 4 vectors, 64).
    pub codes: *const u8,
    /// (groups, subs, 16) f16 or f32.
    pub scales: *const u8,
    /// The same for minimums; null without.
    pub mins: *const u8,
    /// Groups of 32 inputs.
    pub num_groups: usize,
    /// Zero point of the codes.
    pub zero: u8,
}

impl GroupLinear {
    /// Number of panels.
    pub fn num_panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        self.codes.num_bytes()
            + self.scales.num_bytes()
            + self.mins.as_ref().map_or(0, Factors::num_bytes)
    }

    /// Bytes of one group's codes in a panel.
    pub fn group_bytes(&self) -> usize {
        GROUP_BYTES * self.kind.code_bits / 8
    }

    /// Addresses of panel `panel`.
    pub fn panel(&self, panel: usize) -> PanelView {
        let codes = panel * self.num_groups * self.group_bytes();
        let factors = panel * self.num_groups * self.kind.subs * PANEL;
        PanelView {
            codes: self.codes.as_slice()[codes..].as_ptr(),
            scales: self.scales.address(factors),
            mins: self.mins.as_ref().map_or(std::ptr::null(), |mins| mins.address(factors)),
            num_groups: self.num_groups,
            zero: self.kind.zero,
        }
    }

    /// The code of weight (row, col).
    fn code(&self, row: usize, col: usize) -> u8 {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let (group, i) = (col / GROUP, col % GROUP);
        let base = (panel * self.num_groups + group) * self.group_bytes();
        let (vector, offset) = (i / 4, lane * 4 + i % 4);
        let codes = self.codes.as_slice();
        if self.kind.code_bits == 8 {
            codes[base + vector * 64 + offset]
        } else {
            codes[base + vector % 4 * 64 + offset] >> (4 * (vector / 4)) & 15
        }
    }

    /// Row `row` in f32, times `factor`: `out` is (cols,).
    pub fn dequantize_row(&self, row: usize, factor: f32, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let (panel, lane) = (row / PANEL, row % PANEL);
        let group_len = GROUP / self.kind.subs;
        let zero = i32::from(self.kind.zero);
        let first = panel * self.num_groups * self.kind.subs * PANEL + lane;
        for (index, chunk) in out.chunks_mut(group_len).enumerate() {
            let scale = self.scales.get(first + index * PANEL);
            let min = self.mins.as_ref().map_or(0.0, |mins| mins.get(first + index * PANEL));
            for (i, value) in chunk.iter_mut().enumerate() {
                let code = i32::from(self.code(row, index * group_len + i)) - zero;
                *value = (scale * code as f32 + min) * factor;
            }
        }
    }
}
