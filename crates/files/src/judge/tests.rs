//! The tests against slow twins, and against patterns whose verdict is known.

use proptest::prelude::*;

use super::gaps::{ks_distance, ks_limit};
use super::repeats::expected_repeats;
use super::*;
use crate::streams::Frontiers;

/// A small generator of even numbers below a bound (xorshift64*).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % u64::from(bound)) as u32
    }

    pub fn shuffled(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i as usize, self.below(i + 1) as usize);
        }
        order
    }
}

fn entries(ranks: &[u32], num_children: u64) -> Vec<Entry> {
    let (options, mut frontiers) = (Options::default(), Frontiers::default());
    let longest = step_that_tells(num_children, &options);
    let mut last = None;
    let mut found = Vec::new();
    for (i, &rank) in ranks.iter().enumerate() {
        let step = last.map_or(0, |last| i64::from(rank) - i64::from(last));
        last = Some(rank);
        found.push(Entry::new(rank, i as f32, step, frontiers.advance(rank, longest)));
    }
    found
}

fn verdict(ranks: &[u32], num_children: u64) -> Finding {
    let entries = entries(ranks, num_children);
    judge(Sample { entries: &entries, num_children, num_ranks: num_children }, &Options::default())
}

#[test]
fn scans_are_sequential() {
    let scan: Vec<u32> = (0..101).collect();
    assert_eq!(verdict(&scan, 1000).rule, Rule::Steps);
    let stride: Vec<u32> = (0..101).map(|i| i * 7).collect();
    assert_eq!(verdict(&stride, 1000).rule, Rule::Stride);
    let backwards: Vec<u32> = (0..101).rev().collect();
    assert_eq!(
        (verdict(&backwards, 1000).rule, verdict(&backwards, 1000).stride),
        (Rule::Stride, -1)
    );
    let four: Vec<u32> = (0..101).map(|i| i % 4 * 250 + i / 4).collect();
    assert_eq!(verdict(&four, 1000).rule, Rule::Frontiers);
    let sixteen: Vec<u32> = (0..101).map(|i| i % 16 * 62 + i / 16).collect();
    assert_eq!(verdict(&sixteen, 1000).verdict, Verdict::Sequential);
}

#[test]
fn a_scan_through_a_shuffle_buffer_is_sequential() {
    let mut dice = Dice(7);
    let mut buffer: Vec<u32> = (0..64).collect();
    let read: Vec<u32> = (64..165)
        .map(|next| std::mem::replace(&mut buffer[dice.below(64) as usize], next))
        .collect();
    assert_eq!(verdict(&read, 1000).rule, Rule::Buffered);
}

#[test]
fn shuffles_are_random_whatever_their_size() {
    let mut dice = Dice(3);
    for n in [20u32, 64, 168, 1000, 100_000] {
        let mut wrong = 0;
        for _ in 0..100 {
            let ranks: Vec<u32> = dice.shuffled(n).into_iter().take(101).collect();
            wrong += u32::from(verdict(&ranks, u64::from(n)).verdict != Verdict::Random);
        }
        assert!(wrong <= 4, "{wrong} of 100 shuffles of {n} are not random");
    }
}

#[test]
fn a_shuffle_of_a_part_is_random() {
    let mut dice = Dice(5);
    let ranks: Vec<u32> = dice.shuffled(300).into_iter().take(101).map(|r| r + 500).collect();
    let finding = verdict(&ranks, 1000);
    assert_eq!((finding.verdict, finding.rule), (Verdict::Random, Rule::GapsOfPart));
}

#[test]
fn scattered_hot_names_are_seen_by_their_repeats_alone() {
    let mut dice = Dice(11);
    let places = dice.shuffled(1000);
    // Half of the accesses go to 20 names.
    let ranks: Vec<u32> = (0..101)
        .map(|_| {
            let bound = if dice.below(2) == 0 { 20 } else { 1000 };
            places[dice.below(bound) as usize]
        })
        .collect();
    assert_eq!(verdict(&ranks, 1000).rule, Rule::Repeats);
    let entries = entries(&ranks, 1000);
    let blind = Options { tests_repeats: false, ..Options::default() };
    let sample = Sample { entries: &entries, num_children: 1000, num_ranks: 1000 };
    assert_eq!(judge(sample, &blind).verdict, Verdict::Random);
}

#[test]
fn hot_names_beside_each_other_are_no_scans() {
    let mut dice = Dice(13);
    let ranks: Vec<u32> = (0..101).map(|_| dice.below(24)).collect();
    assert_eq!(verdict(&ranks, 1000).verdict, Verdict::Skewed);
}

#[test]
fn little_says_nothing() {
    assert_eq!(verdict(&[0, 1, 2, 3, 4, 5, 6], 100).verdict, Verdict::Unknown);
    assert_eq!(verdict(&[0, 1, 2, 3, 4, 0, 1, 2, 3, 4], 5).verdict, Verdict::Unknown);
}

fn slow_distance(gaps: &[u32], n: u64) -> f64 {
    // Every possible gap, by counting all pairs of different draws.
    let pairs = (n * (n - 1)) as f64;
    (0..n as u32)
        .map(|k| {
            let below = gaps.iter().filter(|&&gap| gap <= k).count() as f64 / gaps.len() as f64;
            let all: f64 = (1..=u64::from(k)).map(|g| 2.0 * (n - g) as f64).sum();
            (below - all / pairs).abs()
        })
        .fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn the_distance_is_that_of_a_slow_twin(
        n in 8u64..200,
        draws in prop::collection::vec(any::<u32>(), 2..130),
    ) {
        let mut gaps: Vec<u32> = draws.iter().map(|draw| draw % n as u32).collect();
        let slow = slow_distance(&gaps, n);
        prop_assert!((ks_distance(&mut gaps, n) - slow).abs() < 1e-9);
    }

    #[test]
    fn repeats_are_those_of_a_slow_twin(n in 2u64..500, m in 2usize..200) {
        // The expected number of distinct draws, one draw after another.
        let mut distinct = 0.0;
        for _ in 0..m {
            distinct += 1.0 - distinct / n as f64;
        }
        let slow = 1.0 - distinct / m as f64;
        prop_assert!((expected_repeats(n, m) - slow).abs() < 1e-9);
    }

    #[test]
    fn anything_can_be_judged(
        n in 0u64..3000,
        draws in prop::collection::vec(any::<u32>(), 0..140),
    ) {
        let ranks: Vec<u32> = draws.iter().map(|draw| draw % n.max(1) as u32).collect();
        let finding = verdict(&ranks, n);
        prop_assert!(finding.ks_distance.is_finite() && finding.repeats_limit.is_finite());
        prop_assert!(finding.frontier_share <= 1.0 && finding.step_share <= 1.0);
    }
}

#[test]
fn the_limit_is_the_published_one() {
    assert!((ks_limit(100, 0.01) - 0.163).abs() < 5e-4);
}
