//! Every algorithm against its textbook definition, on a small cache of which all is sampled.

use super::*;
use model::{hits, looped, phases, skewed};

/// What a reference knows of an object: everything.
struct Object {
    key: u64,
    accesses: Vec<u64>,
    bytes: u32,
    cost: u32,
    /// GreedyDual's and LFUDA's H, in full precision.
    h: f64,
}

impl Object {
    fn last(&self) -> u64 {
        *self.accesses.last().unwrap()
    }
    fn freq(&self) -> f64 {
        self.accesses.len() as f64
    }
    fn density(&self) -> f64 {
        f64::from(self.cost) / f64::from(self.bytes)
    }
    fn second_last(&self) -> Option<u64> {
        self.accesses.len().checked_sub(2).map(|at| self.accesses[at])
    }
}

/// What an access makes of H, and what is evicted: the object with the least of this.
struct Reference {
    h: fn(&Object, f64) -> f64,
    worth: fn(&Object, u64) -> f64,
}

const HALF_LIFE: f64 = 40.0;

fn reference(name: &str) -> Reference {
    let worth: fn(&Object, u64) -> f64 = match name {
        "lru" => |object, _| object.last() as f64,
        "mru" => |object, _| -(object.last() as f64),
        "fifo" => |object, _| object.accesses[0] as f64,
        "lfu" => |object, _| object.freq(),
        "lfuda" | "gds" | "gdsf" => |object, _| object.h,
        "size" => |object, _| -f64::from(object.bytes),
        "lru-2" => |object, _| object.second_last().map_or(-1.0, |at| at as f64),
        "lrfu" => |object, now| {
            object.accesses.iter().map(|&at| (-((now - at) as f64) / HALF_LIFE).exp2()).sum()
        },
        "lirs" => |object, now| match object.second_last() {
            None => f64::NEG_INFINITY,
            Some(at) => -((object.last() - at).max(now - object.last()) as f64),
        },
        "hyperbolic" => |object, now| object.freq() / (now - object.accesses[0] + 1) as f64,
        other => panic!("no textbook definition of {other}"),
    };
    let h: fn(&Object, f64) -> f64 = match name {
        "lfuda" => |object, inflation| inflation + object.freq(),
        "gds" => |object, inflation| inflation + object.density(),
        "gdsf" => |object, inflation| inflation + object.freq() * object.density(),
        _ => |_, _| 0.0,
    };
    Reference { h, worth }
}

/// Sizes and costs are such that sums of their quotients are exact in 24 bits.
fn bytes_and_cost(key: u64) -> (u32, u32) {
    let bits = Random(key).next();
    (1 << (bits % 5), 1 + (bits >> 8) as u32 % 100)
}

/// The keys that the textbook evicts from a cache of `capacity` objects.
fn textbook(name: &str, trace: &[u64], capacity: usize) -> Vec<u64> {
    let Reference { h, worth } = reference(name);
    let (mut cache, mut evicted, mut inflation) = (Vec::<Object>::new(), Vec::new(), 0.0);
    for (now, &key) in trace.iter().enumerate() {
        let now = now as u64 + 1;
        let place = cache.iter().position(|object| object.key == key).unwrap_or_else(|| {
            if cache.len() == capacity {
                let least = (0..capacity).min_by(|&a, &b| {
                    let of = |at: usize| (worth(&cache[at], now), cache[at].last());
                    of(a).partial_cmp(&of(b)).unwrap()
                });
                let gone = cache.swap_remove(least.unwrap());
                inflation = gone.h;
                evicted.push(gone.key);
            }
            let (bytes, cost) = bytes_and_cost(key);
            cache.push(Object { key, accesses: Vec::new(), bytes, cost, h: 0.0 });
            cache.len() - 1
        });
        cache[place].accesses.push(now);
        cache[place].h = h(&cache[place], inflation);
    }
    evicted
}

/// The same of a policy that sees everything; metadata goes through its words every time.
fn sampled(policy: &mut Policy, trace: &[u64], capacity: usize) -> Vec<u64> {
    let (mut cache, mut evicted) = (Vec::<[u64; metadata::WORDS]>::new(), Vec::new());
    for (now, &key) in trace.iter().enumerate() {
        let now = now as u64 + 1;
        if let Some(words) = cache.iter_mut().find(|words| words[metadata::HASH] == key) {
            let hit = policy.hit(&Metadata::unpack(*words), now).pack_hit();
            words[metadata::LAST..metadata::FREQ].copy_from_slice(&hit);
            words[metadata::FREQ] += metadata::ACCESS;
            continue;
        }
        if cache.len() == capacity {
            let candidate =
                |(at, &words)| Candidate { at: at as u64, metadata: Metadata::unpack(words) };
            let sample: Vec<_> = cache.iter().enumerate().map(candidate).collect();
            let victim = policy.choose(&sample, now).unwrap();
            evicted.push(cache.swap_remove(victim.index)[metadata::HASH]);
        }
        cache.push(policy.admit(key, bytes_and_cost(key), now, None).pack());
    }
    evicted
}

/// Keys of which some are asked for far more often, and loops.
fn trace(seed: u64, length: usize) -> Vec<u64> {
    let mut random = Random(seed);
    let key = |at: usize| match random.next() % 4 {
        0 => at as u64 % 37,
        1 => random.next() % 100,
        _ => random.next() % (1 + random.next() % 60),
    };
    (0..length).map(key).collect()
}

fn registry() -> Registry {
    let mut registry = Registry::standard();
    registry.register("lrfu", || Box::new(reuse::Lrfu::new(HALF_LIFE)));
    registry
}

#[test]
fn every_algorithm_evicts_what_its_definition_says() {
    for name in ["lru", "mru", "fifo", "lfu", "lfuda", "gds", "gdsf", "size", "lru-2", "lrfu"]
        .into_iter()
        .chain(["lirs", "hyperbolic"])
    {
        for (seed, capacity) in [(1, 5), (2, 20), (3, 32)] {
            let trace = trace(seed, 1500);
            let mut policy = Policy::new(&[name], &registry(), 100, seed).unwrap();
            let evicted = sampled(&mut policy, &trace, capacity);
            assert!(evicted.len() > 100);
            assert_eq!(evicted, textbook(name, &trace, capacity), "{name}, {capacity} objects");
        }
    }
}

#[test]
fn users_add_algorithms() {
    let mut registry = registry();
    registry.register("oldest", || {
        Box::new(Formula::new("oldest", |object: &Metadata, _| object.insert as f64))
    });
    let trace = trace(4, 1000);
    let mut policy = Policy::new(&["oldest"], &registry, 100, 1).unwrap();
    assert_eq!(sampled(&mut policy, &trace, 20), textbook("fifo", &trace, 20));
    registry.register("nan", || Box::new(Formula::new("nan", |_: &Metadata, _| f64::NAN)));
    let mut policy = Policy::new(&["nan"], &registry, 100, 1).unwrap();
    assert_eq!(sampled(&mut policy, &trace, 20), textbook("lru", &trace, 20), "all the same: LRU");
}

#[test]
fn what_cannot_be_is_refused() {
    let registry = registry();
    let refused = |names: &[&str]| Policy::new(names, &registry, 100, 1).err().unwrap().to_string();
    assert!(refused(&["no such"]).contains("lfuda, lirs, lrfu"));
    assert!(refused(&[]).contains("1 to 8"));
    assert!(refused(&["lru"; 9]).contains("1 to 8"));
    assert!(refused(&["gds", "gdsf"]).contains("keeps a number"));
}

#[test]
fn victims_are_drawn_by_weight_and_recorded() {
    let candidate = |at, insert, freq| {
        let metadata = Metadata { freq, ..Metadata::new(at, insert, 1, 1) };
        Candidate { at, metadata }
    };
    let sample = [candidate(0, 9, 1), candidate(1, 2, 5), candidate(2, 5, 5)];
    let mut regrets = registry();
    regrets.learning = Learning::Regrets;
    let mut policy = Policy::new(&["lru", "lfu", "fifo"], &regrets, 100, 3).unwrap();
    let mut counts = [0; 2];
    for _ in 0..10_000 {
        let victim = policy.choose(&sample, 20).unwrap();
        counts[victim.index] += 1;
        assert_eq!(victim.bitmap, [0b010, 0b101][victim.index]);
    }
    // P = 0.9·⅓ + 0.1·½ of what LFU alone wants.
    assert!((3200..3800).contains(&counts[0]), "{counts:?}");
    let ghost = Ghost { metadata: sample[0].metadata, bitmap: 0b010, depth: 0 };
    let mut shared = [0; SHARED_WORDS];
    while !policy.sync_is_due() {
        policy.admit(0, (1, 1), 20, Some(&ghost));
    }
    shared = policy.merge(&shared);
    policy.adopt(&shared);
    assert!(!policy.sync_is_due());
    let weights: Vec<_> = policy.weights().collect();
    assert!(weights[1].0 == "lfu" && weights[1].1 < 0.02 && weights[0].1 > 0.4, "{weights:?}");
    assert!(policy.choose(&[], 20).is_none());
}

/// Hits of several sets of experts.
fn compare<const N: usize>(sets: [&[&str]; N], trace: &[u64], capacity: usize) -> [usize; N] {
    sets.map(|names| hits(names, &registry(), trace, capacity))
}

const USUAL: &[&str] = &["quick-demotion", "lru"];

#[test]
fn scans_and_loops_do_not_sweep_quick_demotion_out() {
    let trace = skewed(10_000, 30_000, 0.5, 1);
    let [quick, lru, fifo] = compare([&["quick-demotion"], &["lru"], &["fifo"]], &trace, 300);
    assert!(quick * 100 > lru * 125 && lru > fifo, "{quick} {lru} {fifo}");
    let trace = looped(400, 20_000);
    let [quick, lru, mru] = compare([&["quick-demotion"], &["lru"], &["mru"]], &trace, 200);
    assert!(quick > 4_000 && lru < 100 && mru > 9_000, "{quick} {lru} {mru}");
}

#[test]
fn the_better_expert_is_found() {
    let looped = looped(400, 20_000);
    for names in [["lru", "mru"], ["mru", "lru"]] {
        let [both, mru] = compare([&names, &["mru"]], &looped, 200);
        assert!(both * 100 > mru * 85, "{names:?}: {both} of {mru}");
    }
    let skewed = skewed(10_000, 20_000, 0.0, 2);
    for names in [["lru", "mru"], ["mru", "lru"]] {
        let [both, lru] = compare([&names, &["lru"]], &skewed, 500);
        assert!(both * 100 > lru * 95, "{names:?}: {both} of {lru}");
    }
}

#[test]
fn what_suits_now_lru_now_lfu_is_served_better_than_by_either() {
    let trace = phases(120, 8_000, 6, 3);
    let [usual, lru, lfu] = compare([USUAL, &["lru"], &["lfu"]], &trace, 200);
    assert!(usual > lru && usual > lfu, "{usual} {lru} {lfu}");
    let mut ditto = registry();
    ditto.learning = Learning::Regrets;
    let ditto = hits(&["lru", "lfu"], &ditto, &trace, 200);
    assert!(ditto > lru && ditto > lfu, "{ditto} {lru} {lfu}");
}

#[test]
fn clocks_that_stand_still_or_jump_do_no_harm() {
    let mut policy = Policy::new(USUAL, &registry(), 10, 1).unwrap();
    let mut random = Random(4);
    for round in 0..2_000u64 {
        let now = [0, metadata::LAST_TIME, round, random.next() >> 16][round as usize % 4];
        let word = |_| random.next() >> 16;
        let words: Vec<u64> = (0..metadata::WORDS).map(word).collect();
        let object = Metadata::unpack(words.try_into().unwrap());
        policy.tell(round % 7, random.next());
        policy.hit(&object, now);
        let ghost = Ghost { metadata: object, bitmap: round as u8, depth: random.next() };
        policy.admit(object.hash, (1, 1), now, Some(&ghost).filter(|_| round % 2 == 0));
        let sample = vec![Candidate { at: 1, metadata: object }; round as usize % 5];
        let victim = policy.choose(&sample, now);
        assert_eq!(victim.is_some(), !sample.is_empty());
        assert!(victim.is_none_or(|victim| victim.index < sample.len() && victim.bitmap != 0));
    }
}
