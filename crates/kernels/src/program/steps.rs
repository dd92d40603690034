//! The steps of a built program: what remains of the recorded operations after fusion, with places
//! for memory.

use super::{Activation, SharedWeight};

/// Which rows a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// One for each token of the batch.
    Tokens,
    /// One for each wanted logit.
    Logits,
}

/// A float matrix: a buffer of the program, or the caller's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Buffer(usize),
    Output,
}

/// Where a value is written: as floats, as quantised rows, or both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dest {
    pub slot: Option<Slot>,
    pub quant: Option<usize>,
    pub width: usize,
    pub domain: Domain,
    /// Nobody reads the floats: a writer that quantises as it goes need not store them.
    pub quant_only: bool,
}

/// What a linear reads: each part of it needs one of the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub slot: Option<Slot>,
    pub quant: Option<usize>,
    pub width: usize,
}

pub(super) enum Step {
    Embed {
        table: SharedWeight,
        factor: f32,
        to: Dest,
    },
    Norm {
        from: Slot,
        weight: Vec<f32>,
        eps: f32,
        residual: Option<Slot>,
        to: Dest,
    },
    Quantize {
        from: Slot,
        to: Dest,
    },
    Linear {
        from: Source,
        parts: Vec<SharedWeight>,
        bias: Option<Vec<f32>>,
        residual: Option<Slot>,
        to: Dest,
    },
    GatedLinear {
        from: Source,
        gate: SharedWeight,
        up: SharedWeight,
        activation: Activation,
        to: Dest,
    },
    Gated {
        from: Slot,
        activation: Activation,
        to: Dest,
    },
    Add {
        a: Slot,
        b: Slot,
        to: Dest,
    },
    LogitRows {
        from: Slot,
        to: Dest,
    },
    Softcap {
        from: Slot,
        cap: f32,
        to: Dest,
    },
    Attention {
        from: Slot,
        op: AttentionStep,
        to: Dest,
    },
}

impl Step {
    /// What it writes.
    pub fn to(&self) -> &Dest {
        match self {
            Step::Embed { to, .. }
            | Step::Norm { to, .. }
            | Step::Quantize { to, .. }
            | Step::Linear { to, .. }
            | Step::GatedLinear { to, .. }
            | Step::Gated { to, .. }
            | Step::Add { to, .. }
            | Step::LogitRows { to, .. }
            | Step::Softcap { to, .. }
            | Step::Attention { to, .. } => to,
        }
    }

    /// The widest matrix that it reads or writes.
    pub fn widest(&self) -> usize {
        match self {
            Step::Linear { from, to, .. } | Step::GatedLinear { from, to, .. } => {
                from.width.max(to.width)
            }
            Step::Gated { to, .. } => 2 * to.width,
            _ => self.to().width,
        }
    }

    /// Whether each token's row depends on nothing but the same row of earlier values.
    pub fn is_row_wise(&self) -> bool {
        match self {
            Step::Attention { .. } | Step::LogitRows { .. } => false,
            _ => self.to().domain == Domain::Tokens,
        }
    }
}

/// One attention sublayer with what was worked out at build time.
#[derive(Clone)]
pub(super) struct AttentionStep {
    pub layer: usize,
    pub norm_eps: f32,
    pub q_norm: Option<Vec<f32>>,
    pub k_norm: Option<Vec<f32>>,
    /// Index into the program's ropes.
    pub rope: Option<usize>,
    /// Index into the program's plan shapes: layers of equal shape share a plan.
    pub plan: usize,
}
