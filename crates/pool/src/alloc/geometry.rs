//! Which object lies where in a block.

use crate::address::{PoolAddr, GRANULE};
use crate::class::SizeClass;
use crate::config::PoolConfig;
use crate::error::{PoolError, Result};

/// Bytes before a block's bitmap.
pub const BLOCK_HEADER: u64 = 64;

/// How blocks of one class are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Objects of a block; 0 if the class does not fit.
    pub objects: u32,
    /// Offset of the first one, in bytes.
    pub data: u32,
    /// Bytes of an object.
    pub bytes: u32,
}

impl Shape {
    fn of(class: SizeClass, block_bytes: u64) -> Shape {
        let bytes = class.bytes() as u64;
        let room = block_bytes - BLOCK_HEADER;
        let mut objects = room / bytes;
        while objects > 0 && bitmap_bytes(objects) + objects * bytes > room {
            objects -= 1;
        }
        if objects == 0 {
            return Shape::default();
        }
        let data = BLOCK_HEADER + bitmap_bytes(objects);
        Shape { objects: objects as u32, data: data as u32, bytes: bytes as u32 }
    }

    /// Words of the bitmap that are in use.
    pub const fn words(self) -> usize {
        (self.objects as usize).div_ceil(64)
    }

    /// The bits of word `word` of the bitmap that stand for objects.
    pub const fn mask(self, word: usize) -> u64 {
        let bits = self.objects as usize - word * 64;
        if bits >= 64 {
            u64::MAX
        } else {
            (1 << bits) - 1
        }
    }
}

const fn bitmap_bytes(objects: u64) -> u64 {
    objects.div_ceil(8).next_multiple_of(GRANULE)
}

/// Place of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Start of its block.
    pub block: PoolAddr,
    /// Its number in the block.
    pub index: u32,
}

impl Place {
    /// The word of the bitmap that holds its bit.
    pub const fn word(self) -> PoolAddr {
        self.block.add(BLOCK_HEADER + (self.index as u64 / 64) * 8)
    }

    /// Its bit in that word.
    pub const fn bit(self) -> u64 {
        1 << (self.index % 64)
    }
}

/// The cut of all classes for a pool's block size.
#[derive(Clone, Debug)]
pub struct Geometry {
    shapes: [Shape; SizeClass::COUNT],
    block_shift: u8,
    region_shift: u8,
}

impl Geometry {
    /// The geometry of a pool.
    pub fn of(config: &PoolConfig) -> Geometry {
        let mut shapes = [Shape::default(); SizeClass::COUNT];
        for (class, shape) in shapes.iter_mut().enumerate() {
            *shape = Shape::of(SizeClass(class as u8), config.block_bytes());
        }
        let (block_shift, region_shift) = (config.block_shift, config.region_shift);
        Geometry { shapes, block_shift, region_shift }
    }

    /// How blocks of `class` are cut; `None` for no class, or one that does not fit.
    #[inline]
    pub fn shape(&self, class: SizeClass) -> Option<Shape> {
        let shape = *self.shapes.get(class.0 as usize)?;
        (shape.objects > 0).then_some(shape)
    }

    /// The largest class that fits.
    pub fn largest(&self) -> SizeClass {
        let fits = |class: &u8| self.shapes[*class as usize].objects > 0;
        SizeClass((0..SizeClass::COUNT as u8).rfind(fits).unwrap_or(0))
    }

    /// The class of at least a sixteenth of a block that wastes least of it: for the pieces of
    /// large values.
    pub fn piece(&self) -> SizeClass {
        let used = |class: &u8| {
            let shape = self.shapes[*class as usize];
            u64::from(shape.objects) * u64::from(shape.bytes)
        };
        let least = 1_usize << (self.block_shift - 4);
        let large = (0..SizeClass::COUNT as u8).filter(|&c| SizeClass(c).bytes() >= least);
        SizeClass(large.max_by_key(used).unwrap_or(0))
    }

    /// The address of object `index` of the block at `block`.
    #[inline]
    pub fn object(&self, block: PoolAddr, shape: Shape, index: u32) -> PoolAddr {
        block.add(u64::from(shape.data) + u64::from(index) * u64::from(shape.bytes))
    }

    /// The place of the object of `class` at `addr`; refused if none can lie there.
    #[inline]
    pub fn place(&self, addr: PoolAddr, class: SizeClass) -> Result<Place> {
        let within = (addr.0 & ((1 << self.block_shift) - 1)) as u32;
        let first = addr.0 & ((1 << self.region_shift) - 1) < 1 << self.block_shift;
        if let (Some(shape), false) = (self.shape(class), first || addr.0 >= PoolAddr::LIMIT) {
            let from_first = within.wrapping_sub(shape.data);
            let index = from_first / shape.bytes;
            if within >= shape.data && index < shape.objects && from_first % shape.bytes == 0 {
                return Ok(Place { block: PoolAddr(addr.0 - u64::from(within)), index });
            }
        }
        Err(PoolError::Corrupt(format!("{addr:?} is no place for an object of class {}", class.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_cut_without_overlap_and_nearly_fully() {
        for block_shift in [14, 16, 20, 22] {
            let config = PoolConfig {
                block_shift,
                region_shift: block_shift + 4,
                ..PoolConfig::for_size(1 << 30, 1, 1)
            };
            let geometry = Geometry::of(&config);
            for class in 0..=geometry.largest().0 {
                let shape = geometry.shape(SizeClass(class)).unwrap();
                let end = u64::from(shape.data) + u64::from(shape.objects) * u64::from(shape.bytes);
                assert!(end <= config.block_bytes());
                assert!(BLOCK_HEADER as usize + shape.words() * 8 <= shape.data as usize);
                let left = config.block_bytes() - end;
                assert!(left < u64::from(shape.bytes) + GRANULE, "{class}: {left} bytes left");
            }
            assert!(geometry.shape(SizeClass(geometry.largest().0 + 1)).is_none());
            let piece = geometry.shape(geometry.piece()).unwrap();
            let used = u64::from(piece.objects) * u64::from(piece.bytes);
            assert!(used * 16 > config.block_bytes() * 15, "pieces waste more than a sixteenth");
        }
    }

    proptest! {
        #[test]
        fn places_are_addresses_of_objects(addr in 0_u64..1 << 46, class: u8, exact: bool) {
            let config = PoolConfig::for_size(64 << 20, 2, 1);
            let geometry = Geometry::of(&config);
            let class = SizeClass(class);
            let mut addr = PoolAddr(addr);
            if let (true, Some(shape)) = (exact, geometry.shape(class)) {
                let block = PoolAddr(addr.0 & !(config.block_bytes() - 1));
                addr = geometry.object(block, shape, (addr.0 % u64::from(shape.objects)) as u32);
            }
            match geometry.place(addr, class) {
                Ok(place) => {
                    let shape = geometry.shape(class).unwrap();
                    prop_assert_eq!(geometry.object(place.block, shape, place.index), addr);
                    prop_assert!(place.block.0 % config.region_bytes() != 0);
                }
                Err(_) => prop_assert!(!exact || geometry.shape(class).is_none()
                    || addr.0 % config.region_bytes() < config.block_bytes()),
            }
        }
    }
}
