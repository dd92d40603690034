//! Root-mean-square normalisation of one row.

use crate::dispatch::for_each_isa;

/// Partial sums of squares: four vectors of the widest registers.
const NUM_LANES: usize = 64;

/// Sum of squares over lanes `i % NUM_LANES`, then over the lanes in halves: one order, always.
#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut lanes = [0f32; NUM_LANES];
    let (chunks, rest) = x.as_chunks::<NUM_LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    let mut half = NUM_LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    let scale = 1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

for_each_isa! {
    /// `out = x / sqrt(mean(x²) + eps) * weight`; all of one length.
    pub fn rms_norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{available, Isa};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_form_matches_the_formula(
            row in prop::collection::vec((-9f32..9.0, -2f32..2.0), 1..700),
            eps in 1e-7f32..1e-3,
        ) {
            let x: Vec<f32> = row.iter().map(|row| row.0).collect();
            let weight: Vec<f32> = row.iter().map(|row| row.1).collect();
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + f64::from(eps)).sqrt();
            let mut portable = vec![0.0; x.len()];
            rms_norm_row(Isa::Portable, &x, &weight, eps, &mut portable);
            for i in 0..x.len() {
                let want = f64::from(x[i]) * scale * f64::from(weight[i]);
                prop_assert!((f64::from(portable[i]) - want).abs() <= 1e-6 * want.abs() + 1e-30);
            }
            for isa in available() {
                let mut out = vec![0.0; x.len()];
                rms_norm_row(isa, &x, &weight, eps, &mut out);
                prop_assert_eq!(&out, &portable);
            }
        }
    }
}
