//! One batch as the program reads it, checked once before any kernel trusts it.

use super::ProgramError;
use crate::attention::{AttentionBatch, SparseSequence};

/// Rows of several sequences; see `artesian.engine.batch.Batch`.
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    /// Token id of each row.
    pub tokens: &'a [i32],
    /// Position of each row in its sequence.
    pub positions: &'a [i32],
    /// Rows of sequence s are `row_starts[s]..row_starts[s + 1]`.
    pub row_starts: &'a [i32],
    /// Tokens of each sequence once these rows are stored.
    pub context_lens: &'a [i32],
    /// (sequences, table_stride) arena blocks.
    pub block_tables: &'a [i32],
    /// Columns of `block_tables`.
    pub table_stride: usize,
    /// Rows whose logits are wanted.
    pub logit_rows: &'a [i32],
    /// Sequences that do not attend to everything.
    pub sparse: &'a [SparseSequence],
}

impl BatchView<'_> {
    /// Rows of the batch.
    pub fn num_rows(&self) -> usize {
        self.tokens.len()
    }

    /// The first sequences alone, as attention reads them.
    pub(super) fn first(self, num_sequences: usize) -> Self {
        Self {
            positions: &self.positions[..self.row_starts[num_sequences] as usize],
            row_starts: &self.row_starts[..=num_sequences],
            context_lens: &self.context_lens[..num_sequences],
            block_tables: &self.block_tables[..num_sequences * self.table_stride],
            ..self
        }
    }

    /// The part that attention reads.
    pub(super) fn attention(&self) -> AttentionBatch<'_> {
        AttentionBatch {
            positions: self.positions,
            row_starts: self.row_starts,
            context_lens: self.context_lens,
            block_tables: self.block_tables,
            table_stride: self.table_stride,
            sparse: self.sparse,
        }
    }

    /// Checks that all parts agree with each other and stay inside the given limits.
    pub fn check(&self, max_rows: usize, vocab_size: usize) -> Result<(), ProgramError> {
        let rows = self.num_rows();
        let fail = |message: String| Err(ProgramError::Batch(message));
        if rows == 0 || rows > max_rows {
            return fail(format!("a batch has 1 to {max_rows} rows, this one {rows}"));
        }
        if self.positions.len() != rows {
            return fail(format!("{} positions for {rows} tokens", self.positions.len()));
        }
        let sequences = self.context_lens.len();
        if self.row_starts.len() != sequences + 1
            || self.row_starts[0] != 0
            || self.row_starts[sequences] as usize != rows
            || self.row_starts.windows(2).any(|pair| pair[0] > pair[1])
        {
            return fail(format!("row_starts {:?} do not split {rows} rows", self.row_starts));
        }
        if self.block_tables.len() != sequences * self.table_stride {
            return fail(format!(
                "block_tables of {} entries for {sequences} sequences",
                self.block_tables.len()
            ));
        }
        if let Some(row) = self.sparse.iter().find(|row| row.sequence >= sequences) {
            return fail(format!("sparse sequence {} of {sequences}", row.sequence));
        }
        if let Some(token) = self.tokens.iter().find(|&&t| t < 0 || t as usize >= vocab_size) {
            return fail(format!("token {token} is outside the vocabulary of {vocab_size}"));
        }
        if let Some(row) = self.logit_rows.iter().find(|&&r| r < 0 || r as usize >= rows) {
            return fail(format!("logit row {row} is outside the batch of {rows}"));
        }
        Ok(())
    }
}
