//! What workers do to each other's memory, by the verbs of `artesian-bus`.
//!
//! A worker lends its peers a region: its arena of KV blocks, and control words before it. Peers
//! write keys and values there, and ask for attention over what lies there.

mod error;
pub mod exchange;
pub mod landing;
pub mod region;

pub use error::PeerError;
