//! Few rows: the codes stream by once and are multiplied as 16-bit words.

use std::arch::x86_64::*;

use super::rows::FixedRows;
use super::{FixedLinear, PanelView, GROUP, PANEL};

/// Where a vector of bytes (16 outputs × 4 inputs) unpacked to words finds its outputs' factors.
pub(super) const LOW_WORDS: [i16; 32] = outputs_of_words(0);
pub(super) const HIGH_WORDS: [i16; 32] = outputs_of_words(2);

const fn outputs_of_words(first: i16) -> [i16; 32] {
    let mut outputs = [0; 32];
    let mut word = 0;
    while word < 32 {
        // Each 128-bit lane holds four outputs; unpacking takes its lower or its upper two.
        outputs[word] = (word / 8 * 4) as i16 + first + (word % 8 / 4) as i16;
        word += 1;
    }
    outputs
}

/// Factors (or offsets) of a group for the lower and the upper words.
#[inline(always)]
pub(super) unsafe fn spread_factors(factors: *const i16) -> [__m512i; 2] {
    // SAFETY: the caller's sixteen factors; constants of 64 bytes.
    unsafe {
        let sixteen = _mm512_castsi256_si512(_mm256_loadu_si256(factors.cast()));
        [
            _mm512_permutexvar_epi16(_mm512_loadu_si512(LOW_WORDS.as_ptr().cast()), sixteen),
            _mm512_permutexvar_epi16(_mm512_loadu_si512(HIGH_WORDS.as_ptr().cast()), sixteen),
        ]
    }
}

/// Vector `i` (of 8) of a group: signed codes in the upper bits of bytes.
#[inline(always)]
pub(super) unsafe fn load_codes<const BITS: usize>(group: *const u8, i: usize) -> __m512i {
    // SAFETY: the caller's group has this vector.
    unsafe {
        if BITS == 8 {
            return _mm512_loadu_si512(group.add(64 * i).cast());
        }
        let upper = _mm512_set1_epi8(0xf0u8 as i8);
        let pair = _mm512_loadu_si512(group.add(64 * (i % 4)).cast());
        if i < 4 {
            _mm512_and_si512(_mm512_slli_epi16::<4>(pair), upper)
        } else {
            _mm512_and_si512(pair, upper)
        }
    }
}

/// The weights of a vector of codes, as lower and upper words.
#[inline(always)]
pub(super) unsafe fn weights<const MINS: bool>(
    codes: __m512i,
    factors: [__m512i; 2],
    offsets: [__m512i; 2],
) -> [__m512i; 2] {
    // SAFETY: register operations of an instruction set that the caller has.
    unsafe {
        let zero = _mm512_setzero_si512();
        let low = _mm512_mulhrs_epi16(_mm512_unpacklo_epi8(zero, codes), factors[0]);
        let high = _mm512_mulhrs_epi16(_mm512_unpackhi_epi8(zero, codes), factors[1]);
        if MINS {
            [_mm512_add_epi16(low, offsets[0]), _mm512_add_epi16(high, offsets[1])]
        } else {
            [low, high]
        }
    }
}

/// The high bytes of weights, as words.
#[inline(always)]
pub(super) unsafe fn high_bytes(weights: __m512i) -> __m512i {
    // SAFETY: as for `weights`.
    unsafe { _mm512_srai_epi16::<8>(_mm512_add_epi16(weights, _mm512_set1_epi16(128))) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn rows<const M: usize, const BITS: usize, const SUBS: usize, const MINS: bool>(
    panel: PanelView,
    x: &FixedRows,
    first_row: usize,
    out: *mut f32,
) {
    let mut sums = [[[_mm512_setzero_si512(); 2]; 2]; M];
    let inputs: [*const i16; M] = std::array::from_fn(|m| x.words(first_row + m));
    for group in 0..panel.num_groups {
        // SAFETY: every address lies inside the panel or the rows, by the caller's promise.
        unsafe {
            let codes = panel.codes.add(group * 64 * BITS);
            for sub in 0..SUBS {
                let index = (group * SUBS + sub) * PANEL;
                let factors = spread_factors(panel.factors.add(index));
                let offsets = if MINS { spread_factors(panel.offsets.add(index)) } else { factors };
                for i in sub * 8 / SUBS..(sub + 1) * 8 / SUBS {
                    let w = weights::<MINS>(load_codes::<BITS>(codes, i), factors, offsets);
                    let h = [high_bytes(w[0]), high_bytes(w[1])];
                    for m in 0..M {
                        let at = inputs[m].add(group * GROUP + 4 * i);
                        let high = _mm512_set1_epi64(at.cast::<i64>().read_unaligned());
                        let low = at.add(x.low_offset()).cast::<i64>().read_unaligned();
                        let low = _mm512_set1_epi64(low);
                        for side in 0..2 {
                            let [a, b] = &mut sums[m][side];
                            *a = _mm512_dpwssd_epi32(*a, w[side], high);
                            *b = _mm512_dpwssd_epi32(*b, h[side], low);
                        }
                    }
                }
            }
        }
    }
    for m in 0..M {
        let [low, high] = sums[m].map(|[a, b]| _mm512_add_epi32(a, b));
        // Pairs of neighbours belong to one output; packing evens and odds of both halves keeps
        // output order.
        let evens = _mm512_unpacklo_epi64(pairs(low), pairs(high));
        let total = _mm512_cvtepi32_ps(evens);
        // SAFETY: sixteen units; room for M rows of 16.
        unsafe {
            let scale =
                _mm512_mul_ps(_mm512_loadu_ps(panel.units), _mm512_set1_ps(x.scale(first_row + m)));
            _mm512_storeu_ps(out.add(m * PANEL), _mm512_mul_ps(total, scale));
        }
    }
}

/// The sums of neighbouring lanes, in the lower two lanes of each four.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(x: __m512i) -> __m512i {
    // 0b10_11_00_01 swaps neighbours; 0b11_01_10_00 collects lanes 0 and 2 below.
    let sums = _mm512_add_epi32(x, _mm512_shuffle_epi32::<0b10_11_00_01>(x));
    _mm512_shuffle_epi32::<0b11_01_10_00>(sums)
}

unsafe fn with_kind<const M: usize>(
    weight: &FixedLinear,
    panel: PanelView,
    x: &FixedRows,
    first_row: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise; the instantiation fits the weight.
    unsafe {
        match (weight.code_bits, weight.subs, weight.offsets.is_some()) {
            (4, 1, true) => rows::<M, 4, 1, true>(panel, x, first_row, out),
            (4, 1, false) => rows::<M, 4, 1, false>(panel, x, first_row, out),
            (8, 1, true) => rows::<M, 8, 1, true>(panel, x, first_row, out),
            (8, 1, false) => rows::<M, 8, 1, false>(panel, x, first_row, out),
            (8, 2, false) => rows::<M, 8, 2, false>(panel, x, first_row, out),
            kind => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

/// Up to three rows: f32 (num_rows, 16) into `out`.
///
/// # Safety
/// AVX-512 VNNI is available; `out` has the room; the rows are among those kept as words.
pub(super) unsafe fn panel(
    weight: &FixedLinear,
    panel: PanelView,
    x: &FixedRows,
    first_row: usize,
    num_rows: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match num_rows {
            1 => with_kind::<1>(weight, panel, x, first_row, out),
            2 => with_kind::<2>(weight, panel, x, first_row, out),
            _ => with_kind::<3>(weight, panel, x, first_row, out),
        }
    }
}
