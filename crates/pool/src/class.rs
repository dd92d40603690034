//! Size classes of objects: four a doubling, from 64 bytes up.

use crate::address::GRANULE;

/// A size class; its number is what slots and block tables store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(pub u8);

impl SizeClass {
    /// One past the largest class: sizes up to 1 GiB.
    pub const COUNT: usize = 84;

    /// The smallest class that holds `bytes`; `None` beyond the largest.
    pub fn for_bytes(bytes: usize) -> Option<SizeClass> {
        let granules = (bytes as u64).div_ceil(GRANULE).max(1);
        if granules <= 4 {
            return Some(SizeClass(granules as u8 - 1));
        }
        let doubling = 63 - u64::from((granules - 1).leading_zeros()) - 2;
        let step = (granules - 1) >> doubling; // 4 to 7
        let class = 4 + 4 * doubling + (step - 4);
        (class < Self::COUNT as u64).then_some(SizeClass(class as u8))
    }

    /// Bytes of an object of this class.
    pub const fn bytes(self) -> usize {
        let class = self.0 as usize;
        if class < 4 {
            return (class + 1) * GRANULE as usize;
        }
        let (doubling, step) = ((class - 4) / 4, (class - 4) % 4);
        ((step + 5) * GRANULE as usize) << doubling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_and_fit_tightly() {
        for class in 1..SizeClass::COUNT as u8 {
            let (below, this) = (SizeClass(class - 1).bytes(), SizeClass(class).bytes());
            assert!(below < this && this <= below * 2, "{class}: {below} {this}");
            assert_eq!(SizeClass::for_bytes(below + 1), Some(SizeClass(class)));
            assert_eq!(SizeClass::for_bytes(this), Some(SizeClass(class)));
        }
        assert_eq!(SizeClass(SizeClass::COUNT as u8 - 1).bytes(), 1 << 28);
        assert_eq!(SizeClass::for_bytes((1 << 28) + 1), None);
        assert_eq!(SizeClass::for_bytes(0), Some(SizeClass(0)));
    }
}
