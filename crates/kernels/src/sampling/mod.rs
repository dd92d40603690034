//! Choosing tokens from logits.
//!
//! A choice depends on its own row of logits and parameters alone, and a random one on a number
//! drawn for (seed, step): neither the rest of the batch nor a preemption in between changes it.

mod choose;
mod logprobs;
mod penalties;
mod random;
mod scan;

pub use choose::{sample_row, SamplingParams, Scratch};
pub use logprobs::{logprobs_row, RowLogprobs};
pub use penalties::{penalize_row, Penalties};

/// Why no token can be chosen from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogitsError {
    /// Something went wrong in the model.
    #[error("logits hold NaN")]
    NotANumber,
    /// Softmax of infinity is undefined.
    #[error("logits hold +inf")]
    Infinite,
    /// Every token is excluded.
    #[error("every logit is -inf: no token may be chosen")]
    Empty,
}

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub logit: f32,
    pub token: u32,
}

impl Candidate {
    /// Best first; of equal logits the lower token. Zeros of either sign are equal, and logits are
    /// numbers.
    fn order(&self, other: &Candidate) -> std::cmp::Ordering {
        let by_logit = other.logit.partial_cmp(&self.logit);
        by_logit.unwrap_or(std::cmp::Ordering::Equal).then(self.token.cmp(&other.token))
    }
}
