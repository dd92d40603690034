//! Who did best so far: counts that clients add up, and a test that tells merit from luck.

/// Most experts of one cache: bits of a history entry's bitmap.
pub const MOST_EXPERTS: usize = 8;
/// Words of what all clients share.
pub const SHARED_WORDS: usize = MOST_EXPERTS / 4;
/// News after which they are merged into what all share.
pub const LAZY: u64 = 100;

/// Counts beyond which all are halved, so that the past fades.
const MOST: u64 = 2048;
/// By how many standard deviations another expert must be ahead to be followed.
const AHEAD: f64 = 1.0;

/// Hits of every expert, among the requests on which experts differed.
///
/// Two experts' difference over its standard deviation is McNemar's test statistic: requests on
/// which both hit or both missed say nothing about which of them is better.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judge {
    shared: [u64; MOST_EXPERTS],
    news: [u64; MOST_EXPERTS],
    followed: usize,
    experts: usize,
}

impl Judge {
    /// Of so many experts, the first of which is followed at first.
    pub fn new(experts: usize) -> Judge {
        Judge { experts: experts.clamp(1, MOST_EXPERTS), ..Judge::default() }
    }

    /// A request that the experts in `hits` would have served from the cache.
    pub fn add(&mut self, hits: u8) {
        let all = ((1u16 << self.experts) - 1) as u8;
        if hits & all == 0 || hits & all == all {
            return;
        }
        for (expert, count) in self.news.iter_mut().enumerate().take(self.experts) {
            *count += u64::from(hits >> expert & 1);
        }
        self.reconsider();
    }

    /// The expert to follow.
    pub fn followed(&self) -> usize {
        self.followed
    }

    fn count(&self, expert: usize) -> f64 {
        (self.shared[expert] + self.news[expert]) as f64
    }

    fn reconsider(&mut self) {
        let mine = self.count(self.followed);
        let mut most = AHEAD;
        for expert in 0..self.experts {
            let other = self.count(expert);
            let ahead = (other - mine) / (other + mine).sqrt().max(1.0);
            if ahead > most {
                (most, self.followed) = (ahead, expert);
            }
        }
    }

    /// Each expert's part of the counts.
    pub fn parts(&self) -> impl Iterator<Item = f64> + '_ {
        let sum: f64 = (0..self.experts).map(|expert| self.count(expert) + 1.0).sum();
        (0..self.experts).map(move |expert| (self.count(expert) + 1.0) / sum)
    }

    /// Whether [`Judge::merge`] is due.
    pub fn is_due(&self) -> bool {
        self.news.iter().sum::<u64>() >= LAZY
    }

    /// The shared words with this client's news.
    pub fn merge(&self, words: &[u64; SHARED_WORDS]) -> [u64; SHARED_WORDS] {
        let mut counts = unpack(words);
        for (count, news) in counts.iter_mut().zip(self.news) {
            *count += news;
        }
        while counts.iter().sum::<u64>() > MOST {
            counts.iter_mut().for_each(|count| *count /= 2);
        }
        pack(&counts)
    }

    /// The shared words are these now, and have this client's news.
    pub fn adopt(&mut self, words: &[u64; SHARED_WORDS]) {
        self.shared = unpack(words);
        self.news = Default::default();
        self.reconsider();
    }
}

/// Counts of 16 bits, four a word.
fn pack(counts: &[u64; MOST_EXPERTS]) -> [u64; SHARED_WORDS] {
    let mut words = [0; SHARED_WORDS];
    for (expert, count) in counts.iter().enumerate() {
        words[expert / 4] |= (*count).min(u64::from(u16::MAX)) << (expert % 4 * 16);
    }
    words
}

fn unpack(words: &[u64; SHARED_WORDS]) -> [u64; MOST_EXPERTS] {
    std::array::from_fn(|expert| u64::from((words[expert / 4] >> (expert % 4 * 16)) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_differences_count() {
        let mut judge = Judge::new(2);
        (0..1000).for_each(|at| judge.add(if at % 2 == 0 { 0b11 } else { 0b00 }));
        assert!(!judge.is_due());
        assert_eq!(judge.parts().collect::<Vec<_>>(), [0.5, 0.5]);
    }

    #[test]
    fn the_one_that_is_clearly_ahead_is_followed() {
        let mut judge = Judge::new(3);
        for _ in 0..50 {
            judge.add(0b001);
            judge.add(0b010);
        }
        assert_eq!(judge.followed(), 0, "as good as the second");
        (0..9).for_each(|_| judge.add(0b010));
        assert_eq!(judge.followed(), 0, "9 of 109 are 0.86 deviations");
        (0..3).for_each(|_| judge.add(0b010));
        assert_eq!(judge.followed(), 1, "12 of 112 are 1.13");
        (0..16).for_each(|_| judge.add(0b001));
        assert_eq!(judge.followed(), 1, "and nobody else is, for less");
    }

    #[test]
    fn clients_add_up_what_they_know() {
        let (mut one, mut two) = (Judge::new(2), Judge::new(2));
        (0..60).for_each(|_| one.add(0b01));
        (0..100).for_each(|_| two.add(0b10));
        assert!(!one.is_due() && two.is_due());
        let words = two.merge(&one.merge(&[0; SHARED_WORDS]));
        assert_eq!(words, one.merge(&two.merge(&[0; SHARED_WORDS])));
        one.adopt(&words);
        assert_eq!((one.followed(), one.is_due()), (1, false));
        assert_eq!(one.merge(&words), words, "nothing is told twice");
    }

    #[test]
    fn the_past_fades() {
        let mut judge = Judge::new(2);
        let mut words = [0; SHARED_WORDS];
        let mut live = |judge: &mut Judge, hits: u8, requests: u64| {
            for _ in 0..requests {
                judge.add(hits);
                if judge.is_due() {
                    words = judge.merge(&words);
                    judge.adopt(&words);
                }
            }
        };
        live(&mut judge, 0b01, 1_000_000);
        assert!(judge.shared.iter().sum::<u64>() <= MOST);
        live(&mut judge, 0b10, 2 * MOST);
        assert_eq!(judge.followed(), 1);
    }

    proptest! {
        #[test]
        fn garbage_in_the_pool_is_some_judgement(
            words in any::<[u64; SHARED_WORDS]>(), experts in 0usize..12,
            news in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut judge = Judge::new(experts);
            judge.adopt(&words);
            news.into_iter().for_each(|hits| judge.add(hits));
            let words = judge.merge(&words);
            judge.adopt(&words);
            prop_assert!(judge.followed() < experts.clamp(1, MOST_EXPERTS));
            prop_assert!((judge.parts().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(unpack(&words).iter().sum::<u64>() <= MOST);
        }
    }
}
