//! Places of names in a folder's listing, without the names: 12 bytes each.

use twox_hash::XxHash3_64;

/// Hash by which a name is known.
pub fn hash(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// The order of a folder's children.
#[derive(Debug)]
pub struct Listing {
    hashes: Box<[u64]>, // sorted
    ranks: Box<[u32]>,
}

impl Listing {
    /// From the names in the origin's order.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Listing {
        let mut pairs: Vec<(u64, u32)> = names.map(hash).zip(0..u32::MAX).collect();
        pairs.sort_unstable();
        pairs.dedup_by_key(|pair| pair.0);
        let (hashes, ranks): (Vec<u64>, Vec<u32>) = pairs.into_iter().unzip();
        Listing { hashes: hashes.into(), ranks: ranks.into() }
    }

    /// Place of a name.
    pub fn rank(&self, name: &str) -> Option<u32> {
        self.hashes.binary_search(&hash(name)).ok().map(|place| self.ranks[place])
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether both have the same names in the same order.
    pub fn is_same(&self, other: &Listing) -> bool {
        self.hashes == other.hashes && self.ranks == other.ranks
    }
}
