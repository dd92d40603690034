//! How files are read: a tree of the name space that keeps, at every level, which children were
//! wanted lately, and judges whether that is sequential, random or skewed.
//!
//! The idea of the tree and of testing each level is IGTCache's (2506.12370); its tests and
//! constants could not be read, so those here are ours.

mod error;
mod judge;
mod listing;
mod node;
mod options;
mod recency;
mod report;
mod ring;
mod streams;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod watch;

pub use error::{FilesError, Result};
pub use judge::{judge, Finding, Rule, Sample, Verdict};
pub use options::Options;
pub use report::{Level, Remembered, UnitChange, UnitReport};
pub use tree::{AccessStreamTree, Read, Touched};
