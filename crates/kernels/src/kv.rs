//! Where the keys and values of a token lie in the arena of KV blocks.
//!
//! The arena is a row of equal blocks, each for `block_size_tokens` consecutive tokens of one
//! sequence. A block is layer-major, so that one layer of it is one contiguous range; a layer holds
//! one tile per KV head, and a tile one group for each [`GROUP_TOKENS`] tokens. A group holds the
//! keys, then the values, in the form the attention kernels read:
//!
//! | dtype | keys | values |
//! |---|---|---|
//! | f32, f16 | `[head_dim][32]` | `[32][head_dim]` |
//! | bf16 | `[2][head_dim / 2][16 tokens][2 dims]` | `[head_dim / 16][16][16 dims][2 tokens]` |
//! | int8 | `[head_dim][32]` | `[32][head_dim]`, then f32 scales `[32]` of the keys and `[32]` of
//! the values |
//!
//! The bf16 forms are the right-hand operands of the bf16 products of AMX and AVX-512. Every tile
//! starts on a 64-byte boundary of the arena.
//!
//! Behind the tiles of a layer may lie summaries of the keys, so that whatever carries blocks
//! carries them: `[kv_head][group]`, each of one or two f16 vectors of `head_dim`
//! ([`KvSummaries`]), filled up to whole cache lines. A summary is there once its group is full.

use std::ops::Range;

use thiserror::Error;

/// Tokens of a group, the unit in which kernels read keys and values.
pub const GROUP_TOKENS: usize = 32;
/// Largest head dimension of the attention kernels.
pub const MAX_HEAD_DIM: usize = 256;
/// Head dimensions are multiples of this.
pub const HEAD_DIM_MULTIPLE: usize = 16;

/// Number format of stored keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision; values beyond ±65,504 are stored as that.
    F16,
    /// The upper half of f32.
    Bf16,
    /// Signed bytes, symmetric, with one scale per token and head for the key and one for the
    /// value.
    Int8,
}

impl KvDtype {
    /// All formats.
    pub const ALL: [KvDtype; 4] = [KvDtype::F32, KvDtype::F16, KvDtype::Bf16, KvDtype::Int8];

    /// Lower-case name, as accepted by [`KvDtype::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            KvDtype::F32 => "f32",
            KvDtype::F16 => "f16",
            KvDtype::Bf16 => "bf16",
            KvDtype::Int8 => "int8",
        }
    }

    /// The format called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<KvDtype> {
        KvDtype::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element, scales apart.
    pub fn element_bytes(self) -> usize {
        match self {
            KvDtype::F32 => 4,
            KvDtype::F16 | KvDtype::Bf16 => 2,
            KvDtype::Int8 => 1,
        }
    }
}

/// What is kept of the keys of each group, for those who choose among groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvSummaries {
    /// Nothing.
    None,
    /// The centre of the keys' bounding box and their mean distance from it, by dimension.
    Cuboid,
    /// The mean key.
    Mean,
    /// The centre of the keys' bounding box and half its size, by dimension.
    MinMax,
}

impl KvSummaries {
    /// All of them.
    pub const ALL: [KvSummaries; 4] =
        [KvSummaries::None, KvSummaries::Cuboid, KvSummaries::Mean, KvSummaries::MinMax];

    /// Lower-case name, as accepted by [`KvSummaries::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            KvSummaries::None => "none",
            KvSummaries::Cuboid => "cuboid",
            KvSummaries::Mean => "mean",
            KvSummaries::MinMax => "min-max",
        }
    }

    /// The kind called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<KvSummaries> {
        KvSummaries::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Vectors of a group's summary.
    pub fn num_vectors(self) -> usize {
        match self {
            KvSummaries::None => 0,
            KvSummaries::Mean => 1,
            KvSummaries::Cuboid | KvSummaries::MinMax => 2,
        }
    }
}

/// Why a layout cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KvLayoutError {
    /// The head dimension has no kernel.
    #[error(
        "head_dim is {0}: it must be a multiple of {HEAD_DIM_MULTIPLE} and at most {MAX_HEAD_DIM}"
    )]
    HeadDim(usize),
    /// The block size does not divide into groups.
    #[error("block_size_tokens is {0}: it must be a positive multiple of {GROUP_TOKENS}")]
    BlockSize(usize),
    /// Nothing to store.
    #[error("{name} is 0: it must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// The block would not fit the address space.
    #[error(
        "a block of {num_layers} layers and {num_kv_heads} KV heads is too large; \
         use smaller blocks"
    )]
    TooLarge {
        /// Layers asked for.
        num_layers: usize,
        /// KV heads asked for.
        num_kv_heads: usize,
    },
}

/// Shape of the KV blocks of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    num_layers: usize,
    num_kv_heads: usize,
    head_dim: usize,
    block_size_tokens: usize,
    dtype: KvDtype,
    summaries: KvSummaries,
}

impl KvLayout {
    /// A layout whose numbers are known to fit together.
    ///
    /// # Errors
    /// See [`KvLayoutError`].
    pub fn new(
        num_layers: usize,
        num_kv_heads: usize,
        head_dim: usize,
        block_size_tokens: usize,
        dtype: KvDtype,
    ) -> Result<KvLayout, KvLayoutError> {
        if head_dim == 0 || !head_dim.is_multiple_of(HEAD_DIM_MULTIPLE) || head_dim > MAX_HEAD_DIM {
            return Err(KvLayoutError::HeadDim(head_dim));
        }
        if block_size_tokens == 0 || !block_size_tokens.is_multiple_of(GROUP_TOKENS) {
            return Err(KvLayoutError::BlockSize(block_size_tokens));
        }
        for (name, value) in [("num_layers", num_layers), ("num_kv_heads", num_kv_heads)] {
            if value == 0 {
                return Err(KvLayoutError::Zero { name });
            }
        }
        // 2^12 bytes bound a token's keys and values of one head, with room for its scales.
        let bound = num_layers
            .checked_mul(num_kv_heads)
            .and_then(|n| n.checked_mul(block_size_tokens))
            .and_then(|n| n.checked_mul(1 << 12));
        if bound.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(KvLayoutError::TooLarge { num_layers, num_kv_heads });
        }
        let summaries = KvSummaries::None;
        Ok(KvLayout { num_layers, num_kv_heads, head_dim, block_size_tokens, dtype, summaries })
    }

    /// The same with summaries.
    pub fn with_summaries(self, summaries: KvSummaries) -> KvLayout {
        KvLayout { summaries, ..self }
    }

    /// What is kept of each group's keys.
    pub fn summaries(&self) -> KvSummaries {
        self.summaries
    }

    /// Layers of a block.
    pub fn num_layers(&self) -> usize {
        self.num_layers
    }

    /// KV heads of a layer.
    pub fn num_kv_heads(&self) -> usize {
        self.num_kv_heads
    }

    /// Elements of a key or value.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Tokens of a block.
    pub fn block_size_tokens(&self) -> usize {
        self.block_size_tokens
    }

    /// Number format.
    pub fn dtype(&self) -> KvDtype {
        self.dtype
    }

    /// Bytes of the keys of a group, which are also those of its values.
    pub fn side_bytes(&self) -> usize {
        GROUP_TOKENS * self.head_dim * self.dtype.element_bytes()
    }

    /// Bytes of a group: keys and values of [`GROUP_TOKENS`] tokens of one KV head.
    pub fn group_bytes(&self) -> usize {
        let scales =
            if self.dtype == KvDtype::Int8 { 2 * GROUP_TOKENS * size_of::<f32>() } else { 0 };
        2 * self.side_bytes() + scales
    }

    /// Bytes of a tile: one KV head of one layer of one block.
    pub fn tile_bytes(&self) -> usize {
        self.block_size_tokens / GROUP_TOKENS * self.group_bytes()
    }

    /// Groups of a tile.
    pub fn groups_per_block(&self) -> usize {
        self.block_size_tokens / GROUP_TOKENS
    }

    /// Bytes of the tiles of one layer of a block.
    pub fn tiles_bytes(&self) -> usize {
        self.num_kv_heads * self.tile_bytes()
    }

    /// Bytes of the summary of a group.
    pub fn summary_bytes(&self) -> usize {
        self.summaries.num_vectors() * self.head_dim * size_of::<u16>()
    }

    /// Bytes of one layer of a block: its tiles, then its summaries.
    pub fn layer_bytes(&self) -> usize {
        let summaries = self.num_kv_heads * self.groups_per_block() * self.summary_bytes();
        self.tiles_bytes() + summaries.next_multiple_of(64)
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.num_layers * self.layer_bytes()
    }

    /// Where a layer lies in its block, in bytes.
    pub fn layer_range(&self, layer: usize) -> Range<usize> {
        layer * self.layer_bytes()..(layer + 1) * self.layer_bytes()
    }

    /// Where a tile starts in its block, in bytes.
    pub fn tile_offset(&self, layer: usize, kv_head: usize) -> usize {
        layer * self.layer_bytes() + kv_head * self.tile_bytes()
    }

    /// Where the summary of group `group` of a tile starts in its block, in bytes.
    pub fn summary_offset(&self, layer: usize, kv_head: usize, group: usize) -> usize {
        let place = kv_head * self.groups_per_block() + group;
        layer * self.layer_bytes() + self.tiles_bytes() + place * self.summary_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fill_a_block_without_gaps_on_cache_lines() {
        for dtype in KvDtype::ALL {
            assert_eq!(KvDtype::from_name(dtype.name()), Some(dtype));
            for head_dim in [16, 80, 256] {
                let layout = KvLayout::new(3, 2, head_dim, 64, dtype).unwrap();
                let mut end = 0;
                for layer in 0..3 {
                    assert_eq!(layout.layer_range(layer).start, end);
                    for kv_head in 0..2 {
                        assert_eq!(layout.tile_offset(layer, kv_head), end);
                        end += layout.tile_bytes();
                        assert_eq!(end % 64, 0);
                    }
                }
                assert_eq!(layout.block_bytes(), end);
            }
        }
        assert_eq!(
            KvLayout::new(30, 3, 64, 32, KvDtype::Bf16).unwrap().block_bytes(),
            30 * 3 * 2 * 32 * 64 * 2
        );
    }

    #[test]
    fn summaries_lie_behind_the_tiles_of_their_layer() {
        for kind in KvSummaries::ALL {
            assert_eq!(KvSummaries::from_name(kind.name()), Some(kind));
            let plain = KvLayout::new(2, 3, 16, 64, KvDtype::F16).unwrap();
            let layout = plain.with_summaries(kind);
            let size = kind.num_vectors() * 16 * 2;
            assert_eq!(layout.tiles_bytes(), plain.layer_bytes());
            assert_eq!(layout.layer_bytes(), plain.layer_bytes() + (6 * size).div_ceil(64) * 64);
            let layer = layout.layer_range(1);
            for (place, (head, group)) in (0..3).flat_map(|h| [(h, 0), (h, 1)]).enumerate() {
                let at = layout.summary_offset(1, head, group);
                assert_eq!(at, layer.start + layout.tiles_bytes() + place * size);
                assert!(at + size <= layer.end && layer.end.is_multiple_of(64));
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused_by_name() {
        let new =
            |layers, heads, dim, block| KvLayout::new(layers, heads, dim, block, KvDtype::F16);
        assert_eq!(new(1, 1, 72, 32), Err(KvLayoutError::HeadDim(72)));
        assert_eq!(new(1, 1, 272, 32), Err(KvLayoutError::HeadDim(272)));
        assert_eq!(new(1, 1, 64, 16), Err(KvLayoutError::BlockSize(16)));
        assert_eq!(new(1, 0, 64, 32), Err(KvLayoutError::Zero { name: "num_kv_heads" }));
        assert!(matches!(new(usize::MAX, 2, 64, 32), Err(KvLayoutError::TooLarge { .. })));
    }
}
