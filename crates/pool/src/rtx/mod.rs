//! Failure-atomic changes of several places: locks that name their owner, and redo logs.
//!
//! The paper on rTX was not available to us. What follows is a **reconstruction** from its abstract
//! and from what the indexes under it need; names and formats are ours.
//!
//! A transaction takes locks (words beside the data, see [`crate::Fabric::lock_of`]), buffers its
//! writes, and commits:
//!
//! 1. WRITE the redo log into its place of the client area, on all copies: **the commit point**;
//! 2. WRITE the data, on all copies;
//! 3. mark the log as done on all copies, so that nobody replays it over newer data;
//! 4. set the free bits of the objects that were given up, and CAS every lock from its own name
//!    to 0.
//!
//! The steps are waited for one by one, unless all data and locks lie on one node: then data and
//! locks are one batch, whose order does the same, and no mark is needed: a lock that is free says
//! that the data is complete. A change of a single word with a single copy needs no log.
//!
//! Whatever others can reach and a transaction writes must be under one of its locks, new objects
//! included: a repair writes the images again as long as a lock is held.
//!
//! A lock word is the **name** of the transaction that holds it: client 32 | number 24 | log
//! place 8. Whoever meets a lock of a dead client repairs: the log is read from all copies, and if
//! any holds it whole and none says that it is done, the images are written again (that is
//! idempotent) and the log is marked; then the locks go. No log of that name means that nothing was
//! written. Repairers of one place exclude each other through a word in it, which a dead one loses.
//!
//! Objects that a transaction gives up stand in its log, too. Their bits are set by its client, or
//! once by that client's recovery, which can tell what was done as long as the epoch stands.
//!
//! A lock word dies with its node. So a transaction commits only in the view it began in,
//! and while the view changes the master replays all committed logs that are not done.

#[cfg(test)]
mod given_up;
mod log;
mod owner;
mod repair;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transaction;

pub use log::{Name, LOG_AREA, MAX_FREES, MAX_LOCKS, NUM_PLACES, PLACE_BYTES};
pub(crate) use owner::Patience;
pub use owner::Wait;
pub use repair::{release_dead, release_if_dead, repair_all, replay_committed};
pub use target::Target;
pub use transaction::{Image, Logs, Rtx};
