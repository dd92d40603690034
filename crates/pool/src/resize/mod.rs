//! Nodes that come and go while clients run: adding one, draining one, making copies anew after a
//! loss.
//!
//! Copies of regions are made in the background, piece by piece: each piece in a change of the
//! view, while all clients hold still for a moment ([`fill`]). The view tells how far a copy is
//! ([`Filling`](crate::view::Filling)); below that, every write reaches it. All that is to be done
//! can be read from the view (nodes that drain, regions with too few copies), so whoever drives it
//! may die: the next call of any client goes on.

mod drive;
mod fill;
mod goal;
mod room;
mod status;
mod tables;
#[cfg(test)]
mod tests;

pub use drive::{add_node, drain_node, restore_replicas, Progress};
pub use status::{status, NodeUse, Status};
