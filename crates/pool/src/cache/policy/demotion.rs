//! Quick demotion, lazy promotion: what S3-FIFO does with queues, done with a sample.

use std::collections::VecDeque;

use super::experts::Candidate;
use super::metadata::Metadata;
use super::priority::{Priority, Scene};

/// The part of the cache that is kept for objects on probation.
const PROBATION: f64 = 0.1;
/// Probation ends after as many insertions as this many times its part of the cache has room for.
const SPAN: f64 = 2.0;
/// Times that are remembered to know when that many insertions began.
const STAMPS: usize = 16;
/// A doubling of the accesses prolongs a life in the main part by this part of it.
const WORTH: f64 = 0.5;
/// Of an average over samples, what a new one counts.
const NEW_SAMPLE: f64 = 0.05;
/// Of an average over lives in the main part, what a new one counts.
const NEW_LIFE: f64 = 0.02;
/// Apart from all times, which have 48 bits.
const APART: f64 = (1u64 << 50) as f64;

/// After S3-FIFO (Yang et al., 2023) and 2Q (Johnson and Shasha, 1994), for samples.
///
/// Objects are on probation until they are hit, or until they have seen many others come without
/// being chosen. While more than a tenth of the cache is on probation, the oldest of these goes;
/// else the object of the main part with the least of: last access + ½·lg(accesses)·the usual
/// time since the last access of those that go. Keys in the history come back with their
/// accesses, so they are not on probation again.
#[derive(Default)]
pub struct QuickDemotion {
    /// Part of the cache on probation, an average over samples.
    share: f64,
    /// What was inserted before is not on probation.
    since: u64,
    /// Times, each some insertions after the one before; in a full cache as many go as come.
    stamps: VecDeque<u64>,
    /// Evictions at the last of them; a step may be less than one.
    stamped: f64,
    /// The usual time since the last access of victims in the main part.
    life: f64,
}

impl QuickDemotion {
    /// Hits that other clients have not counted in the pool yet show in the time of the last one.
    fn is_on_probation(&self, object: &Metadata) -> bool {
        object.freq <= 1 && object.last <= object.insert && object.insert >= self.since
    }

    /// Finds out since when as many objects have come as probation lasts.
    fn stamp(&mut self, sample: &[Candidate], scene: &Scene) {
        let step = SPAN * PROBATION * scene.objects.max(1) as f64 / STAMPS as f64;
        let evictions = scene.evictions as f64;
        if self.stamps.is_empty() {
            // The cache has just become full: it was filled since its oldest object came.
            let ages = sample.iter().map(|candidate| candidate.metadata.age(scene.now));
            let age = SPAN * PROBATION * ages.max().unwrap_or(0) as f64;
            self.since = scene.now.saturating_sub(age as u64);
            self.stamps.push_back(scene.now);
            self.stamped = evictions;
        }
        let steps = ((evictions - self.stamped) / step).max(0.0).floor();
        self.stamped += steps * step;
        for _ in 0..steps.min(STAMPS as f64) as usize {
            self.stamps.push_back(scene.now);
            if self.stamps.len() > STAMPS {
                self.since = self.stamps.pop_front().unwrap_or(self.since);
            }
        }
    }
}

impl Priority for QuickDemotion {
    fn name(&self) -> &str {
        "quick-demotion"
    }

    fn look(&mut self, sample: &[Candidate], scene: &Scene) {
        let is_first = self.stamps.is_empty();
        self.stamp(sample, scene);
        let young = |at: &&Candidate| self.is_on_probation(&at.metadata);
        let share = sample.iter().filter(young).count() as f64 / sample.len().max(1) as f64;
        self.share += (share - self.share) * if is_first { 1.0 } else { NEW_SAMPLE };
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        let many = self.share > PROBATION;
        if self.is_on_probation(object) {
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
