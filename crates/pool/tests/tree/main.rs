//! The ordered index with clients that die: at every verb of their work, and at random on the
//! simulator. Afterwards a healthy client must find everything in order, down to the last object.

#[path = "../common/audit.rs"]
mod audit;
mod crashes;
mod explore;
mod history;
