//! Hyperbolic caching.

use super::metadata::Metadata;
use super::priority::Priority;

/// Accesses per time in the cache (Blankstein et al., 2017).
pub struct Hyperbolic;

impl Priority for Hyperbolic {
    fn name(&self) -> &str {
        "hyperbolic"
    }

    fn priority(&self, object: &Metadata, now: u64) -> f64 {
        f64::from(object.freq) / (object.age(now) + 1) as f64
    }
}
