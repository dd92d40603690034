//! Linear layers with float weights.
//!
//! Weights lie in panels of 16 outputs, inputs ascending, so that one step over the inputs is one
//! vector load. Every output is one chain of fused multiply-adds over ascending inputs, in float32,
//! whatever the number of rows, the tile it falls into, the thread or the instruction set: results
//! are the same bits in all of them.

mod linear;
mod panel;
mod tile;

pub use linear::{Epilogue, FloatLinear, PackError};
