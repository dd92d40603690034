//! Quick demotion, lazy promotion: what S3-FIFO does with queues, done with a sample.

use super::experts::Candidate;
use super::metadata::Metadata;
use super::priority::{Priority, Scene};

/// The part of the cache that is kept for objects on probation.
const PROBATION: f64 = 0.1;
/// Probation ends after as many insertions as this many times its part of the cache has room for.
const SPAN: f64 = 2.0;
/// A doubling of the accesses prolongs a life in the main part by this part of it.
const WORTH: f64 = 0.5;
/// Of an average over samples, what a new one counts.
const NEW_SAMPLE: f64 = 0.05;
/// Of an average over lives in the main part, what a new one counts.
const NEW_LIFE: f64 = 0.02;
/// By how much one pause may exceed what is usual, for the average: clients sleep.
const LONGEST_PAUSE: f64 = 8.0;
/// Apart from all times, which have 48 bits.
const APART: f64 = (1u64 << 50) as f64;

/// After S3-FIFO (Yang et al., 2023) and 2Q (Johnson and Shasha, 1994), for samples.
///
/// Objects are on probation until they are hit, or until they have seen many others come without
/// being chosen. While more than a tenth of the cache is on probation, the oldest of these goes;
/// else the object of the main part with the least of: last access + ½·lg(accesses)·the usual time
/// since the last access of those that go. Keys in the history come back with their accesses, so
/// they are not on probation again.
pub struct QuickDemotion {
    /// Part of the cache on probation, an average over samples.
    share: f64,
    /// How long it takes until one more object is inserted.
    pace: Option<f64>,
    /// The usual time since the last access of victims in the main part.
    life: f64,
    /// Time since insertion at which probation ends.
    span: f64,
    looked: (u64, u64),
}

impl Default for QuickDemotion {
    fn default() -> QuickDemotion {
        QuickDemotion { share: PROBATION, pace: None, life: 0.0, span: 0.0, looked: (0, 0) }
    }
}

impl QuickDemotion {
    fn is_on_probation(&self, object: &Metadata, now: u64) -> bool {
        object.freq <= 1 && (object.age(now) as f64) < self.span
    }

    /// Learns how fast objects come: in a full cache as fast as others go.
    fn keep_pace(&mut self, sample: &[Candidate], scene: &Scene) {
        let objects = scene.objects.max(1) as f64;
        let (time, evictions) = self.looked;
        self.looked = (scene.now, scene.evictions);
        let pace = match self.pace {
            // The cache has just become full: all of it came since the oldest object did.
            None => {
                let age = sample.iter().map(|candidate| candidate.metadata.age(scene.now)).max();
                age.unwrap_or(0) as f64 / objects
            }
            Some(pace) => {
                let gone = scene.evictions.saturating_sub(evictions) as f64;
                let passed = scene.now.saturating_sub(time) as f64;
                let passed = passed.min(LONGEST_PAUSE * (pace + 1.0) * gone);
                let part = 1.0 / (PROBATION * objects).max(20.0);
                pace + (passed - pace * gone) * part.min(1.0 / gone.max(1.0))
            }
        };
        self.pace = Some(pace);
        self.span = SPAN * PROBATION * objects * pace;
    }
}

impl Priority for QuickDemotion {
    fn name(&self) -> &str {
        "quick-demotion"
    }

    fn look(&mut self, sample: &[Candidate], scene: &Scene) {
        self.keep_pace(sample, scene);
        let young = |at: &&Candidate| self.is_on_probation(&at.metadata, scene.now);
        let share = sample.iter().filter(young).count() as f64 / sample.len().max(1) as f64;
        self.share += (share - self.share) * NEW_SAMPLE;
    }

    fn priority(&self, object: &Metadata, now: u64) -> f64 {
        let many = self.share > PROBATION;
        if self.is_on_probation(object, now) {
            return object.insert as f64 + if many { -APART } else { APART };
        }
        object.last as f64 + WORTH * self.life * f64::from(object.freq.max(1)).log2()
    }

    fn evicted(&mut self, object: &Metadata, _: f64, now: u64) {
        if object.freq > 1 {
            self.life += (object.idle(now) as f64 - self.life) * NEW_LIFE;
        }
    }
}
