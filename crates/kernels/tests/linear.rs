//! Group linears against a slow twin in f64, and bit for bit against each other.

use artesian_kernels::isa::{self, Isa};
use artesian_kernels::linear::{
    GroupLinear, GroupPacker, LinearScratch, QuantRows, RowParts, GROUP,
};

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

/// (code bits, largest code, group length, zero point, factors exact in f16)
const KINDS: [(usize, u64, usize, Option<u8>, bool); 9] = [
    (4, 15, 32, None, true),
    (4, 15, 32, None, false),
    (4, 15, 32, Some(8), true),
    (8, 31, 32, None, true),
    (8, 31, 32, None, false),
    (8, 31, 32, Some(16), true),
    (8, 255, 32, Some(128), true),
    (8, 63, 16, Some(32), false),
    (8, 63, 16, Some(32), true),
];

struct Case {
    weight: GroupLinear,
    dense: Vec<Vec<f64>>,
}

fn random_weight(random: &mut Random, kind: usize, rows: usize, cols: usize) -> Case {
    let (bits, max_code, group_len, zero, half) = KINDS[kind];
    let packer = GroupPacker::new(rows, cols, bits, group_len, zero);
    let factor = |random: &mut Random| {
        let value = random.uniform() * 0.1;
        if half {
            half::f16::from_f32(value).to_f32()
        } else {
            value
        }
    };
    let mut dense = Vec::new();
    for row in 0..rows {
        let codes: Vec<u8> = (0..cols).map(|_| (random.next() % (max_code + 1)) as u8).collect();
        let scales: Vec<f32> = (0..cols / group_len).map(|_| factor(random)).collect();
        let mins: Vec<f32> = match zero {
            Some(zero) => scales.iter().map(|scale| -scale * f32::from(zero)).collect(),
            None => scales.iter().map(|_| factor(random)).collect(),
        };
        // SAFETY: one thread.
        unsafe { packer.pack_row(row, &RowParts { codes: &codes, scales: &scales, mins: &mins }) };
        let value = |i: usize| {
            f64::from(scales[i / group_len]) * f64::from(codes[i]) + f64::from(mins[i / group_len])
        };
        dense.push((0..cols).map(value).collect());
    }
    Case { weight: packer.finish(), dense }
}

fn quantized(isa: Isa, x: &[Vec<f32>]) -> QuantRows {
    let rows = QuantRows::new(x.len(), x[0].len());
    let groups = x[0].len().div_ceil(GROUP);
    for (i, row) in x.iter().enumerate() {
        // SAFETY: one thread.
        unsafe { rows.quantize(isa, i, groups, 0, row) };
    }
    rows
}

fn outputs(isa: Isa, weight: &GroupLinear, x: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let rows = quantized(isa, x);
    let mut scratch = LinearScratch::new(x.len(), weight.cols);
    let mut out = vec![vec![0f32; weight.rows]; x.len()];
    for panel in 0..weight.num_panels() {
        let block = weight.compute(isa, panel, &rows, 0, x.len(), &mut scratch);
        for (r, row) in out.iter_mut().enumerate() {
            for c in panel * 16..weight.rows.min(panel * 16 + 16) {
                row[c] = block[r * 16 + c - panel * 16];
            }
        }
    }
    out
}

fn inputs(random: &mut Random, num_rows: usize, cols: usize) -> Vec<Vec<f32>> {
    let row = |random: &mut Random| (0..cols).map(|_| random.uniform() * 3.0).collect();
    (0..num_rows).map(|_| row(random)).collect()
}

#[test]
fn close_to_the_twin_in_f64() {
    let mut random = Random(1);
    for kind in 0..KINDS.len() {
        let case = random_weight(&mut random, kind, 37, 96);
        let x = inputs(&mut random, 3, 96);
        let out = outputs(Isa::Portable, &case.weight, &x);
        for (x, out) in x.iter().zip(&out) {
            for (dense, out) in case.dense.iter().zip(out) {
                let exact: f64 = dense.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                let size: f64 = dense.iter().map(|w| w * w).sum::<f64>().sqrt();
                // Rounding to 127 steps of max|x| = 3 errs by at most 3 / 254 per input, mostly
                // cancelling.
                assert!(
                    (exact - f64::from(*out)).abs() < 0.03 * size,
                    "kind {kind}: {exact} {out}"
                );
            }
        }
    }
}

#[test]
fn all_instruction_sets_agree_bit_for_bit_whatever_shares_the_batch() {
    let mut random = Random(2);
    for kind in 0..KINDS.len() {
        for (rows, cols) in [(16, 32), (40, 64), (33, 160), (16, 576)] {
            let weight = random_weight(&mut random, kind, rows, cols).weight;
            let x = inputs(&mut random, 35, cols);
            let expected = outputs(Isa::Portable, &weight, &x);
            for isa in isa::available().filter(|isa| *isa != Isa::Amx) {
                for num_rows in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 35] {
                    let out = outputs(isa, &weight, &x[..num_rows]);
                    for r in 0..num_rows {
                        assert_eq!(
                            out[r], expected[r],
                            "{isa:?} kind {kind} {rows}x{cols} M={num_rows} row {r}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rows_dequantise_to_the_packed_values() {
    let mut random = Random(3);
    for kind in 0..KINDS.len() {
        let case = random_weight(&mut random, kind, 20, 64);
        for (row, dense) in case.dense.iter().enumerate() {
            let mut out = vec![0f32; 64];
            case.weight.dequantize_row(row, 2.0, &mut out);
            for (value, exact) in out.iter().zip(dense) {
                assert!((f64::from(*value) - 2.0 * exact).abs() < 1e-5, "kind {kind}");
            }
        }
    }
}

#[test]
fn zeros_and_extremes_quantise_exactly() {
    for isa in isa::available().filter(|isa| *isa != Isa::Amx) {
        let mut x = vec![vec![0f32; 64]; 2];
        x[1][0] = 127.0;
        x[1][1] = -127.0;
        x[1][2] = 2.5;
        x[1][3] = 3.5;
        let rows = quantized(isa, &x);
        let tile = rows.tile(0, 2);
        // SAFETY: row 1 of group 0 of the tile.
        let codes = unsafe { std::slice::from_raw_parts(tile.codes.add(32), 4) };
        assert_eq!(codes, [127, -127, 2, 4], "ties go to even");
        // SAFETY: as above.
        unsafe {
            assert_eq!(*tile.scales, 0.0);
            assert_eq!(*tile.scales.add(1), 1.0);
            assert_eq!(*tile.scaled_sums.add(1), 6.0);
        }
    }
}
