//! Attention to some of the groups of a long context.
//!
//! Only sequences of one row in a batch (decode) attend so, and only in layers without a window.
//! Three groups are always attended to: the first, the last full one, and the open one, in which
//! the token itself lies. Of the others a [`Selector`] takes some, for each KV head on its own;
//! the query heads that share it share the choice.
//!
//! [`Selector::Progressive`] (PSA, arXiv:2503.00392, reconstructed) takes chunks of groups in
//! descending order of the weight that their summaries promise, and after each looks at the weight
//! they really had: it ends when the weight of all that is left, taken to be that of the last
//! chunk for each group, is no longer more than 1 - epsilon of the whole. That is a guess and no
//! bound; [`SparseRule::audit`] says what it was worth.
//!
//! A long context is cut into lanes, so that several threads work for one KV head. A lane has its
//! own candidates, selects and stops for itself, and its result is folded like that of a split. How
//! many lanes there are follows from the context alone: results depend neither on the number of
//! threads nor on what else is in the batch.

mod choose;
mod lane;
mod plan;
mod report;
mod select;

pub(super) use lane::attend_lane;
pub(super) use plan::Lane;
pub(super) use report::Report;
pub use report::{ReportField, REPORT_FIELDS};
pub(super) use select::Ranking;

use super::buffers::AlignedFloats;

/// How groups are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// In order of importance, until the rest cannot matter (PSA).
    Progressive,
    /// So many of the most important (Quest).
    TopK,
    /// The fewest whose estimated weight is enough (after Twilight, by groups).
    TopP,
    /// The first and the latest (StreamingLLM).
    Window,
}

impl Selector {
    /// All of them.
    pub const ALL: [Selector; 4] =
        [Selector::Progressive, Selector::TopK, Selector::TopP, Selector::Window];

    /// Lower-case name, as accepted by [`Selector::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            Selector::Progressive => "progressive",
            Selector::TopK => "top-k",
            Selector::TopP => "top-p",
            Selector::Window => "window",
        }
    }

    /// The selector called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Selector> {
        Selector::ALL.into_iter().find(|selector| selector.name() == name)
    }
}

/// How a sequence attends; see `artesian.attention.SparseAttention`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseRule {
    /// How groups are chosen.
    pub selector: Selector,
    /// Part of the attention weight that is enough (progressive, top-p), in (0, 1].
    pub epsilon: f32,
    /// Most tokens attended to, in whole groups; 0 for no limit (progressive, top-p).
    pub budget_tokens: usize,
    /// So many first layers attend to everything.
    pub dense_layers: usize,
    /// With fewer tokens before it, a token attends to everything.
    pub min_context_tokens: usize,
    /// Work out the weight of what was left out, too.
    pub audit: bool,
}

impl SparseRule {
    /// Why no sequence can attend so, if none can.
    pub(super) fn fault(&self) -> Option<String> {
        if !(self.epsilon > 0.0 && self.epsilon <= 1.0) {
            return Some(format!("epsilon is {}: it must be in (0, 1]", self.epsilon));
        }
        let needs_budget = matches!(self.selector, Selector::TopK | Selector::Window);
        if needs_budget && self.budget_tokens == 0 {
            return Some(format!("{} attention needs a budget of tokens", self.selector.name()));
        }
        None
    }
}

/// A sequence of the batch that does not attend to everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseSequence {
    /// Its number in the batch.
    pub sequence: usize,
    /// How it attends.
    pub rule: SparseRule,
}

/// One thread's memory for choosing.
#[derive(Debug, Default)]
pub(super) struct SparseScratch {
    /// f32 `[queries][head_dim]`, normed and rotated.
    pub queries: AlignedFloats,
    /// The same without signs.
    pub sizes: AlignedFloats,
    /// `[queries][stride]` guesses of scores, by candidate.
    pub guesses: AlignedFloats,
    /// `[stride]` how much the query that wants a candidate most wants it.
    pub ranks: AlignedFloats,
    pub ranking: Ranking,
    /// Groups that were chosen before any was read, ascending.
    pub list: Vec<usize>,
}

impl SparseScratch {
    /// Makes room for contexts of up to `num_groups`.
    pub fn reserve(&mut self, num_groups: usize, num_queries: usize, head_dim: usize) {
        if num_groups == 0 {
            return;
        }
        let stride = guess_stride(num_groups);
        self.queries.reserve(num_queries * head_dim);
        self.sizes.reserve(num_queries * head_dim);
        self.guesses.reserve(num_queries * stride);
        self.ranks.reserve(stride);
        self.ranking.reserve(num_groups);
        self.list.reserve(num_groups);
    }
}

/// Floats from one row of guesses to the next.
fn guess_stride(num_candidates: usize) -> usize {
    num_candidates.next_multiple_of(32)
}
