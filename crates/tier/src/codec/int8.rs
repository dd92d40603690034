//! Numbers are rounded to 255 levels: one scale for each token and head, of its key and of its
//! value, as the engine's own int8 KV has it. The largest number keeps its size, so an error is at
//! most half a step (the largest magnitude of its token and head over 254), and what rounding back
//! to the block's format adds.
//!
//! A form is, for each side of each group (see `artesian_kernels::kv`): 32 scales as f32, then a
//! byte for each number, in the block's order.

use artesian_kernels::kv::{KvDtype, KvLayout, GROUP_TOKENS};
use half::f16;

use super::Codec;

/// Numbers that are treated alike: they belong to one token, or to tokens in some order.
const CHUNK: usize = 16;
const SCALES: usize = GROUP_TOKENS * size_of::<f32>();
const MOST: f32 = 127.0;

/// Rounds blocks of f32, f16 or bf16 to bytes.
pub struct Int8 {
    layout: KvLayout,
}

/// To which tokens, behind a first one, the numbers of a chunk belong.
#[derive(Clone, Copy)]
enum Lanes {
    Same,
    Each,
    Pairs,
    Alternate,
}

impl Lanes {
    #[inline]
    fn token(self, lane: usize) -> usize {
        match self {
            Lanes::Same => 0,
            Lanes::Each => lane,
            Lanes::Pairs => lane / 2,
            Lanes::Alternate => lane % 2,
        }
    }
}

impl Int8 {
    /// Of such blocks; `None` if they are bytes already.
    pub fn new(layout: KvLayout) -> Option<Int8> {
        (layout.dtype() != KvDtype::Int8).then_some(Int8 { layout })
    }

    /// The first token of a chunk of the keys or the values, and the others.
    fn tokens(&self, is_key: bool, chunk: usize) -> (usize, Lanes) {
        let dim_chunks = self.layout.head_dim() / CHUNK;
        match (self.layout.dtype(), is_key) {
            // [2][head_dim / 2][16 tokens][2 dims]
            (KvDtype::Bf16, true) => {
                let half = chunk / (dim_chunks * CHUNK);
                (half * 16 + chunk % 2 * 8, Lanes::Pairs)
            }
            // [head_dim / 16][16][16 dims][2 tokens]
            (KvDtype::Bf16, false) => (chunk / 2 % 16 * 2, Lanes::Alternate),
            // [head_dim][32]
            (_, true) => (chunk % 2 * CHUNK, Lanes::Each),
            // [32][head_dim]
            (_, false) => (chunk / dim_chunks, Lanes::Same),
        }
    }

    fn side_bytes(&self) -> usize {
        SCALES + GROUP_TOKENS * self.layout.head_dim()
    }

    fn load(&self, bytes: &[u8]) -> [f32; CHUNK] {
        let mut numbers = [0.0; CHUNK];
        match self.layout.dtype() {
            KvDtype::F32 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f32::from_le_bytes(*bytes);
                }
            }
            KvDtype::F16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            _ => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
        numbers
    }

    fn store(&self, numbers: &[f32; CHUNK], bytes: &mut [u8]) {
        match self.layout.dtype() {
            KvDtype::F32 => {
                for (number, bytes) in numbers.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = number.to_le_bytes();
                }
            }
            KvDtype::F16 => {
                for (number, bytes) in numbers.iter().zip(bytes.as_chunks_mut().0) {
                    *bytes = f16::from_f32(*number).to_le_bytes();
                }
            }
            _ => {
                for (number, bytes) in numbers.iter().zip(bytes.as_chunks_mut().0) {
                    // To the nearest, ties to even; there are no NaNs.
                    let bits = number.to_bits();
                    let rounded = bits + 0x7fff + (bits >> 16 & 1);
                    *bytes = ((rounded >> 16) as u16).to_le_bytes();
                }
            }
        }
    }

    /// False if a number is not finite.
    fn encode_side(&self, side: &[u8], is_key: bool, into: &mut Vec<u8>) -> bool {
        let chunk_bytes = CHUNK * self.layout.dtype().element_bytes();
        let mut most = [0.0_f32; GROUP_TOKENS];
        for (at, chunk) in side.chunks_exact(chunk_bytes).enumerate() {
            let (first, lanes) = self.tokens(is_key, at);
            for (lane, number) in self.load(chunk).into_iter().enumerate() {
                let most = &mut most[first + lanes.token(lane)];
                if number.abs() > *most || number.is_nan() {
                    *most = number.abs();
                }
            }
        }
        if !most.iter().all(|most| most.is_finite()) {
            return false;
        }
        let scales = most.map(|most| most / MOST);
        let inverse = most.map(|most| if most > 0.0 { MOST / most } else { 0.0 });
        into.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
        for (at, chunk) in side.chunks_exact(chunk_bytes).enumerate() {
            let (first, lanes) = self.tokens(is_key, at);
            let numbers = self.load(chunk);
            let code = |lane: usize| {
                let number = numbers[lane] * inverse[first + lanes.token(lane)];
                number.round_ties_even().clamp(-MOST, MOST) as i8 as u8
            };
            into.extend_from_slice(&std::array::from_fn::<u8, CHUNK, _>(code));
        }
        true
    }

    fn decode_side(&self, bytes: &[u8], is_key: bool, side: &mut [u8]) {
        let chunk_bytes = CHUNK * self.layout.dtype().element_bytes();
        let (scales, codes) = bytes.split_at(SCALES);
        let mut scale = [0.0_f32; GROUP_TOKENS];
        for (scale, bytes) in scale.iter_mut().zip(scales.as_chunks().0) {
            *scale = f32::from_le_bytes(*bytes);
        }
        let chunks = side.chunks_exact_mut(chunk_bytes).zip(codes.as_chunks::<CHUNK>().0);
        for (at, (chunk, codes)) in chunks.enumerate() {
            let (first, lanes) = self.tokens(is_key, at);
            let number =
                |lane: usize| f32::from(codes[lane] as i8) * scale[first + lanes.token(lane)];
            self.store(&std::array::from_fn(number), chunk);
        }
    }
}

impl Codec for Int8 {
    fn id(&self) -> u64 {
        2
    }

    fn encode(&self, block: &[u8], into: &mut Vec<u8>) -> bool {
        if block.len() != self.layout.block_bytes() {
            return false;
        }
        let sides = block.chunks_exact(self.layout.side_bytes());
        sides.enumerate().all(|(at, side)| self.encode_side(side, at % 2 == 0, into))
    }

    fn decode(&self, bytes: &[u8], block: &mut [u8]) -> bool {
        let sides = block.len() / self.layout.side_bytes();
        if block.len() != self.layout.block_bytes() || bytes.len() != sides * self.side_bytes() {
            return false;
        }
        let forms = bytes.chunks_exact(self.side_bytes());
        let sides = block.chunks_exact_mut(self.layout.side_bytes()).zip(forms).enumerate();
        for (at, (side, form)) in sides {
            self.decode_side(form, at % 2 == 0, side);
        }
        true
    }
}
