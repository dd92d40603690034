//! Log probabilities of one row of logits.

use super::scan::{gather_best, max_logit, total_weight};
use super::{Candidate, LogitsError};
use crate::isa::Isa;

/// Natural log probabilities of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLogprobs {
    /// That of the chosen token.
    pub chosen: f32,
    /// The most probable tokens, best first; tokens of probability zero are left out.
    pub top: Vec<(u32, f32)>,
}

/// Log probabilities of token `chosen` and of the `num_top` best.
///
/// # Panics
/// When `chosen` is not a token of the row.
pub fn logprobs_row(
    isa: Isa,
    row: &[f32],
    chosen: u32,
    num_top: usize,
) -> Result<RowLogprobs, LogitsError> {
    let max = max_logit(isa, row)?;
    let log_total = total_weight(isa, row, max, 1.0, f32::NEG_INFINITY).ln();
    let logprob = |logit: f32| (f64::from(logit) - f64::from(max) - log_total) as f32;
    let mut best: Vec<Candidate> = Vec::new();
    gather_best(isa, row, num_top, f32::NEG_INFINITY, &mut best);
    Ok(RowLogprobs {
        chosen: logprob(row[chosen as usize]),
        top: best.iter().map(|best| (best.token, logprob(best.logit))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::available;

    #[test]
    fn best_tokens_come_first_and_equals_by_number() {
        let mut row = vec![0f32; 200];
        (row[150], row[20], row[21]) = (3.0, 2.0, 3.0);
        row[0] = f32::NEG_INFINITY;
        let total = 196.0 + 2.0 * 3f64.exp() + 2f64.exp();
        for isa in available() {
            let logprobs = logprobs_row(isa, &row, 20, 4).unwrap();
            let tokens: Vec<u32> = logprobs.top.iter().map(|top| top.0).collect();
            assert_eq!(tokens, [21, 150, 20, 1]);
            assert!((f64::from(logprobs.chosen) - (2.0 - total.ln())).abs() < 1e-6);
            assert_eq!(logprobs.top[2].1, logprobs.chosen);
            assert_eq!(logprobs_row(isa, &row, 0, 0).unwrap().chosen, f32::NEG_INFINITY);
            row[3] = f32::NAN;
            assert_eq!(logprobs_row(isa, &row, 20, 4), Err(LogitsError::NotANumber));
            row[3] = 0.0;
        }
    }
}
