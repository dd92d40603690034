//! Rotary position embedding.
//!
//! Cosines and sines of a batch's rows are worked out once by [`RopeRows`] and shared by all layers
//! with the same frequencies. They are computed in f64 and rounded at the end, so that large
//! positions are as exact as small ones.

/// Positions of the inner table; the angle of a position is that of its multiple of this plus that
/// of the rest.
const STEP: i32 = 64;

/// Rotation frequencies of one kind of layer.
#[derive(Clone, Debug)]
pub struct Rope {
    interleaved: bool,
    magnitude: f64,
    inv_freq: Vec<f64>,
    /// `[STEP][num_pairs]` (cos, sin) of small positions.
    fine: Vec<(f64, f64)>,
}

impl Rope {
    /// `inv_freq`: angle per position of each rotated pair, scaling applied. The first `2 *
    /// inv_freq.len()` dimensions of a head are rotated, as pairs (0, 1), (2, 3), ... if
    /// `interleaved`, else `(i, i + num_pairs)`. `magnitude` multiplies cosine and sine.
    pub fn new(inv_freq: &[f32], interleaved: bool, magnitude: f32) -> Rope {
        let inv_freq: Vec<f64> = inv_freq.iter().map(|&f| f64::from(f)).collect();
        let angle = |position: i32, freq: &f64| (f64::from(position) * freq).sin_cos();
        let fine = (0..STEP)
            .flat_map(|position| {
                inv_freq.iter().map(move |freq| {
                    let (sin, cos) = angle(position, freq);
                    (cos, sin)
                })
            })
            .collect();
        Rope { interleaved, magnitude: f64::from(magnitude), inv_freq, fine }
    }

    /// Dimensions of a head that are rotated.
    pub fn rotated_dims(&self) -> usize {
        2 * self.inv_freq.len()
    }

    /// The two dimensions of each pair with cosine and sine of its angle at `position`, which may
    /// be negative; without the magnitude.
    pub(super) fn pairs(&self, position: i32) -> Vec<(usize, usize, f32, f32)> {
        let pair = |(pair, freq): (usize, &f64)| {
            let (first, second) = if self.interleaved {
                (2 * pair, 2 * pair + 1)
            } else {
                (pair, pair + self.inv_freq.len())
            };
            let (sin, cos) = (f64::from(position) * freq).sin_cos();
            (first, second, cos as f32, sin as f32)
        };
        self.inv_freq.iter().enumerate().map(pair).collect()
    }
}

/// Cosines and sines of the rows of a batch.
///
/// A row is `[rotated_dims]` factors of the element itself, then `[rotated_dims]` factors of its
/// partner, with the sign of the rotation.
#[derive(Clone, Debug, Default)]
pub struct RopeRows {
    interleaved: bool,
    rotated_dims: usize,
    rows: Vec<f32>,
}

impl RopeRows {
    /// No rotation at all.
    pub fn none() -> RopeRows {
        RopeRows::default()
    }

    /// Rows for tokens at `positions`.
    pub fn new(rope: &Rope, positions: &[i32]) -> RopeRows {
        let mut rows = RopeRows::none();
        rows.fill(rope, positions);
        rows
    }

    /// As [`RopeRows::new`], using the memory of what was here.
    pub fn fill(&mut self, rope: &Rope, positions: &[i32]) {
        let (num_pairs, dims) = (rope.inv_freq.len(), rope.rotated_dims());
        self.interleaved = rope.interleaved;
        self.rotated_dims = dims;
        self.rows.clear();
        self.rows.resize(positions.len() * 2 * dims, 0.0);
        if dims == 0 {
            return;
        }
        let mut coarse = vec![(1.0, 0.0); num_pairs];
        let mut coarse_position = 0;
        for (row, &position) in self.rows.chunks_exact_mut(2 * dims).zip(positions) {
            let (base, rest) =
                (position - position.rem_euclid(STEP), position.rem_euclid(STEP) as usize);
            if base != coarse_position {
                coarse_position = base;
                for (entry, freq) in coarse.iter_mut().zip(&rope.inv_freq) {
                    let (sin, cos) = (f64::from(base) * freq).sin_cos();
                    *entry = (cos, sin);
                }
            }
            let fine = &rope.fine[rest * num_pairs..(rest + 1) * num_pairs];
            let (own, partner) = row.split_at_mut(dims);
            for (pair, (&(ca, sa), &(cb, sb))) in coarse.iter().zip(fine).enumerate() {
                let cos = ((ca * cb - sa * sb) * rope.magnitude) as f32;
                let sin = ((sa * cb + ca * sb) * rope.magnitude) as f32;
                let (first, second) = if rope.interleaved {
                    (2 * pair, 2 * pair + 1)
                } else {
                    (pair, pair + num_pairs)
                };
                (own[first], own[second]) = (cos, cos);
                (partner[first], partner[second]) = (-sin, sin);
            }
        }
    }

    /// Dimensions of a head that are rotated.
    pub fn rotated_dims(&self) -> usize {
        self.rotated_dims
    }

    /// Rows there are, or `None` when nothing is rotated and any number will do.
    pub fn num_rows(&self) -> Option<usize> {
        self.rows.len().checked_div(2 * self.rotated_dims)
    }

    /// Rotates one head (`head.len() >= rotated_dims`) of the token in row `row`.
    #[inline(always)]
    pub(super) fn rotate(&self, row: usize, head: &mut [f32]) {
        let dims = self.rotated_dims;
        if dims == 0 {
            return;
        }
        let (own, partner) = self.rows[row * 2 * dims..(row + 1) * 2 * dims].split_at(dims);
        let head = &mut head[..dims];
        if self.interleaved {
            let factors = own.chunks_exact(2).zip(partner.chunks_exact(2));
            for (pair, (own, partner)) in head.chunks_exact_mut(2).zip(factors) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * own[0] + b * partner[0];
                pair[1] = b * own[1] + a * partner[1];
            }
        } else {
            let half = dims / 2;
            let (low, high) = head.split_at_mut(half);
            let (own, partner) = (&own[..half], &partner[half..]);
            for i in 0..half {
                let (a, b) = (low[i], high[i]);
                low[i] = a * own[i] - b * partner[i];
                high[i] = b * own[i] + a * partner[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_matches_the_formula_at_small_and_large_positions() {
        let inv_freq: Vec<f32> = (0..8).map(|i| 10_000f32.powf(-i as f32 / 8.0)).collect();
        let head: Vec<f32> = (0..20).map(|i| (i as f32 * 0.7).sin()).collect();
        let positions = [0, 1, 63, 64, 65, 1_000, 131_071, 1_000_003];
        for interleaved in [false, true] {
            let rope = Rope::new(&inv_freq, interleaved, 1.25);
            let rows = RopeRows::new(&rope, &positions);
            assert_eq!(rows.num_rows(), Some(positions.len()));
            for (row, &position) in positions.iter().enumerate() {
                let mut rotated = head.clone();
                rows.rotate(row, &mut rotated);
                assert_eq!(rotated[16..], head[16..]);
                for (i, &freq) in inv_freq.iter().enumerate() {
                    let (sin, cos) = (f64::from(position) * f64::from(freq)).sin_cos();
                    let (x, y) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + 8) };
                    let (a, b) = (f64::from(head[x]), f64::from(head[y]));
                    assert!((f64::from(rotated[x]) - 1.25 * (a * cos - b * sin)).abs() < 1e-6);
                    assert!((f64::from(rotated[y]) - 1.25 * (b * cos + a * sin)).abs() < 1e-6);
                }
            }
        }
        assert_eq!(RopeRows::none().num_rows(), None);
    }

    #[test]
    fn rows_depend_on_their_position_alone() {
        let rope = Rope::new(&[1.0, 0.1, 0.01], false, 1.0);
        let together = RopeRows::new(&rope, &[5, 200, 63, 64, 200]);
        for (row, position) in [5, 200, 63, 64, 200].into_iter().enumerate() {
            assert_eq!(
                together.rows[row * 12..(row + 1) * 12],
                RopeRows::new(&rope, &[position]).rows
            );
        }
    }
}
