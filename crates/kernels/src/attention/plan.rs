//! How the attention of one batch is cut into items, checked once and then used by every layer of
//! the same kind.
//!
//! Cutting never changes a bit of the result: see the module's documentation.

use std::sync::atomic::AtomicU32;

use thiserror::Error;

use super::sparse::{Lane, SparseRule};
use super::{AttentionBatch, AttentionShape, ROW_TILE, SPLIT_TOKENS};
use crate::isa::Isa;
use crate::kv::{KvDtype, KvLayout, GROUP_TOKENS};

/// Row tiles of an item at most: enough to use a split of keys and values many times while it is in
/// cache.
const MAX_ITEM_TILES: usize = 8;
/// Items to aim at for each thread, so that the last to finish does not keep the others waiting.
const ITEMS_PER_THREAD: usize = 4;
/// Groups of keys times row tiles below which an item is not cut further.
const MIN_ITEM_COST: usize = SPLIT_TOKENS / GROUP_TOKENS;

/// Why a batch cannot be attended to.
#[derive(Debug, Error, PartialEq)]
pub enum AttentionError {
    /// Query heads, KV heads and head dimension do not fit each other or the layout.
    #[error(
        "attention with {num_heads} heads over {num_kv_heads} KV heads of {head_dim} does not fit \
         KV blocks with {layout_kv_heads} heads of {layout_head_dim}"
    )]
    Shape {
        /// Query heads.
        num_heads: usize,
        /// KV heads.
        num_kv_heads: usize,
        /// Elements of a head.
        head_dim: usize,
        /// KV heads of a block.
        layout_kv_heads: usize,
        /// Elements of a head of a block.
        layout_head_dim: usize,
    },
    /// A number that must be positive and finite is not.
    #[error("attention's {name} is {value}: it must be positive and finite")]
    Number {
        /// The field.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// A window that nothing can see through.
    #[error("attention's window is 0: a token must see at least itself")]
    Window,
    /// The arrays of the batch contradict each other.
    #[error("batch: {0}")]
    Batch(String),
    /// A block number outside the arena.
    #[error(
        "sequence {sequence} has block {block} at entry {entry} of its table, but the arena has \
         {num_blocks}"
    )]
    Block {
        /// Sequence of the batch.
        sequence: usize,
        /// Entry of its block table.
        entry: usize,
        /// What it says.
        block: i32,
        /// Blocks of the arena.
        num_blocks: usize,
    },
    /// This machine lacks the instruction set.
    #[error("this machine cannot run {0} kernels")]
    Isa(&'static str),
}

/// One sequence of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// Its first row in the batch.
    pub first_row: usize,
    pub num_rows: usize,
    /// Position of its first row.
    pub first_position: usize,
    /// Its first entry in [`AttentionPlan::blocks`].
    pub table: usize,
    /// Its place among the batch's rules, and the rule.
    pub sparse: Option<(usize, SparseRule)>,
}

/// Rows of one sequence within one group of tokens, whose keys and values are stored together.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreItem {
    pub sequence: usize,
    /// First row and number of rows, counted in the sequence.
    pub first_row: usize,
    pub num_rows: usize,
}

/// Query rows of one KV head against a range of splits.
///
/// Query rows of a KV head are numbered in the sequence as `row * group + head of the group`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttendItem {
    pub sequence: usize,
    pub kv_head: usize,
    pub first_query: usize,
    pub num_queries: usize,
    pub first_split: usize,
    pub end_split: usize,
    /// The sequence has one row only, and this item stores its key and value first.
    pub stores: bool,
    /// The merge it takes part in, if it has only some of the splits.
    pub merge: Option<usize>,
    /// In layers where the sequence does not attend to everything: the part that it has of it.
    pub lane: Option<Lane>,
}

/// What the items that share query rows leave for the last of them.
#[derive(Debug)]
pub(super) struct Merge {
    /// First partial result; they are numbered `(split - first_split) * num_queries + query`.
    pub first_partial: usize,
    pub first_split: usize,
    pub end_split: usize,
    pub num_items: u32,
    /// Items finished. The last one sets it back to 0 for the next layer.
    pub num_finished: AtomicU32,
}

/// The attention of one batch for all layers of one shape.
#[derive(Debug)]
pub struct AttentionPlan {
    pub(super) isa: Isa,
    pub(super) shape: AttentionShape,
    pub(super) layout: KvLayout,
    pub(super) num_rows: usize,
    pub(super) sequences: Vec<Sequence>,
    pub(super) blocks: Vec<u32>,
    pub(super) stores: Vec<StoreItem>,
    pub(super) attends: Vec<AttendItem>,
    pub(super) merges: Vec<Merge>,
    pub(super) num_partials: usize,
}

impl AttentionPlan {
    /// Checks `batch` against the layout and an arena of `num_blocks` blocks and cuts it up for
    /// `num_threads`.
    ///
    /// The kernels are those of `isa`. For bf16 that is AMX with heads of a multiple of 32, and
    /// else AVX-512 BF16 if the set has it; the vectors of the set compute other formats in f32.
    ///
    /// # Errors
    /// See [`AttentionError`]. Block table entries that no row of the batch can see are not looked
    /// at.
    pub fn new(
        batch: &AttentionBatch<'_>,
        layout: &KvLayout,
        shape: &AttentionShape,
        num_blocks: usize,
        num_threads: usize,
        isa: Isa,
    ) -> Result<AttentionPlan, AttentionError> {
        let mut plan = AttentionPlan::empty(layout, shape, isa)?;
        plan.renew(batch, num_blocks, num_threads)?;
        Ok(plan)
    }

    /// A plan of no rows.
    ///
    /// # Errors
    /// See [`AttentionError`].
    pub fn empty(
        layout: &KvLayout,
        shape: &AttentionShape,
        isa: Isa,
    ) -> Result<AttentionPlan, AttentionError> {
        check_shape(layout, shape)?;
        if !isa.is_available() {
            return Err(AttentionError::Isa(isa.name()));
        }
        Ok(AttentionPlan {
            isa,
            shape: *shape,
            layout: *layout,
            num_rows: 0,
            sequences: Vec::new(),
            blocks: Vec::new(),
            stores: Vec::new(),
            attends: Vec::new(),
            merges: Vec::new(),
            num_partials: 0,
        })
    }

    /// Makes this the plan of another batch, in the memory of what was here.
    ///
    /// # Errors
    /// As for [`AttentionPlan::new`]; use the plan for no batch then.
    pub fn renew(
        &mut self,
        batch: &AttentionBatch<'_>,
        num_blocks: usize,
        num_threads: usize,
    ) -> Result<(), AttentionError> {
        self.num_rows = batch.positions.len();
        self.sequences.clear();
        self.blocks.clear();
        self.stores.clear();
        self.attends.clear();
        self.merges.clear();
        self.num_partials = 0;
        for sequence in 0..batch.context_lens.len() {
            self.add_sequence(batch, sequence, num_blocks)?;
        }
        if batch.row_starts.len() != self.sequences.len() + 1
            || self.sequences.iter().map(|s| s.num_rows).sum::<usize>() != self.num_rows
        {
            return Err(AttentionError::Batch(format!(
                "{} row_starts do not share out {} rows among {} sequences",
                batch.row_starts.len(),
                self.num_rows,
                self.sequences.len()
            )));
        }
        self.add_rules(batch)?;
        self.cut(num_threads.max(1));
        Ok(())
    }

    /// Bytes of keys and values that a layer reads for queries of one row a sequence.
    pub fn num_kv_bytes(&self) -> usize {
        let groups = self.sequences.iter().map(|sequence| {
            let last = sequence.first_position + sequence.num_rows - 1;
            self.num_groups(sequence.first_position, last)
        });
        groups.sum::<usize>() * self.shape.num_kv_heads * self.layout.group_bytes()
    }

    /// Items of [`store`](super::store); 0 when every sequence has one row, for then attending
    /// stores too.
    pub fn num_store_items(&self) -> usize {
        self.stores.len()
    }

    /// Items of [`attend`](super::attend).
    pub fn num_attend_items(&self) -> usize {
        self.attends.len()
    }

    /// The sequence of the batch whose queries an item of [`attend`](super::attend) has.
    pub fn sequence_of(&self, item: usize) -> usize {
        self.attends[item].sequence
    }

    /// Rows of the batch.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Whether the AMX kernel attends.
    pub(super) fn uses_amx(&self) -> bool {
        self.isa == Isa::Amx
            && self.layout.dtype() == KvDtype::Bf16
            && self.layout.head_dim().is_multiple_of(32)
    }

    /// Whether products are taken of pairs of bf16, if not by AMX.
    pub(super) fn uses_bf16_pairs(&self) -> bool {
        self.isa >= Isa::Avx512Bf16 && self.layout.dtype() == KvDtype::Bf16 && !self.uses_amx()
    }

    /// Query heads of a KV head.
    pub(super) fn group(&self) -> usize {
        self.shape.num_heads / self.shape.num_kv_heads
    }

    /// Most query rows of an item.
    pub(super) fn max_item_queries(&self) -> usize {
        self.attends.iter().map(|item| item.num_queries).max().unwrap_or(0)
    }

    /// First position that a token at `position` sees.
    pub(super) fn first_visible(&self, position: usize) -> usize {
        self.shape.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Offset in the arena of the group of tokens with number `group` of a sequence.
    pub(super) fn group_offset(
        &self,
        sequence: &Sequence,
        layer: usize,
        kv_head: usize,
        group: usize,
    ) -> usize {
        let groups_per_block = self.layout.groups_per_block();
        let block = self.blocks[sequence.table + group / groups_per_block] as usize;
        block * self.layout.block_bytes()
            + self.layout.tile_offset(layer, kv_head)
            + group % groups_per_block * self.layout.group_bytes()
    }

    /// Offset in the arena of the summary of the group of tokens with number `group`.
    pub(super) fn summary_offset(
        &self,
        sequence: &Sequence,
        layer: usize,
        kv_head: usize,
        group: usize,
    ) -> usize {
        let groups_per_block = self.layout.groups_per_block();
        let block = self.blocks[sequence.table + group / groups_per_block] as usize;
        block * self.layout.block_bytes()
            + self.layout.summary_offset(layer, kv_head, group % groups_per_block)
    }

    fn add_sequence(
        &mut self,
        batch: &AttentionBatch<'_>,
        sequence: usize,
        num_blocks: usize,
    ) -> Result<(), AttentionError> {
        let bounds = batch.row_starts.get(sequence).zip(batch.row_starts.get(sequence + 1));
        let expected_start = self.sequences.last().map_or(0, |s| s.first_row + s.num_rows);
        let (first_row, end_row) = match bounds {
            Some((&a, &b))
                if a as usize == expected_start && a < b && b as usize <= self.num_rows =>
            {
                (a as usize, b as usize)
            }
            _ => {
                return Err(AttentionError::Batch(format!(
                    "the rows of sequence {sequence} must start at {expected_start}, be at least \
                     one, and end by {}, but row_starts are {:?}",
                    self.num_rows, batch.row_starts
                )));
            }
        };
        let num_rows = end_row - first_row;
        let context_len = usize::try_from(batch.context_lens[sequence]).unwrap_or(0);
        let Some(first_position) = context_len.checked_sub(num_rows) else {
            return Err(AttentionError::Batch(format!(
                "sequence {sequence} has {num_rows} rows but a context of {}",
                batch.context_lens[sequence]
            )));
        };
        for (row, &position) in batch.positions[first_row..end_row].iter().enumerate() {
            if position as i64 != (first_position + row) as i64 {
                return Err(AttentionError::Batch(format!(
                    "row {row} of sequence {sequence} is at position {position}, but must be the \
                     {}th of {context_len}",
                    first_position + row
                )));
            }
        }
        let block_size = self.layout.block_size_tokens();
        let num_entries = context_len.div_ceil(block_size);
        let table = batch
            .table_stride
            .checked_mul(sequence)
            .and_then(|start| batch.block_tables.get(start..))
            .and_then(|table| table.get(..num_entries.min(batch.table_stride)))
            .filter(|table| table.len() == num_entries)
            .ok_or_else(|| {
                AttentionError::Batch(format!(
                    "sequence {sequence} needs {num_entries} blocks for {context_len} tokens, but \
                     its table is shorter"
                ))
            })?;
        let first_entry = self.first_visible(first_position) / block_size;
        let start = self.blocks.len();
        for (entry, &block) in table.iter().enumerate() {
            let known = u32::try_from(block).ok().filter(|&b| (b as usize) < num_blocks);
            match known {
                Some(block) => self.blocks.push(block),
                None if entry < first_entry => self.blocks.push(u32::MAX),
                None => return Err(AttentionError::Block { sequence, entry, block, num_blocks }),
            }
        }
        let (table, sparse) = (start, None);
        self.sequences.push(Sequence { first_row, num_rows, first_position, table, sparse });
        Ok(())
    }

    /// Splits that queries at these positions (first, last) see.
    fn splits(&self, first_position: usize, last_position: usize) -> (usize, usize) {
        (self.first_visible(first_position) / SPLIT_TOKENS, last_position / SPLIT_TOKENS + 1)
    }

    /// Groups of keys that queries at these positions see.
    fn num_groups(&self, first_position: usize, last_position: usize) -> usize {
        last_position / GROUP_TOKENS + 1 - self.first_visible(first_position) / GROUP_TOKENS
    }

    fn cut(&mut self, num_threads: usize) {
        let group = self.group();
        let mut total_cost = 0;
        for s in &self.sequences {
            let mean_groups = self
                .num_groups(s.first_position + s.num_rows / 2, s.first_position + s.num_rows / 2);
            total_cost +=
                (s.num_rows * group).div_ceil(ROW_TILE) * mean_groups * self.shape.num_kv_heads;
        }
        let target = if num_threads == 1 {
            usize::MAX
        } else {
            (total_cost / (num_threads * ITEMS_PER_THREAD)).max(MIN_ITEM_COST)
        };
        let mut costs = Vec::new();
        for index in 0..self.sequences.len() {
            self.cut_stores(index);
            self.cut_attends(index, target, &mut costs);
        }
        if num_threads == 1 {
            return;
        }
        // The largest first, so that small ones fill the end.
        let mut order: Vec<usize> = (0..self.attends.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(costs[i]));
        self.attends = order.into_iter().map(|i| self.attends[i]).collect();
    }

    fn cut_stores(&mut self, index: usize) {
        let s = self.sequences[index];
        if s.num_rows == 1 {
            return;
        }
        let mut row = 0;
        while row < s.num_rows {
            let room = GROUP_TOKENS - (s.first_position + row) % GROUP_TOKENS;
            let num_rows = room.min(s.num_rows - row);
            self.stores.push(StoreItem { sequence: index, first_row: row, num_rows });
            row += num_rows;
        }
    }

    fn cut_attends(&mut self, index: usize, target: usize, costs: &mut Vec<usize>) {
        let s = self.sequences[index];
        let group = self.group();
        let num_queries = s.num_rows * group;
        let last_position = s.first_position + s.num_rows - 1;
        let tile_cost =
            self.num_groups(last_position.saturating_sub(ROW_TILE / group), last_position);
        // One row stays whole, for the item that has the last split stores its key and value.
        let item_tiles = if s.num_rows == 1 {
            num_queries.div_ceil(ROW_TILE)
        } else {
            (target / tile_cost).clamp(1, MAX_ITEM_TILES)
        };
        for first_query in (0..num_queries).step_by(item_tiles * ROW_TILE) {
            let num_queries = (num_queries - first_query).min(item_tiles * ROW_TILE);
            let first = s.first_position + first_query / group;
            let last = s.first_position + (first_query + num_queries - 1) / group;
            let (first_split, end_split) = self.splits(first, last);
            let cost = self.num_groups(first, last) * num_queries.div_ceil(ROW_TILE);
            let lanes = self.lanes(&s);
            let num_ranges = lanes.map_or(cost.div_ceil(target), |(_, count)| count);
            let num_ranges = num_ranges.clamp(1, end_split - first_split);
            for kv_head in 0..self.shape.num_kv_heads {
                let merge = (num_ranges > 1).then(|| {
                    self.merges.push(Merge {
                        first_partial: self.num_partials,
                        first_split,
                        end_split,
                        num_items: num_ranges as u32,
                        num_finished: AtomicU32::new(0),
                    });
                    self.num_partials += (end_split - first_split) * num_queries;
                    self.merges.len() - 1
                });
                let at =
                    |range: usize| first_split + (end_split - first_split) * range / num_ranges;
                for range in 0..num_ranges {
                    self.attends.push(AttendItem {
                        sequence: index,
                        kv_head,
                        first_query,
                        num_queries,
                        first_split: at(range),
                        end_split: at(range + 1),
                        stores: s.num_rows == 1 && range + 1 == num_ranges,
                        merge,
                        lane: lanes.map(|(rule, count)| Lane { rule, index: range, count }),
                    });
                    costs.push(cost / num_ranges);
                }
            }
        }
    }
}

fn check_shape(layout: &KvLayout, shape: &AttentionShape) -> Result<(), AttentionError> {
    let fits = shape.num_kv_heads == layout.num_kv_heads()
        && shape.head_dim == layout.head_dim()
        && shape.num_heads > 0
        && shape.num_heads.is_multiple_of(shape.num_kv_heads);
    if !fits {
        return Err(AttentionError::Shape {
            num_heads: shape.num_heads,
            num_kv_heads: shape.num_kv_heads,
            head_dim: shape.head_dim,
            layout_kv_heads: layout.num_kv_heads(),
            layout_head_dim: layout.head_dim(),
        });
    }
    for (name, value) in [("scale", Some(shape.scale)), ("softcap", shape.softcap)] {
        if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(AttentionError::Number { name, value });
        }
    }
    if shape.window == Some(0) {
        return Err(AttentionError::Window);
    }
    Ok(())
}
