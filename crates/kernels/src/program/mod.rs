//! A model's forward pass as a list of steps, recorded once and run for every batch.
//!
//! [`ProgramBuilder`] records operations over values (matrices with one row for each token of the
//! batch, or for each wanted logit). [`ProgramBuilder::build`] fuses what pays (norm and
//! quantisation; gate, up and activation), gives values their memory, and yields a [`Program`]. All
//! threads of a pool run the steps together.

mod batch;
mod build;
mod exec;
mod gate;
mod node;
mod push;
mod remote;
mod run;
mod serve;
mod skip;
mod steps;
mod sublayers;
mod turn;

use std::sync::Arc;

use thiserror::Error;

pub use crate::activation::Activation;
pub use batch::BatchView;
pub use build::{AttentionOp, ProgramBuilder, RopeOp};
pub use exec::Program;
pub use gate::{Aside, Gate, Gated, LayerTime};
pub use push::{LayerSink, Push};
pub use remote::{Remote, RemoteAttention, Rows, RowsMut};
pub use serve::{AttentionServer, ServedStep};
pub use skip::{Probe, Skip};

use crate::float::FloatLinear;
use crate::linear::QuantLinear;

/// A packed weight (rows = outputs, cols = inputs).
pub enum Weight {
    /// 4 to 8 bits in groups.
    Quant(QuantLinear),
    /// f32, f16 or bf16.
    Float(FloatLinear),
}

impl Weight {
    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            Weight::Quant(weight) => weight.rows(),
            Weight::Float(weight) => weight.out_features(),
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            Weight::Quant(weight) => weight.cols(),
            Weight::Float(weight) => weight.in_features(),
        }
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        match self {
            Weight::Quant(weight) => weight.num_bytes(),
            Weight::Float(weight) => weight.packed_bytes(),
        }
    }

    /// Whether its inputs are quantised first.
    pub fn is_quantized(&self) -> bool {
        matches!(self, Weight::Quant(_))
    }

    /// Row `row` in f32 times `factor`; `out` is (cols,).
    pub fn dequantize_row(&self, row: usize, factor: f32, out: &mut [f32]) {
        match self {
            Weight::Quant(weight) => weight.dequantize_row(row, factor, out),
            Weight::Float(weight) => weight.unpack_row(row, factor, out),
        }
    }
}

/// A weight shared by programs.
pub type SharedWeight = Arc<Weight>;

/// A recorded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Why a program cannot be recorded or run.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// Shapes that do not fit.
    #[error("{0}")]
    Shape(String),
    /// A batch that the program has no room for or that contradicts itself.
    #[error("{0}")]
    Batch(String),
}
