//! The vector operations the attention kernels are written in, one implementation per instruction
//! set.
//!
//! Kernels are generic over [`Simd`] and inlined into one entry point per instruction set that
//! enables its features.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// Coefficients of 2^x on [0, 1), from x^1 up; the constant is exactly 1, so that 2^0 is. Relative
/// error 1e-7.
const EXP2: [f32; 5] = [0.693_151_3, 0.240_164_44, 0.055_799_913, 0.009_017_03, 0.001_867_130_2];

/// Where 2^x ends in 0: far beyond what a sum with a term of 1 can feel, and far from products with
/// values that are subnormal numbers, which cost a hundred times others.
const EXP2_END: f32 = -64.0;

/// f32 vectors of one instruction set.
///
/// # Safety
/// Every function needs the instruction set to be available and pointers to cover the elements
/// named.
pub(super) trait Simd: Copy {
    /// The set itself, to pass to functions that are generic over it.
    const TOKEN: Self;
    /// `LANES` floats.
    type V: Copy;
    /// Floats of a vector.
    const LANES: usize;
    /// Query rows whose value sums are kept in registers together, four vectors each.
    const VALUE_ROWS: usize;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` floats from `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// `LANES` floats to `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `LANES` half-precision floats from `p`.
    unsafe fn load_f16(p: *const u16) -> Self::V;
    /// `LANES` half-precision floats to `p`, rounded to nearest even.
    unsafe fn store_f16(p: *mut u16, v: Self::V);
    /// `2 * LANES` bf16 from `p`: those of even place, those of odd place.
    unsafe fn load_bf16_pairs(p: *const u16) -> (Self::V, Self::V);
    /// `LANES` signed bytes from `p`.
    unsafe fn load_i8(p: *const i8) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each lane.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// 2^x for x <= 1: 0 for x < -64, exactly 1 at 0, relative error below 1e-6 elsewhere.
    unsafe fn exp2(x: Self::V) -> Self::V;
    /// Sum of the lanes, in an order of its own.
    unsafe fn sum(v: Self::V) -> f32;
    /// Lane 0.
    unsafe fn first_lane(v: Self::V) -> f32;
    /// Largest lane.
    unsafe fn max_lane(v: Self::V) -> f32;
}

/// Calls `$function::<S>` within the instruction set `$isa`, as `unsafe fn $name(isa, args...)`.
macro_rules! for_isa {
    (
        $(#[$doc:meta])*
        $vis:vis unsafe fn $name:ident => $function:path,
        ($($arg:ident: $type:ty),* $(,)?)
    ) => {
        $(#[$doc])*
        $vis unsafe fn $name(isa: crate::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $type),*) {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $function(crate::attention::simd::Avx512, $($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $function(crate::attention::simd::Avx2, $($arg),*) }
            }
            // SAFETY: the caller promises that `isa` is available, and what the function itself
            // asks for.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    crate::isa::Isa::Amx
                    | crate::isa::Isa::Avx512Bf16
                    | crate::isa::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    crate::isa::Isa::Avx2 => avx2($($arg),*),
                    _ => $function(crate::attention::simd::Portable, $($arg),*),
                }
            }
        }
    };
}
pub(super) use for_isa;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::available;

    #[inline(always)]
    unsafe fn exp2_all<S: Simd>(_: S, x: &mut [f32]) {
        for i in (0..x.len()).step_by(S::LANES) {
            // SAFETY: the length is a multiple of any number of lanes.
            unsafe { S::store(x.as_mut_ptr().add(i), S::exp2(S::load(x.as_ptr().add(i)))) }
        }
    }
    for_isa!(unsafe fn run_exp2 => exp2_all, (x: &mut [f32]));

    #[inline(always)]
    unsafe fn convert_all<S: Simd>(_: S, half: &mut [u16], out: &mut [f32]) {
        // SAFETY: the test passes 16 halves and 32 floats.
        unsafe {
            for i in (0..16).step_by(S::LANES) {
                S::store(out.as_mut_ptr().add(i), S::load_f16(half.as_ptr().add(i)));
            }
            for i in (0..8).step_by(S::LANES.min(8)) {
                if S::LANES > 8 {
                    break;
                }
                let (even, odd) = S::load_bf16_pairs(half.as_ptr().add(2 * i));
                S::store(out.as_mut_ptr().add(16 + i), even);
                S::store(out.as_mut_ptr().add(24 + i), odd);
            }
            for i in (0..16).step_by(S::LANES) {
                S::store_f16(half.as_mut_ptr().add(i), S::load(out.as_ptr().add(i)));
            }
        }
    }
    for_isa!(unsafe fn run_convert => convert_all, (half: &mut [u16], out: &mut [f32]));

    #[test]
    fn exp2_is_accurate_and_ends_in_zero() {
        for isa in available() {
            let mut x: Vec<f32> = (0..16_000).map(|i| 1.0 - i as f32 * 0.004).collect();
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x).exp2()).collect();
            // SAFETY: `isa` is available.
            unsafe { run_exp2(isa, &mut x) };
            for (got, exact) in x.iter().zip(exact) {
                assert!(
                    (f64::from(*got) - exact).abs() <= 1e-6 * exact,
                    "{isa:?}: {got} for {exact}"
                );
            }
            let mut edges = [0.0f32; 16];
            edges[..6].copy_from_slice(&[
                f32::NEG_INFINITY,
                -1e30,
                -1_000.0,
                -160.0,
                f32::MIN,
                0.0,
            ]);
            // SAFETY: `isa` is available.
            unsafe { run_exp2(isa, &mut edges) };
            assert_eq!(edges[..6], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0], "{isa:?}");
        }
    }

    #[test]
    fn half_precision_round_trips() {
        for isa in available() {
            let mut bits: Vec<u16> =
                (0..16).map(|i| half::f16::from_f32(i as f32 * 0.37 - 2.0).to_bits()).collect();
            let expected = bits.clone();
            let mut out = [0.0f32; 32];
            // SAFETY: `isa` is available.
            unsafe { run_convert(isa, &mut bits, &mut out) };
            assert_eq!(bits, expected, "{isa:?}");
            for (bits, out) in expected.iter().zip(out) {
                assert_eq!(half::f16::from_bits(*bits).to_f32(), out);
            }
        }
    }
}
