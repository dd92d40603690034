//! The AMX instructions, as thin wrappers over inline assembly (Rust's intrinsics for them are not
//! stable).
//!
//! A thread has eight tile registers of at most 16 rows of 64 bytes. [`TileConfig::load`] sets
//! their shapes, which also zeroes them; the shapes are state of the thread and stay until the next
//! `load` or [`release`]. Tile numbers are constants. A product of an `M`-row A tile takes `M`
//! cycles, whatever its depth, so small shapes are worth a configuration of their own.
//!
//! Every function needs [`Isa::Amx`](crate::isa::Isa::Amx) to be available on this machine;
//! anything else is an illegal instruction.

use std::arch::asm;

/// Tile registers of a thread.
pub const NUM_TILES: usize = 8;
/// Most rows of a tile.
pub const MAX_ROWS: usize = 16;
/// Most bytes of a tile's row.
pub const MAX_ROW_BYTES: usize = 64;

/// The shapes of the eight tiles, in the form `ldtilecfg` reads.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    num_rows: [u8; 16],
}

impl Default for TileConfig {
    fn default() -> TileConfig {
        TileConfig::new()
    }
}

impl TileConfig {
    /// No tile is usable yet.
    pub const fn new() -> TileConfig {
        TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            num_rows: [0; 16],
        }
    }

    /// All eight tiles 16 rows of 64 bytes.
    pub const fn full() -> TileConfig {
        let mut config = TileConfig::new();
        let mut tile = 0;
        while tile < NUM_TILES {
            config = config.tile(tile, MAX_ROWS, MAX_ROW_BYTES);
            tile += 1;
        }
        config
    }

    /// The same with `tile` of `num_rows` rows of `row_bytes` bytes.
    ///
    /// # Panics
    /// When a number is out of range or the row is not made of whole 4-byte columns.
    #[must_use]
    pub const fn tile(mut self, tile: usize, num_rows: usize, row_bytes: usize) -> TileConfig {
        assert!(tile < NUM_TILES && num_rows >= 1 && num_rows <= MAX_ROWS);
        assert!(row_bytes >= 4 && row_bytes <= MAX_ROW_BYTES && row_bytes.is_multiple_of(4));
        self.num_rows[tile] = num_rows as u8;
        self.row_bytes[tile] = row_bytes as u16;
        self
    }

    /// Gives this thread's tiles these shapes and zeroes them.
    ///
    /// # Safety
    /// The machine must have AMX and the process leave to use it.
    #[inline(always)]
    pub unsafe fn load(&self) {
        // SAFETY: `self` is 64 readable bytes of a valid configuration; the rest is the caller's
        // promise.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly, preserves_flags)) }
    }
}

/// Returns the tiles to their initial state, so that the system need not save them.
///
/// # Safety
/// The machine must have AMX and the process leave to use it.
#[inline(always)]
pub unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

/// Tile `T` = 0.
///
/// # Safety
/// AMX, and a configuration that has tile `T`.
#[inline(always)]
pub unsafe fn zero<const T: u8>() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem, preserves_flags)) }
}

/// Tile `T` = the rows at `base`, `base + stride_bytes`, ...
///
/// # Safety
/// AMX, a configuration that has tile `T`, and all its rows readable.
#[inline(always)]
pub unsafe fn load<const T: u8>(base: *const u8, stride_bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tileloadd tmm{t}, [{base} + {stride}*1]", t = const T, base = in(reg) base,
             stride = in(reg) stride_bytes, options(nostack, readonly, preserves_flags))
    }
}

/// Writes tile `T` to the rows at `base`, `base + stride_bytes`, ...
///
/// # Safety
/// AMX, a configuration that has tile `T`, and all its rows writable.
#[inline(always)]
pub unsafe fn store<const T: u8>(base: *mut u8, stride_bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{base} + {stride}*1], tmm{t}", t = const T, base = in(reg) base,
             stride = in(reg) stride_bytes, options(nostack, preserves_flags))
    }
}

/// `C[m][n] += sum over k of A[m][2k..2k+2] · B[k][2n..2n+2]`: bf16 pairs into f32.
///
/// Each output takes the pairs in ascending order of `k`, independently of every other row and
/// column.
///
/// # Safety
/// AMX, and three different tiles whose configured shapes fit together.
#[inline(always)]
pub unsafe fn dot_bf16<const C: u8, const A: u8, const B: u8>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
             options(nostack, nomem, preserves_flags))
    }
}

/// `C[m][n] += sum over k of A[m][4k..4k+4] · B[k][4n..4n+4]`: i8 by i8 into i32.
///
/// # Safety
/// As for [`dot_bf16`].
#[inline(always)]
pub unsafe fn dot_i8<const C: u8, const A: u8, const B: u8>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbssd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
             options(nostack, nomem, preserves_flags))
    }
}

/// `C[m][n] += sum over k of A[m][4k..4k+4] · B[k][4n..4n+4]`: A u8, B i8, into i32.
///
/// # Safety
/// As for [`dot_bf16`].
#[inline(always)]
pub unsafe fn dot_u8_i8<const C: u8, const A: u8, const B: u8>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbusd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
             options(nostack, nomem, preserves_flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{strongest, Isa};
    use half::bf16;

    #[test]
    fn configuration_has_the_layout_the_processor_reads() {
        assert_eq!(std::mem::size_of::<TileConfig>(), 64);
        let config = TileConfig::new().tile(2, 3, 32);
        assert_eq!((config.num_rows[2], config.row_bytes[2]), (3, 32));
        assert_eq!(std::mem::offset_of!(TileConfig, row_bytes), 16);
        assert_eq!(std::mem::offset_of!(TileConfig, num_rows), 48);
    }

    #[test]
    fn bf16_product_of_three_rows_accumulates() {
        if strongest() < Isa::Amx {
            return;
        }
        let a: Vec<bf16> = (0..3 * 32).map(|i| bf16::from_f32((i % 7) as f32 - 3.0)).collect();
        let b: Vec<bf16> = (0..16 * 32).map(|i| bf16::from_f32((i % 5) as f32 - 2.0)).collect();
        let mut c = [0f32; 3 * 16];
        let config = TileConfig::new().tile(0, 3, 64).tile(1, 3, 64).tile(2, 16, 64);
        // SAFETY: AMX is available and every tile's rows lie inside its array.
        unsafe {
            config.load();
            zero::<0>();
            load::<1>(a.as_ptr().cast(), 64);
            load::<2>(b.as_ptr().cast(), 64);
            dot_bf16::<0, 1, 2>();
            dot_bf16::<0, 1, 2>();
            store::<0>(c.as_mut_ptr().cast(), 64);
            release();
        }
        for m in 0..3 {
            for n in 0..16 {
                let term =
                    |k: usize| a[m * 32 + k].to_f32() * b[(k / 2) * 32 + 2 * n + k % 2].to_f32();
                assert_eq!(c[m * 16 + n], 2.0 * (0..32).map(term).sum::<f32>());
            }
        }
    }

    #[test]
    fn i8_products_of_all_signs() {
        if strongest() < Isa::Amx {
            return;
        }
        let a: Vec<u8> = (0..16 * 64).map(|i| (i * 37 % 251) as u8).collect();
        let b: Vec<u8> = (0..16 * 64).map(|i| (i * 91 % 253) as u8).collect();
        let mut c = [[0i32; 16 * 16]; 2];
        // SAFETY: AMX is available and every tile's rows lie inside its array.
        unsafe {
            TileConfig::full().load();
            load::<3>(a.as_ptr(), 64);
            load::<4>(b.as_ptr(), 64);
            dot_i8::<0, 3, 4>();
            dot_u8_i8::<1, 3, 4>();
            store::<0>(c[0].as_mut_ptr().cast(), 64);
            store::<1>(c[1].as_mut_ptr().cast(), 64);
            release();
        }
        let signed = |x: u8| i32::from(x as i8);
        let plain = |x: u8| i32::from(x);
        for m in 0..16 {
            for n in 0..16 {
                let sum = |fa: fn(u8) -> i32, fb: fn(u8) -> i32| -> i32 {
                    (0..64).map(|k| fa(a[m * 64 + k]) * fb(b[(k / 4) * 64 + 4 * n + k % 4])).sum()
                };
                assert_eq!(c[0][m * 16 + n], sum(signed, signed));
                assert_eq!(c[1][m * 16 + n], sum(plain, signed));
            }
        }
    }
}
