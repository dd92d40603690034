//! The choice of a victim: experts nominate, weights decide, misses teach.

use super::metadata::Metadata;
use super::priority::{Priority, Registry};
use super::weights::{self, Penalties, Weights, MOST_EXPERTS, SHARED_WORDS};
use crate::error::{PoolError, Result};

/// Probability of a victim: this share by weight, the rest spread evenly over the nominees.
const BY_WEIGHT: f64 = 0.9;

/// An object that may be evicted.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which one it is: its slot's address.
    pub at: u64,
    /// What its slot says.
    pub metadata: Metadata,
}

/// Which candidate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its place in the sample.
    pub index: usize,
    /// The experts that nominated it, for its history entry.
    pub bitmap: u8,
}

/// What the history knows of a key that is missed.
#[derive(Clone, Copy, Debug)]
pub struct Ghost {
    /// The metadata at eviction.
    pub metadata: Metadata,
    /// The experts that wanted the eviction.
    pub bitmap: u8,
    /// How many evictions ago that was.
    pub depth: u64,
}

/// One client's part of a cache's eviction: everything it decides, and nothing it reads or writes.
pub struct Policy {
    experts: Vec<Box<dyn Priority>>,
    weights: Weights,
    penalties: Penalties,
    history: u64,
    random: Random,
}

impl Policy {
    /// The policy of a cache with `history` history entries, and with the experts of these names.
    pub fn new(names: &[&str], registry: &Registry, history: u64, seed: u64) -> Result<Policy> {
        let experts = names.iter().map(|name| registry.make(name)).collect::<Result<Vec<_>>>()?;
        if experts.is_empty() || experts.len() > MOST_EXPERTS {
            let text = format!("{} eviction algorithms: 1 to {MOST_EXPERTS} can be", names.len());
            return Err(PoolError::Invalid(text));
        }
        if experts.iter().filter(|expert| expert.keeps_value()).count() > 1 {
            let text = format!("of {names:?}, more than one keeps a number in every slot");
            return Err(PoolError::Invalid(text));
        }
        let weights = Weights::equal(experts.len());
        let random = Random(seed);
        Ok(Policy { experts, weights, penalties: Penalties::default(), history, random })
    }

    /// The metadata of an object that is inserted; `ghost` is what the history has of its key.
    pub fn admit(
        &mut self,
        hash: u64,
        (bytes, cost): (u32, u32),
        now: u64,
        ghost: Option<&Ghost>,
    ) -> Metadata {
        if let Some(ghost) = ghost {
            self.penalties.add(ghost.bitmap, weights::regret(ghost.depth, self.history));
        }
        let object = Metadata::new(hash, now, bytes, cost);
        Metadata { value: self.value(&object, now), ..object }
    }

    /// The metadata after a hit: the caller writes [`Metadata::pack_hit`] and adds the access.
    pub fn hit(&self, object: &Metadata, now: u64) -> Metadata {
        Metadata { value: self.value(object, now), ..object.touched(now) }
    }

    fn value(&self, object: &Metadata, now: u64) -> f32 {
        let keeper = self.experts.iter().find(|expert| expert.keeps_value());
        keeper.map_or(0.0, |expert| expert.value(object, now))
    }

    /// Who goes; `None` only of nobody. If the eviction fails, nothing needs to be undone.
    pub fn choose(&mut self, sample: &[Candidate], now: u64) -> Option<Victim> {
        if sample.is_empty() {
            return None;
        }
        let mut nominees = [(0, 0.0); MOST_EXPERTS];
        for (nominee, expert) in nominees.iter_mut().zip(&self.experts) {
            *nominee = nominate(expert.as_ref(), sample, now);
        }
        let nominees = &nominees[..self.experts.len()];
        let index = self.draw(nominees);
        let mut bitmap = 0;
        for (number, expert) in self.experts.iter_mut().enumerate() {
            if nominees[number].0 == index {
                bitmap |= 1 << number;
                expert.evicted(nominees[number].1);
            }
        }
        Some(Victim { index, bitmap })
    }

    /// One of the nominees, with P = 0.9·Σw + 0.1 / number of nominees.
    fn draw(&mut self, nominees: &[(usize, f64)]) -> usize {
        if self.random.unit() < BY_WEIGHT {
            let mut left = self.random.unit();
            for (nominee, weight) in nominees.iter().zip(self.weights.iter()) {
                left -= weight;
                if left < 0.0 {
                    return nominee.0;
                }
            }
            return nominees[nominees.len() - 1].0;
        }
        let mut distinct = [0; MOST_EXPERTS];
        let mut count = 0;
        for &(index, _) in nominees {
            if !distinct[..count].contains(&index) {
                distinct[count] = index;
                count += 1;
            }
        }
        distinct[(self.random.next() % count as u64) as usize]
    }

    /// Whether [`Policy::merge`] is due.
    pub fn sync_is_due(&self) -> bool {
        self.penalties.are_due()
    }

    /// What is to be put over the shared words, by CAS of each; they start as 0.
    pub fn merge(&self, shared: &[u64; SHARED_WORDS]) -> [u64; SHARED_WORDS] {
        weights::merge(shared, self.experts.len(), &self.penalties)
    }

    /// The shared words are these now, and have what this client had to add.
    pub fn adopt(&mut self, shared: &[u64; SHARED_WORDS]) {
        self.weights = Weights::unpack(shared, self.experts.len());
        self.penalties = Penalties::default();
    }

    /// Each expert's name and weight.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f64)> {
        self.experts.iter().map(|expert| expert.name()).zip(self.weights.iter())
    }
}

/// The expert's victim in the sample, and its priority.
fn nominate(expert: &dyn Priority, sample: &[Candidate], now: u64) -> (usize, f64) {
    let mut least = (0, f64::INFINITY, u64::MAX);
    for (index, candidate) in sample.iter().enumerate() {
        let priority = match expert.priority(&candidate.metadata, now) {
            number if number.is_nan() => f64::NEG_INFINITY,
            number => number,
        };
        if (priority, candidate.metadata.last) < (least.1, least.2) {
            least = (index, priority, candidate.metadata.last);
        }
    }
    (least.0, least.1)
}

/// A source of chance whose whole state is one word (splitmix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
