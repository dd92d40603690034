//! Errors of tiers.

use std::io;
use std::path::Path;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// No room within the bound.
    #[error("the tier is full: {used} of {capacity} bytes are used, {bytes} more do not fit")]
    Full {
        /// Bytes that were to be saved, all overheads included.
        bytes: u64,
        /// Bytes that are used.
        used: u64,
        /// The bound.
        capacity: u64,
    },
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A memory pool refused.
    #[error("cannot {what} the pool {name}: {source}")]
    Pool {
        /// What was tried.
        what: &'static str,
        /// Which pool.
        name: String,
        /// The pool's error.
        source: artesian_pool::PoolError,
    },
    /// An argument, or a directory, that cannot be used; the text says why.
    #[error("{0}")]
    Invalid(String),
}

/// Of tiers.
pub type Result<T> = std::result::Result<T, TierError>;

impl TierError {
    /// Whether the system said that there is no space left.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, TierError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// Says on what an operation of the system failed.
pub(crate) trait Context<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| TierError::Io {
            what,
            path: path.display().to_string(),
            source: error.into(),
        })
    }
}
