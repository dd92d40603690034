//! XXH3, 64 bits: keys' hashes and checksums. Long inputs take the CPU's widest vectors.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

/// The hash of `bytes`.
#[inline]
pub fn xxh3_64(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The hash of `bytes` that begins with `seed`.
#[inline]
pub fn xxh3_64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// The hash of bytes that come in pieces.
#[derive(Default)]
pub struct Xxh3(XxHash3_64);

impl Xxh3 {
    /// Of nothing so far.
    pub fn new() -> Xxh3 {
        Xxh3::default()
    }

    /// Goes on with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The hash of all of them.
    pub fn digest(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: [u64; 12] = [
        0x913a_e087_3e9b_7eb8,
        0x2c45_aa60_ff5d_c0e5,
        0xdb86_d781_f5b8_bd4a,
        0xee0b_9003_ece2_cff1,
        0xce3f_6da0_a1ce_63a2,
        0xf99b_7990_5a88_dc51,
        0x0de8_157d_d773_7803,
        0x7445_cdd6_c2d3_7b03,
        0x7c24_1a22_d405_c084,
        0xd8f2_ad25_6b03_a316,
        0xf196_329c_6530_20f8,
        0x5f7d_3c7b_f296_871e,
    ];

    /// What lies in a pool was hashed by other versions of this program.
    #[test]
    fn hashes_stay_what_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let lengths = [0, 1, 8, 16, 17, 100, 128, 129, 240, 241, 1024, 5000];
        let sums = lengths.map(|len| xxh3_64_with_seed(&bytes[..len], 7));
        assert_eq!(sums, SUMS);
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let mut pieces = Xxh3::new();
        bytes.chunks(77).for_each(|piece| pieces.update(piece));
        assert_eq!(pieces.digest(), xxh3_64(&bytes));
    }
}
