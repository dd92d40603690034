//! Fixed-point linears against the definition in plain integers, and against the file's values.
#![cfg(target_arch = "x86_64")]

use artesian_kernels::gguf::{dequantize_row, Format};
use artesian_kernels::isa::Isa;
use artesian_kernels::linear::fixed::{FixedLinear, FixedRows, FixedScratch};
use artesian_kernels::threads::ThreadPool;

/// A small deterministic generator: the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn uniform(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 * 2.0 - 1.0
    }
}

const FORMATS: [Format; 8] = [
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

/// Offsets of the half-precision factors in a block.
fn half_offsets(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q6_K => &[208],
        _ => &[0],
    }
}

fn random_blocks(random: &mut Random, format: Format, rows: usize, cols: usize) -> Vec<u8> {
    let len = rows * format.row_bytes(cols).expect("whole blocks");
    let mut data: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    for block in data.chunks_mut(format.block_bytes()) {
        for &offset in half_offsets(format) {
            let value = half::f16::from_f32(random.uniform() * 0.05);
            block[offset..offset + 2].copy_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    data
}

fn inputs(random: &mut Random, num_rows: usize, cols: usize) -> Vec<Vec<f32>> {
    let row = |random: &mut Random| (0..cols).map(|_| random.uniform() * 3.0).collect();
    (0..num_rows).map(|_| row(random)).collect()
}

/// The definition, with the unit read back from a row of ones.
fn twin(weight: &FixedLinear, units: &[f32], x: &[f32]) -> Vec<f32> {
    let max = x.iter().fold(0f32, |max, v| max.max(v.abs()));
    let inverse = if max > 0.0 { 32_512.0 / max } else { 0.0 };
    let codes: Vec<i32> = x.iter().map(|v| (v * inverse).round_ties_even() as i32).collect();
    let scale = max * (1.0 / 32_512.0);
    (0..weight.rows)
        .map(|row| {
            let sum: i32 = (0..weight.cols)
                .map(|col| {
                    let w = i32::from(weight.weight(row, col));
                    let (high, whigh) = (codes[col] >> 8, (w + 128) >> 8);
                    w * high + whigh * (codes[col] & 255)
                })
                .sum();
            let low: i32 =
                (0..weight.cols).map(|col| i32::from(weight.weight(row, col) as i8)).sum();
            (sum + (low >> 1)) as f32 * (units[row] * scale)
        })
        .collect()
}

/// 256 units of each output: an output's first weight in f32 over the same in units.
fn units(weight: &FixedLinear) -> Vec<f32> {
    let mut values = vec![0f32; weight.cols];
    (0..weight.rows)
        .map(|row| {
            weight.dequantize_row(row, 256.0, &mut values);
            let col = (0..weight.cols).max_by_key(|&col| weight.weight(row, col).unsigned_abs());
            let col = col.expect("a row has weights");
            values[col] / f32::from(weight.weight(row, col))
        })
        .collect()
}

fn outputs(weight: &FixedLinear, x: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let rows = FixedRows::new(x.len(), weight.cols);
    for (i, x) in x.iter().enumerate() {
        // SAFETY: AMX is available (the callers check), one thread.
        unsafe { rows.quantize(i, x) };
    }
    let mut scratch = FixedScratch::new(weight.cols);
    let mut block = vec![0f32; x.len().next_multiple_of(16) * 16];
    let mut out = vec![vec![0f32; weight.rows]; x.len()];
    for panel in 0..weight.num_panels() {
        // SAFETY: as above.
        unsafe { weight.compute(panel, &rows, 0, x.len(), &mut scratch, &mut block) };
        for (r, row) in out.iter_mut().enumerate() {
            for c in panel * 16..weight.rows.min(panel * 16 + 16) {
                row[c] = block[r * 16 + c - panel * 16];
            }
        }
    }
    out
}

fn amx() -> bool {
    let available = Isa::Amx.is_available();
    if !available {
        println!("skipped: this processor has no AMX");
    }
    available
}

#[test]
fn any_number_of_rows_gives_the_bits_of_the_definition() {
    if !amx() {
        return;
    }
    let (pool, mut random) = (ThreadPool::new(2), Random(1));
    for format in FORMATS {
        for (rows, blocks) in [(16, 1), (40, 2), (33, 5)] {
            let cols = blocks * format.block_len().max(32);
            let data = random_blocks(&mut random, format, rows, cols);
            let weight = FixedLinear::from_blocks(&pool, format, &data, rows, cols).expect("fits");
            let units = units(&weight);
            let x = inputs(&mut random, 70, cols);
            for num_rows in [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 48, 70] {
                let out = outputs(&weight, &x[..num_rows]);
                for (r, out) in out.iter().enumerate() {
                    for (c, (a, b)) in out.iter().zip(twin(&weight, &units, &x[r])).enumerate() {
                        // The unit was read back through a division: allow its rounding, no more.
                        let close = (a - b).abs() <= 4.0 * f32::EPSILON * b.abs();
                        assert!(close, "{format:?} {rows}x{cols} M={num_rows} ({r}, {c}): {a} {b}");
                    }
                    assert_eq!(*out, outputs(&weight, &x[r..=r])[0], "alone, row {r}");
                }
            }
        }
    }
}

#[test]
fn weights_stay_within_one_and_a_half_units_of_the_file() {
    if !amx() {
        return;
    }
    let (pool, mut random) = (ThreadPool::new(1), Random(2));
    for format in FORMATS {
        let (rows, cols) = (20, 512);
        let data = random_blocks(&mut random, format, rows, cols);
        let weight = FixedLinear::from_blocks(&pool, format, &data, rows, cols).expect("fits");
        let (mut exact, mut ours) = (vec![0f32; cols], vec![0f32; cols]);
        let units = units(&weight);
        for row in 0..rows {
            let bytes = &data[row * data.len() / rows..][..data.len() / rows];
            dequantize_row(format, bytes, &mut exact).expect("whole row");
            weight.dequantize_row(row, 1.0, &mut ours);
            let largest = exact.iter().fold(0f32, |max, v| max.max(v.abs()));
            let unit = units[row] / 256.0;
            assert!(unit <= largest * 2.0 / 32_000.0, "{format:?}: unit {unit} of {largest}");
            for (a, b) in exact.iter().zip(&ours) {
                assert!((a - b).abs() <= 1.51 * unit, "{format:?}: {a} {b} unit {unit}");
            }
        }
    }
}

#[test]
fn the_largest_rows_cannot_overflow() {
    if !amx() {
        return;
    }
    // Every weight as large as its scale allows, every activation the maximum: the worst sum there
    // is.
    let (pool, cols) = (ThreadPool::new(1), 8192);
    let mut data = Vec::new();
    for _ in 0..16 * cols / 32 {
        data.extend(half::f16::from_f32(1.0).to_bits().to_le_bytes());
        data.extend([127u8; 32]);
    }
    let weight = FixedLinear::from_blocks(&pool, Format::Q8_0, &data, 16, cols).expect("fits");
    let x = vec![vec![2.0f32; cols]; 5];
    let exact = 127.0 * 2.0 * cols as f32;
    for num_rows in [1, 5] {
        for row in outputs(&weight, &x[..num_rows]) {
            for value in row {
                assert!((value - exact).abs() < 2e-3 * exact, "{value} instead of {exact}");
            }
        }
    }
}

#[test]
fn wrong_sizes_are_errors() {
    if !amx() {
        return;
    }
    let pool = ThreadPool::new(1);
    assert!(FixedLinear::from_blocks(&pool, Format::Q4_1, &[0; 19], 1, 32).is_err());
    assert!(FixedLinear::from_blocks(&pool, Format::Q4_1, &[0; 20], 1, 33).is_err());
}
