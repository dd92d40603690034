//! Errors of the pool.

use artesian_bus::BusError;

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The bus failed in a way that waiting does not mend.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The membership changed in the middle of an operation. Internal: operations look again and
    /// go on; it only reaches callers that drive the parts themselves.
    #[error("the pool's membership changed: look again")]
    ViewChanged,
    /// No room, and nothing left to reclaim.
    #[error("the pool is full: no room for {bytes} bytes; delete something, or add a memory node")]
    Full {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The namespace's quota would be exceeded.
    #[error("namespace {namespace:?} is at its quota: {used} of {quota} bytes are used")]
    QuotaExceeded {
        /// The namespace.
        namespace: String,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// A key or value outside the limits.
    #[error("{what} of {size} bytes is too large: at most {limit} bytes")]
    TooLarge {
        /// "key" or "value".
        what: &'static str,
        /// Its bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The data of a key cannot be had: its nodes are lost, or its bytes do not verify.
    #[error("data lost: {0}")]
    Lost(String),
    /// Bytes in the pool break an invariant; `artesian pool check` tells more.
    #[error("corrupt pool memory: {0}")]
    Corrupt(String),
    /// An argument or a pool file that cannot be used; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// A bounded wait ran out: others hold what is needed.
    #[error("gave up after {waited_ms} ms waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// A transaction met another one on the same keys and was rolled back: try again.
    #[error("the transaction conflicted with another one and was rolled back: try again")]
    Conflict,
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, PoolError>;
