//! Recorded operations.

use super::build::AttentionOp;
use super::{Activation, SharedWeight, ValueId};

/// One operation; its number is that of the value it makes.
pub(super) enum Node {
    Embed {
        table: SharedWeight,
        factor: f32,
    },
    Norm {
        x: ValueId,
        weight: Vec<f32>,
        eps: f32,
        residual: Option<ValueId>,
    },
    Linear {
        x: ValueId,
        parts: Vec<SharedWeight>,
        bias: Option<Vec<f32>>,
        residual: Option<ValueId>,
    },
    Attention {
        qkv: ValueId,
        op: Box<AttentionOp>,
    },
    Gated {
        x: ValueId,
        activation: Activation,
    },
    Add {
        x: ValueId,
        y: ValueId,
    },
    LogitRows {
        x: ValueId,
    },
    Softcap {
        x: ValueId,
        cap: f32,
    },
}

impl Node {
    /// Values read as floats, and the one read by linears.
    pub fn inputs(&self) -> (Vec<ValueId>, Option<ValueId>) {
        match self {
            Node::Embed { .. } => (vec![], None),
            Node::Norm { x, residual, .. } => ([*x].into_iter().chain(*residual).collect(), None),
            Node::Linear { x, residual, .. } => (residual.iter().copied().collect(), Some(*x)),
            Node::Attention { qkv, .. } => (vec![*qkv], None),
            Node::Gated { x, .. } | Node::LogitRows { x } | Node::Softcap { x, .. } => {
                (vec![*x], None)
            }
            Node::Add { x, y } => (vec![*x, *y], None),
        }
    }

    /// What is added to the result, where that is a part of the operation.
    pub fn residual(&self) -> Option<ValueId> {
        match self {
            Node::Norm { residual, .. } | Node::Linear { residual, .. } => *residual,
            _ => None,
        }
    }

    /// All values read, but for the residual.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Node::Embed { .. } => vec![],
            Node::Norm { x, .. } | Node::Linear { x, .. } => vec![*x],
            Node::Attention { qkv, .. } => vec![*qkv],
            Node::Gated { x, .. } | Node::LogitRows { x } | Node::Softcap { x, .. } => vec![*x],
            Node::Add { x, y } => vec![*x, *y],
        }
    }
}
