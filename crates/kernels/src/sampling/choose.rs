//! One token from one row of logits.

use super::scan::{block_weights, gather, gather_best, max_logit, weight, BLOCK_LEN};
use super::{uniform, Candidate, LogitsError};
use crate::isa::Isa;

/// Temperatures below this are greedy: dividing by them gains nothing but infinities.
pub const GREEDY_BELOW: f32 = 1e-5;
/// Candidates of a nucleus that are put in order at first; doubled until it is full.
const FIRST_ORDERED: usize = 128;

/// How the token of a row is chosen. Filters apply in the order temperature, min_p, top_k, top_p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by it; below [`GREEDY_BELOW`] the best token is taken, the lowest of
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

/// Chooses a token. `scratch` is only there to be used again.
pub fn sample_row(
    isa: Isa,
    row: &[f32],
    params: &SamplingParams,
    scratch: &mut Scratch,
) -> Result<u32, LogitsError> {
    let max = max_logit(isa, row)?;
    if params.temperature < GREEDY_BELOW {
        let best = row.iter().position(|&logit| logit == max);
        return Ok(best.expect("the largest logit is one of the row") as u32);
    }
    let found = &mut scratch.0;
    let (temperature, top_p) = (params.temperature, params.top_p);
    let inverse = 1.0 / temperature;
    let point = uniform(params.seed, params.step);
    let mut least = f32::NEG_INFINITY;
    if params.min_p > 0.0 {
        least = max + temperature * params.min_p.ln();
    }
    if params.top_k > 0 && params.top_k < row.len() {
        gather_best(isa, row, params.top_k, least, found);
        if top_p < 1.0 {
            let total: f64 = found.iter().map(|c| f64::from(weight(c.logit, max, inverse))).sum();
            keep_nucleus(found, max, inverse, f64::from(top_p) * total);
        }
    } else if top_p < 1.0 {
        let total = block_weights(isa, row, max, inverse, least).iter().sum::<f64>();
        // Tokens below 1/V of the rest's share cannot all together make up the rest, so none of
        // them is in the nucleus; half of that leaves room for rounding.
        let share = 0.5 * (1.0 - f64::from(top_p)) * total / row.len() as f64;
        let floor = max + temperature * share.ln() as f32;
        gather(isa, row, least.max(floor), found);
        keep_nucleus(found, max, inverse, f64::from(top_p) * total);
    } else if params.min_p > 0.0 {
        gather(isa, row, least, found);
    } else {
        return Ok(draw_from_all(isa, row, max, inverse, point));
    }
    Ok(draw(found, max, inverse, point))
}

/// Memory of [`sample_row`] that is worth keeping between rows.
#[derive(Default)]
pub struct Scratch(Vec<Candidate>);

/// Puts the candidates in order, best first, and cuts them off where their weights reach `goal`.
fn keep_nucleus(found: &mut Vec<Candidate>, max: f32, inverse_temperature: f32, goal: f64) {
    let (mut num_ordered, mut sum) = (0, 0.0);
    while num_ordered < found.len() {
        let rest = &mut found[num_ordered..];
        let num_next = (num_ordered.max(FIRST_ORDERED)).min(rest.len());
        if num_next < rest.len() {
            rest.select_nth_unstable_by(num_next - 1, Candidate::order);
        }
        rest[..num_next].sort_unstable_by(Candidate::order);
        for i in 0..num_next {
            sum += f64::from(weight(rest[i].logit, max, inverse_temperature));
            if sum >= goal {
                found.truncate(num_ordered + i + 1);
                return;
            }
        }
        num_ordered += num_next;
    }
}

/// The candidate at fraction `point` of the sum of weights.
fn draw(found: &[Candidate], max: f32, inverse_temperature: f32, point: f64) -> u32 {
    let weights = || found.iter().map(|c| f64::from(weight(c.logit, max, inverse_temperature)));
    let goal = point * weights().sum::<f64>();
    let mut sum = 0.0;
    let mut last = found[0].token;
    for (candidate, weight) in found.iter().zip(weights()) {
        sum += weight;
        if weight > 0.0 {
            last = candidate.token;
            if sum > goal {
                break;
            }
        }
    }
    last
}

/// [`draw`] from a whole row in ascending order: first the block, then the token in it.
fn draw_from_all(isa: Isa, row: &[f32], max: f32, inverse_temperature: f32, point: f64) -> u32 {
    let blocks = block_weights(isa, row, max, inverse_temperature, f32::NEG_INFINITY);
    let mut goal = point * blocks.iter().sum::<f64>();
    let mut chosen = 0;
    for (number, &weight) in blocks.iter().enumerate().filter(|(_, &weight)| weight > 0.0) {
        chosen = number;
        if goal < weight {
            break;
        }
        goal -= weight;
    }
    let first = chosen * BLOCK_LEN;
    let mut last = first;
    for (i, &logit) in row[first..].iter().take(BLOCK_LEN).enumerate() {
        let weight = f64::from(weight(logit, max, inverse_temperature));
        if weight > 0.0 {
            last = first + i;
            if goal < weight {
                break;
            }
            goal -= weight;
        }
    }
    last as u32
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
