//! Activations in 16-bit fixed point, one scale to a row, as two planes of bytes:
//! `x ≈ scale * (256 * high + low)`, `high` signed, `low` from 0 to 255.

use crate::buffer::Buffer;
use crate::linear::TILE_ROWS;

/// Inputs of one AMX step.
pub const STEP: usize = 64;
/// Bytes of one tile of a plane.
pub const TILE_BYTES: usize = TILE_ROWS * STEP;
/// Largest code.
const LARGEST: f32 = 32_512.0;
/// Rows that are also kept as words, for batches too small for tiles.
pub const WORD_ROWS: usize = 4;

/// Room for rows of up to a given width.
pub struct FixedRows {
    max_rows: usize,
    max_steps: usize,
    /// i8 (tiles, steps, 2 planes, 16 rows, 64).
    planes: Buffer<i8>,
    /// i16 (4 rows, steps * 64): the high bytes as words; of every four inputs first the even
    /// ones, then the odd ones.
    words: Buffer<i16>,
    /// f32 (tiles * 16).
    scales: Buffer<f32>,
}

impl FixedRows {
    /// Room for `max_rows` rows of `max_width` activations.
    pub fn new(max_rows: usize, max_width: usize) -> FixedRows {
        let tiles = max_rows.div_ceil(TILE_ROWS);
        let max_steps = max_width.div_ceil(STEP);
        FixedRows {
            max_rows,
            max_steps,
            planes: Buffer::zeroed(tiles * max_steps * 2 * TILE_BYTES),
            words: Buffer::zeroed(WORD_ROWS * max_steps * STEP),
            scales: Buffer::zeroed(tiles * TILE_ROWS),
        }
    }

    /// Steps that rows of `width` take.
    pub fn steps(width: usize) -> usize {
        width.div_ceil(STEP)
    }

    /// First byte of a tile: i8 (steps, 2 planes, 16 rows, 64).
    pub fn tile(&self, tile: usize) -> *const i8 {
        assert!(tile * TILE_ROWS < self.max_rows);
        self.planes.as_slice()[tile * self.max_steps * 2 * TILE_BYTES..].as_ptr()
    }

    /// High bytes of a row as words.
    pub fn words(&self, row: usize) -> *const i16 {
        self.words.as_slice()[row * self.max_steps * STEP..].as_ptr()
    }

    /// Scale of a row.
    pub fn scale(&self, row: usize) -> f32 {
        self.scales.as_slice()[row]
    }

    /// Quantises `x` as row `row`.
    ///
    /// # Safety
    /// AVX-512 is available; nobody else reads or writes this row meanwhile.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn quantize(&self, row: usize, x: &[f32]) {
        use std::arch::x86_64::*;
        assert!(row < self.max_rows && x.len() <= self.max_steps * STEP);
        let (chunks, rest) = x.as_chunks::<STEP>();
        let mut padded = [0f32; STEP];
        padded[..rest.len()].copy_from_slice(rest);
        let tail = (!rest.is_empty()).then_some(&padded);
        let mut max = _mm512_setzero_ps();
        for chunk in chunks.iter().chain(tail) {
            for part in chunk.as_chunks::<16>().0 {
                // SAFETY: sixteen floats.
                let values = unsafe { _mm512_loadu_ps(part.as_ptr()) };
                max = _mm512_max_ps(max, _mm512_abs_ps(values));
            }
        }
        let max = _mm512_reduce_max_ps(max);
        let inverse = _mm512_set1_ps(if max > 0.0 { LARGEST / max } else { 0.0 });
        // SAFETY: the row's places in all three buffers exist, and the caller keeps others away.
        unsafe {
            *self.scales.as_ptr_mut().add(row) = max * (1.0 / LARGEST);
            let tile = self.tile(row / TILE_ROWS).cast_mut();
            for (step, chunk) in chunks.iter().chain(tail).enumerate() {
                let high = tile.add(step * 2 * TILE_BYTES + row % TILE_ROWS * STEP);
                for (i, part) in chunk.as_chunks::<16>().0.iter().enumerate() {
                    let values = _mm512_mul_ps(_mm512_loadu_ps(part.as_ptr()), inverse);
                    let code = _mm512_cvtps_epi32(values);
                    let top = _mm512_srai_epi32::<8>(code);
                    _mm_storeu_si128(high.add(16 * i).cast(), _mm512_cvtepi32_epi8(top));
                    // Truncation keeps the low byte of the code.
                    let low = high.add(TILE_BYTES + 16 * i);
                    _mm_storeu_si128(low.cast(), _mm512_cvtepi32_epi8(code));
                    if row < WORD_ROWS {
                        let words = self.words(row).cast_mut().add(step * STEP + 16 * i);
                        let top = evens_first(_mm512_cvtepi32_epi16(top));
                        _mm256_storeu_si256(words.cast(), top);
                    }
                }
            }
        }
    }
}

/// Of every four words first words 0 and 2, then words 1 and 3.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn evens_first(words: std::arch::x86_64::__m256i) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::{_mm256_shufflehi_epi16, _mm256_shufflelo_epi16};
    _mm256_shufflehi_epi16::<0b11_01_10_00>(_mm256_shufflelo_epi16::<0b11_01_10_00>(words))
}
