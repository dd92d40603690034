//! Whole rows: checks, then block by block.

use super::{blocks, Format, FormatError};
use half::{bf16, f16};

/// Most weights in a block of any format.
const MAX_BLOCK_LEN: usize = 256;
/// Most groups in a block of any format.
const MAX_BLOCK_GROUPS: usize = 16;

fn check(
    format: Format,
    cols: usize,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), FormatError> {
    if expected == found {
        return Ok(());
    }
    Err(FormatError::Length { what, format: format.name(), cols, expected, found })
}

/// Decodes a quantised row of `codes.len()` weights (a whole number of blocks) into codes, scales
/// and minimums.
///
/// `bytes` is the row as stored, `Format::row_bytes` long; `scales` and `mins` have one entry for
/// each group of `Format::group_len` weights. Weight `i` of group `g` is `scales[g] * codes[i] +
/// mins[g]`; in formats with a zero point the reference computes it as `scales[g] * (codes[i] -
/// zero_point)`, which [`dequantize_row`] does.
pub fn decode_row(
    format: Format,
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
) -> Result<(), FormatError> {
    if !format.is_quantized() {
        return Err(FormatError::NotQuantized { format: format.name() });
    }
    let cols = codes.len();
    let num_groups = cols / format.group_len();
    check(format, cols, "bytes", format.row_bytes(cols)?, bytes.len())?;
    check(format, cols, "scales", num_groups, scales.len())?;
    check(format, cols, "minimums", num_groups, mins.len())?;
    decode_blocks(format, bytes, codes, scales, mins);
    Ok(())
}

/// Decodes a row of `out.len()` weights of any format to floats, with the bits of the reference
/// dequantiser.
///
/// `bytes` is the row as stored, `Format::row_bytes` long.
pub fn dequantize_row(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<(), FormatError> {
    check(format, out.len(), "bytes", format.row_bytes(out.len())?, bytes.len())?;
    match format {
        Format::F32 => convert(bytes, out, f32::from_le_bytes),
        Format::F16 => convert(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Format::BF16 => convert(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        _ => dequantize_blocks(format, bytes, out),
    }
    Ok(())
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

fn dequantize_blocks(format: Format, bytes: &[u8], out: &mut [f32]) {
    let (block_len, group_len) = (format.block_len(), format.group_len());
    let num_groups = block_len / group_len;
    let mut codes = [0u8; MAX_BLOCK_LEN];
    let (mut scales, mut mins) = ([0f32; MAX_BLOCK_GROUPS], [0f32; MAX_BLOCK_GROUPS]);
    for (bytes, out) in
        bytes.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(block_len))
    {
        decode_blocks(
            format,
            bytes,
            &mut codes[..block_len],
            &mut scales[..num_groups],
            &mut mins[..num_groups],
        );
        let groups = codes.chunks_exact(group_len).zip(out.chunks_exact_mut(group_len));
        for ((codes, out), (&scale, &min)) in groups.zip(scales.iter().zip(&mins)) {
            if let Some(zero) = format.zero_point() {
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = scale * f32::from(i16::from(code) - i16::from(zero));
                }
            } else {
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = scale * f32::from(code) + min;
                }
            }
        }
    }
}

/// Runs `decode` over blocks of `B` bytes, `L` weights and `G` groups.
fn each_block<const B: usize, const L: usize, const G: usize>(
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [u8; L], &mut [f32; G], &mut [f32; G]),
) {
    let groups = scales.as_chunks_mut::<G>().0.iter_mut().zip(mins.as_chunks_mut::<G>().0);
    let blocks = bytes.as_chunks::<B>().0.iter().zip(codes.as_chunks_mut::<L>().0);
    for ((bytes, codes), (scales, mins)) in blocks.zip(groups) {
        decode(bytes, codes, scales, mins);
    }
}

/// Slices are whole blocks of a quantised format.
fn decode_blocks(
    format: Format,
    bytes: &[u8],
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => unreachable!("floats have no blocks"),
        Format::Q4_0 => each_block(bytes, codes, scales, mins, blocks::q4_0),
        Format::Q4_1 => each_block(bytes, codes, scales, mins, blocks::q4_1),
        Format::Q5_0 => each_block(bytes, codes, scales, mins, blocks::q5_0),
        Format::Q5_1 => each_block(bytes, codes, scales, mins, blocks::q5_1),
        Format::Q8_0 => each_block(bytes, codes, scales, mins, blocks::q8_0),
        Format::Q4_K => each_block(bytes, codes, scales, mins, blocks::q4_k),
        Format::Q5_K => each_block(bytes, codes, scales, mins, blocks::q5_k),
        Format::Q6_K => each_block(bytes, codes, scales, mins, blocks::q6_k),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wrong_lengths_are_refused_by_name() {
        let mut codes = [0u8; 64];
        let (mut two, mut one) = ([0f32; 2], [0f32; 1]);
        let refused = decode_row(Format::Q8_0, &[0; 67], &mut codes, &mut two, &mut one);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "bytes of a Q8_0 row of 64 weights: expected 68, got 67"
        );
        let refused = decode_row(Format::Q8_0, &[0; 68], &mut codes, &mut two, &mut one);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "minimums of a Q8_0 row of 64 weights: expected 2, got 1"
        );
        let refused = decode_row(Format::F16, &[0; 128], &mut codes, &mut two, &mut one);
        assert_eq!(refused, Err(FormatError::NotQuantized { format: "F16" }));
        let refused = dequantize_row(Format::BF16, &[0; 3], &mut one);
        assert!(matches!(refused, Err(FormatError::Length { what: "bytes", .. })));
    }

    proptest! {
        /// The group form and the reference's formula agree but for the last rounding.
        #[test]
        fn groups_hold_the_dequantised_values(
            which in 3..Format::ALL.len(),
            seed in any::<u64>(),
            num_blocks in 1usize..4,
        ) {
            let format = Format::ALL[which];
            let cols = num_blocks * format.block_len();
            let mut state = seed | 1;
            let bytes: Vec<u8> = (0..format.row_bytes(cols).unwrap())
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005);
                    state = state.wrapping_add(1442695040888963407);
                    (state >> 56) as u8 & 0x7B // halves stay finite
                })
                .collect();
            let num_groups = cols / format.group_len();
            let mut codes = vec![0u8; cols];
            let (mut scales, mut mins) = (vec![0f32; num_groups], vec![0f32; num_groups]);
            let mut values = vec![0f32; cols];
            decode_row(format, &bytes, &mut codes, &mut scales, &mut mins).unwrap();
            dequantize_row(format, &bytes, &mut values).unwrap();
            for i in 0..cols {
                let (scale, min) = (scales[i / format.group_len()], mins[i / format.group_len()]);
                prop_assert!(format.code_bits() == 8 || codes[i] < 16);
                let value = scale * f32::from(codes[i]) + min;
                let magnitude = (scale * f32::from(codes[i])).abs() + min.abs();
                prop_assert!((value - values[i]).abs() <= magnitude * 1.2e-7);
                if let Some(zero) = format.zero_point() {
                    prop_assert_eq!(min, -scale * f32::from(zero));
                }
            }
        }
    }
}
