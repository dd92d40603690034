//! The softmax of a split, and folding the results of splits together.
//!
//! Scores are taken to base 2: weights are `2^(score * factor - maximum)`, with log2(e) in the
//! factor.

use super::buffers::PARTIAL_HEADER;
use super::simd::Simd;

/// Maximum of a row of which nothing is visible: finite, so that differences of maxima are numbers.
pub(super) const NO_MAXIMUM: f32 = -1e30;

/// Hides the keys of a row that are not in `visible` (counted in the row).
///
/// # Safety
/// `row` must hold `len` floats.
#[inline(always)]
pub(super) unsafe fn mask(row: *mut f32, len: usize, visible: std::ops::Range<usize>) {
    for i in (0..visible.start.min(len)).chain(visible.end..len) {
        // SAFETY: the caller's promise.
        unsafe { *row.add(i) = f32::NEG_INFINITY }
    }
}

/// `score = cap * tanh(score * factor)` in place.
///
/// # Safety
/// `S` must be available and `row` hold `len` floats, a multiple of the lanes.
#[inline(always)]
pub(super) unsafe fn soft_cap<S: Simd>(row: *mut f32, len: usize, factor: f32, cap: f32) {
    // tanh y = sign(y) (1 - e) / (1 + e) with e = exp(-2 |y|); |y| as the larger of y and -y.
    const MINUS_2_LOG2_E: f32 = -2.0 * std::f32::consts::LOG2_E;
    // SAFETY: the caller's promise.
    unsafe {
        let (one, minus_one) = (S::splat(1.0), S::splat(-1.0));
        for i in (0..len).step_by(S::LANES) {
            let y = S::mul(S::load(row.add(i)), S::splat(factor));
            let size = S::max(y, S::mul(y, minus_one));
            let e = S::exp2(S::mul(size, S::splat(MINUS_2_LOG2_E)));
            let tanh_size = S::div(S::fma(e, minus_one, one), S::add(one, e));
            // The sign, as y / |y|, with 0 for 0.
            let sign = S::div(y, S::max(size, S::splat(f32::MIN_POSITIVE)));
            S::store(row.add(i), S::mul(S::mul(tanh_size, sign), S::splat(cap)));
        }
    }
}

/// The row's maximum times `factor`.
///
/// # Safety
/// As for [`soft_cap`], and `len` must be a multiple of 32.
#[inline(always)]
pub(super) unsafe fn maximum<S: Simd>(row: *const f32, len: usize, factor: f32) -> f32 {
    // SAFETY: the caller's promise.
    let largest = unsafe {
        let mut largest = [S::splat(f32::NEG_INFINITY); 2];
        for i in (0..len).step_by(2 * S::LANES) {
            largest[0] = S::max(largest[0], S::load(row.add(i)));
            largest[1] = S::max(largest[1], S::load(row.add(i + S::LANES)));
        }
        S::max_lane(S::max(largest[0], largest[1]))
    };
    (largest * factor).max(NO_MAXIMUM)
}

/// Weights of the scores at `at`.
///
/// # Safety
/// `S` must be available and `at` hold a vector.
#[inline(always)]
pub(super) unsafe fn weight<S: Simd>(at: *const f32, factor: S::V, minus_maximum: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::exp2(S::fma(S::load(at), factor, minus_maximum)) }
}

/// Scores to weights in place; returns their sum.
///
/// # Safety
/// As for [`maximum`].
#[inline(always)]
pub(super) unsafe fn weigh<S: Simd>(row: *mut f32, len: usize, factor: f32, maximum: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, minus_maximum) = (S::splat(factor), S::splat(-maximum));
        let mut sum = [S::splat(0.0); 2];
        for i in (0..len).step_by(2 * S::LANES) {
            for half in 0..2 {
                let at = row.add(i + half * S::LANES);
                let weight = weight::<S>(at, factor, minus_maximum);
                S::store(at, weight);
                sum[half] = S::add(sum[half], weight);
            }
        }
        S::sum(S::add(sum[0], sum[1]))
    }
}

/// The sum of the weights of scores, which stay as they are.
///
/// # Safety
/// As for [`maximum`].
#[inline(always)]
pub(super) unsafe fn mass<S: Simd>(row: *const f32, len: usize, factor: f32, maximum: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, minus_maximum) = (S::splat(factor), S::splat(-maximum));
        let mut sum = [S::splat(0.0); 2];
        for i in (0..len).step_by(2 * S::LANES) {
            for half in 0..2 {
                let weight = weight::<S>(row.add(i + half * S::LANES), factor, minus_maximum);
                sum[half] = S::add(sum[half], weight);
            }
        }
        S::sum(S::add(sum[0], sum[1]))
    }
}

/// Folds the next split of a row into its result.
///
/// A result is the maximum, the sum of weights, padding up to [`PARTIAL_HEADER`], and the weighted
/// sums.
///
/// # Safety
/// `S` must be available, `result` hold a result, and `sums` as many floats as a head.
#[inline(always)]
pub(super) unsafe fn fold<S: Simd>(
    result: *mut f32,
    maximum: f32,
    sum: f32,
    sums: *const f32,
    head_dim: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let new_maximum = (*result).max(maximum);
        let lanes = S::exp2(S::splat(*result - new_maximum));
        let next_lanes = S::exp2(S::splat(maximum - new_maximum));
        let (keep, take) = (S::first_lane(lanes), S::first_lane(next_lanes));
        *result = new_maximum;
        *result.add(1) = *result.add(1) * keep + sum * take;
        let out = result.add(PARTIAL_HEADER);
        for i in (0..head_dim).step_by(S::LANES) {
            let taken = S::mul(S::load(sums.add(i)), next_lanes);
            S::store(out.add(i), S::fma(S::load(out.add(i)), lanes, taken));
        }
    }
}

/// A result before the first split.
///
/// # Safety
/// `result` must have room for a result.
#[inline(always)]
pub(super) unsafe fn clear(result: *mut f32, head_dim: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::write_bytes(result, 0, PARTIAL_HEADER + head_dim);
        *result = NO_MAXIMUM;
    }
}

/// The output row of a result.
///
/// # Safety
/// `S` must be available, `result` hold a result, and `out` have room for a head.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(result: *const f32, out: *mut f32, head_dim: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let inverse = S::splat(1.0 / *result.add(1));
        for i in (0..head_dim).step_by(S::LANES) {
            S::store(out.add(i), S::mul(S::load(result.add(PARTIAL_HEADER + i)), inverse));
        }
    }
}
