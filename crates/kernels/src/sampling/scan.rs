//! Passes over a whole row of logits, vectorised.

use super::{Candidate, LogitsError};
use crate::activation::exp;
use crate::dispatch::for_each_isa;

/// Logits looked at together: four vectors of the widest registers.
const CHUNK_LEN: usize = 64;
/// Weights that are summed up in float32; the sums of blocks are added in float64.
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

#[inline(always)]
fn max_body(row: &[f32]) -> Result<f32, LogitsError> {
    let mut lanes = [f32::NEG_INFINITY; CHUNK_LEN];
    let mut is_nan = [0u32; CHUNK_LEN];
    let (chunks, rest) = row.as_chunks::<CHUNK_LEN>();
    for chunk in chunks {
        for i in 0..CHUNK_LEN {
            let x = chunk[i];
            is_nan[i] |= u32::from(x.is_nan());
            lanes[i] = if x > lanes[i] { x } else { lanes[i] };
        }
    }
    if is_nan.iter().any(|&is_nan| is_nan != 0) || rest.iter().any(|x| x.is_nan()) {
        return Err(LogitsError::NotANumber);
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    match max {
        f32::INFINITY => Err(LogitsError::Infinite),
        f32::NEG_INFINITY => Err(LogitsError::Empty),
        _ => Ok(max),
    }
}

/// Weights added up in 64 lanes of float32, and the lanes in float64.
#[inline(always)]
fn block_sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f32; CHUNK_LEN];
    let (chunks, rest) = weights.as_chunks::<CHUNK_LEN>();
    for chunk in chunks {
        for i in 0..CHUNK_LEN {
            lanes[i] += chunk[i];
        }
    }
    for (lane, &weight) in lanes.iter_mut().zip(rest) {
        *lane += weight;
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

#[inline(always)]
fn total_weight_body(row: &[f32], max: f32, inverse_temperature: f32, least: f32) -> f64 {
    let mut weights = [0f32; BLOCK_LEN];
    let mut total = 0.0;
    for block in row.chunks(BLOCK_LEN) {
        let weights = &mut weights[..block.len()];
        for (out, &logit) in weights.iter_mut().zip(block) {
            let weight = weight(logit, max, inverse_temperature);
            *out = if logit < least { 0.0 } else { weight };
        }
        total += block_sum(weights);
    }
    total
}

#[inline(always)]
fn block_sums_body(weights: &[f32]) -> Vec<f64> {
    weights.chunks(BLOCK_LEN).map(block_sum).collect()
}

#[inline(always)]
fn weights_body(logits: &[f32], max: f32, inverse_temperature: f32, weights: &mut Vec<f32>) {
    weights.resize(logits.len(), 0.0);
    for (out, &logit) in weights.iter_mut().zip(logits) {
        *out = weight(logit, max, inverse_temperature);
    }
}

#[inline(always)]
fn first_equal_body(row: &[f32], value: f32) -> Option<usize> {
    let is_there = |chunk: &[f32]| chunk.iter().fold(false, |any, &x| any | (x == value));
    let chunk = row.chunks(CHUNK_LEN).position(is_there)?;
    let first = chunk * CHUNK_LEN;
    row[first..].iter().position(|&x| x == value).map(|i| first + i)
}

/// Calls `found` for every logit above a bound, in order; `found` may raise the bound.
#[inline(always)]
fn each_above(row: &[f32], mut bound: f32, mut found: impl FnMut(Candidate) -> Option<f32>) {
    let (chunks, rest) = row.as_chunks::<CHUNK_LEN>();
    let mut look = |first: usize, logits: &[f32], mut bound: f32| {
        for (i, &logit) in logits.iter().enumerate() {
            if logit > bound {
                let raised = found(Candidate { logit, token: (first + i) as u32 });
                bound = raised.unwrap_or(bound);
            }
        }
        bound
    };
    for (number, chunk) in chunks.iter().enumerate() {
        if chunk.iter().fold(false, |any, &x| any | (x > bound)) {
            bound = look(number * CHUNK_LEN, chunk, bound);
        }
    }
    look(chunks.len() * CHUNK_LEN, rest, bound);
}

#[inline(always)]
fn gather_body(row: &[f32], least: f32, logits: &mut Vec<f32>, tokens: &mut Vec<u32>) {
    logits.clear();
    tokens.clear();
    each_above(row, least.next_down(), |found| {
        logits.push(found.logit);
        tokens.push(found.token);
        None
    });
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
    each_above(row, least.next_down(), |candidate| {
        found.push(candidate);
        // Later logits equal to the worst kept lose to it: their token is higher.
        (found.len() == capacity).then(|| keep_best(found, num))
    });
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
    /// Index of the first logit that equals `value`.
    pub(super) fn first_equal(row: &[f32], value: f32) -> Option<usize> = first_equal_body
}

for_each_isa! {
    /// Sum of the weights of all logits not below `least`.
    pub(super) fn total_weight(row: &[f32], max: f32, inverse_temperature: f32, least: f32) -> f64
        = total_weight_body
}

for_each_isa! {
    /// The weight of each logit.
    pub(super) fn weights_of(
        logits: &[f32],
        max: f32,
        inverse_temperature: f32,
        weights: &mut Vec<f32>,
    ) = weights_body
}

for_each_isa! {
    /// Sums of each [`BLOCK_LEN`] weights.
    pub(super) fn block_sums(weights: &[f32]) -> Vec<f64> = block_sums_body
}

for_each_isa! {
    /// All tokens whose logit is not below `least`, nor -inf, ascending.
    pub(super) fn gather(row: &[f32], least: f32, logits: &mut Vec<f32>, tokens: &mut Vec<u32>)
        = gather_body
}

for_each_isa! {
    /// The `num` best of [`gather`], best first.
    pub(super) fn gather_best(row: &[f32], num: usize, least: f32, found: &mut Vec<Candidate>)
        = gather_best_body
}
