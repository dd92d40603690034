//! Weight formats of GGUF files.
//!
//! A quantised row is a run of blocks. [`decode_row`] brings every block format into one form
//! without changing a value: an unsigned code for each weight, and for each group of weights a
//! scale and a minimum with `value = scale * code + min`. The packed linear kernels are built from
//! that form alone.

mod blocks;
mod rows;

pub use rows::{decode_row, dequantize_row};

/// Why a row cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A row must be a whole number of blocks.
    #[error(
        "a row of {cols} weights is not a whole number of {format} blocks of {block_len} weights"
    )]
    PartialBlock {
        /// Name of the format.
        format: &'static str,
        /// Weights in the row.
        cols: usize,
        /// Weights in a block.
        block_len: usize,
    },
    /// The row's size in bytes does not fit the address space.
    #[error("a row of {cols} {format} weights is larger than memory")]
    TooLarge {
        /// Name of the format.
        format: &'static str,
        /// Weights in the row.
        cols: usize,
    },
    /// A slice has not the length the row asks for.
    #[error("{what} of a {format} row of {cols} weights: expected {expected}, got {found}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Name of the format.
        format: &'static str,
        /// Weights in the row.
        cols: usize,
        /// Length it must have.
        expected: usize,
        /// Length it has.
        found: usize,
    },
    /// Only quantised formats have codes.
    #[error("{format} weights are not quantised and have no codes")]
    NotQuantized {
        /// Name of the format.
        format: &'static str,
    },
}

/// How the weights of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // the names that GGUF gives them
pub enum Format {
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// 32 4-bit codes and a scale.
    Q4_0,
    /// 32 4-bit codes, a scale and a minimum.
    Q4_1,
    /// 32 5-bit codes and a scale.
    Q5_0,
    /// 32 5-bit codes, a scale and a minimum.
    Q5_1,
    /// 32 signed bytes and a scale.
    Q8_0,
    /// 8 groups of 32 4-bit codes with 6-bit scales and minimums.
    Q4_K,
    /// 8 groups of 32 5-bit codes with 6-bit scales and minimums.
    Q5_K,
    /// 16 groups of 16 6-bit codes with 8-bit scales.
    Q6_K,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
    ];

    /// The format that GGUF calls `name`, such as `"Q4_K"`, in any case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// GGUF's name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q4_K => "Q4_K",
            Format::Q5_K => "Q5_K",
            Format::Q6_K => "Q6_K",
        }
    }

    /// Weights in a block; 1 for floats.
    pub fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => 32,
            Format::Q4_K | Format::Q5_K | Format::Q6_K => 256,
        }
    }

    /// Size of a block in bytes.
    pub fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q4_K => 144,
            Format::Q5_K => 176,
            Format::Q6_K => 210,
        }
    }

    /// Size in bytes of a row of `cols` weights.
    pub fn row_bytes(self, cols: usize) -> Result<usize, FormatError> {
        let (format, block_len) = (self.name(), self.block_len());
        if !cols.is_multiple_of(block_len) {
            return Err(FormatError::PartialBlock { format, cols, block_len });
        }
        (cols / block_len)
            .checked_mul(self.block_bytes())
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or(FormatError::TooLarge { format, cols })
    }

    /// Bytes of a row, given that `num_bytes` is exactly `rows` rows of `cols` weights.
    pub fn check_rows(
        self,
        num_bytes: usize,
        rows: usize,
        cols: usize,
    ) -> Result<usize, FormatError> {
        let row_bytes = self.row_bytes(cols)?;
        let expected = row_bytes
            .checked_mul(rows)
            .ok_or(FormatError::TooLarge { format: self.name(), cols })?;
        if num_bytes != expected {
            let format = self.name();
            let what = "all rows";
            return Err(FormatError::Length { what, format, cols, expected, found: num_bytes });
        }
        Ok(row_bytes)
    }

    /// Weights that share a scale and a minimum; 1 for floats.
    pub fn group_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q6_K => 16,
            _ => 32,
        }
    }

    /// Width that holds an unsigned code: 4 or 8 bits; 0 for floats, which have none.
    pub fn code_bits(self) -> u32 {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 0,
            Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 4,
            Format::Q5_0 | Format::Q5_1 | Format::Q5_K | Format::Q6_K | Format::Q8_0 => 8,
        }
    }

    /// Whether weights are codes with scales.
    pub fn is_quantized(self) -> bool {
        self.code_bits() != 0
    }

    /// The code whose value is zero in every group, for formats that are symmetric about it:
    /// there `value = scale * (code - zero_point)`. None where minimums are free, and for floats.
    pub fn zero_point(self) -> Option<u8> {
        match self {
            Format::Q4_0 => Some(8),
            Format::Q5_0 => Some(16),
            Format::Q8_0 => Some(128),
            Format::Q6_K => Some(32),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
        assert_eq!(Format::from_name("IQ2_XS"), None);
    }

    #[test]
    fn row_sizes_are_checked() {
        assert_eq!(Format::Q4_K.row_bytes(512), Ok(288));
        assert_eq!(
            Format::Q4_K.row_bytes(300),
            Err(FormatError::PartialBlock { format: "Q4_K", cols: 300, block_len: 256 })
        );
        assert_eq!(
            Format::F32.row_bytes(usize::MAX / 2),
            Err(FormatError::TooLarge { format: "F32", cols: usize::MAX / 2 })
        );
    }
}
