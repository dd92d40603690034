//! Element-wise operations on one row: gated activations, sums, soft-caps.

use crate::dispatch::for_each_isa;

/// The non-linearity of a gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its tanh formula.
    GeluTanh,
}

impl Activation {
    /// The activation called `"silu"` or `"gelu_tanh"`.
    pub fn from_name(name: &str) -> Option<Activation> {
        match name {
            "silu" => Some(Activation::Silu),
            "gelu_tanh" => Some(Activation::GeluTanh),
            _ => None,
        }
    }
}

/// `e^x` within 2e-7 of its value between -87 and 88; beyond, the value at the limit.
///
/// Branchless, so that it vectorises, and with the same fused operations in all forms.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first of few bits.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    // Cephes' polynomial for e^r, |r| <= ln 2 / 2.
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000));
    (p.mul_add(r * r, r) + 1.0) * power_of_two
}

/// `tanh(x)` within 4e-7 of its value.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Far from zero by exponentials; near it those would cancel, and Cephes' polynomial serves.
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let square = x * x;
    let mut p = -5.704_988_7e-3f32;
    p = p.mul_add(square, 2.063_909e-2);
    p = p.mul_add(square, -5.373_971_6e-2);
    p = p.mul_add(square, 1.333_144_2e-1);
    p = p.mul_add(square, -3.333_328e-1);
    let near = (x * square).mul_add(p, x);
    // Not a number is in neither range and stays what it is.
    if x.abs() > 0.625 {
        far.copysign(x)
    } else {
        near
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_8_OVER_PI: f32 = 1.595_769;
    // (1 + tanh(a)) / 2 = 1 / (1 + e^(-2a)), which loses nothing where x is far below zero.
    let inner = x * (x * x).mul_add(0.044_715, 1.0);
    x / (1.0 + exp(-SQRT_8_OVER_PI * inner))
}

#[inline(always)]
fn gated_body(gate: &[f32], up: &[f32], activation: Activation, out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let values = out.iter_mut().zip(gate).zip(up);
    match activation {
        Activation::Silu => values.for_each(|((out, &gate), up)| *out = silu(gate) * up),
        Activation::GeluTanh => values.for_each(|((out, &gate), up)| *out = gelu_tanh(gate) * up),
    }
}

#[inline(always)]
fn gated_row_body(gate_up: &[f32], activation: Activation, out: &mut [f32]) {
    let (gate, up) = gate_up.split_at(gate_up.len() / 2);
    gated_body(gate, up, activation, out);
}

#[inline(always)]
fn add_body(x: &[f32], out: &mut [f32]) {
    assert!(x.len() == out.len());
    out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
}

#[inline(always)]
fn softcap_body(row: &mut [f32], cap: f32) {
    let inverse = 1.0 / cap;
    row.iter_mut().for_each(|value| *value = cap * tanh(*value * inverse));
}

for_each_isa! {
    /// `out = activation(gate) * up` for `gate_up` = [gate | up], twice as long as `out`.
    pub fn gated_row(gate_up: &[f32], activation: Activation, out: &mut [f32]) = gated_row_body
}

for_each_isa! {
    /// `out += x`.
    pub fn add_row(x: &[f32], out: &mut [f32]) = add_body
}

for_each_isa! {
    /// `row = cap * tanh(row / cap)`.
    pub fn softcap_row(row: &mut [f32], cap: f32) = softcap_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{available, Isa};

    fn grid(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=40_000).map(move |i| low + (high - low) * i as f32 / 40_000.0)
    }

    #[test]
    fn exp_is_close_everywhere() {
        for x in grid(-87.0, 88.0) {
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 2e-7, "exp({x}) = {}", exp(x));
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
    }

    #[test]
    fn tanh_is_close_everywhere() {
        for x in grid(-12.0, 12.0) {
            let want = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - want).abs() <= 4e-7 * want.abs(), "tanh({x})");
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn activations_are_close_everywhere() {
        for x in grid(-20.0, 20.0) {
            let wide = f64::from(x);
            let want = wide / (1.0 + (-wide).exp());
            assert!((f64::from(silu(x)) - want).abs() <= 1e-6 * want.abs(), "silu({x})");
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            let want = 0.5 * wide * (1.0 + inner.tanh());
            assert!(
                (f64::from(gelu_tanh(x)) - want).abs() <= 2e-6 * want.abs() + 1e-9,
                "gelu({x})"
            );
        }
        assert!(silu(f32::NAN).is_nan() && gelu_tanh(f32::NAN).is_nan());
        assert!(silu(-1e30).abs() < 1e-6 && gelu_tanh(-1e30).abs() < 1e-6);
    }

    #[test]
    fn every_form_gives_the_same_bits() {
        let gate_up: Vec<f32> = grid(-30.0, 30.0).step_by(13).take(2 * 1111).collect();
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let rows: Vec<Vec<f32>> = available()
                .map(|isa| {
                    let mut row = vec![0.0; 1111];
                    gated_row(isa, &gate_up, activation, &mut row);
                    let up = gate_up[1111..].to_vec();
                    add_row(isa, &up, &mut row);
                    softcap_row(isa, &mut row, 30.0);
                    row
                })
                .collect();
            assert!(rows.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn a_gated_row_multiplies_gate_and_up() {
        let mut out = [0.0; 2];
        gated_row(Isa::Portable, &[1.0, -2.0, 10.0, 100.0], Activation::Silu, &mut out);
        assert!((out[0] - 7.310_586).abs() < 1e-5 && (out[1] + 23.840_584).abs() < 1e-4);
    }
}
