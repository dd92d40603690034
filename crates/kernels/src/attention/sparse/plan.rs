//! Who attends sparsely, and in how many lanes.

use super::super::plan::{AttentionError, AttentionPlan, Sequence};
use super::super::{AttentionBatch, ROW_TILE};
use super::{Selector, SparseRule};
use crate::kv::{KvSummaries, GROUP_TOKENS};

/// Groups of a context for each lane.
const LANE_GROUPS: usize = 32;
/// Lanes at most: each reads some groups before it can know that they are enough.
const MAX_LANES: usize = 2;
/// With fewer candidates there is nothing to gain.
const MIN_CANDIDATES: usize = 8;

/// The part of a sequence's groups that one item chooses from.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Lane {
    pub rule: SparseRule,
    pub index: usize,
    pub count: usize,
}

impl AttentionPlan {
    /// Notes which sequences have a rule. Those behind the plan's last are others' business: a plan
    /// may be of a batch's first sequences only.
    pub(in super::super) fn add_rules(
        &mut self,
        batch: &AttentionBatch<'_>,
    ) -> Result<(), AttentionError> {
        let fail = |text: String| Err(AttentionError::Batch(text));
        for (entry, sparse) in batch.sparse.iter().enumerate() {
            let Some(sequence) = self.sequences.get_mut(sparse.sequence) else { continue };
            if let Some(fault) = sparse.rule.fault() {
                return fail(format!("sequence {}: {fault}", sparse.sequence));
            }
            let is_blind = self.layout.summaries() == KvSummaries::None;
            if is_blind && sparse.rule.selector != Selector::Window {
                return fail(format!(
                    "sequence {} cannot choose what it attends to: the KV blocks hold no \
                     summaries of keys",
                    sparse.sequence
                ));
            }
            if sequence.sparse.is_some() {
                return fail(format!("sequence {} has two rules", sparse.sequence));
            }
            sequence.sparse = Some((entry, sparse.rule));
        }
        Ok(())
    }

    /// The rule by which a sequence attends in layers that may be sparse, and its lanes; `None` if
    /// it attends to everything. It follows from the sequence alone.
    pub(in super::super) fn lanes(&self, sequence: &Sequence) -> Option<(SparseRule, usize)> {
        let (_, rule) = sequence.sparse?;
        let position = sequence.first_position;
        let is_long =
            position >= rule.min_context_tokens && position / GROUP_TOKENS >= MIN_CANDIDATES + 2;
        let can = sequence.num_rows == 1 && self.shape.window.is_none() && self.group() <= ROW_TILE;
        let count = (position / GROUP_TOKENS / LANE_GROUPS).clamp(1, MAX_LANES);
        (is_long && can).then_some((rule, count))
    }

    /// Groups of the longest context that attends sparsely.
    pub(in super::super) fn max_sparse_groups(&self) -> usize {
        let groups = self.sequences.iter().filter(|s| self.lanes(s).is_some());
        groups.map(|s| s.first_position / GROUP_TOKENS + 1).max().unwrap_or(0)
    }
}
