//! Putting a panel's outputs in their place, with what is added to them.

use super::group::PANEL;
use crate::isa::Isa;

/// Rows of sixteen columns somewhere in a matrix.
#[derive(Clone, Copy)]
pub struct BlockPlace {
    /// The first row's first column.
    pub base: *mut f32,
    /// Floats from one row to the next.
    pub stride: usize,
}

/// `to[r][c] = values[r][c] + bias[c] + residual[r][c]` for all columns of a whole panel.
///
/// # Safety
/// `to` and `residual` have as many rows of sixteen floats as `values`; nobody else touches those
/// of `to`.
pub unsafe fn put_block(
    isa: Isa,
    values: &[f32],
    to: BlockPlace,
    bias: Option<&[f32; PANEL]>,
    residual: Option<BlockPlace>,
) {
    // SAFETY: the caller's promise; the instruction set was asked for.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx if isa.is_available() => {
                avx512(values, to, bias, residual)
            }
            _ => plain(values, to, bias, residual),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(
    values: &[f32],
    to: BlockPlace,
    bias: Option<&[f32; PANEL]>,
    residual: Option<BlockPlace>,
) {
    // SAFETY: as for `put_block`.
    unsafe { plain(values, to, bias, residual) }
}

#[inline(always)]
unsafe fn plain(
    values: &[f32],
    to: BlockPlace,
    bias: Option<&[f32; PANEL]>,
    residual: Option<BlockPlace>,
) {
    for (row, values) in values.as_chunks::<PANEL>().0.iter().enumerate() {
        let mut sums = *values;
        if let Some(bias) = bias {
            sums.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
        }
        // SAFETY: the caller's rows of sixteen floats.
        unsafe {
            if let Some(residual) = residual {
                let from = *residual.base.add(row * residual.stride).cast::<[f32; PANEL]>();
                sums.iter_mut().zip(from).for_each(|(sum, r)| *sum += r);
            }
            to.base.add(row * to.stride).cast::<[f32; PANEL]>().write(sums);
        }
    }
}
