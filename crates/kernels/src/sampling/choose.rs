//! One token from one row of logits.

use super::random::uniform;
use super::scan::{
    block_sums, first_equal, gather, gather_best, max_logit, total_weight, weight, weights_of,
    BLOCK_LEN,
};
use super::{Candidate, LogitsError};
use crate::isa::Isa;
use std::cmp::Ordering;

/// Temperatures below this are greedy: dividing by them gains nothing but infinities.
const GREEDY_BELOW: f32 = 1e-5;
/// Buckets by which the logits of a nucleus are ordered.
const NUM_BUCKETS: usize = 1024;

/// How the token of a row is chosen. Filters apply in the order temperature, min_p, top_k, top_p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by it; below 1e-5 the best token is taken, the lowest of
    /// equals.
    pub temperature: f32,
    /// Keeps this many of the best tokens, of equals the lowest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of best tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this many times as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// With `step`, fixes the random number.
    pub seed: u64,
    /// Which of the seed's random numbers.
    pub step: u64,
}

/// Memory of [`sample_row`] that is worth keeping between rows.
#[derive(Default)]
pub struct Scratch {
    best: Vec<Candidate>,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    weights: Vec<f32>,
}

/// Chooses a token. `scratch` is only there to be used again.
pub fn sample_row(
    isa: Isa,
    row: &[f32],
    params: &SamplingParams,
    scratch: &mut Scratch,
) -> Result<u32, LogitsError> {
    let max = max_logit(isa, row)?;
    if params.temperature < GREEDY_BELOW {
        let best = first_equal(isa, row, max);
        return Ok(best.expect("the largest logit is one of the row") as u32);
    }
    let inverse = 1.0 / params.temperature;
    let point = uniform(params.seed, params.step);
    let Scratch { best, logits, tokens, weights } = scratch;
    let mut least = f32::NEG_INFINITY;
    if params.min_p > 0.0 {
        least = max + params.temperature * params.min_p.ln();
    }
    if params.top_k > 0 && params.top_k < row.len() {
        gather_best(isa, row, params.top_k, least, best);
        weights.clear();
        weights.extend(best.iter().map(|candidate| weight(candidate.logit, max, inverse)));
        if params.top_p < 1.0 {
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let num_kept = num_reaching(weights, f64::from(params.top_p) * total);
            weights.truncate(num_kept);
        }
        return Ok(best[draw(isa, weights, point)].token);
    }
    if params.top_p == 1.0 && params.min_p == 0.0 {
        weights_of(isa, row, max, inverse, weights);
        return Ok(draw(isa, weights, point) as u32);
    }
    let mut goal = f64::INFINITY;
    if params.top_p < 1.0 {
        let total = total_weight(isa, row, max, inverse, least);
        goal = f64::from(params.top_p) * total;
        // Tokens below 1/V of the rest's share cannot all together make up the rest, so none of
        // them is in the nucleus; half of that leaves room for rounding.
        let share = 0.5 * (1.0 - f64::from(params.top_p)) * total / row.len() as f64;
        least = least.max(max + params.temperature * share.ln() as f32);
    }
    gather(isa, row, least, logits, tokens);
    weights_of(isa, logits, max, inverse, weights);
    if params.top_p < 1.0 {
        keep_nucleus(logits, weights, max, goal, best);
    }
    Ok(tokens[draw(isa, weights, point)])
}

/// How many of the first weights it takes to reach `goal`, at most all.
fn num_reaching(weights: &[f32], goal: f64) -> usize {
    let mut sum = 0.0;
    let reaches = |&weight: &f32| {
        sum += f64::from(weight);
        sum >= goal
    };
    weights.iter().position(reaches).map_or(weights.len(), |last| last + 1)
}

/// Sets the weights to zero of all but the best logits that together reach `goal`.
///
/// Logits, at most `max`, are put into buckets in order; only those in the bucket where the goal is
/// reached have to be sorted.
fn keep_nucleus(
    logits: &[f32],
    weights: &mut [f32],
    max: f32,
    goal: f64,
    last_bucket: &mut Vec<Candidate>,
) {
    let least = logits.iter().fold(max, |least, &logit| least.min(logit));
    let buckets_per_logit = NUM_BUCKETS as f32 / (max - least);
    let bucket = |logit: f32| (((max - logit) * buckets_per_logit) as usize).min(NUM_BUCKETS - 1);
    let mut sums = [0f64; NUM_BUCKETS];
    for (&logit, &weight) in logits.iter().zip(&*weights) {
        sums[bucket(logit)] += f64::from(weight);
    }
    let mut goal = goal;
    let reaches = |sum: &f64| {
        let reached = *sum >= goal;
        goal -= if reached { 0.0 } else { *sum };
        reached
    };
    let Some(last) = sums.iter().position(reaches) else { return };
    last_bucket.clear();
    for (i, (&logit, weight)) in logits.iter().zip(&mut *weights).enumerate() {
        match bucket(logit).cmp(&last) {
            Ordering::Less => {}
            Ordering::Equal => last_bucket.push(Candidate { logit, token: i as u32 }),
            Ordering::Greater => *weight = 0.0,
        }
    }
    last_bucket.sort_unstable_by(Candidate::order);
    let ordered: Vec<f32> = last_bucket.iter().map(|c| weights[c.token as usize]).collect();
    for left_out in &last_bucket[num_reaching(&ordered, goal)..] {
        weights[left_out.token as usize] = 0.0;
    }
}

/// The index at fraction `point` of the sum of weights: first the block, then the place in it.
fn draw(isa: Isa, weights: &[f32], point: f64) -> usize {
    let sums = block_sums(isa, weights);
    let goal = point * sums.iter().sum::<f64>();
    let (block, goal) = locate(sums.iter().copied(), goal);
    let first = block * BLOCK_LEN;
    let in_block = weights[first..].iter().take(BLOCK_LEN).map(|&weight| f64::from(weight));
    first + locate(in_block, goal).0
}

/// Where the running sum passes `goal`, and what is left of it there; the last positive value if
/// rounding keeps the sum below.
fn locate(values: impl Iterator<Item = f64>, mut goal: f64) -> (usize, f64) {
    let (mut last, mut left) = (0, 0.0);
    for (i, value) in values.enumerate().filter(|&(_, value)| value > 0.0) {
        (last, left) = (i, goal);
        if goal < value {
            break;
        }
        goal -= value;
    }
    (last, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::available;
    use proptest::prelude::*;

    const GREEDY: SamplingParams =
        SamplingParams { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0, step: 0 };

    fn sample(row: &[f32], params: &SamplingParams) -> Result<u32, LogitsError> {
        let tokens: Vec<_> =
            available().map(|isa| sample_row(isa, row, params, &mut Scratch::default())).collect();
        assert!(tokens.windows(2).all(|pair| pair[0] == pair[1]), "{tokens:?}");
        tokens[0]
    }

    #[test]
    fn bad_rows_are_refused_and_say_why() {
        let mut row = vec![0.0; 100];
        row[77] = f32::NAN;
        assert_eq!(sample(&row, &GREEDY), Err(LogitsError::NotANumber));
        row[77] = f32::INFINITY;
        assert_eq!(sample(&row, &GREEDY), Err(LogitsError::Infinite));
        assert_eq!(sample(&[f32::NEG_INFINITY; 9], &GREEDY), Err(LogitsError::Empty));
        assert_eq!(sample(&[], &GREEDY), Err(LogitsError::Empty));
    }

    proptest! {
        #[test]
        fn greedy_takes_the_first_of_the_best(row in prop::collection::vec(-5i8..5, 1..300)) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let max = row.iter().copied().fold(f32::MIN, f32::max);
            let first = row.iter().position(|&x| x == max).unwrap() as u32;
            prop_assert_eq!(sample(&row, &GREEDY), Ok(first));
            let top_1 = SamplingParams { temperature: 1.0, top_k: 1, ..GREEDY };
            prop_assert_eq!(sample(&row, &top_1), Ok(first));
        }

        /// What is drawn survives each filter by its definition.
        #[test]
        fn draws_survive_the_filters(
            row in prop::collection::vec(prop_oneof![-8f32..8.0, Just(f32::NEG_INFINITY)], 1..400),
            top_k in 0usize..40,
            top_p in 0.01f32..1.0,
            min_p in 0f32..0.3,
            temperature in 0.05f32..3.0,
            seed in any::<u64>(),
        ) {
            prop_assume!(row.iter().any(|x| x.is_finite()));
            let params = SamplingParams { temperature, top_k, top_p, min_p, seed, step: 3 };
            let token = sample(&row, &params).unwrap() as usize;
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
            let max = row[order[0]];
            let weight = |i: usize| f64::from((row[i] - max) / temperature).exp();
            order.retain(|&i| row[i].is_finite() && weight(i) >= f64::from(min_p) * (1.0 - 1e-5));
            if top_k > 0 {
                order.truncate(top_k);
            }
            let rank = order.iter().position(|&i| i == token);
            prop_assert!(rank.is_some());
            let before: f64 = order[..rank.unwrap()].iter().map(|&i| weight(i)).sum();
            let total: f64 = order.iter().map(|&i| weight(i)).sum();
            prop_assert!(before < f64::from(top_p) * total * (1.0 + 1e-5));
        }
    }
}
