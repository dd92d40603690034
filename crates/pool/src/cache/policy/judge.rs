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
const AHEAD: f64 = 1.5;

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
