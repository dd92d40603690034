//! What can go wrong between workers.

use artesian_bus::BusError;

/// Why something between two workers cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The bus refused, or the peer's memory is gone.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Numbers that do not fit together.
    #[error("{0}")]
    Shape(String),
    /// The peer's memory is for something else.
    #[error("region {name}: {what}")]
    Mismatch {
        /// The region's name.
        name: String,
        /// What differs, and what to do.
        what: String,
    },
    /// The peer does not lend this, or not any more.
    #[error("{0}")]
    Refused(String),
}
