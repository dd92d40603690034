use super::*;
use crate::isa::{available, strongest};
use crate::threads::ThreadPool;
use half::{bf16, f16};
use proptest::prelude::*;

/// Reproducible values around zero.
fn values(num: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..num)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Bytes of `weights` in `format`, and the values they stand for.
fn stored(format: Format, weights: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let bytes: Vec<u8> = match format {
        Format::F16 => weights.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect(),
        Format::BF16 => weights.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes()).collect(),
        _ => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
    };
    let mut values = vec![0.0; weights.len()];
    dequantize_row(format, &bytes, &mut values).unwrap();
    (bytes, values)
}

struct Output(*mut f32);
// SAFETY: items write disjoint parts.
unsafe impl Sync for Output {}

fn run(
    linear: &FloatLinear,
    pool: &ThreadPool,
    x: &[f32],
    rows: usize,
    out: &mut [f32],
    out_stride: usize,
    out_col0: usize,
    bias: Option<&[f32]>,
    residual: Option<*const f32>,
) {
    let x: &[f32] = &x[..rows * linear.in_features()];
    assert!(out.len() >= rows * out_stride);
    let (out, residual) = (Output(out.as_mut_ptr()), residual.map(|r| Output(r.cast_mut())));
    pool.run(&|worker| {
        let (out, residual) = (&out, &residual);
        let epilogue = Epilogue { bias, residual: residual.as_ref().map(|r| r.0.cast_const()) };
        worker.for_each(linear.num_items(rows), |item| {
            // SAFETY: x and out are large enough, as asserted.
            unsafe {
                linear.compute(
                    item,
                    x.as_ptr(),
                    linear.in_features(),
                    rows,
                    out.0,
                    out_stride,
                    out_col0,
                    &epilogue,
                );
            }
        });
    });
}

/// The definition: one chain of fused multiply-adds over ascending inputs.
fn chain(x: &[f32], w: &[f32]) -> f32 {
    x.iter().zip(w).fold(0.0, |sum, (&x, &w)| x.mul_add(w, sum))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    /// The same bits on every instruction set, with any number of rows and threads.
    #[test]
    fn every_form_computes_the_same_chain(
        rows in prop_oneof![1usize..14, 90usize..130],
        out_features in 1usize..150,
        in_features in prop_oneof![1usize..70, 2040usize..2060],
        which in 0usize..3,
        num_threads in 1usize..4,
        seed in any::<u64>(),
    ) {
        let format = [Format::F32, Format::F16, Format::BF16][which];
        let (bytes, weights) = stored(format, &values(out_features * in_features, seed));
        let x = values(rows * in_features, seed ^ 77);
        let bias = values(out_features, seed ^ 99);
        let pool = ThreadPool::new(num_threads);
        let out_stride = out_features + 5;
        for isa in available() {
            let linear =
                FloatLinear::pack(&pool, isa, format, &bytes, out_features, in_features).unwrap();
            let mut out = vec![0.5; rows * out_stride];
            let in_place = Some(out.as_ptr());
            run(&linear, &pool, &x, rows, &mut out, out_stride, 3, Some(&bias), in_place);
            for row in (0..rows).step_by(1 + rows / 8) {
                let x = &x[row * in_features..][..in_features];
                let step = 1 + out_features / 20;
                for j in (0..out_features).chain([out_features - 1]).step_by(step) {
                    let w = &weights[j * in_features..][..in_features];
                    let want = chain(x, w) + bias[j] + 0.5;
                    prop_assert_eq!(out[row * out_stride + 3 + j].to_bits(), want.to_bits());
                }
                let around = &out[row * out_stride..][..out_stride];
                let mut outside = around[..3].iter().chain(&around[3 + out_features..]);
                prop_assert!(outside.all(|&v| v == 0.5));
            }
        }
    }
}

#[test]
fn rows_come_back_scaled() {
    for format in [Format::F32, Format::F16, Format::BF16] {
        let (bytes, weights) = stored(format, &values(37 * 9, 5));
        let linear =
            FloatLinear::pack(&ThreadPool::new(2), strongest(), format, &bytes, 37, 9).unwrap();
        let mut out = [0.0; 9];
        for row in 0..37 {
            linear.unpack_row(row, 3.0, &mut out);
            assert!(out.iter().zip(&weights[row * 9..]).all(|(&out, &w)| out == 3.0 * w));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let pool = ThreadPool::new(1);
    let pack = |format, bytes: &[u8], outs, ins| {
        FloatLinear::pack(&pool, strongest(), format, bytes, outs, ins).err()
    };
    assert_eq!(pack(Format::Q4_0, &[], 1, 32), Some(PackError::NotFloat("Q4_0")));
    assert!(matches!(pack(Format::F32, &[], 0, 4), Some(PackError::Empty { .. })));
    assert!(matches!(pack(Format::F32, &[0; 12], 1, 4), Some(PackError::Length { .. })));
    assert!(matches!(pack(Format::F32, &[], usize::MAX / 8, 4), Some(PackError::Format(_))));
}
