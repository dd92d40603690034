//! The choice of a victim: experts nominate, weights decide, misses teach.

use smallvec::SmallVec;

use super::judge::{Judge, MOST_EXPERTS, SHARED_WORDS};
use super::metadata::Metadata;
use super::priority::{Learning, Priority, Registry, Scene};
use super::random::Random;
use super::shadow::Shadows;
use super::weights::{self, Penalties, Weights};
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

/// How a client decides whom to follow.
enum Mind {
    /// Nobody learns: all are followed alike.
    Even,
    /// [`Learning::Shadows`].
    Shadows(Box<Shadows>, Judge),
    /// [`Learning::Regrets`].
    Regrets(Weights, Penalties),
}

/// One client's part of a cache's eviction: everything it decides, and nothing it reads or writes.
pub struct Policy {
    experts: Vec<Box<dyn Priority>>,
    mind: Mind,
    history: u64,
    scene: Scene,
    random: Random,
}

impl Policy {
    /// The policy of a cache with `history` history entries, and with the experts of these names,
    /// of which the first is followed until another one proves better. Without history nothing is
    /// learnt.
    pub fn new(names: &[&str], registry: &Registry, history: u64, seed: u64) -> Result<Policy> {
        let make = || names.iter().map(|name| registry.make(name)).collect::<Result<Vec<_>>>();
        let experts = make()?;
        let count = experts.len();
        if count == 0 || count > MOST_EXPERTS {
            let text = format!("{count} eviction algorithms: 1 to {MOST_EXPERTS} can be");
            return Err(PoolError::Invalid(text));
        }
        if experts.iter().filter(|expert| expert.keeps_value()).count() > 1 {
            let text = format!("of {names:?}, more than one keeps a number in every slot");
            return Err(PoolError::Invalid(text));
        }
        let mind = match registry.learning {
            _ if history == 0 || count == 1 => Mind::Even,
            Learning::Shadows => {
                Mind::Shadows(Box::new(Shadows::new(make()?, seed)), Judge::new(count))
            }
            Learning::Regrets => Mind::Regrets(Weights::equal(count), Penalties::default()),
        };
        let scene = Scene { objects: history.max(1), ..Scene::default() };
        Ok(Policy { experts, mind, history, scene, random: Random(seed) })
    }

    /// Tells how many objects the cache has when it is full, and how many evictions there were by
    /// all clients, as far as the caller knows.
    pub fn tell(&mut self, objects: u64, evictions: u64) {
        self.scene.objects = objects.max(1);
        self.scene.evictions = self.scene.evictions.max(evictions);
    }

    /// The metadata of an object that is inserted; `ghost` is what the history has of its key.
    pub fn admit(
        &mut self,
        hash: u64,
        size_and_cost: (u32, u32),
        now: u64,
        ghost: Option<&Ghost>,
    ) -> Metadata {
        if let (Some(ghost), Mind::Regrets(_, penalties)) = (ghost, &mut self.mind) {
            penalties.add(ghost.bitmap, weights::regret(ghost.depth, self.history));
        }
        let known = ghost.map(|ghost| &ghost.metadata);
        let object = Metadata::admitted(hash, size_and_cost, now, known);
        self.request(&object, now);
        Metadata { value: self.value(&object, now), ..object }
    }

    /// The metadata after a hit: the caller writes [`Metadata::pack_hit`] and adds the access.
    pub fn hit(&mut self, object: &Metadata, now: u64) -> Metadata {
        self.request(object, now);
        Metadata { value: self.value(object, now), ..object.touched(now) }
    }

    fn request(&mut self, object: &Metadata, now: u64) {
        if let Mind::Shadows(shadows, judge) = &mut self.mind {
            if let Some(hits) = shadows.request(object, now, self.scene.objects) {
                judge.add(hits);
            }
        }
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
        self.scene.now = now;
        self.scene.evictions += 1;
        match &self.mind {
            Mind::Shadows(_, judge) => Some(self.follow(judge.followed(), sample)),
            _ => Some(self.draw(sample)),
        }
    }

    fn follow(&mut self, expert: usize, sample: &[Candidate]) -> Victim {
        let (index, priority) = self.ask(expert, sample);
        let now = self.scene.now;
        self.experts[expert].evicted(&sample[index].metadata, priority, now);
        Victim { index, bitmap: 1 << expert }
    }

    fn ask(&mut self, expert: usize, sample: &[Candidate]) -> (usize, f64) {
        self.experts[expert].look(sample, &self.scene);
        nominate(self.experts[expert].as_ref(), sample, self.scene.now)
    }

    /// One of all experts' nominees, with P = 0.9·Σw + 0.1 / number of nominees.
    fn draw(&mut self, sample: &[Candidate]) -> Victim {
        let count = self.experts.len();
        let mut nominees = [(0, 0.0); MOST_EXPERTS];
        for expert in 0..count {
            nominees[expert] = self.ask(expert, sample);
        }
        let index = self.draw_among(&nominees[..count]);
        let mut bitmap = 0;
        for (number, expert) in self.experts.iter_mut().enumerate() {
            if nominees[number].0 == index {
                bitmap |= 1 << number;
                expert.evicted(&sample[index].metadata, nominees[number].1, self.scene.now);
            }
        }
        Victim { index, bitmap }
    }

    fn draw_among(&mut self, nominees: &[(usize, f64)]) -> usize {
        if self.random.unit() < BY_WEIGHT {
            let mut left = self.random.unit();
            for (nominee, weight) in nominees.iter().zip(self.parts()) {
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
        distinct[self.random.below(count)]
    }

    /// Whether [`Policy::merge`] is due.
    pub fn sync_is_due(&self) -> bool {
        match &self.mind {
            Mind::Even => false,
            Mind::Shadows(_, judge) => judge.is_due(),
            Mind::Regrets(_, penalties) => penalties.are_due(),
        }
    }

    /// What is to be put over the shared words, by CAS of each; they start as 0.
    pub fn merge(&self, shared: &[u64; SHARED_WORDS]) -> [u64; SHARED_WORDS] {
        match &self.mind {
            Mind::Even => *shared,
            Mind::Shadows(_, judge) => judge.merge(shared),
            Mind::Regrets(_, penalties) => weights::merge(shared, self.experts.len(), penalties),
        }
    }

    /// The shared words are these now, and have what this client had to add.
    pub fn adopt(&mut self, shared: &[u64; SHARED_WORDS]) {
        match &mut self.mind {
            Mind::Even => {}
            Mind::Shadows(_, judge) => judge.adopt(shared),
            Mind::Regrets(weights, penalties) => {
                *weights = Weights::unpack(shared, self.experts.len());
                *penalties = Penalties::default();
            }
        }
    }

    fn parts(&self) -> SmallVec<[f64; MOST_EXPERTS]> {
        match &self.mind {
            Mind::Even => Weights::equal(self.experts.len()).iter().collect(),
            Mind::Shadows(_, judge) => judge.parts().collect(),
            Mind::Regrets(weights, _) => weights.iter().collect(),
        }
    }

    /// Each expert's name and weight: with shadows, its part of the hits on which they differ.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f64)> {
        self.experts.iter().map(|expert| expert.name()).zip(self.parts())
    }
}

/// The expert's victim in the sample, and its priority.
pub(super) fn nominate(expert: &dyn Priority, sample: &[Candidate], now: u64) -> (usize, f64) {
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
