//! Constants of the tree and its tests. They are ours, not the paper's.

use crate::error::{FilesError, Result};

/// What can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Files are cut into blocks of so many bytes.
    pub block_bytes: u64,
    /// Accesses that a node remembers.
    pub window: usize,
    /// Nodes of the tree; beyond, the leaf that was used longest ago goes.
    pub max_nodes: usize,
    /// Units; beyond, no more are made below others.
    pub max_units: usize,
    /// Names that all listings have together; a folder that would exceed it is taken as not listed.
    pub max_listed: usize,
    /// Accesses after which there is a first, provisional verdict.
    pub provisional_after: u32,
    /// Accesses after which a verdict holds.
    pub full_after: u32,
    /// Accesses between tests from then on.
    pub retest_every: u32,
    /// Fewest children, and accesses, of a node that is judged.
    pub fewest: u32,
    /// Part of the steps that have to be sequential.
    pub sequential_share: f64,
    /// Longest step that is sequential, in ranks.
    pub longest_step: u32,
    /// Scans that may go on beside each other: `FRONTIERS` at most.
    pub num_frontiers: usize,
    /// Error of the test for random access.
    pub alpha: f64,
    /// Repeats are too many if so many standard deviations above those of random access.
    pub repeat_deviations: f64,
    /// Whether repeats are tested at all (to see what they are good for).
    pub tests_repeats: bool,
}

/// Frontiers that a node can follow.
pub const FRONTIERS: usize = 16;

impl Default for Options {
    fn default() -> Options {
        Options {
            block_bytes: 4 << 20,
            window: 128,
            max_nodes: 10_000,
            max_units: 256,
            max_listed: 4_000_000,
            provisional_after: 32,
            full_after: 100,
            retest_every: 50,
            fewest: 8,
            sequential_share: 0.8,
            longest_step: 4,
            num_frontiers: FRONTIERS,
            alpha: 0.01,
            repeat_deviations: 3.0,
            tests_repeats: true,
        }
    }
}

impl Options {
    /// Checks all options.
    ///
    /// # Errors
    /// One is out of its range.
    pub fn check(&self) -> Result<()> {
        let ranges: [(&str, f64, f64, f64); 9] = [
            ("block_bytes", self.block_bytes as f64, 1.0, (1u64 << 40) as f64),
            ("window", self.window as f64, 16.0, 4096.0),
            ("max_nodes", self.max_nodes as f64, 16.0, 1e8),
            ("provisional_after", f64::from(self.provisional_after), 4.0, 4096.0),
            ("retest_every", f64::from(self.retest_every), 1.0, 1e6),
            ("fewest", f64::from(self.fewest), 4.0, 4096.0),
            ("longest_step", f64::from(self.longest_step), 1.0, 1024.0),
            ("num_frontiers", self.num_frontiers as f64, 1.0, FRONTIERS as f64),
            ("repeat_deviations", self.repeat_deviations, 0.0, 100.0),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let text = format!("{name} is {value}: not from {least} to {most}");
                return Err(FilesError::Invalid(text));
            }
        }
        for (name, value) in [("sequential_share", self.sequential_share), ("alpha", self.alpha)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(FilesError::Invalid(format!("{name} is {value}: not between 0 and 1")));
            }
        }
        if self.full_after < self.provisional_after || self.full_after as usize > self.window {
            return Err(FilesError::Invalid(format!(
                "full_after is {}: not from provisional_after, {}, to window, {}",
                self.full_after, self.provisional_after, self.window
            )));
        }
        Ok(())
    }
}
