//! Nothing is lost: zstd over the bytes of numbers, first bytes first.
//!
//! The last byte of a 16- or 32-bit float holds its sign and most of its exponent, which repeat
//! themselves; the others are noise. So the bytes of equal places go together.

use super::Codec;

/// A fast level: others take much longer for little.
const LEVEL: i32 = 1;

/// zstd over planes of bytes.
pub struct Zstd {
    element_bytes: usize,
}

impl Zstd {
    /// Of blocks of numbers of so many bytes, 1 to 8.
    pub fn new(element_bytes: usize) -> Zstd {
        Zstd { element_bytes: element_bytes.clamp(1, 8) }
    }
}

/// Puts the bytes of all elements that have the same place next to each other; the rest, which is
/// no whole element, last.
fn split(block: &[u8], element_bytes: usize) -> Vec<u8> {
    let whole = block.len() / element_bytes;
    let mut planes = Vec::with_capacity(block.len());
    for place in 0..element_bytes {
        planes.extend(block.chunks_exact(element_bytes).map(|element| element[place]));
    }
    planes.extend_from_slice(&block[whole * element_bytes..]);
    planes
}

/// The reverse of [`split`]; as long as `planes`.
fn join(planes: &[u8], element_bytes: usize, block: &mut [u8]) {
    let whole = block.len() / element_bytes;
    for place in 0..element_bytes {
        let plane = &planes[place * whole..(place + 1) * whole];
        for (element, &byte) in block.chunks_exact_mut(element_bytes).zip(plane) {
            element[place] = byte;
        }
    }
    let end = whole * element_bytes;
    block[end..].copy_from_slice(&planes[end..]);
}

impl Codec for Zstd {
    fn id(&self) -> u64 {
        1
    }

    fn encode(&self, block: &[u8], into: &mut Vec<u8>) -> bool {
        into.push(self.element_bytes as u8);
        match ::zstd::bulk::compress(&split(block, self.element_bytes), LEVEL) {
            Ok(bytes) => {
                into.extend_from_slice(&bytes);
                true
            }
            Err(_) => false,
        }
    }

    fn decode(&self, bytes: &[u8], block: &mut [u8]) -> bool {
        let Some((&element_bytes, bytes)) = bytes.split_first() else { return false };
        if !(1..=8).contains(&element_bytes) {
            return false;
        }
        match ::zstd::bulk::decompress(bytes, block.len()) {
            Ok(planes) if planes.len() == block.len() => {
                join(&planes, usize::from(element_bytes), block);
                true
            }
            _ => false,
        }
    }
}
