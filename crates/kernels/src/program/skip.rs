//! Rows that go around sublayers.
//!
//! A row whose sequence leaves a sublayer out gets the sublayer's input times a factor for its
//! output (AdaSkip, equations 3 and 4). The steps of the sublayer run over the rows up to the last
//! one that needs them, and what lies among these and does not is overwritten: so nothing is
//! gathered or scattered, whatever the batch, and where sequences that skip come behind those that
//! do not, nothing is computed in vain. No row's result depends on how the others are cut, for none
//! depends on other rows at all.
//!
//! Sequences whose attention is remote never skip and come last, so in their presence nothing is
//! cut. Nor is attention where keys and values are pushed to a peer, which waits for every layer.

use std::sync::atomic::{AtomicU32, Ordering};

use super::batch::BatchView;
use super::exec::Matrix;
use super::steps::{Dest, Domain, Slot};
use super::ProgramError;

/// What one sequence of a batch leaves out.
#[derive(Clone, Copy, Debug)]
pub struct Skip<'a> {
    /// Number of the sequence in the batch.
    pub sequence: usize,
    /// Sublayers, ascending: 2 * layer is a layer's attention, 2 * layer + 1 its FFN.
    pub sublayers: &'a [u32],
    /// What their input is multiplied with.
    pub scales: &'a [f32],
}

/// Takes how little each sublayer changed each row: cos(input, output) and |output| / |input|.
///
/// Not a number where nothing was measured: rows that left the sublayer out, and behind the last
/// attention those whose logits nobody wants.
pub struct Probe {
    values: Vec<AtomicU32>,
    num_sublayers: usize,
    num_rows: usize,
}

impl Probe {
    /// For a program of so many sublayers and a batch of so many rows.
    pub fn new(num_sublayers: usize, num_rows: usize) -> Probe {
        let nothing = || AtomicU32::new(f32::NAN.to_bits());
        let values = (0..2 * num_sublayers * num_rows).map(|_| nothing()).collect();
        Probe { values, num_sublayers, num_rows }
    }

    /// f32 (2, num_sublayers, num_rows): cosines, then ratios of norms.
    pub fn into_values(self) -> Vec<f32> {
        self.values.into_iter().map(|value| f32::from_bits(value.into_inner())).collect()
    }

    fn put(&self, sublayer: usize, row: usize, (cosine, ratio): (f32, f32)) {
        let place = sublayer * self.num_rows + row;
        let half = self.num_sublayers * self.num_rows;
        self.values[place].store(cosine.to_bits(), Ordering::Relaxed);
        self.values[half + place].store(ratio.to_bits(), Ordering::Relaxed);
    }
}

/// A sublayer of a built program.
pub(super) struct Sublayer {
    /// 2 * layer for attention, 2 * layer + 1 for an FFN.
    pub number: usize,
    /// Its input, in the rows of `to`.
    pub input: Slot,
    /// Its output.
    pub to: Dest,
}

/// The sublayer that a step belongs to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub sublayer: usize,
    /// It is the one that writes the output.
    pub is_end: bool,
}

/// Over which rows of a batch the steps of a sublayer run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cut {
    /// The first sequences, all their rows, and the first rows of logits.
    pub num_sequences: usize,
    pub num_rows: usize,
    pub num_logits: usize,
    /// Which of [`Skipping::prefixes`], for attention.
    pub prefix: usize,
    /// Whether some sequence leaves the sublayer out.
    skips: bool,
}

/// What the sequences of one run leave out.
pub(super) struct Skipping<'a> {
    /// One for each sublayer; none when nothing is left out.
    cuts: Vec<Cut>,
    /// Factor by sublayer and sequence; not a number where it is not left out.
    factors: Vec<f32>,
    sequence_of_row: Vec<u32>,
    /// Numbers of sequences that attend together, all of them first.
    prefixes: Vec<usize>,
    probe: Option<&'a Probe>,
}

impl<'a> Skipping<'a> {
    /// Checks `skips`. `num_local`: sequences that are attended here; `keeps_attention`: attention
    /// is computed for all of them.
    pub fn new(
        batch: &BatchView<'_>,
        skips: &[Skip<'_>],
        probe: Option<&'a Probe>,
        sublayers: &[Sublayer],
        (num_local, keeps_attention): (usize, bool),
    ) -> Result<Skipping<'a>, ProgramError> {
        let num_sequences = batch.context_lens.len();
        let mut skipping = Skipping {
            cuts: Vec::new(),
            factors: Vec::new(),
            sequence_of_row: Vec::new(),
            prefixes: vec![num_local],
            probe,
        };
        check_probe(probe, batch, sublayers)?;
        if skips.iter().all(|skip| skip.sublayers.is_empty()) {
            return Ok(skipping);
        }
        skipping.factors = factors(skips, sublayers, num_sequences, num_local)?;
        let lens = batch.row_starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let rows = lens.enumerate().flat_map(|(s, len)| std::iter::repeat_n(s as u32, len));
        skipping.sequence_of_row = rows.collect();
        for (index, sublayer) in sublayers.iter().enumerate() {
            let is_attention = sublayer.number.is_multiple_of(2);
            let kind = (is_attention, is_attention && keeps_attention);
            let cut = skipping.cut(batch, index, kind, num_local);
            skipping.cuts.push(cut);
        }
        Ok(skipping)
    }

    /// `whole`: as if nobody left the sublayer out.
    fn cut(
        &mut self,
        batch: &BatchView<'_>,
        index: usize,
        (is_attention, whole): (bool, bool),
        num_local: usize,
    ) -> Cut {
        let total = batch.context_lens.len();
        let factors = &self.factors[index * total..(index + 1) * total];
        let needs = |sequence: usize| whole || factors[sequence].is_nan();
        let num_sequences = (0..total).rev().find(|&s| needs(s)).map_or(0, |last| last + 1);
        let needs_logits =
            |&logit: &usize| needs(self.sequence_of_row[batch.logit_rows[logit] as usize] as usize);
        let last = (0..batch.logit_rows.len()).rev().find(needs_logits);
        let skips = factors.iter().any(|factor| !factor.is_nan());
        let attended = num_sequences.min(num_local);
        let prefix = if is_attention && attended > 0 { self.prefix(attended) } else { 0 };
        Cut {
            num_sequences,
            num_rows: batch.row_starts[num_sequences] as usize,
            num_logits: last.map_or(0, |last| last + 1),
            prefix,
            skips,
        }
    }

    /// The number of a prefix that attends together.
    fn prefix(&mut self, num_sequences: usize) -> usize {
        let known = self.prefixes.iter().position(|&prefix| prefix == num_sequences);
        known.unwrap_or_else(|| {
            self.prefixes.push(num_sequences);
            self.prefixes.len() - 1
        })
    }

    /// Numbers of sequences that attend together: one plan of attention for each.
    pub fn prefixes(&self) -> &[usize] {
        &self.prefixes
    }

    /// Over which rows a sublayer runs; `None` for all.
    pub fn of(&self, sublayer: usize) -> Option<&Cut> {
        self.cuts.get(sublayer)
    }

    /// Whether rows differ in what they leave out.
    pub fn is_mixed(&self) -> bool {
        let total = self.prefixes[0];
        self.cuts.iter().any(|cut| cut.num_sequences > 0 && cut.num_sequences < total)
    }

    /// Whether anything is to be done behind a sublayer.
    pub fn has_epilogue(&self, sublayer: usize) -> bool {
        self.probe.is_some() || self.of(sublayer).is_some_and(|cut| cut.skips)
    }

    /// Finishes row `row` of a sublayer's output: in place of what was left out, or measured.
    ///
    /// # Safety
    /// The row of `input` and, where the sublayer is computed, that of `out` are finished, and
    /// nobody else touches the latter. True if the row of `out` was written.
    pub unsafe fn finish(
        &self,
        (index, sublayer): (usize, &Sublayer),
        batch: &BatchView<'_>,
        row: usize,
        input: Matrix,
        out: Matrix,
    ) -> bool {
        let token_row = match sublayer.to.domain {
            Domain::Tokens => row,
            Domain::Logits => batch.logit_rows[row] as usize,
        };
        let factor = self
            .sequence_of_row
            .get(token_row)
            .map(|&sequence| self.factors[index * batch.context_lens.len() + sequence as usize]);
        // SAFETY: the caller's promise.
        unsafe {
            let x = input.row(row);
            if let Some(factor) = factor.filter(|factor| !factor.is_nan()) {
                let y = out.part(row, 0, sublayer.to.width);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = factor * x);
                return true;
            }
            if let Some(probe) = self.probe {
                probe.put(sublayer.number, token_row, compare(x, out.row(row)));
            }
        }
        false
    }
}

fn check_probe(
    probe: Option<&Probe>,
    batch: &BatchView<'_>,
    sublayers: &[Sublayer],
) -> Result<(), ProgramError> {
    let Some(probe) = probe else { return Ok(()) };
    let wanted = (num_sublayers(sublayers), batch.num_rows());
    if (probe.num_sublayers, probe.num_rows) == wanted {
        return Ok(());
    }
    Err(ProgramError::Batch(format!(
        "a probe of {} sublayers and {} rows does not fit {} and {}",
        probe.num_sublayers, probe.num_rows, wanted.0, wanted.1
    )))
}

/// Sublayers that may be named: all numbers below the highest.
pub(super) fn num_sublayers(sublayers: &[Sublayer]) -> usize {
    sublayers.iter().map(|sublayer| sublayer.number + 1).max().unwrap_or(0)
}

/// The factors of all sublayers and sequences.
fn factors(
    skips: &[Skip<'_>],
    sublayers: &[Sublayer],
    num_sequences: usize,
    num_local: usize,
) -> Result<Vec<f32>, ProgramError> {
    let mut factors = vec![f32::NAN; sublayers.len() * num_sequences];
    let fail = |message: String| Err(ProgramError::Batch(message));
    for skip in skips {
        if skip.sequence >= num_local {
            return fail(format!(
                "sequence {} cannot skip: there are {num_local} whose attention is computed here",
                skip.sequence
            ));
        }
        if skip.sublayers.len() != skip.scales.len() {
            return fail(format!(
                "{} sublayers are skipped, but there are {} scales",
                skip.sublayers.len(),
                skip.scales.len()
            ));
        }
        for (&number, &scale) in skip.sublayers.iter().zip(skip.scales) {
            let Some(index) = sublayers.iter().position(|s| s.number == number as usize) else {
                return fail(format!("this model has no sublayer {number} that can be skipped"));
            };
            if !scale.is_finite() {
                return fail(format!("the scale of sublayer {number} is {scale}, not finite"));
            }
            let place = &mut factors[index * num_sequences + skip.sequence];
            if !place.is_nan() {
                return fail(format!("sequence {} skips {number} twice", skip.sequence));
            }
            *place = scale;
        }
    }
    Ok(factors)
}

/// cos(a, b) and |b| / |a|.
fn compare(a: &[f32], b: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let mut sums = [[0f32; LANES]; 3];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
            sums[0][lane] += a * a;
            sums[1][lane] += a * b;
            sums[2][lane] += b * b;
        }
    }
    let [aa, ab, bb] = sums.map(|lanes| lanes.iter().map(|&x| f64::from(x)).sum::<f64>());
    ((ab / (aa * bb).sqrt()) as f32, (bb / aa).sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn rows_are_compared_by_angle_and_length() {
        let a: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin()).collect();
        let double: Vec<f32> = a.iter().map(|x| -2.0 * x).collect();
        let (cosine, ratio) = compare(&a, &double);
        assert!((cosine + 1.0).abs() < 1e-6 && (ratio - 2.0).abs() < 1e-6);
        let (cosine, _) = compare(&[1.0, 0.0], &[0.0, 3.0]);
        assert_eq!(cosine, 0.0);
    }
}
