//! Random draws have gaps of a known law.

use crate::options::Options;
use crate::ring::Entry;

/// Below so many children the discrete law is used; above, the triangular one is as good.
const DISCRETE_BELOW: u64 = 1000;

/// Probability of a gap of at most `gap` between two draws of `num_children`.
///
/// Two different ones have P(g = k) = 2 (N - k) / (N (N - 1)), so F(k) = k (2N - k - 1) / (N (N -
/// 1)); for many children F(x) = 2x/N - (x/N)^2, the triangular law.
fn law(gap: i64, num_children: u64) -> f64 {
    let (x, n) = ((gap.max(0) as f64).min(num_children as f64), num_children as f64);
    if num_children < DISCRETE_BELOW && num_children > 1 {
        (x * (2.0 * n - x - 1.0) / (n * (n - 1.0))).clamp(0.0, 1.0)
    } else {
        2.0 * x / n - (x / n) * (x / n)
    }
}

/// sup |F_n - F| for some gaps, which are sorted here.
pub fn ks_distance(gaps: &mut [u32], num_children: u64) -> f64 {
    gaps.sort_unstable();
    let n = gaps.len() as f64;
    let (mut distance, mut below) = (0.0f64, 0usize);
    while below < gaps.len() {
        let gap = gaps[below];
        let upto = below + gaps[below..].iter().take_while(|&&other| other == gap).count();
        // Just before the jump of F_n, and at it.
        let before = law(i64::from(gap) - 1, num_children);
        distance = distance.max((below as f64 / n - before).abs());
        distance = distance.max((upto as f64 / n - law(i64::from(gap), num_children)).abs());
        below = upto;
    }
    distance
}

/// D from which on the law is rejected: sqrt(-ln(alpha / 2) / 2) / sqrt(n).
pub fn ks_limit(num_gaps: usize, alpha: f64) -> f64 {
    (-0.5 * (alpha / 2.0).ln()).sqrt() / (num_gaps.max(1) as f64).sqrt()
}

/// Distance and limit for draws from ranks of `lowest` to `lowest + num_ranks`.
pub fn test(entries: &[Entry], lowest: u32, num_ranks: u64, options: &Options) -> (f64, f64) {
    let highest = u64::from(lowest) + num_ranks;
    let mut gaps: Vec<u32> = entries
        .windows(2)
        .filter(|pair| u64::from(pair[0].rank.max(pair[1].rank)) < highest)
        .map(|pair| pair[0].rank.abs_diff(pair[1].rank))
        .collect();
    (ks_distance(&mut gaps, num_ranks), ks_limit(gaps.len(), options.alpha))
}
