//! Passes over a whole row of logits, vectorised.

use super::{Candidate, LogitsError};
use crate::activation::exp;
use crate::dispatch::for_each_isa;

/// Logits looked at together: four vectors of the widest registers.
const CHUNK_LEN: usize = 64;
/// Logits whose weights are summed up in float32; the sums of blocks are added in float64.
pub(super) const BLOCK_LEN: usize = 16 * CHUNK_LEN;
/// Softmax terms below this exponent are zero.
const MIN_EXPONENT: f32 = -87.0;

/// The term of a logit in the softmax before it is divided by the sum: in [0, 1].
#[inline(always)]
pub(super) fn weight(logit: f32, max: f32, inverse_temperature: f32) -> f32 {
    let exponent = (logit - max) * inverse_temperature;
    if exponent < MIN_EXPONENT {
        0.0
    } else {
        exp(exponent)
    }
}

/// Largest value of a chunk; not a number counts as nothing.
#[inline(always)]
fn chunk_max(chunk: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; CHUNK_LEN];
    for (lane, &x) in lanes.iter_mut().zip(chunk) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

#[inline(always)]
fn max_body(row: &[f32]) -> Result<f32, LogitsError> {
    let mut lanes = [f32::NEG_INFINITY; CHUNK_LEN];
    let mut unordered = [0u32; CHUNK_LEN];
    for chunk in row.chunks(CHUNK_LEN) {
        for ((lane, unordered), &x) in lanes.iter_mut().zip(&mut unordered).zip(chunk) {
            *unordered |= u32::from(x.is_nan());
            *lane = if x > *lane { x } else { *lane };
        }
    }
    if unordered.iter().any(|&unordered| unordered != 0) {
        return Err(LogitsError::NotANumber);
    }
    let max = chunk_max(&lanes);
    match max {
        f32::INFINITY => Err(LogitsError::Infinite),
        f32::NEG_INFINITY => Err(LogitsError::Empty),
        _ => Ok(max),
    }
}

#[inline(always)]
fn block_weights_body(row: &[f32], max: f32, inverse_temperature: f32, least: f32) -> Vec<f64> {
    let mut sums = Vec::with_capacity(row.len().div_ceil(BLOCK_LEN));
    for block in row.chunks(BLOCK_LEN) {
        let mut lanes = [0f32; CHUNK_LEN];
        for chunk in block.chunks(CHUNK_LEN) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                let weight = weight(x, max, inverse_temperature);
                *lane += if x < least { 0.0 } else { weight };
            }
        }
        sums.push(lanes.iter().map(|&lane| f64::from(lane)).sum());
    }
    sums
}

#[inline(always)]
fn gather_body(row: &[f32], least: f32, found: &mut Vec<Candidate>) {
    found.clear();
    for (number, chunk) in row.chunks(CHUNK_LEN).enumerate() {
        if chunk_max(chunk) < least {
            continue;
        }
        for (i, &logit) in chunk.iter().enumerate() {
            if logit >= least && logit > f32::NEG_INFINITY {
                found.push(Candidate { logit, token: (number * CHUNK_LEN + i) as u32 });
            }
        }
    }
}

#[inline(always)]
fn gather_best_body(row: &[f32], num: usize, least: f32, found: &mut Vec<Candidate>) {
    found.clear();
    if num == 0 {
        return;
    }
    // Twice as many as wanted are kept before the worse half is thrown away, so that each logit
    // above the bound costs a constant time on average.
    let capacity = (2 * num).max(CHUNK_LEN);
    let mut bound = least.next_down();
    for (number, chunk) in row.chunks(CHUNK_LEN).enumerate() {
        if chunk_max(chunk) <= bound {
            continue;
        }
        for (i, &logit) in chunk.iter().enumerate() {
            if logit > bound {
                found.push(Candidate { logit, token: (number * CHUNK_LEN + i) as u32 });
                if found.len() == capacity {
                    // Later logits equal to the worst kept lose to it: their token is higher.
                    bound = keep_best(found, num);
                }
            }
        }
    }
    if found.len() > num {
        keep_best(found, num);
    }
    found.sort_unstable_by(Candidate::order);
}

/// Throws away all but the `num` best, in no order, and returns the worst logit kept.
fn keep_best(found: &mut Vec<Candidate>, num: usize) -> f32 {
    let (_, worst, _) = found.select_nth_unstable_by(num - 1, Candidate::order);
    let worst = worst.logit;
    found.truncate(num);
    worst
}

for_each_isa! {
    /// Largest logit of a row from which a token can be chosen.
    pub(super) fn max_logit(row: &[f32]) -> Result<f32, LogitsError> = max_body
}

for_each_isa! {
    /// Sums of the weights of the logits not below `least`, for each [`BLOCK_LEN`] logits.
    pub(super) fn block_weights(
        row: &[f32],
        max: f32,
        inverse_temperature: f32,
        least: f32,
    ) -> Vec<f64> = block_weights_body
}

for_each_isa! {
    /// All tokens whose logit is not below `least`, nor -inf, ascending.
    pub(super) fn gather(row: &[f32], least: f32, found: &mut Vec<Candidate>) = gather_body
}

for_each_isa! {
    /// The `num` best of [`gather`], best first.
    pub(super) fn gather_best(row: &[f32], num: usize, least: f32, found: &mut Vec<Candidate>)
        = gather_best_body
}
