//! `activation(gate) * up` of a group of outputs, quantised at once: the values never leave the
//! registers.

use super::group::PANEL;
use super::rows::{QuantRows, GROUP};
use crate::activation::{gated_row, Activation};
use crate::isa::Isa;

/// Gate and up blocks of one group: f32 (num_rows, 16) each, the two panels of the gate, then those
/// of up.
pub type GatedBlocks<'a> = [&'a [f32]; 4];

/// Writes the group to rows `first_row..` of `to`, whose rows are `num_groups` wide, and to
/// `floats` where given.
///
/// # Safety
/// Nobody else touches this group of these rows in `to`; `floats` gives for a row the group's place
/// in it.
pub unsafe fn gate_group(
    isa: Isa,
    blocks: GatedBlocks<'_>,
    activation: Activation,
    to: &QuantRows,
    first_row: usize,
    num_groups: usize,
    group: usize,
) {
    // SAFETY: the caller's promise; blocks are whole rows of 16.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
                avx512::gate_group(blocks, activation, to, first_row, num_groups, group);
            }
            _ => {
                for row in 0..blocks[0].len() / PANEL {
                    let h = gate_row(isa, blocks, activation, row);
                    to.quantize(isa, first_row + row, num_groups, group, &h);
                }
            }
        }
    }
}

/// Writes the group's first `width` columns as floats: rows of `out`, `stride` floats apart.
///
/// # Safety
/// `out` has as many rows as the blocks, and nobody else touches these columns.
pub unsafe fn gate_rows(
    isa: Isa,
    blocks: GatedBlocks<'_>,
    activation: Activation,
    out: *mut f32,
    stride: usize,
    width: usize,
) {
    assert!(width <= GROUP);
    for row in 0..blocks[0].len() / PANEL {
        // SAFETY: the caller's promise.
        unsafe {
            let out = out.add(row * stride);
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx if width == GROUP => {
                    avx512::gate_row(blocks, activation, row, out);
                }
                _ => {
                    let h = gate_row(isa, blocks, activation, row);
                    std::ptr::copy_nonoverlapping(h.as_ptr(), out, width);
                }
            }
        }
    }
}

/// One row of the group in floats.
fn gate_row(isa: Isa, blocks: GatedBlocks<'_>, activation: Activation, row: usize) -> [f32; GROUP] {
    let mut pair = [0f32; 2 * GROUP];
    for (part, values) in pair.as_chunks_mut::<PANEL>().0.iter_mut().zip(blocks) {
        *part = values.as_chunks::<PANEL>().0[row];
    }
    let mut h = [0f32; GROUP];
    gated_row(isa, &pair, activation, &mut h);
    h
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::super::rows::{avx512::quantize, TILE_ROWS};
    use super::{Activation, GatedBlocks, QuantRows, PANEL};

    /// eˣ, relative error below 2⁻²², 0 for what is too small: Cody-Waite reduction and a Taylor
    /// polynomial of degree 6 on |r| <= ln 2 / 2.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn exp(x: __m512) -> __m512 {
        let x = _mm512_max_ps(x, _mm512_set1_ps(-100.0));
        let n =
            _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_145_75), x);
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.428_606_8e-6), r);
        let mut p = _mm512_set1_ps(1.0 / 720.0);
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
        }
        _mm512_scalef_ps(p, n)
    }

    /// `x / (1 + e^y)`; a Newton step brings the estimate of the reciprocal to float precision.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn logistic(x: __m512, y: __m512) -> __m512 {
        let y = _mm512_min_ps(y, _mm512_set1_ps(80.0));
        let d = _mm512_add_ps(_mm512_set1_ps(1.0), exp(y));
        let q = _mm512_rcp14_ps(d);
        let q = _mm512_mul_ps(q, _mm512_fnmadd_ps(d, q, _mm512_set1_ps(2.0)));
        _mm512_mul_ps(x, q)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn activate(x: __m512, activation: Activation) -> __m512 {
        match activation {
            Activation::Silu => logistic(x, _mm512_sub_ps(_mm512_setzero_ps(), x)),
            Activation::GeluTanh => {
                // x/2 · (1 + tanh(u)) = x / (1 + e^(-2u)), u = √(2/π) · (x + 0.044715 x³)
                let cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
                let inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044_715), x);
                logistic(x, _mm512_mul_ps(inner, _mm512_set1_ps(-1.595_769_1)))
            }
        }
    }

    /// As [`super::gate_group`].
    ///
    /// # Safety
    /// As there, and the instructions are available.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub unsafe fn gate_group(
        blocks: GatedBlocks<'_>,
        activation: Activation,
        to: &QuantRows,
        first_row: usize,
        num_groups: usize,
        group: usize,
    ) {
        let count = blocks[0].len() / PANEL;
        assert!(group < num_groups && blocks.iter().all(|block| block.len() == count * PANEL));
        for row in 0..count {
            let index = first_row + row;
            let tile = to.tile(index / TILE_ROWS, num_groups);
            // SAFETY: `row` is below the blocks' rows; the caller vouches for the destination.
            unsafe {
                let [low, high] = gate(blocks, activation, row);
                quantize(low, high, tile, group, index % TILE_ROWS);
            }
        }
    }

    /// Both halves of a row of the group.
    ///
    /// # Safety
    /// The blocks have the row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn gate(blocks: GatedBlocks<'_>, activation: Activation, row: usize) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        let load =
            |block: usize| unsafe { _mm512_loadu_ps(blocks[block].as_ptr().add(row * PANEL)) };
        [0, 1].map(|half| _mm512_mul_ps(activate(load(half), activation), load(half + 2)))
    }

    /// One row of the group, as 32 floats at `out`.
    ///
    /// # Safety
    /// The blocks have the row, `out` the room, and the instructions are available.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn gate_row(
        blocks: GatedBlocks<'_>,
        activation: Activation,
        row: usize,
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, high] = gate(blocks, activation, row);
            _mm512_storeu_ps(out, low);
            _mm512_storeu_ps(out.add(PANEL), high);
        }
    }
}
