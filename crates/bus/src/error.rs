//! What can go wrong on the bus.

use crate::{GlobalAddr, NodeId};

/// Why a batch did not complete. Verbs on other nodes of the same batch may have taken effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The node is dead or gone; its memory is lost to everybody.
    #[error("memory node {} is lost", .0 .0)]
    NodeLost(NodeId),
    /// Somebody declared this client dead and revoked its access: stop, and join anew.
    #[error("this client was declared dead and may no longer touch the pool")]
    Fenced,
    /// The verb reaches outside the node's memory, or a word is not 8-byte aligned.
    #[error("{len} bytes at {addr:?} lie outside the node's {size} bytes or are not aligned")]
    BadAddress {
        /// First byte of the verb.
        addr: GlobalAddr,
        /// Its length in bytes.
        len: u64,
        /// The node's size in bytes.
        size: u64,
    },
    /// The operating system refused; the text says what and how.
    #[error("{0}")]
    System(String),
}
