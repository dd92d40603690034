//! A key's hash and what its bits choose.

use crate::xxh3::xxh3_64_with_seed;

use super::layout::GROUPS;

/// Hash of a key and its namespace.
///
/// ```text
/// 63         56 55           42 41           26 25        0
/// | fingerprint | second bucket | first bucket | directory |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The hash of `key` in `namespace`.
    #[inline]
    pub fn of(namespace: u16, key: &[u8]) -> KeyHash {
        KeyHash(xxh3_64_with_seed(key, u64::from(namespace)))
    }

    /// The byte in the key's slot.
    #[inline]
    pub const fn fingerprint(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The lower `depth` bits: which subtable of a directory of that depth.
    #[inline]
    pub const fn suffix(self, depth: u8) -> u32 {
        self.0 as u32 & ((1 << depth) - 1)
    }

    /// Numbers of the two combined buckets. They never share a bucket: the first lies in the
    /// first half of the groups, the second in the second half.
    #[inline]
    pub const fn buckets(self) -> [u64; 2] {
        let first = (self.0 >> 26) & 0xffff;
        let second = (self.0 >> 42) & 0x3fff;
        [(first * GROUPS) >> 16, GROUPS + ((second * GROUPS) >> 14)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_choose_independently() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..200_000u32 {
            let hash = KeyHash::of(3, &number.to_le_bytes());
            let [first, second] = hash.buckets();
            assert!(first < GROUPS && (GROUPS..2 * GROUPS).contains(&second));
            seen.insert((first, second));
        }
        assert_eq!(seen.len() as u64, GROUPS * GROUPS, "every pair of buckets occurs");
        assert_ne!(KeyHash::of(1, b"k"), KeyHash::of(2, b"k"));
        assert_eq!(KeyHash(u64::MAX).suffix(0), 0);
        assert_eq!(KeyHash(u64::MAX).suffix(26), (1 << 26) - 1);
    }
}
