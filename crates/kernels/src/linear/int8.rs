//! Weights rounded to INT8 with one scale for each output channel, as blocks that every kernel
//! reads.

use half::f16;

use crate::gguf::{dequantize_row, Format, FormatError};

/// Weights of a block.
const BLOCK: usize = 32;
/// Largest code.
const LARGEST: f32 = 127.0;

/// Rounds a (rows, cols) weight of any format to Q8_0 blocks that share one scale in each row.
///
/// The scale is the smallest half-precision number for which no code leaves -127..=127.
///
/// # Errors
/// When `data` is not exactly `rows` rows of `cols` weights of `format`, or `cols` is not a
/// multiple of 32.
pub fn round_to_int8(
    format: Format,
    data: &[u8],
    rows: usize,
    cols: usize,
) -> Result<Vec<u8>, FormatError> {
    let row_bytes = format.check_rows(data.len(), rows, cols)?;
    let mut blocks = Vec::with_capacity(rows * Format::Q8_0.row_bytes(cols)?);
    let mut values = vec![0f32; cols];
    for bytes in data.chunks_exact(row_bytes) {
        dequantize_row(format, bytes, &mut values)?;
        let max = values.iter().fold(0f32, |max, v| max.max(v.abs()));
        let scale = half_above(max / LARGEST);
        let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
        for block in values.chunks_exact(BLOCK) {
            blocks.extend(scale.to_bits().to_le_bytes());
            blocks.extend(block.iter().map(|v| (v * inverse).round_ties_even() as i8 as u8));
        }
    }
    Ok(blocks)
}

/// The smallest half-precision number that is not below `value`.
fn half_above(value: f32) -> f16 {
    let near = f16::from_f32(value);
    if near.to_f32() < value {
        f16::from_bits(near.to_bits() + 1)
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_within_half_a_step_of_their_channel() {
        let (rows, cols) = (3, 64);
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 10f32.powi(-(i as i32) / 64))
            .collect();
        let blocks =
            round_to_int8(Format::F32, bytemuck::cast_slice(&values), rows, cols).expect("fits");
        let row_bytes = Format::Q8_0.row_bytes(cols).expect("whole blocks");
        for (row, bytes) in blocks.chunks(row_bytes).enumerate() {
            let exact = &values[row * cols..][..cols];
            let max = exact.iter().fold(0f32, |max, v| max.max(v.abs()));
            let mut ours = vec![0f32; cols];
            dequantize_row(Format::Q8_0, bytes, &mut ours).expect("whole row");
            assert_eq!(bytes[..2], bytes[34..36], "one scale to a row");
            for (a, b) in exact.iter().zip(&ours) {
                assert!((a - b).abs() <= max / 127.0 * 0.502, "{a} {b} of {max}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_odd_rows_are_errors() {
        let blocks = round_to_int8(Format::F32, &[0; 128], 1, 32).expect("fits");
        assert!(blocks.iter().all(|&b| b == 0));
        assert!(round_to_int8(Format::F32, &[0; 132], 1, 33).is_err());
        assert!(round_to_int8(Format::F32, &[0; 127], 1, 32).is_err());
    }
}
