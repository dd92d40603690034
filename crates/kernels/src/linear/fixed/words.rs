//! Few rows: the codes stream by once and are multiplied as 16-bit words.

use std::arch::x86_64::*;

use super::rows::{FixedRows, STEP, TILE_BYTES};
use super::{FixedLinear, PanelView, GROUP, PANEL, TILE_ROWS};

/// Both words of an output's four bytes have that output's factor.
const OUTPUTS: [i16; 32] = {
    let mut outputs = [0; 32];
    let mut word = 0;
    while word < 32 {
        outputs[word] = word as i16 / 2;
        word += 1;
    }
    outputs
};

/// Every even byte in the upper half of its word, zeros below.
const EVEN_BYTES: [i8; 64] = {
    let mut bytes = [-1; 64];
    let mut word = 0;
    while word < 32 {
        // Shuffles stay inside lanes of 16 bytes.
        bytes[2 * word + 1] = (2 * word % 16) as i8;
        word += 1;
    }
    bytes
};

/// Bytes 2j + `byte` of two vectors of words, taken in turn.
const fn bytes_in_turn(byte: i8) -> [i8; 64] {
    let mut bytes = [0; 64];
    let mut j = 0;
    while j < 32 {
        bytes[2 * j] = 2 * j as i8 + byte;
        // The second vector's bytes are numbered from 64.
        bytes[2 * j + 1] = 64 + 2 * j as i8 + byte;
        j += 1;
    }
    bytes
}

const LOW_BYTES: [i8; 64] = bytes_in_turn(0);
const HIGH_BYTES: [i8; 64] = bytes_in_turn(1);

/// Factors (or offsets) of a group, one for each word.
#[inline(always)]
pub(super) unsafe fn spread_factors(factors: *const i16) -> __m512i {
    // SAFETY: the caller's sixteen factors; a constant of 64 bytes.
    unsafe {
        let sixteen = _mm512_castsi256_si512(_mm256_loadu_si256(factors.cast()));
        _mm512_permutexvar_epi16(_mm512_loadu_si512(OUTPUTS.as_ptr().cast()), sixteen)
    }
}

/// How far ahead of their use codes are fetched, in bytes. Panels follow each other, but the
/// processor's own prefetching stops at the end of each page.
const CODES_AHEAD: usize = 2048;
/// The same for factors and offsets, in elements.
const FACTORS_AHEAD: usize = 256;

/// Asks for the memory that the group this far ahead will need; nothing is read past any end.
#[inline(always)]
pub(super) unsafe fn prefetch<const BITS: usize, const SUBS: usize, const MINS: bool>(
    panel: PanelView,
    group: usize,
) {
    // SAFETY: prefetching an address does not access it.
    unsafe {
        let codes = panel.codes.wrapping_add(group * 64 * BITS + CODES_AHEAD);
        for line in 0..BITS {
            _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(64 * line).cast());
        }
        if group.is_multiple_of(2) || SUBS == 2 {
            let index = group * SUBS * PANEL + FACTORS_AHEAD;
            _mm_prefetch::<_MM_HINT_T0>(panel.factors.wrapping_add(index).cast());
            if MINS {
                _mm_prefetch::<_MM_HINT_T0>(panel.offsets.wrapping_add(index).cast());
            }
        }
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

/// The weights of a vector of codes: those of the even inputs and those of the odd ones, as words.
#[inline(always)]
pub(super) unsafe fn weights<const MINS: bool>(
    codes: __m512i,
    factors: __m512i,
    offsets: __m512i,
) -> [__m512i; 2] {
    // SAFETY: register operations of an instruction set that the caller has; a constant of 64
    // bytes.
    unsafe {
        // A byte shuffle, not a shift: the port that shifts is the busiest one already.
        let even = _mm512_shuffle_epi8(codes, _mm512_loadu_si512(EVEN_BYTES.as_ptr().cast()));
        let odd = _mm512_and_si512(codes, _mm512_set1_epi16(0xff00u16 as i16));
        let even = _mm512_mulhrs_epi16(even, factors);
        let odd = _mm512_mulhrs_epi16(odd, factors);
        if MINS {
            [_mm512_add_epi16(even, offsets), _mm512_add_epi16(odd, offsets)]
        } else {
            [even, odd]
        }
    }
}

/// The low bytes of weights, as signed bytes in the order of the inputs.
#[inline(always)]
pub(super) unsafe fn low_bytes(weights: [__m512i; 2]) -> __m512i {
    // SAFETY: a constant of 64 bytes.
    unsafe {
        let bytes = _mm512_loadu_si512(LOW_BYTES.as_ptr().cast());
        _mm512_permutex2var_epi8(weights[0], bytes, weights[1])
    }
}

/// What signed low bytes leave: the high bytes, in the order of the inputs.
#[inline(always)]
pub(super) unsafe fn high_bytes(weights: [__m512i; 2]) -> __m512i {
    // SAFETY: a constant of 64 bytes.
    unsafe {
        let half = _mm512_set1_epi16(128);
        let even = _mm512_add_epi16(weights[0], half);
        let odd = _mm512_add_epi16(weights[1], half);
        let bytes = _mm512_loadu_si512(HIGH_BYTES.as_ptr().cast());
        _mm512_permutex2var_epi8(even, bytes, odd)
    }
}

/// Sums over the inputs of a panel's signed low bytes, one for each output.
///
/// # Safety
/// AVX-512 VNNI and VBMI are available.
pub(super) unsafe fn low_sums(weight: &FixedLinear, panel: PanelView) -> [i32; PANEL] {
    // SAFETY: the caller's promise; the instantiation fits the weight.
    unsafe {
        match (weight.code_bits, weight.subs, weight.offsets.is_some()) {
            (4, 1, true) => sum_low_bytes::<4, 1, true>(panel),
            (4, 1, false) => sum_low_bytes::<4, 1, false>(panel),
            (8, 1, true) => sum_low_bytes::<8, 1, true>(panel),
            (8, 1, false) => sum_low_bytes::<8, 1, false>(panel),
            (8, 2, false) => sum_low_bytes::<8, 2, false>(panel),
            kind => unreachable!("no group format of kind {kind:?}"),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn sum_low_bytes<const BITS: usize, const SUBS: usize, const MINS: bool>(
    panel: PanelView,
) -> [i32; PANEL] {
    let mut sums = _mm512_setzero_si512();
    for group in 0..panel.num_groups {
        for i in 0..8 {
            // SAFETY: groups of the panel.
            unsafe {
                let index = (group * SUBS + i * SUBS / 8) * PANEL;
                let factors = spread_factors(panel.factors.add(index));
                let offsets = if MINS { spread_factors(panel.offsets.add(index)) } else { factors };
                let codes = load_codes::<BITS>(panel.codes.add(group * 64 * BITS), i);
                let low = low_bytes(weights::<MINS>(codes, factors, offsets));
                sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), low);
            }
        }
    }
    let mut out = [0; PANEL];
    // SAFETY: sixteen sums.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
    out
}

/// From the integer sums of one row to floats at `out`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn finish(panel: PanelView, sums: __m512i, scale: f32, out: *mut f32) {
    // SAFETY: the caller's sixteen outputs.
    unsafe {
        let sums = _mm512_add_epi32(sums, _mm512_loadu_si512(panel.corrections.cast()));
        let scale = _mm512_mul_ps(_mm512_loadu_ps(panel.units), _mm512_set1_ps(scale));
        _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn rows<const M: usize, const BITS: usize, const SUBS: usize, const MINS: bool>(
    panel: PanelView,
    x: &FixedRows,
    first_row: usize,
    out: *mut f32,
) {
    let mut sums = [[_mm512_setzero_si512(); 3]; M];
    let highs: [*const i16; M] = std::array::from_fn(|m| x.words(first_row + m));
    let tile = x.tile(first_row / TILE_ROWS);
    for group in 0..panel.num_groups {
        // SAFETY: every address lies inside the panel or the rows, by the caller's promise.
        unsafe {
            prefetch::<BITS, SUBS, MINS>(panel, group);
            let codes = panel.codes.add(group * 64 * BITS);
            // The group's low bytes of the first row.
            let lows = tile.add(group / 2 * 2 * TILE_BYTES + TILE_BYTES + group % 2 * GROUP);
            for sub in 0..SUBS {
                let index = (group * SUBS + sub) * PANEL;
                let factors = spread_factors(panel.factors.add(index));
                let offsets = if MINS { spread_factors(panel.offsets.add(index)) } else { factors };
                for i in sub * 8 / SUBS..(sub + 1) * 8 / SUBS {
                    let w = weights::<MINS>(load_codes::<BITS>(codes, i), factors, offsets);
                    let bytes = high_bytes(w);
                    for m in 0..M {
                        let high = highs[m].add(group * GROUP + 4 * i).cast::<i32>();
                        let low = lows.add((first_row + m) * STEP + 4 * i).cast::<i32>();
                        let [even, odd, rest] = &mut sums[m];
                        let input = _mm512_set1_epi32(high.read_unaligned());
                        *even = _mm512_dpwssd_epi32(*even, w[0], input);
                        let input = _mm512_set1_epi32(high.add(1).read_unaligned());
                        *odd = _mm512_dpwssd_epi32(*odd, w[1], input);
                        let input = _mm512_set1_epi32(low.read_unaligned());
                        *rest = _mm512_dpbusd_epi32(*rest, input, bytes);
                    }
                }
            }
        }
    }
    for m in 0..M {
        let [even, odd, rest] = sums[m];
        let total = _mm512_add_epi32(_mm512_add_epi32(even, odd), rest);
        // SAFETY: room for M rows of 16.
        unsafe { finish(panel, total, x.scale(first_row + m), out.add(m * PANEL)) };
    }
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
