//! Finding a model's sublayers among its recorded operations.
//!
//! A sublayer is what stands between a value and that value with something added: the operations
//! from the norm that reads `x` to the one whose residual is `x`. Nothing else may read what is in
//! between, so that a row can go around it. Where only the rows of logits go on, the residual is
//! those rows of `x`.

use super::node::Node;
use super::ValueId;

/// One sublayer, by the numbers of its operations.
#[derive(Debug)]
pub(super) struct Found {
    /// 2 * layer for attention, 2 * layer + 1 for what follows it.
    pub number: usize,
    /// What belongs to it, ascending; the last one adds the residual.
    pub members: Vec<usize>,
    /// The residual.
    pub residual: ValueId,
}

/// The sublayers of a model, in its order.
pub(super) fn find(nodes: &[Node]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut layer = None;
    for (end, node) in nodes.iter().enumerate() {
        let Some((members, residual)) = node.residual().and_then(|r| around(nodes, end, r)) else {
            continue;
        };
        let attention = members.iter().find_map(|&member| match &nodes[member] {
            Node::Attention { op, .. } => Some(op.layer),
            _ => None,
        });
        layer = attention.or(layer);
        let number = match (attention, layer) {
            (Some(layer), _) => 2 * layer,
            (None, Some(layer)) => 2 * layer + 1,
            (None, None) => continue,
        };
        if found.iter().all(|other| other.number != number) {
            found.push(Found { number, members, residual });
        }
    }
    found
}

/// What lies between the input of operation `end` and itself, if it adds that input.
fn around(nodes: &[Node], end: usize, residual: ValueId) -> Option<(Vec<usize>, ValueId)> {
    let input = match nodes[residual.0] {
        Node::LogitRows { x } => x,
        _ => residual,
    };
    let mut members = vec![end];
    let mut to_visit = nodes[end].operands();
    while let Some(value) = to_visit.pop() {
        if value == input || members.contains(&value.0) {
            continue;
        }
        // Something from before the input, or that adds to something else on its way.
        if value < input || value == residual || nodes[value.0].residual().is_some() {
            return None;
        }
        members.push(value.0);
        to_visit.extend(nodes[value.0].operands());
    }
    let inner = |value: &ValueId| members[1..].contains(&value.0);
    let is_private = nodes.iter().enumerate().all(|(reader, node)| {
        members.contains(&reader)
            || !node.operands().iter().chain(node.residual().iter()).any(inner)
    });
    members.sort_unstable();
    (is_private && members.len() > 1).then_some((members, residual))
}
