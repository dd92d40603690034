//! The random numbers of sampling: a function of (seed, step), so that nothing has to be kept.

/// SplitMix64's increment, 2^64 over the golden ratio.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Number `step` of the SplitMix64 stream that starts at the mixed `seed`, in [0, 1).
///
/// The seed is mixed first because streams of neighbouring states are the same numbers, shifted.
pub(super) fn uniform(seed: u64, step: u64) -> f64 {
    let start = mix(seed.wrapping_add(INCREMENT));
    let bits = mix(start.wrapping_add(step.wrapping_add(1).wrapping_mul(INCREMENT)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_seeds_and_steps_are_spread_evenly() {
        let mut counts = [[0u32; 16]; 2];
        for seed in 0..400 {
            for step in 0..400 {
                let value = uniform(seed, step);
                counts[0][(value * 16.0) as usize] += 1;
                let sum = (value + uniform(seed + 1, step)).fract();
                counts[1][(sum * 16.0) as usize] += 1;
            }
        }
        for counts in counts {
            let chi_square: f64 =
                counts.iter().map(|&count| (f64::from(count) - 1e4).powi(2) / 1e4).sum();
            assert!(chi_square < 37.7, "chi-square with 15 degrees of freedom: {chi_square}");
        }
    }
}
