//! Plain Rust; the compiler makes of it what the target allows.

use super::{Simd, EXP2, EXP2_END};

/// Eight floats in an array.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;

/// 2^x for one float; see [`Simd::exp2`].
#[inline(always)]
fn exp2(x: f32) -> f32 {
    if x < EXP2_END {
        return 0.0;
    }
    let floor = x.floor();
    let f = x - floor;
    let mut p = EXP2[4];
    for i in (0..4).rev() {
        p = p * f + EXP2[i];
    }
    (p * f + 1.0) * f32::from_bits(((floor as i32 + 127) << 23) as u32)
}

/// A half-precision number, in steps the compiler can turn into vectors.
#[inline(always)]
fn from_f16(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    // Moves the exponent's bias from 15 to 127, for subnormal numbers too.
    let finite = (f32::from_bits(rest) * f32::from_bits((127 + 112) << 23)).to_bits();
    let bits = if rest >= 0x7c00 << 13 { rest | 0x7f80_0000 } else { finite };
    f32::from_bits(bits | sign)
}

impl Simd for Portable {
    const TOKEN: Portable = Portable;
    type V = [f32; LANES];
    const LANES: usize = LANES;
    const VALUE_ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller's promise; arrays may be read unaligned so.
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::V {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| from_f16(unsafe { *p.add(i) }))
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: Self::V) {
        for (i, x) in v.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = half::f16::from_f32(x).to_bits() }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u16) -> (Self::V, Self::V) {
        // SAFETY: the caller's promise.
        let at = |i: usize| f32::from_bits(u32::from(unsafe { *p.add(i) }) << 16);
        (std::array::from_fn(|i| at(2 * i)), std::array::from_fn(|i| at(2 * i + 1)))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| f32::from(unsafe { *p.add(i) }))
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn exp2(x: Self::V) -> Self::V {
        std::array::from_fn(|i| exp2(x[i]))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]))
    }
    #[inline(always)]
    unsafe fn first_lane(v: Self::V) -> f32 {
        v[0]
    }
    #[inline(always)]
    unsafe fn max_lane(v: Self::V) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_number_is_read() {
        for bits in 0..=u16::MAX {
            let (got, expected) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(got == expected || got.is_nan() && expected.is_nan(), "{bits:#x}: {got}");
        }
    }
}
