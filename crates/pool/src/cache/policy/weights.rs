//! The experts' weights: LeCaR's arithmetic (Vietri et al., 2018) as Ditto spreads it over clients.

use super::judge::{LAZY, MOST_EXPERTS, SHARED_WORDS};

const LEARNING_RATE: f64 = 0.1;
/// What a regret at the far end of the history still counts.
const LEAST_REGRET: f64 = 0.005;
const BOUNDS: (f64, f64) = (0.01, 0.99);

/// How wrong it was to evict an object that is missed `depth` evictions later, between -1 (at
/// once) and -0.005 (at the end of a history of `history` entries).
pub fn regret(depth: u64, history: u64) -> f64 {
    -LEAST_REGRET.powf(depth as f64 / history.max(1) as f64)
}

/// The weights of a cache's experts: they are at least 0.01 before they are made to sum up to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    weights: Vec<f64>,
}

impl Weights {
    /// The same weight for each of `experts`, at most [`MOST_EXPERTS`].
    pub fn equal(experts: usize) -> Weights {
        let experts = experts.clamp(1, MOST_EXPERTS);
        Weights { weights: vec![1.0 / experts as f64; experts] }
    }

    /// Each expert's.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        self.weights.iter().copied()
    }

    /// The weights after `penalties`, a sum of regrets for each expert: w ← w·e^(0.1·r),
    /// clipped and normalised.
    pub fn punished(&self, penalties: &Penalties) -> Weights {
        let punish = |(expert, weight): (usize, f64)| {
            let new = weight * (LEARNING_RATE * penalties.sums[expert]).exp();
            if new.is_nan() {
                BOUNDS.0
            } else {
                new.clamp(BOUNDS.0, BOUNDS.1)
            }
        };
        Weights::normalised(self.iter().enumerate().map(punish).collect())
    }

    fn normalised(weights: Vec<f64>) -> Weights {
        let sum: f64 = weights.iter().sum();
        Weights { weights: weights.into_iter().map(|weight| weight / sum).collect() }
    }

    /// As words in the pool, four weights of 16 bits each.
    pub fn pack(&self) -> [u64; SHARED_WORDS] {
        let mut words = [0; SHARED_WORDS];
        for (expert, weight) in self.iter().enumerate() {
            let fixed = (weight * f64::from(u16::MAX)).round() as u64;
            words[expert / 4] |= fixed << (expert % 4 * 16);
        }
        words
    }

    /// Of words in the pool, whatever they are; all 0 is equal weights.
    pub fn unpack(words: &[u64; SHARED_WORDS], experts: usize) -> Weights {
        let experts = experts.clamp(1, MOST_EXPERTS);
        let weight = |expert: usize| (words[expert / 4] >> (expert % 4 * 16)) as u16;
        if (0..experts).all(|expert| weight(expert) == 0) {
            return Weights::equal(experts);
        }
        let clip = |expert| (f64::from(weight(expert)) / f64::from(u16::MAX)).max(BOUNDS.0);
        Weights::normalised((0..experts).map(clip).collect())
    }
}

/// Regrets that the shared weights do not have yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalties {
    sums: [f64; MOST_EXPERTS],
    count: u64,
}

impl Penalties {
    /// Adds a regret of every expert in `bitmap`.
    pub fn add(&mut self, bitmap: u8, regret: f64) {
        for (expert, sum) in self.sums.iter_mut().enumerate() {
            if bitmap >> expert & 1 == 1 {
                *sum += regret;
            }
        }
        self.count += 1;
    }

    /// Whether there are enough of them to be worth an update of the shared weights.
    pub fn are_due(&self) -> bool {
        self.count >= LAZY
    }
}

/// The shared words after one client's penalties: what its CAS writes over `shared`.
pub fn merge(
    shared: &[u64; SHARED_WORDS],
    experts: usize,
    penalties: &Penalties,
) -> [u64; SHARED_WORDS] {
    Weights::unpack(shared, experts).punished(penalties).pack()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(weights: &Weights, expected: &[f64]) {
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-4, "{weights:?} {expected:?}");
        }
    }

    #[test]
    fn regrets_fade_over_the_history() {
        assert_eq!(regret(0, 1000), -1.0);
        assert!((regret(1000, 1000) + 0.005).abs() < 1e-12);
        assert!((regret(500, 1000) + 0.005f64.sqrt()).abs() < 1e-12);
        assert_eq!(regret(1, 0), regret(1, 1), "no history: no division by zero");
    }

    #[test]
    fn penalties_are_ditto_s_arithmetic() {
        let mut penalties = Penalties::default();
        penalties.add(0b01, -1.0);
        let once = 0.5 * (-0.1f64).exp();
        near(&Weights::equal(2).punished(&penalties), &[once / (once + 0.5), 0.5 / (once + 0.5)]);
        penalties.add(0b11, -0.5);
        let both = [0.5 * (-0.15f64).exp(), 0.5 * (-0.05f64).exp()];
        let sum = both[0] + both[1];
        near(&Weights::equal(2).punished(&penalties), &[both[0] / sum, both[1] / sum]);
    }

    #[test]
    fn weights_stay_within_their_bounds_and_recover() {
        let mut penalties = Penalties::default();
        for _ in 0..LAZY {
            assert!(!penalties.are_due());
            penalties.add(0b10, -1.0);
        }
        assert!(penalties.are_due());
        let mut shared = [0; SHARED_WORDS];
        for _ in 0..5 {
            shared = merge(&shared, 2, &penalties);
        }
        let low = 0.01 / (0.99 + 0.01);
        near(&Weights::unpack(&shared, 2), &[1.0 - low, low]);
        let mut others = Penalties::default();
        (0..LAZY).for_each(|_| others.add(0b01, -1.0));
        shared = merge(&shared, 2, &others);
        near(&Weights::unpack(&shared, 2), &[0.5, 0.5]);
        let low = 0.01 / (0.5 + 0.01);
        near(&Weights::unpack(&merge(&shared, 2, &others), 2), &[low, 1.0 - low]);
    }

    proptest! {
        #[test]
        fn garbage_in_the_pool_gives_weights(
            shared in any::<[u64; SHARED_WORDS]>(), experts in 0usize..12,
            bitmap in any::<u8>(), regret in -1e300f64..0.0,
        ) {
            let mut penalties = Penalties::default();
            penalties.add(bitmap, regret);
            let weights = Weights::unpack(&merge(&shared, experts, &penalties), experts);
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(weights.iter().all(|weight| (0.001..=1.0).contains(&weight)));
        }

        #[test]
        fn two_clients_penalties_commute(first in 0u64..60, second in 0u64..60) {
            let of = |bitmap, count| {
                let mut penalties = Penalties::default();
                (0..count).for_each(|_| penalties.add(bitmap, -0.2));
                penalties
            };
            let (a, b) = (of(0b01, first), of(0b10, second));
            let zero = [0; SHARED_WORDS];
            let ab = Weights::unpack(&merge(&merge(&zero, 2, &a), 2, &b), 2);
            let ba = Weights::unpack(&merge(&merge(&zero, 2, &b), 2, &a), 2);
            let differences = ab.iter().zip(ba.iter()).map(|(ab, ba)| (ab - ba).abs());
            prop_assert!(differences.fold(0.0, f64::max) < 1e-3);
        }
    }
}
