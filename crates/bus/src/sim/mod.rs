//! The deterministic transport, for tests.
//!
//! A [`World`] holds memory nodes and processes on one thread. The code of a process runs as one
//! or several coroutines (*strands*) that call [`SimVerbs`] and block; every batch and every wait
//! gives the turn back, and one seed decides who goes on when. Time is virtual. Between any two
//! verbs anything may happen: another process's verbs, a large read or write in pieces, a death,
//! a stop past the lease, the loss of a node. The same seed gives the same run.

mod fault;
mod flight;
mod memory;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod totals;
mod trace;
mod verbs;
mod world;

pub use fault::{Fault, FaultCounts, Pid};
pub use rng::Rng;
pub use totals::report;
pub use verbs::SimVerbs;
pub use world::{seeds, Failure, World};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Memory nodes.
    pub nodes: u16,
    /// Bytes of each.
    pub node_bytes: usize,
    /// One in this many reads and writes of more than a word happens in pieces.
    pub tear_once_in: u64,
    /// After so many events the run counts as stuck.
    pub max_steps: u64,
    /// How many of the last verbs a failure shows.
    pub trace: usize,
}

impl Config {
    /// `nodes` nodes of `node_bytes`, everything else as it suits tests.
    pub fn new(seed: u64, nodes: u16, node_bytes: usize) -> Config {
        Config { seed, nodes, node_bytes, tear_once_in: 3, max_steps: 20_000_000, trace: 60 }
    }
}
