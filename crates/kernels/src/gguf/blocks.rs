//! One function for each block format: bytes to codes, scales and minimums.
//!
//! The products below are the reference dequantiser's own, so that scales and minimums come out
//! with its bits.

use half::f16;

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low halves of the bytes are the first `HALF` weights, the high halves the next.
fn split_nibbles<const HALF: usize>(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(HALF);
    for i in 0..HALF {
        low[i] = bytes[i] & 0x0F;
        high[i] = bytes[i] >> 4;
    }
}

/// Adds bit `i` of `bits` to weight `i` as its fifth bit.
fn add_fifth_bits(bits: &[u8], codes: &mut [u8]) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for i in 0..32 {
        codes[i] |= ((bits >> i) as u8 & 1) << 4;
    }
}

pub(super) fn q4_0(
    block: &[u8; 18],
    codes: &mut [u8; 32],
    scales: &mut [f32; 1],
    mins: &mut [f32; 1],
) {
    scales[0] = half_at(block, 0);
    mins[0] = -8.0 * scales[0];
    split_nibbles::<16>(&block[2..18], codes);
}

pub(super) fn q4_1(
    block: &[u8; 20],
    codes: &mut [u8; 32],
    scales: &mut [f32; 1],
    mins: &mut [f32; 1],
) {
    scales[0] = half_at(block, 0);
    mins[0] = half_at(block, 2);
    split_nibbles::<16>(&block[4..20], codes);
}

pub(super) fn q5_0(
    block: &[u8; 22],
    codes: &mut [u8; 32],
    scales: &mut [f32; 1],
    mins: &mut [f32; 1],
) {
    scales[0] = half_at(block, 0);
    mins[0] = -16.0 * scales[0];
    split_nibbles::<16>(&block[6..22], codes);
    add_fifth_bits(&block[2..6], codes);
}

pub(super) fn q5_1(
    block: &[u8; 24],
    codes: &mut [u8; 32],
    scales: &mut [f32; 1],
    mins: &mut [f32; 1],
) {
    scales[0] = half_at(block, 0);
    mins[0] = half_at(block, 2);
    split_nibbles::<16>(&block[8..24], codes);
    add_fifth_bits(&block[4..8], codes);
}

pub(super) fn q8_0(
    block: &[u8; 34],
    codes: &mut [u8; 32],
    scales: &mut [f32; 1],
    mins: &mut [f32; 1],
) {
    scales[0] = half_at(block, 0);
    mins[0] = -128.0 * scales[0];
    for i in 0..32 {
        codes[i] = block[2 + i] ^ 0x80;
    }
}

/// Eight 6-bit scales and minimums in twelve bytes: those of groups 0..4 in the low six bits of
/// bytes 0..4 and
/// 4..8; those of groups 4..8 have four bits each in bytes 8..12 and two in the top of the first
/// eight bytes.
fn k_scales(block: &[u8], scales: &mut [f32; 8], mins: &mut [f32; 8]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let packed = &block[4..16];
    for i in 0..4 {
        let (low_scale, low_min, both) = (packed[i], packed[4 + i], packed[8 + i]);
        scales[i] = scale * f32::from(low_scale & 0x3F);
        mins[i] = -(min * f32::from(low_min & 0x3F));
        scales[4 + i] = scale * f32::from((both & 0x0F) | ((low_scale >> 2) & 0x30));
        mins[4 + i] = -(min * f32::from((both >> 4) | ((low_min >> 2) & 0x30)));
    }
}

pub(super) fn q4_k(
    block: &[u8; 144],
    codes: &mut [u8; 256],
    scales: &mut [f32; 8],
    mins: &mut [f32; 8],
) {
    k_scales(block, scales, mins);
    for (bytes, codes) in block[16..].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        split_nibbles::<32>(bytes, codes);
    }
}

pub(super) fn q5_k(
    block: &[u8; 176],
    codes: &mut [u8; 256],
    scales: &mut [f32; 8],
    mins: &mut [f32; 8],
) {
    k_scales(block, scales, mins);
    let fifth_bits = &block[16..48];
    for (bytes, codes) in block[48..].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        split_nibbles::<32>(bytes, codes);
    }
    for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
        for i in 0..32 {
            codes[i] |= ((fifth_bits[i] >> group) & 1) << 4;
        }
    }
}

pub(super) fn q6_k(
    block: &[u8; 210],
    codes: &mut [u8; 256],
    scales: &mut [f32; 16],
    mins: &mut [f32; 16],
) {
    let scale = half_at(block, 208);
    for group in 0..16 {
        scales[group] = scale * f32::from(block[192 + group] as i8);
        mins[group] = -32.0 * scales[group];
    }
    let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
    for ((low, top), codes) in halves.zip(codes.chunks_exact_mut(128)) {
        split_nibbles::<64>(low, codes);
        for (quarter, codes) in codes.chunks_exact_mut(32).enumerate() {
            for i in 0..32 {
                codes[i] |= ((top[i] >> (2 * quarter)) & 3) << 4;
            }
        }
    }
}
