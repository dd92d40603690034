//! A slow and simple cache that follows a policy, and traces on which policies differ.

use std::collections::HashMap;

use super::{Candidate, Ghost, Metadata, Policy, Random, Registry, SHARED_WORDS};

/// Objects that are looked at for one eviction.
const SAMPLE: usize = 32;

/// The requests of `trace` that hit in a cache of `capacity` objects.
pub fn hits(names: &[&str], registry: &Registry, trace: &[u64], capacity: usize) -> usize {
    let mut policy = Policy::new(names, registry, capacity as u64, 1).unwrap();
    let mut random = Random(2);
    let mut objects: Vec<Metadata> = Vec::new();
    let mut places = HashMap::<u64, usize>::new();
    let mut history = HashMap::<u64, (u64, Metadata, u8)>::new();
    let (mut evictions, mut hits, mut shared) = (0, 0, [0; SHARED_WORDS]);
    for (&key, now) in trace.iter().zip(1..) {
        let hash = Random(key).next();
        if let Some(&place) = places.get(&hash) {
            objects[place] = policy.hit(&objects[place], now);
            hits += 1;
            continue;
        }
        let ghost = history.remove(&hash).map(|(number, metadata, bitmap)| {
            let depth = evictions - number;
            Ghost { metadata, bitmap, depth }
        });
        let ghost = ghost.filter(|ghost| ghost.depth < capacity as u64);
        let new = policy.admit(hash, (1, 1), now, ghost.as_ref());
        if objects.len() == capacity {
            let draw = |_| {
                let at = random.below(capacity);
                Candidate { at: at as u64, metadata: objects[at] }
            };
            let sample: Vec<_> = (0..SAMPLE).map(draw).collect();
            let victim = policy.choose(&sample, now).unwrap();
            let Candidate { at, metadata } = sample[victim.index];
            objects.swap_remove(at as usize);
            places.remove(&metadata.hash);
            if let Some(moved) = objects.get(at as usize) {
                places.insert(moved.hash, at as usize);
            }
            evictions += 1;
            history.insert(metadata.hash, (evictions, metadata, victim.bitmap));
        }
        places.insert(hash, objects.len());
        objects.push(new);
        if policy.sync_is_due() {
            shared = policy.merge(&shared);
            policy.adopt(&shared);
        }
    }
    hits
}

/// Keys by Zipf's law (exponent 1), of which `part` of the requests are replaced by a scan.
pub fn skewed(keys: u64, length: usize, part: f64, seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut scanned = 1 << 32;
    let request = |_| {
        if random.unit() < part {
            scanned += 1;
            return scanned;
        }
        (keys as f64).powf(random.unit()) as u64
    };
    (0..length).map(request).collect()
}

/// Requests for the same keys again and again, in order.
pub fn looped(keys: u64, length: usize) -> Vec<u64> {
    (0..length as u64).map(|at| at % keys).collect()
}

/// Working sets that follow each other, then a hot set among the keys of a long loop, and so on:
/// what suits LRU and what suits LFU.
pub fn phases(working_set: u64, length: usize, num_phases: u64, seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut trace = Vec::new();
    for phase in 0..num_phases {
        for at in 0..length as u64 {
            let set = at * 5 / length as u64;
            let any = random.below(working_set as usize) as u64;
            let key = match (phase % 2, random.unit() < 0.4) {
                (0, _) => (phase * 5 + set) << 20 | any,
                (_, true) => (phase * 5) << 20 | any,
                _ => (1 << 40) + at % (7 * working_set),
            };
            trace.push(key);
        }
    }
    trace
}
