//! Shadows: how the cache would do with one expert alone, on a sample of the keys.
//!
//! A cache of C objects that sees all requests, and one of C·R objects that sees those to a part R
//! of the keys, have about the same hit ratio (Waldspurger et al., 2015 and 2017). So a client
//! runs a small cache of metadata for every expert, in its own memory, and learns from its own
//! requests what each would have hit, with all that follows from its choices. Nothing of it goes
//! over the network but the outcome. Of many clients, each sees part of the requests to a key; the
//! shadows then tell the truth as far as accesses are independent of each other.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::experts::{nominate, Candidate};
use super::metadata::Metadata;
use super::priority::{Priority, Scene};
use super::random::{mixed, Random};

/// Most objects of a shadow.
const OBJECTS: u64 = 512;
/// Objects that are looked at for one eviction.
const SAMPLE: usize = 16;

/// One expert, and the cache that follows it alone.
struct Shadow {
    expert: Box<dyn Priority>,
    objects: Vec<Metadata>,
    places: HashMap<u64, usize, BuildHasherDefault<Itself>>,
    history: HashMap<u64, (u64, Metadata), BuildHasherDefault<Itself>>,
    queue: VecDeque<(u64, u64)>,
    evictions: u64,
    sample: Vec<Candidate>,
    random: Random,
}

impl Shadow {
    fn new(expert: Box<dyn Priority>, seed: u64) -> Shadow {
        Shadow {
            expert,
            objects: Vec::new(),
            places: HashMap::default(),
            history: HashMap::default(),
            queue: VecDeque::new(),
            evictions: 0,
            sample: Vec::with_capacity(SAMPLE),
            random: Random(seed),
        }
    }

    /// A request; whether it hit.
    fn request(&mut self, object: &Metadata, now: u64, capacity: usize) -> bool {
        if let Some(&place) = self.places.get(&object.hash) {
            let known = &mut self.objects[place];
            let value = self.expert.value(known, now);
            *known = Metadata { value, ..known.touched(now) };
            return true;
        }
        while self.objects.len() >= capacity {
            self.evict(now, capacity);
        }
        let Metadata { hash, bytes, cost, .. } = *object;
        let ghost = self.history.remove(&hash);
        let new =
            Metadata::admitted(hash, (bytes, cost), now, ghost.as_ref().map(|known| &known.1));
        let new = Metadata { value: self.expert.value(&new, now), ..new };
        self.places.insert(hash, self.objects.len());
        self.objects.push(new);
        false
    }

    fn evict(&mut self, now: u64, capacity: usize) {
        self.sample.clear();
        for _ in 0..SAMPLE {
            let at = self.random.below(self.objects.len());
            self.sample.push(Candidate { at: at as u64, metadata: self.objects[at] });
        }
        let scene = Scene { now, objects: capacity as u64, evictions: self.evictions };
        self.expert.look(&self.sample, &scene);
        let (chosen, priority) = nominate(self.expert.as_ref(), &self.sample, now);
        let Candidate { at, metadata } = self.sample[chosen];
        self.expert.evicted(&metadata, priority, now);
        self.evictions += 1;
        self.objects.swap_remove(at as usize);
        self.places.remove(&metadata.hash);
        if let Some(moved) = self.objects.get(at as usize) {
            self.places.insert(moved.hash, at as usize);
        }
        self.history.insert(metadata.hash, (self.evictions, metadata));
        self.queue.push_back((metadata.hash, self.evictions));
        while self.queue.len() > capacity {
            let Some((hash, eviction)) = self.queue.pop_front() else { break };
            if self.history.get(&hash).is_some_and(|known| known.0 == eviction) {
                self.history.remove(&hash);
            }
        }
    }
}

/// A shadow for every expert.
pub struct Shadows {
    shadows: Vec<Shadow>,
}

impl Shadows {
    /// Of these experts, which are theirs alone.
    pub fn new(experts: Vec<Box<dyn Priority>>, seed: u64) -> Shadows {
        let shadow = |(seed, expert)| Shadow::new(expert, seed);
        Shadows { shadows: (seed..).zip(experts).map(shadow).collect() }
    }

    /// A request for an object of a cache of `objects` objects: the experts that would have had
    /// it. `None` if the key is not among those that shadows watch.
    pub fn request(&mut self, object: &Metadata, now: u64, objects: u64) -> Option<u8> {
        let capacity = objects.clamp(1, OBJECTS);
        let part = u128::from(mixed(object.hash)) * u128::from(objects.max(1));
        if part >> 64 >= u128::from(capacity) {
            return None;
        }
        let mut hits = 0;
        for (expert, shadow) in self.shadows.iter_mut().enumerate() {
            hits |= u8::from(shadow.request(object, now, capacity as usize)) << expert;
        }
        Some(hits)
    }
}

/// The hasher of keys that are hashes.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 << 8 | u64::from(byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use super::super::priority::Registry;
    use super::*;

    fn shadows(names: &[&str]) -> Shadows {
        let registry = Registry::standard();
        Shadows::new(names.iter().map(|name| registry.make(name).unwrap()).collect(), 5)
    }

    /// Requests of a loop over `keys` keys, to a cache of `objects` objects: hits of each of the
    /// experts, and how many requests were watched.
    fn play(shadows: &mut Shadows, keys: u64, rounds: u64, objects: u64) -> ([u64; 2], u64) {
        let (mut counts, mut watched) = ([0; 2], 0);
        for now in 0..rounds * keys {
            let object = Metadata::new(Random(now % keys).next(), now, 1, 1);
            if let Some(hits) = shadows.request(&object, now, objects) {
                watched += 1;
                counts.iter_mut().enumerate().for_each(|(at, count)| {
                    *count += u64::from(hits >> at & 1);
                });
            }
        }
        (counts, watched)
    }

    #[test]
    fn a_small_cache_is_shadowed_whole() {
        let mut shadows = shadows(&["lru", "mru"]);
        let ([lru, mru], watched) = play(&mut shadows, 120, 50, 100);
        assert!(lru < 300 && watched == 6000, "{lru}: of 16 objects, the oldest is seldom one");
        // The best that can be: all but 20 of 120, except in the first round.
        assert!(mru > 4300 && mru <= 49 * 100, "{mru}");
    }

    #[test]
    fn a_large_cache_is_sampled_and_bounded() {
        let (keys, objects) = (30_000, 25_000);
        let mut shadows = shadows(&["lru", "mru"]);
        let ([lru, mru], watched) = play(&mut shadows, keys, 4, objects);
        let part = watched as f64 / (4 * keys) as f64 / (OBJECTS as f64 / objects as f64);
        assert!((0.9..1.1).contains(&part), "{part} of the part that was meant to be watched");
        assert!(lru < watched / 50 && mru > watched / 2, "{lru} {mru} of {watched}");
        for shadow in &shadows.shadows {
            assert!(shadow.objects.len() as u64 <= OBJECTS);
            assert_eq!(shadow.places.len(), shadow.objects.len());
            assert!(shadow.queue.len() as u64 <= OBJECTS && shadow.history.len() as u64 <= OBJECTS);
        }
    }

    #[test]
    fn a_shadow_shrinks_with_its_cache() {
        let mut shadows = shadows(&["quick-demotion"]);
        play(&mut shadows, 300, 2, 200);
        assert_eq!(shadows.shadows[0].objects.len(), 200);
        play(&mut shadows, 300, 1, 50);
        assert_eq!(shadows.shadows[0].objects.len(), 50);
        play(&mut shadows, 3, 1, 0);
        assert_eq!(shadows.shadows[0].objects.len(), 1, "no cache is of no objects");
    }
}
