//! The ordered index: a B-link tree that its clients run with one-sided verbs.
//!
//! After Sherman (Wang, Lu, Shu: "Sherman: A Write-Optimized Distributed B+Tree Index on
//! Disaggregated Memory", SIGMOD 2022) and Lehman and Yao's B-link trees; every change is a
//! transaction of [`crate::rtx`], so that a client may die anywhere. The crate's README tells the
//! protocol, `docs/systems/rtx.md` what is taken from where.

mod cache;
mod change;
mod check;
mod create;
mod edit;
mod live;
mod locked;
mod merge;
mod node;
mod ops;
mod post;
mod raze;
mod read;
mod root;
mod rows;
mod scan;
mod seek;
mod split;
mod still;
mod value;
mod walk;

#[cfg(test)]
mod tests;

pub use check::{tree_check, TreeFault, TreeReport};
pub use live::{is_live_node, is_live_value};
pub use node::{MAX_INLINE, MAX_KEY_BYTES, NODE_BYTES, NODE_CLASS};
pub(crate) use still::for_each_row;
pub use walk::Trees;

/// A node with fewer bytes in use is merged with a neighbour if both fit into one.
const SPARSE: usize = NODE_BYTES / 4;
/// Bytes of a client's copies of inner nodes.
pub const TREE_CACHE_BYTES: usize = 16 << 20;
