//! Algorithms for objects of different sizes and costs.

use super::metadata::Metadata;
use super::priority::Priority;

/// The cost of one byte.
fn density(object: &Metadata) -> f64 {
    f64::from(object.cost.max(1)) / f64::from(object.bytes.max(1))
}

/// GreedyDual-Size (Cao and Irani, 1997): an access sets the priority to cost / size plus the
/// priority of the last victim.
#[derive(Default)]
pub struct Gds {
    inflation: f64,
}

impl Priority for Gds {
    fn name(&self) -> &str {
        "gds"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        f64::from(object.value) + density(object)
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

/// GreedyDual-Size-Frequency (Cherkasova, 1998): [`Gds`] with the cost times the accesses.
#[derive(Default)]
pub struct Gdsf {
    inflation: f64,
}

impl Priority for Gdsf {
    fn name(&self) -> &str {
        "gdsf"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        f64::from(object.value) + f64::from(object.freq) * density(object)
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

/// The largest goes.
pub struct Size;

impl Priority for Size {
    fn name(&self) -> &str {
        "size"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        -f64::from(object.bytes)
    }
}
