//! The tests that tell how the children of a node are read, in their order: sequential, random by
//! the gaps between accesses, too many repeats, and skewed if nothing else holds.
//!
//! Gaps alone are not enough: they hardly see that some names are wanted more often than others if
//! these are scattered over the listing, nor many scans at once. Hence the frontiers before, and
//! the repeats after.

mod gaps;
mod repeats;
mod sequential;
#[cfg(test)]
mod tests;

use crate::options::Options;
use crate::ring::Entry;

pub use repeats::Repeats;
pub use sequential::step_that_tells;

/// How a stream is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Too little is known.
    #[default]
    Unknown,
    /// Some order, the listing's mostly.
    Sequential,
    /// Any child may be next, each as well as another.
    Random,
    /// Some children are wanted more often than others.
    Skewed,
}

/// Which test decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Fewer accesses, or children, than can tell anything.
    #[default]
    TooFew,
    /// Most steps of the streams are short and forward.
    Steps,
    /// Most steps of the streams are the same.
    Stride,
    /// Most accesses continue one of several scans.
    Frontiers,
    /// No repeats, and streams stay near to where they were: a scan through a shuffle buffer.
    Buffered,
    /// Gaps are those of draws from all children.
    Gaps,
    /// Gaps are those of draws from a part of the listing in one piece.
    GapsOfPart,
    /// More repeats than random draws have.
    Repeats,
    /// Nothing else holds.
    Elimination,
    /// It was so in an earlier run.
    Remembered,
}

/// Accesses to the children of a node, the oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The accesses.
    pub entries: &'a [Entry],
    /// How many children there are, or seem to be.
    pub num_children: u64,
    /// What ranks are below; the same unless names are only ordered among themselves.
    pub num_ranks: u64,
}

/// A verdict, and the numbers that it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finding {
    /// How the node is read.
    pub verdict: Verdict,
    /// Which test said so.
    pub rule: Rule,
    /// Accesses that were looked at.
    pub num_accesses: u32,
    /// Children that there are, or seem to be.
    pub num_children: u64,
    /// Part of the steps that are short and forward.
    pub step_share: f64,
    /// Part of the steps that are the most frequent one, and that one.
    pub stride_share: f64,
    /// The most frequent step.
    pub stride: i32,
    /// Part of the accesses that continue a scan.
    pub frontier_share: f64,
    /// Longest step of a stream.
    pub longest_step: u32,
    /// Distance of the gaps from those of random draws (Kolmogorov and Smirnov).
    pub ks_distance: f64,
    /// Distance from which on the draws are not random.
    pub ks_limit: f64,
    /// Part of the accesses that are repeats.
    pub repeats: f64,
    /// The same for random draws.
    pub expected_repeats: f64,
    /// Repeats from which on the draws are skewed.
    pub repeats_limit: f64,
}

/// Judges a node by its last accesses.
pub fn judge(sample: Sample<'_>, options: &Options) -> Finding {
    let entries = sample.entries;
    let mut finding = Finding {
        num_accesses: entries.len() as u32,
        num_children: sample.num_children,
        ..Finding::default()
    };
    if entries.len() < options.fewest as usize || sample.num_children < u64::from(options.fewest) {
        return finding;
    }
    let mut ranks: Vec<u32> = entries.iter().map(|entry| entry.rank).collect();
    ranks.sort_unstable();
    let repeats = Repeats::of(&ranks, sample.num_children, options);
    finding.repeats = repeats.found;
    finding.expected_repeats = repeats.expected;
    finding.repeats_limit = repeats.limit;
    let sequential = sequential::look(&sample, &repeats, options, &mut finding);
    let (verdict, rule) = sequential.unwrap_or_else(|| {
        let all = gaps::test(entries, 0, sample.num_ranks, options);
        (finding.ks_distance, finding.ks_limit) = all;
        if all.0 <= all.1 {
            return random_unless(repeats.are_too_many, Rule::Gaps);
        }
        // A part of a data set in one piece, such as all but those for validation.
        let (lowest, span) = part(&ranks);
        let of_part = Repeats::of(&ranks, span, options);
        // Epochs of a small part repeat themselves more than draws from all, yet less than draws.
        let has_epochs = of_part.found < of_part.expected / 2.0;
        if span < sample.num_ranks && (has_epochs || !repeats.are_too_many) {
            let (distance, limit) = gaps::test(entries, lowest, span, options);
            if distance <= limit {
                return (Verdict::Random, Rule::GapsOfPart);
            }
        }
        let rule = if repeats.are_too_many { Rule::Repeats } else { Rule::Elimination };
        (Verdict::Skewed, rule)
    });
    (finding.verdict, finding.rule) = (verdict, rule);
    finding
}

fn random_unless(are_too_many: bool, rule: Rule) -> (Verdict, Rule) {
    if are_too_many {
        (Verdict::Skewed, Rule::Repeats)
    } else {
        (Verdict::Random, rule)
    }
}

/// Lowest rank, and size of the range that was drawn from if draws are even: a little more than the
/// range that was seen.
fn part(sorted: &[u32]) -> (u32, u64) {
    let (Some(&lowest), Some(&highest)) = (sorted.first(), sorted.last()) else { return (0, 1) };
    let (seen, n) = (u64::from(highest - lowest) + 1, sorted.len() as u64);
    let edge = seen / n;
    (lowest.saturating_sub(edge as u32), seen + 2 * edge)
}
