//! Evictions against an exact model of the algorithm: with a sample of the whole table, the cache
//! must evict what the algorithm names.

use std::time::Duration;

use super::{slots, CacheConfig, Random, TestPool};
use crate::cache::policy::{Formula, Registry};
use crate::client::Client;
use crate::store::Expiry::Never;

const OBJECTS: usize = 12;
const KEYS: u64 = 30;

/// A key as an exact algorithm sees it.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: u64,
    inserted: u64,
    last: u64,
    previous: u64,
    accesses: u64,
    bytes: u64,
}

/// A cache whose victim is the least by `rank`.
struct Model {
    known: Vec<Known>,
    moment: u64,
    rank: fn(&Known) -> (u64, u64),
}

impl Model {
    fn access(&mut self, key: u64) -> bool {
        self.moment += 1;
        let Some(known) = self.known.iter_mut().find(|known| known.key == key) else {
            return false;
        };
        (known.previous, known.last) = (known.last, self.moment);
        known.accesses += 1;
        true
    }

    fn put(&mut self, key: u64, bytes: u64) {
        if self.access(key) {
            let moved = self.known.iter_mut().find(|known| known.key == key);
            moved.expect("it is there").bytes = bytes;
            return;
        }
        if self.known.len() == OBJECTS {
            let rank = self.rank;
            let victim = (0..OBJECTS).min_by_key(|&at| rank(&self.known[at])).expect("some");
            self.known.remove(victim);
        }
        let (inserted, last) = (self.moment, self.moment);
        self.known.push(Known { key, inserted, last, previous: 0, accesses: 1, bytes });
    }
}

/// Classes of the values' objects: bytes of the value, bytes in the pool.
const SIZES: [(usize, u64); 3] = [(10, 128), (150, 256), (400, 512)];

fn exactly(algorithm: &str, replicas: u8, rank: fn(&Known) -> (u64, u64)) {
    let pool = TestPool::new(16 << 20, 2, replicas);
    let mut client = pool.client(1);
    let algorithms = vec![algorithm.to_owned()];
    // Without history: keys that come back would bring their past along.
    let adaptive = false;
    let config = CacheConfig::of_objects(OBJECTS as u64);
    let config = CacheConfig { algorithms, adaptive, sample: 64, ..config };
    let mut registry = Registry::standard();
    registry.register("largest", || {
        Box::new(Formula::new("largest", |object, _| -f64::from(object.bytes)))
    });
    let id = client.cache_open_with("c", &config, &registry).unwrap();
    assert!(slots(&client).len() <= 64, "the sample is the table");
    let mut model = Model { known: Vec::new(), moment: 0, rank };
    let mut random = Random(71);
    for step in 0..600 {
        // The clock of metadata counts microseconds.
        std::thread::sleep(Duration::from_micros(3));
        let key = random.below(random_key_limit(step));
        let (len, bytes) = SIZES[random.below(3) as usize];
        if random.below(3) == 0 {
            client.cache_put(id, &key.to_le_bytes(), &vec![1; len], Never).unwrap();
            model.put(key, bytes);
        } else {
            let hit = client.cache_touch(id, &key.to_le_bytes()).unwrap();
            assert_eq!(hit, model.access(key), "{algorithm}: key {key} at step {step}");
        }
        assert_eq!(crowded(&mut client, id), 0, "another seed: a bucket was full");
    }
    assert!(client.cache_stats(id).unwrap().evictions > 20);
}

/// Few keys at first, so that some are used often.
fn random_key_limit(step: u64) -> u64 {
    if step.is_multiple_of(3) {
        KEYS
    } else {
        KEYS / 3
    }
}

fn crowded(client: &mut Client, id: u16) -> u64 {
    client.cache_stats(id).unwrap().crowded
}

#[test]
fn a_sample_of_everything_makes_algorithms_exact() {
    exactly("lru", 1, |known| (known.last, 0));
    exactly("lru", 2, |known| (known.last, 0));
    exactly("mru", 1, |known| (u64::MAX - known.last, 0));
    exactly("fifo", 2, |known| (known.inserted, 0));
    exactly("lfu", 1, |known| (known.accesses, known.last));
    exactly("lru-2", 1, |known| (known.previous, known.last));
    exactly("largest", 1, |known| (u64::MAX - known.bytes, known.last));
}
