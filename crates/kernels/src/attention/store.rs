//! Keys and values of new tokens into the arena.

use super::simd::{for_isa, Simd};
use super::summary::seal;
use super::{AttentionLayer, AttentionPlan, RopeRows};
use crate::kv::{KvDtype, GROUP_TOKENS, MAX_HEAD_DIM};

/// Largest finite half-precision number.
pub(super) const MAX_F16: f32 = 65_504.0;

/// Stores the keys and values of one item of the plan.
///
/// # Safety
/// `layer`'s pointers must be valid for the plan's batch, layout and number of blocks; no block may
/// belong to two sequences that write to it; and other threads may run other items of the same
/// layer, but nothing else that touches these rows or blocks.
///
/// # Panics
/// When `item` or `layer` is not of this plan.
pub unsafe fn store(plan: &AttentionPlan, layer: &AttentionLayer<'_>, item: usize) {
    layer.check(plan);
    let item = plan.stores[item];
    for kv_head in 0..plan.shape.num_kv_heads {
        // SAFETY: the plan was made for an available instruction set; the rest is the caller's
        // promise.
        unsafe {
            store_head(plan.isa, plan, layer, item.sequence, item.first_row, item.num_rows, kv_head)
        }
    }
}

for_isa!(
    /// Stores some rows of one group of tokens for one KV head.
    unsafe fn store_head => store_rows,
    (
        plan: &AttentionPlan,
        layer: &AttentionLayer<'_>,
        sequence: usize,
        first_row: usize,
        num_rows: usize,
        kv_head: usize
    )
);

/// As [`store`] for `num_rows` rows from `first_row` of the sequence, all in one group, and one KV
/// head.
///
/// # Safety
/// As for [`store`], and `S` must be available.
#[inline(always)]
pub(super) unsafe fn store_rows<S: Simd>(
    _: S,
    plan: &AttentionPlan,
    layer: &AttentionLayer<'_>,
    sequence: usize,
    first_row: usize,
    num_rows: usize,
    kv_head: usize,
) {
    let head_dim = plan.shape.head_dim;
    let sequence = &plan.sequences[sequence];
    let position = sequence.first_position + first_row;
    let offset = plan.group_offset(sequence, layer.layer, kv_head, position / GROUP_TOKENS);
    let token = position % GROUP_TOKENS;
    // SAFETY: the plan's blocks lie in the arena, and rows and heads in qkv, by the caller's
    // promise.
    unsafe {
        let group = layer.arena.add(offset);
        if token == 0 && num_rows < GROUP_TOKENS {
            // Whoever attends multiplies the rest of the group by 0, which must give 0.
            std::ptr::write_bytes(group, 0, plan.layout.group_bytes());
        }
        for row in 0..num_rows {
            let batch_row = sequence.first_row + first_row + row;
            let key = layer
                .qkv
                .add(batch_row * layer.qkv_stride + (plan.shape.num_heads + kv_head) * head_dim);
            let value = key.add(plan.shape.num_kv_heads * head_dim);
            let mut head = [0f32; MAX_HEAD_DIM];
            let head = &mut head[..head_dim];
            std::ptr::copy_nonoverlapping(key, head.as_mut_ptr(), head_dim);
            prepare_head::<S>(head, layer.k_norm, layer.norm_eps, layer.rope, batch_row);
            let value = std::slice::from_raw_parts(value, head_dim);
            write_token::<S>(plan.layout.dtype(), group, token + row, head, value);
        }
        if token + num_rows == GROUP_TOKENS {
            let number = position / GROUP_TOKENS;
            let summary = plan.summary_offset(sequence, layer.layer, kv_head, number);
            seal(S::TOKEN, &plan.layout, group, layer.arena.add(summary).cast());
        }
    }
}

/// RMS norm, if there is a weight, and rotation of one head of a row.
///
/// # Safety
/// `S` must be available.
#[inline(always)]
pub(super) unsafe fn prepare_head<S: Simd>(
    head: &mut [f32],
    norm: Option<&[f32]>,
    eps: f32,
    rope: &RopeRows,
    row: usize,
) {
    if let Some(weight) = norm {
        // SAFETY: head dimensions are multiples of any number of lanes.
        let sum = unsafe {
            let mut squares = S::splat(0.0);
            for i in (0..head.len()).step_by(S::LANES) {
                let x = S::load(head.as_ptr().add(i));
                squares = S::fma(x, x, squares);
            }
            S::sum(squares)
        };
        let factor = 1.0 / (sum / head.len() as f32 + eps).sqrt();
        for (x, w) in head.iter_mut().zip(weight) {
            *x = *x * factor * w;
        }
    }
    rope.rotate(row, head);
}

/// Rounds to bf16, to nearest even.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Writes token number `token` of a group.
///
/// # Safety
/// `group` must be a group of that format and head dimension.
#[inline(always)]
unsafe fn write_token<S: Simd>(
    dtype: KvDtype,
    group: *mut u8,
    token: usize,
    key: &[f32],
    value: &[f32],
) {
    let head_dim = key.len();
    let side = GROUP_TOKENS * head_dim;
    // SAFETY: all places are below the group's size, see `kv`; a group is aligned to a cache line.
    unsafe {
        match dtype {
            KvDtype::F32 => {
                let (keys, values) =
                    (group.cast::<f32>(), group.cast::<f32>().add(side + token * head_dim));
                for (dim, &x) in key.iter().enumerate() {
                    *keys.add(dim * GROUP_TOKENS + token) = x;
                }
                std::ptr::copy_nonoverlapping(value.as_ptr(), values, head_dim);
            }
            KvDtype::F16 => {
                let (keys, values) =
                    (group.cast::<u16>(), group.cast::<u16>().add(side + token * head_dim));
                let mut halves = [0u16; MAX_HEAD_DIM];
                to_f16::<S>(key, halves.as_mut_ptr());
                for (dim, &x) in halves[..head_dim].iter().enumerate() {
                    *keys.add(dim * GROUP_TOKENS + token) = x;
                }
                to_f16::<S>(value, values);
            }
            KvDtype::Bf16 => {
                let pairs = group.cast::<u32>().add(token / 16 * (side / 4) + token % 16);
                for (pair, x) in key.chunks_exact(2).enumerate() {
                    *pairs.add(pair * 16) =
                        u32::from(to_bf16(x[0])) | u32::from(to_bf16(x[1])) << 16;
                }
                let values = group.cast::<u16>().add(side + token / 2 * 32 + token % 2);
                for (dim, &x) in value.iter().enumerate() {
                    *values.add(dim / 16 * 512 + dim % 16 * 2) = to_bf16(x);
                }
            }
            KvDtype::Int8 => {
                let (keys, values) =
                    (group.cast::<i8>(), group.cast::<i8>().add(side + token * head_dim));
                let scales = group.add(2 * side).cast::<f32>();
                let (scale, factor) = int8_scale(key);
                *scales.add(token) = scale;
                for (dim, &x) in key.iter().enumerate() {
                    *keys.add(dim * GROUP_TOKENS + token) = (x * factor).round_ties_even() as i8;
                }
                let (scale, factor) = int8_scale(value);
                *scales.add(GROUP_TOKENS + token) = scale;
                for (dim, &x) in value.iter().enumerate() {
                    *values.add(dim) = (x * factor).round_ties_even() as i8;
                }
            }
        }
    }
}

/// Converts to half precision within its finite range: infinities would spoil the zero weights of
/// masked tokens.
///
/// # Safety
/// `S` must be available, and `out` hold as many numbers as `x`, whose length is a multiple of the
/// lanes.
#[inline(always)]
unsafe fn to_f16<S: Simd>(x: &[f32], out: *mut u16) {
    let mut bounded = [0f32; MAX_HEAD_DIM];
    for (to, from) in bounded.iter_mut().zip(x) {
        *to = from.clamp(-MAX_F16, MAX_F16);
    }
    for i in (0..x.len()).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe { S::store_f16(out.add(i), S::load(bounded.as_ptr().add(i))) }
    }
}

/// Scale of a symmetric byte and its inverse; 0 and 0 for a vector of zeros.
#[inline(always)]
pub(super) fn int8_scale(x: &[f32]) -> (f32, f32) {
    let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    if largest > 0.0 {
        (largest / 127.0, 127.0 / largest)
    } else {
        (0.0, 0.0)
    }
}
