//! Algorithms that look at how far accesses of one object lie apart.

use super::metadata::Metadata;
use super::priority::Priority;

/// LRU-K for K = 2 (O'Neil et al., 1993): the oldest second-last access goes, and first of all
/// those that were accessed once, the least recent first.
pub struct Lru2;

impl Priority for Lru2 {
    fn name(&self) -> &str {
        "lru-2"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        object.previous as f64
    }
}

/// LRFU (Lee et al., 2001): every access counts ½^(λ·time since), so that it lies between LFU
/// (λ = 0) and LRU (λ = 1).
pub struct Lrfu {
    decay: f64,
}

impl Lrfu {
    /// With an access losing half its worth in `half_life` units of time.
    pub fn new(half_life: f64) -> Lrfu {
        Lrfu { decay: 1.0 / half_life.max(1e-9) }
    }

    fn faded(&self, object: &Metadata, now: u64) -> f64 {
        f64::from(object.value) * (-self.decay * object.idle(now) as f64).exp2()
    }
}

impl Default for Lrfu {
    /// A half-life of ten seconds, for a clock of microseconds.
    fn default() -> Lrfu {
        Lrfu::new(1e7)
    }
}

impl Priority for Lrfu {
    fn name(&self) -> &str {
        "lrfu"
    }

    /// The binary logarithm of the faded worth: it keeps its order where the worth itself would
    /// have vanished.
    fn priority(&self, object: &Metadata, now: u64) -> f64 {
        f64::from(object.value).max(f64::MIN_POSITIVE).log2() - self.decay * object.idle(now) as f64
    }

    fn keeps_value(&self) -> bool {
        true
    }

    fn value(&self, object: &Metadata, now: u64) -> f32 {
        (1.0 + self.faded(object, now)) as f32
    }
}

/// After LIRS (Jiang and Zhang, 2002): the largest of reuse distance and recency goes, in time
/// where LIRS counts distinct objects. Objects without a reuse go first, the least recent first.
pub struct Lirs;

impl Priority for Lirs {
    fn name(&self) -> &str {
        "lirs"
    }

    fn priority(&self, object: &Metadata, now: u64) -> f64 {
        if object.previous == 0 {
            return f64::NEG_INFINITY;
        }
        -(object.last.saturating_sub(object.previous).max(object.idle(now)) as f64)
    }
}
