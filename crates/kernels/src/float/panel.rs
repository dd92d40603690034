//! Sixteen floats side by side: one step of a panel, in the registers of each instruction set.

use half::{bf16, f16};

/// Outputs in a panel.
pub(super) const PANEL_LEN: usize = 16;

/// Sixteen float32 lanes.
///
/// # Safety
/// Each method may only run where the implementation's instruction set is available; pointers must
/// hold sixteen values. Methods are inlined into functions that enable the set.
pub(super) trait Panel: Copy {
    unsafe fn zero() -> Self;
    unsafe fn splat(value: *const f32) -> Self;
    unsafe fn load_f32(from: *const f32) -> Self;
    unsafe fn load_f16(from: *const u16) -> Self;
    unsafe fn load_bf16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self + x * w`, rounded once.
    unsafe fn mul_add(self, x: Self, w: Self) -> Self;
    /// Asks for a cache line that will be read soon; any address is allowed.
    unsafe fn prefetch(address: *const u8);
}

/// How a weight is stored.
///
/// # Safety
/// `load` has the conditions of [`Panel`].
pub(super) trait Weight {
    /// Size of sixteen weights.
    const STEP_BYTES: usize;
    unsafe fn load<P: Panel>(from: *const u8) -> P;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Weight for F32 {
    const STEP_BYTES: usize = 4 * PANEL_LEN;
    #[inline(always)]
    unsafe fn load<P: Panel>(from: *const u8) -> P {
        // SAFETY: by the trait's conditions.
        unsafe { P::load_f32(from.cast()) }
    }
}

impl Weight for F16 {
    const STEP_BYTES: usize = 2 * PANEL_LEN;
    #[inline(always)]
    unsafe fn load<P: Panel>(from: *const u8) -> P {
        // SAFETY: by the trait's conditions.
        unsafe { P::load_f16(from.cast()) }
    }
}

impl Weight for Bf16 {
    const STEP_BYTES: usize = 2 * PANEL_LEN;
    #[inline(always)]
    unsafe fn load<P: Panel>(from: *const u8) -> P {
        // SAFETY: by the trait's conditions.
        unsafe { P::load_bf16(from.cast()) }
    }
}

/// Plain Rust.
impl Panel for [f32; PANEL_LEN] {
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; PANEL_LEN]
    }
    #[inline(always)]
    unsafe fn splat(value: *const f32) -> Self {
        // SAFETY: by the trait's conditions.
        [unsafe { *value }; PANEL_LEN]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: by the trait's conditions.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: by the trait's conditions.
        let bits = unsafe { from.cast::<[u16; PANEL_LEN]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: by the trait's conditions.
        let bits = unsafe { from.cast::<[u16; PANEL_LEN]>().read_unaligned() };
        bits.map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the trait's conditions.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, x: Self, w: Self) -> Self {
        std::array::from_fn(|i| x[i].mul_add(w[i], self[i]))
    }
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Panel;
    use std::arch::x86_64::*;

    /// AVX2, FMA, F16C.
    #[derive(Clone, Copy)]
    pub(in crate::float) struct Avx2(__m256, __m256);

    // SAFETY (all methods): by the trait's conditions.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Panel for Avx2 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Avx2(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn splat(value: *const f32) -> Self {
            let value = unsafe { _mm256_broadcast_ss(&*value) };
            Avx2(value, value)
        }
        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            unsafe {
                Avx2(
                    _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
                )
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
                Avx2(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                )
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn mul_add(self, x: Self, w: Self) -> Self {
            unsafe { Avx2(_mm256_fmadd_ps(x.0, w.0, self.0), _mm256_fmadd_ps(x.1, w.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn prefetch(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
        }
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(in crate::float) struct Avx512(__m512);

    // SAFETY (all methods): by the trait's conditions.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Panel for Avx512 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Avx512(_mm512_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn splat(value: *const f32) -> Self {
            unsafe { Avx512(_mm512_set1_ps(*value)) }
        }
        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            unsafe { Avx512(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            unsafe { Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            unsafe {
                let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, x: Self, w: Self) -> Self {
            unsafe { Avx512(_mm512_fmadd_ps(x.0, w.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn prefetch(address: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
        }
    }
}
