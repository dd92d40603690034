//! Keys to new positions: a rotation by the difference takes a stored key from one position to
//! another, for rotations of the same pair add up. So keys that are stored rotated stay usable when
//! what lies before them is dropped (after AttentionStore's section 3.4, which stores them before
//! the rotation instead).
//!
//! All tokens of a block move by the same number of positions: a pair of dimensions has one cosine
//! and one sine. A key is rotated in f32 and rounded once. Yarn's magnitude is in the stored key
//! already. Summaries of keys are worked out anew.

use super::rope::Rope;
use super::simd::{for_isa, Simd};
use super::store::{int8_scale, to_bf16, MAX_F16};
use super::summary::seal;
use crate::isa::Isa;
use crate::kv::{KvDtype, KvLayout, GROUP_TOKENS, MAX_HEAD_DIM};

/// One dimension of the keys of a group.
type Lane = [f32; GROUP_TOKENS];

/// Memory of one thread for [`Turn::layer`]: the keys of a group in f32.
pub struct TurnScratch(Vec<Lane>);

impl TurnScratch {
    /// For any layout.
    #[allow(clippy::new_without_default)]
    pub fn new() -> TurnScratch {
        TurnScratch(vec![[0.0; GROUP_TOKENS]; MAX_HEAD_DIM])
    }
}

/// The rotation of one kind of layer by a number of positions.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The two dimensions of a pair, its cosine and its sine.
    pairs: Vec<(usize, usize, f32, f32)>,
}

impl Turn {
    /// By `delta` positions: the new one minus the old one.
    pub fn new(rope: &Rope, delta: i32) -> Turn {
        Turn { pairs: rope.pairs(delta) }
    }

    /// No rotation at all: keys are copied.
    pub fn none() -> Turn {
        Turn { pairs: Vec::new() }
    }

    /// Copies one layer of a block, rotating its keys.
    ///
    /// # Safety
    /// `isa` is available; `from` and `to` are layers of blocks of this layout, 64-byte aligned,
    /// that do not overlap; nobody writes `from` or uses `to` meanwhile.
    ///
    /// # Panics
    /// When more dimensions are rotated than a head has.
    pub unsafe fn layer(
        &self,
        isa: Isa,
        layout: &KvLayout,
        from: *const u8,
        to: *mut u8,
        scratch: &mut TurnScratch,
    ) {
        // SAFETY: both are so long, by the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, to, layout.layer_bytes()) };
        if self.pairs.is_empty() {
            return;
        }
        let head_dim = layout.head_dim();
        let fits = self.pairs.iter().all(|&(a, b, ..)| a < head_dim && b < head_dim);
        assert!(fits, "rope rotates more dimensions than a head has");
        let keys = &mut scratch.0[..head_dim];
        for place in 0..layout.tiles_bytes() / layout.group_bytes() {
            // SAFETY: groups fill the tiles, each has a summary, and the caller has the layer.
            unsafe {
                let group = to.add(place * layout.group_bytes());
                turn_group(isa, layout.dtype(), &self.pairs, keys, group);
                let summary = to.add(layout.tiles_bytes() + place * layout.summary_bytes());
                seal_group(isa, layout, group, summary.cast());
            }
        }
    }
}

for_isa!(
    /// The summary of a group whose keys have moved.
    unsafe fn seal_group => seal,
    (layout: &KvLayout, group: *const u8, summary: *mut u16)
);

for_isa!(
    /// Rotates the keys of one group in place.
    unsafe fn turn_group => turn_keys,
    (dtype: KvDtype, pairs: &[(usize, usize, f32, f32)], keys: &mut [Lane], group: *mut u8)
);

/// See [`turn_group`]; `keys` has a lane for each dimension of a head.
///
/// # Safety
/// `group` must be a group of that format and head dimension, which nobody else uses; and `S` must
/// be available.
#[inline(always)]
unsafe fn turn_keys<S: Simd>(
    _: S,
    dtype: KvDtype,
    pairs: &[(usize, usize, f32, f32)],
    keys: &mut [Lane],
    group: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe { read_keys::<S>(dtype, keys, group) };
    for &(a, b, cos, sin) in pairs {
        let (first, second) = (keys[a], keys[b]);
        for token in 0..GROUP_TOKENS {
            keys[a][token] = first[token] * cos - second[token] * sin;
            keys[b][token] = second[token] * cos + first[token] * sin;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { write_keys::<S>(dtype, keys, group) };
}

/// The keys of a group in f32.
///
/// # Safety
/// As for [`turn_keys`].
#[inline(always)]
unsafe fn read_keys<S: Simd>(dtype: KvDtype, keys: &mut [Lane], group: *const u8) {
    let side = GROUP_TOKENS * keys.len();
    // SAFETY: all places are below the group's size, see `kv`; a group is aligned to a cache line,
    // and a lane is a multiple of any vector.
    unsafe {
        match dtype {
            KvDtype::F32 => {
                for (dim, lane) in keys.iter_mut().enumerate() {
                    *lane = *group.cast::<Lane>().add(dim);
                }
            }
            KvDtype::F16 => {
                let from = group.cast::<u16>();
                for (dim, lane) in keys.iter_mut().enumerate() {
                    for token in (0..GROUP_TOKENS).step_by(S::LANES) {
                        let x = S::load_f16(from.add(dim * GROUP_TOKENS + token));
                        S::store(lane.as_mut_ptr().add(token), x);
                    }
                }
            }
            KvDtype::Bf16 => {
                for (pair, lanes) in keys.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    for half in 0..GROUP_TOKENS / 16 {
                        let from = group.cast::<u32>().add(half * (side / 4) + pair * 16);
                        for token in 0..16 {
                            let both = *from.add(token);
                            lanes[0][half * 16 + token] = f32::from_bits(both << 16);
                            lanes[1][half * 16 + token] = f32::from_bits(both & 0xffff_0000);
                        }
                    }
                }
            }
            KvDtype::Int8 => {
                let scales = *group.add(2 * side).cast::<Lane>();
                for (dim, lane) in keys.iter_mut().enumerate() {
                    let from = *group.cast::<[i8; GROUP_TOKENS]>().add(dim);
                    for token in 0..GROUP_TOKENS {
                        lane[token] = f32::from(from[token]) * scales[token];
                    }
                }
            }
        }
    }
}

/// Rounds keys into a group; the scales of int8 are worked out anew.
///
/// # Safety
/// As for [`turn_keys`].
#[inline(always)]
unsafe fn write_keys<S: Simd>(dtype: KvDtype, keys: &mut [Lane], group: *mut u8) {
    let side = GROUP_TOKENS * keys.len();
    // SAFETY: as in `read_keys`.
    unsafe {
        match dtype {
            KvDtype::F32 => {
                for (dim, lane) in keys.iter().enumerate() {
                    *group.cast::<Lane>().add(dim) = *lane;
                }
            }
            KvDtype::F16 => {
                let to = group.cast::<u16>();
                for (dim, lane) in keys.iter_mut().enumerate() {
                    for x in lane.iter_mut() {
                        *x = x.clamp(-MAX_F16, MAX_F16);
                    }
                    for token in (0..GROUP_TOKENS).step_by(S::LANES) {
                        let x = S::load(lane.as_ptr().add(token));
                        S::store_f16(to.add(dim * GROUP_TOKENS + token), x);
                    }
                }
            }
            KvDtype::Bf16 => {
                for (pair, lanes) in keys.as_chunks::<2>().0.iter().enumerate() {
                    for half in 0..GROUP_TOKENS / 16 {
                        let to = group.cast::<u32>().add(half * (side / 4) + pair * 16);
                        for token in 0..16 {
                            let low = u32::from(to_bf16(lanes[0][half * 16 + token]));
                            let high = u32::from(to_bf16(lanes[1][half * 16 + token]));
                            *to.add(token) = low | high << 16;
                        }
                    }
                }
            }
            KvDtype::Int8 => {
                let mut largest = [0f32; GROUP_TOKENS];
                for lane in keys.iter() {
                    for token in 0..GROUP_TOKENS {
                        largest[token] = largest[token].max(lane[token].abs());
                    }
                }
                let scales = largest.map(|largest| int8_scale(&[largest]));
                *group.add(2 * side).cast::<Lane>() = scales.map(|(scale, _)| scale);
                let factors = scales.map(|(_, factor)| factor);
                for (dim, lane) in keys.iter().enumerate() {
                    let to = &mut *group.cast::<[i8; GROUP_TOKENS]>().add(dim);
                    for token in 0..GROUP_TOKENS {
                        to[token] = (lane[token] * factors[token]).round_ties_even() as i8;
                    }
                }
            }
        }
    }
}
