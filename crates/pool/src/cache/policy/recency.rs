//! Algorithms that look at times only.

use super::metadata::Metadata;
use super::priority::Priority;

/// Least recently used.
pub struct Lru;

impl Priority for Lru {
    fn name(&self) -> &str {
        "lru"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        object.last as f64
    }
}

/// Most recently used: best for loops over more than fits.
pub struct Mru;

impl Priority for Mru {
    fn name(&self) -> &str {
        "mru"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        -(object.last as f64)
    }
}

/// First in, first out.
pub struct Fifo;

impl Priority for Fifo {
    fn name(&self) -> &str {
        "fifo"
    }

    fn priority(&self, object: &Metadata, _: u64) -> f64 {
        object.insert as f64
    }
}
