//! What the tree tells about itself.

use crate::judge::{Finding, Verdict};
use crate::watch::Reuse;

/// One level above a path, or the path itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The folder or file.
    pub path: String,
    /// The verdict and the numbers of the tests.
    pub finding: Finding,
    /// Whether it may still change soon.
    pub is_provisional: bool,
    /// Whether it is a unit.
    pub is_unit: bool,
    /// How long it takes until a child is wanted again.
    pub reuse: Reuse,
    /// Accesses to different children in a second, lately.
    pub rate: f64,
    /// Bytes below it, as far as known.
    pub data_bytes: f64,
}

/// A unit begins, changes or ends.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitChange {
    /// Its serial number.
    pub unit: u32,
    /// The folder or file at its top.
    pub path: String,
    /// How it is read; `Unknown` if it is a unit no more.
    pub verdict: Verdict,
}

/// What policies want to know of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitReport {
    /// How long it takes until a child is wanted again.
    pub reuse: Reuse,
    /// Accesses to different children in a second, lately.
    pub rate: f64,
    /// Children that there are, or seem to be.
    pub num_children: u64,
    /// Bytes below it, as far as known.
    pub data_bytes: f64,
    /// Most frequent step of its streams, if it is read with a stride, else 1.
    pub stride: i32,
    /// Whether the verdict may still change soon.
    pub is_provisional: bool,
}

/// A verdict for the next run.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The folder or file.
    pub path: String,
    /// How it was read.
    pub verdict: Verdict,
    /// Whether its children were wanted again.
    pub is_reread: bool,
}
