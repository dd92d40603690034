//! The pool: a store, a cache and an ordered index on disaggregated memory.
//!
//! Clients do all the work with the one-sided verbs of [`artesian_bus`]; memory nodes only lend
//! memory. `README.md` of this crate maps the formats and the rules that the modules share.

pub mod address;
pub mod alloc;
pub mod archive;
pub mod cache;
pub mod check;
pub mod class;
pub mod client;
pub mod config;
pub mod error;
pub mod fabric;
pub mod index;
pub mod lifecycle;
pub mod membership;
pub mod namespace;
pub mod object;
pub mod observe;
pub mod pin;
pub mod recover;
pub mod resize;
pub mod rtx;
pub mod slot;
pub mod snapshot;
pub mod store;
pub mod tree;
pub mod txn;
pub mod view;
pub mod xxh3;

pub use address::{ClientId, PoolAddr};
pub use class::SizeClass;
pub use config::{NodeLayout, PoolConfig};
pub use error::{PoolError, Result};
pub use fabric::Fabric;
pub use slot::Slot;
pub use view::View;
