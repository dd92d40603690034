//! Random draws repeat themselves only so often.

use crate::options::Options;

/// Repeats beside those of random draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeats {
    /// 1 - distinct / draws.
    pub found: f64,
    /// The same for even draws with replacement; without, there are fewer.
    pub expected: f64,
    /// What random draws hardly ever have.
    pub limit: f64,
    /// Whether there are more than that.
    pub are_too_many: bool,
}

/// A repeat or two say nothing, however unlikely they are.
const FEW: f64 = 2.0;

/// U = 1 - N (1 - (1 - 1/N)^m) / m for m draws of N.
pub fn expected_repeats(num_children: u64, num_draws: usize) -> f64 {
    let (n, m) = (num_children.max(1) as f64, num_draws.max(1) as f64);
    let never = (m * (-1.0 / n).ln_1p()).exp();
    let never = if num_children <= 1 { 0.0 } else { never };
    (1.0 - n * (1.0 - never) / m).max(0.0)
}

impl Repeats {
    /// Of some draws, sorted.
    pub fn of(sorted: &[u32], num_children: u64, options: &Options) -> Repeats {
        let m = sorted.len().max(1) as f64;
        let again = sorted.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
        let expected = expected_repeats(num_children, sorted.len());
        let deviation = (expected * (1.0 - expected) / m).sqrt();
        let limit = expected + (options.repeat_deviations * deviation).max(FEW / m);
        let found = again / m;
        let are_too_many = options.tests_repeats && found > limit;
        Repeats { found, expected, limit, are_too_many }
    }
}
