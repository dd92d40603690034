//! Algorithms that count accesses.

use super::metadata::Metadata;
use super::priority::Priority;

/// Least frequently used.
pub struct Lfu;

impl Priority for Lfu {
    fn name(&self) -> &str {
        "lfu"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        f64::from(object.freq)
    }
}

/// LFU with dynamic aging (Arlitt et al., 2000): an access sets the priority to the frequency plus
/// the priority of the last victim, so that what was popular long ago goes in the end.
#[derive(Default)]
pub struct Lfuda {
    inflation: f64,
}

impl Priority for Lfuda {
    fn name(&self) -> &str {
        "lfuda"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        f64::from(object.value) + f64::from(object.freq)
    }

    fn keeps_value(&self) -> bool {
        true
    }

    fn value(&self, _: &Metadata, _: u64) -> f32 {
        self.inflation as f32
    }

    fn evicted(&mut self, _: &Metadata, priority: f64, _: u64) {
        self.inflation = self.inflation.max(priority);
    }
}
