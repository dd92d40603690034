//! Numbers are rounded to 255 levels: one scale for each token and head, of its key and of its
//! value, as the engine's own int8 KV has it. The largest number keeps its size, so an error is at
//! most half a step (the largest magnitude of its token and head over 254), and what rounding back
//! to the block's format adds.
//!
//! A form is, for each layer, of each side of each group (see `artesian_kernels::kv`): 32 scales as
//! f32, then a byte for each number, in the block's order; and then the summaries as they are.

use artesian_kernels::kv::{KvDtype, KvLayout, GROUP_TOKENS};
use half::f16;

use super::Codec;

/// Numbers that are treated alike: they belong to one token, or to tokens in some order.
const CHUNK: usize = 16;
const SCALES: usize = GROUP_TOKENS * size_of::<f32>();
const MOST: f32 = 127.0;
/// 1.5 * 2^23: the last bits of its sum with an integer are those of the integer.
const ROUNDER: f32 = 12_582_912.0;

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

    /// Numbers by token, as the lanes of a chunk want them whose first token is the index.
    fn by_lane(
        &self,
        is_key: bool,
        by_token: &[f32; GROUP_TOKENS],
    ) -> [[f32; CHUNK]; GROUP_TOKENS] {
        let (_, lanes) = self.tokens(is_key, 0);
        let lane = |first: usize, lane: usize| by_token[(first + lanes.token(lane)) % GROUP_TOKENS];
        std::array::from_fn(|first| std::array::from_fn(|at| lane(first, at)))
    }

    /// The largest magnitude of each token, as its bits: they are in order, NaNs last.
    fn largest(&self, side: &[u8], is_key: bool) -> [i32; GROUP_TOKENS] {
        let chunk_bytes = CHUNK * self.layout.dtype().element_bytes();
        let mut by_lane = [[0_i32; CHUNK]; GROUP_TOKENS];
        for (at, chunk) in side.chunks_exact(chunk_bytes).enumerate() {
            let most = &mut by_lane[self.tokens(is_key, at).0];
            for (most, number) in most.iter_mut().zip(self.load(chunk)) {
                *most = (*most).max(number.abs().to_bits() as i32);
            }
        }
        let (_, lanes) = self.tokens(is_key, 0);
        let mut largest = [0; GROUP_TOKENS];
        for (first, by_lane) in by_lane.iter().enumerate() {
            for (lane, &most) in by_lane.iter().enumerate() {
                let token = (first + lanes.token(lane)) % GROUP_TOKENS;
                largest[token] = largest[token].max(most);
            }
        }
        largest
    }

    /// False if a number is not finite.
    fn encode_side(&self, side: &[u8], is_key: bool, into: &mut Vec<u8>) -> bool {
        let chunk_bytes = CHUNK * self.layout.dtype().element_bytes();
        let largest = self.largest(side, is_key).map(|bits| f32::from_bits(bits as u32));
        if !largest.iter().all(|most| most.is_finite()) {
            return false;
        }
        into.extend(largest.iter().flat_map(|most| (most / MOST).to_le_bytes()));
        let inverse = largest.map(|most| if most > 0.0 { MOST / most } else { 0.0 });
        let inverse = self.by_lane(is_key, &inverse);
        for (at, chunk) in side.chunks_exact(chunk_bytes).enumerate() {
            let (numbers, inverse) = (self.load(chunk), &inverse[self.tokens(is_key, at).0]);
            let mut codes = [0_u8; CHUNK];
            for lane in 0..CHUNK {
                // To the nearest, ties to even: so small a number has no fraction behind the sum.
                let rounded = (numbers[lane] * inverse[lane]).clamp(-MOST, MOST) + ROUNDER;
                codes[lane] = rounded.to_bits() as u8;
            }
            into.extend_from_slice(&codes);
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
        let scale = self.by_lane(is_key, &scale);
        let chunks = side.chunks_exact_mut(chunk_bytes).zip(codes.as_chunks::<CHUNK>().0);
        for (at, (chunk, codes)) in chunks.enumerate() {
            let scale = &scale[self.tokens(is_key, at).0];
            let number = |lane: usize| f32::from(codes[lane] as i8) * scale[lane];
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
        block.chunks_exact(self.layout.layer_bytes()).all(|layer| {
            let (tiles, summaries) = layer.split_at(self.layout.tiles_bytes());
            let mut sides = tiles.chunks_exact(self.layout.side_bytes()).enumerate();
            let is_encoded = sides.all(|(at, side)| self.encode_side(side, at % 2 == 0, into));
            into.extend_from_slice(summaries);
            is_encoded
        })
    }

    fn decode(&self, bytes: &[u8], block: &mut [u8]) -> bool {
        let (layer_bytes, tiles_bytes) = (self.layout.layer_bytes(), self.layout.tiles_bytes());
        let sides_bytes = tiles_bytes / self.layout.side_bytes() * self.side_bytes();
        let form_bytes = sides_bytes + layer_bytes - tiles_bytes;
        if block.len() != self.layout.block_bytes()
            || bytes.len() != self.layout.num_layers() * form_bytes
        {
            return false;
        }
        let layers = block.chunks_exact_mut(layer_bytes).zip(bytes.chunks_exact(form_bytes));
        for (layer, form) in layers {
            let (tiles, summaries) = layer.split_at_mut(tiles_bytes);
            let (sides, kept) = form.split_at(sides_bytes);
            let forms = sides.chunks_exact(self.side_bytes());
            let sides = tiles.chunks_exact_mut(self.layout.side_bytes()).zip(forms).enumerate();
            for (at, (side, form)) in sides {
                self.decode_side(form, at % 2 == 0, side);
            }
            summaries.copy_from_slice(kept);
        }
        true
    }
}
