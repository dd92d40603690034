//! Penalties for tokens that were already there, and biases.

/// How tokens of the text so far are discouraged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// Divides positive and multiplies negative logits of all tokens of prompt and output.
    pub repetition: f32,
    /// Taken off once from each token of the output.
    pub presence: f32,
    /// Taken off for each time a token is in the output.
    pub frequency: f32,
}

/// Adds the biases, then applies the penalties, to one row of logits.
///
/// # Panics
/// When a token is not one of the row.
pub fn penalize_row(
    row: &mut [f32],
    prompt: &[u32],
    output: &[u32],
    penalties: &Penalties,
    biases: impl Iterator<Item = (u32, f32)>,
) {
    for (token, bias) in biases {
        row[token as usize] += bias;
    }
    if penalties.repetition != 1.0 {
        let mut seen = vec![0u64; row.len().div_ceil(64)];
        for &token in prompt.iter().chain(output) {
            let (word, bit) = (token as usize / 64, 1 << (token % 64));
            if seen[word] & bit == 0 {
                seen[word] |= bit;
                let logit = &mut row[token as usize];
                if *logit > 0.0 {
                    *logit /= penalties.repetition;
                } else {
                    *logit *= penalties.repetition;
                }
            }
        }
    }
    if penalties.presence != 0.0 || penalties.frequency != 0.0 {
        let mut output = output.to_vec();
        output.sort_unstable();
        for run in output.chunk_by(|a, b| a == b) {
            row[run[0] as usize] -= penalties.frequency * run.len() as f32 + penalties.presence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_penalty_falls_on_its_tokens() {
        let none = Penalties { repetition: 1.0, presence: 0.0, frequency: 0.0 };
        let run = |penalties: Penalties, biases: &[(u32, f32)]| {
            let mut row = [2.0, -2.0, 2.0, -2.0, 2.0];
            penalize_row(&mut row, &[0, 1, 1], &[2, 1, 2], &penalties, biases.iter().copied());
            row
        };
        assert_eq!(run(none, &[]), [2.0, -2.0, 2.0, -2.0, 2.0]);
        assert_eq!(run(none, &[(4, -1.5)]), [2.0, -2.0, 2.0, -2.0, 0.5]);
        assert_eq!(
            run(Penalties { repetition: 2.0, ..none }, &[(3, 1.0)]),
            [1.0, -4.0, 1.0, -1.0, 2.0]
        );
        assert_eq!(run(Penalties { presence: 0.5, ..none }, &[]), [2.0, -2.5, 1.5, -2.0, 2.0]);
        assert_eq!(run(Penalties { frequency: 0.5, ..none }, &[]), [2.0, -2.5, 1.0, -2.0, 2.0]);
    }
}
