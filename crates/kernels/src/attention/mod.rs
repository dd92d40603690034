//! Paged attention for prefill and decode, with grouped query heads over a block table.
//!
//! A batch is cut into items once ([`AttentionPlan`]); then every layer runs two loops over the
//! worker threads:
//!
//! 1. [`store`]: norms and rotates the keys and writes keys and values into the arena. Its items
//!    are absent when every sequence has one row (decode): then the loop and its barrier can be
//!    left out, and step 2 stores.
//! 2. [`attend`]: norms and rotates the queries and writes the output rows.
//!
//! ## The output of a token depends on nothing but its query and the keys and values it sees
//!
//! Not on what shares the batch, the size of prefill chunks, the number of threads, or prefill or
//! decode, bit for bit:
//!
//! * Keys are taken in splits of [`SPLIT_TOKENS`] at fixed positions. Each has a softmax of its
//!   own; the splits are folded into the result in ascending order by the same operations, be it by
//!   the item that computed them or, when several items share the splits of a query (long
//!   contexts), by the last of these to finish.
//! * Within a split, a score is one chain over the head's dimensions, and an output one chain over
//!   the tokens, in ascending order, and up to [`ROW_TILE`] query rows of any token run through the
//!   same code side by side.
//! * A key that is masked contributes exactly nothing: its weight is 0 and the group it lies in
//!   holds no infinities, for the token that begins a group of the arena clears it.
//!
//! A sequence that does not attend to everything ([`SparseRule`]) has results of its own, which
//! depend on nothing else either.
//!
//! Results differ between instruction sets and KV formats within rounding.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attend;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod buffers;
mod plan;
mod rope;
mod simd;
mod softmax;
mod sparse;
mod store;
mod summary;
mod turn;
mod vector;

pub use attend::attend;
pub use buffers::AttentionBuffers;
pub use plan::{AttentionError, AttentionPlan};
pub use rope::{Rope, RopeRows};
pub use sparse::{ReportField, Selector, SparseRule, SparseSequence, REPORT_FIELDS};
pub use store::store;
pub use turn::{Turn, TurnScratch};

/// Tokens of a split of the keys: the unit of the softmax and of sharing one query's work among
/// threads.
pub const SPLIT_TOKENS: usize = 256;
/// Query rows that are computed side by side.
pub const ROW_TILE: usize = 16;

/// What layers have in common that share an [`AttentionPlan`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `num_kv_heads`.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor on q·k, positive.
    pub scale: f32,
    /// A token sees itself and the `window - 1` tokens before it; `None`: all before it.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

/// The rows of a step; the rows of a sequence are consecutive and are the last of its context.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBatch<'a> {
    /// `(num_rows,)` position of each row in its sequence.
    pub positions: &'a [i32],
    /// `(num_sequences + 1,)` sequence `s` has rows `row_starts[s]..row_starts[s + 1]`, at least
    /// one.
    pub row_starts: &'a [i32],
    /// `(num_sequences,)` tokens of each, this step's included.
    pub context_lens: &'a [i32],
    /// `(num_sequences, table_stride)` arena block of each run of a block's tokens.
    pub block_tables: &'a [i32],
    /// Entries of a row of `block_tables`.
    pub table_stride: usize,
    /// Sequences that do not attend to everything, each once. Those of several rows do all the
    /// same; numbers behind the last sequence mean nothing.
    pub sparse: &'a [SparseSequence],
}

/// One layer's call of [`store`] and [`attend`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionLayer<'a> {
    /// Index of the layer in the KV blocks.
    pub layer: usize,
    /// `(head_dim,)` weight of an RMS norm of each query head before rope.
    pub q_norm: Option<&'a [f32]>,
    /// `(head_dim,)` weight of an RMS norm of each key head before rope.
    pub k_norm: Option<&'a [f32]>,
    /// Epsilon of these norms.
    pub norm_eps: f32,
    /// Rotations of the batch's rows.
    pub rope: &'a RopeRows,
    /// Rows of all query heads, key heads, value heads: `(num_heads + 2 * num_kv_heads) * head_dim`
    /// floats each.
    pub qkv: *const f32,
    /// Floats from one row to the next.
    pub qkv_stride: usize,
    /// Rows of `num_heads * head_dim` floats.
    pub out: *mut f32,
    /// Floats from one row to the next.
    pub out_stride: usize,
    /// The blocks; [`KvLayout::block_bytes`](crate::kv::KvLayout::block_bytes) each.
    pub arena: *mut u8,
}

// SAFETY: the pointers are only used by the unsafe functions `store` and `attend`, whose callers
// answer for them.
unsafe impl Send for AttentionLayer<'_> {}
// SAFETY: as above.
unsafe impl Sync for AttentionLayer<'_> {}

impl AttentionLayer<'_> {
    /// Panics unless the safe parts of `self` fit the plan, so that a wrong call cannot reach
    /// foreign memory.
    #[inline]
    fn check(&self, plan: &AttentionPlan) {
        let head_dim = plan.shape.head_dim;
        assert!(
            self.layer < plan.layout.num_layers(),
            "layer {} of {}",
            self.layer,
            plan.layout.num_layers()
        );
        assert!(
            self.q_norm.is_none_or(|w| w.len() == head_dim),
            "q_norm must have head_dim weights"
        );
        assert!(
            self.k_norm.is_none_or(|w| w.len() == head_dim),
            "k_norm must have head_dim weights"
        );
        assert!(
            self.rope.rotated_dims() <= head_dim,
            "rope rotates more dimensions than a head has"
        );
        assert!(
            self.rope.num_rows().is_none_or(|n| n >= plan.num_rows),
            "rope rows must be those of the batch, or of one that begins with it"
        );
    }
}
