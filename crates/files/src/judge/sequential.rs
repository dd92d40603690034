//! Scans: one, several, with strides, through a shuffle buffer.

use super::{Finding, Repeats, Rule, Sample, Verdict};
use crate::options::Options;
use crate::ring::Entry;

/// Longest step that is not likely by chance among so few children.
pub fn step_that_tells(num_children: u64, options: &Options) -> u32 {
    (num_children / 16).clamp(1, u64::from(options.longest_step)) as u32
}

/// Scans that can be told from chance: together they may expect a quarter of all children.
pub fn frontiers_that_tell(num_children: u64, options: &Options) -> usize {
    let step = u64::from(step_that_tells(num_children, options));
    (num_children / (4 * step)).clamp(1, options.num_frontiers as u64) as usize
}

/// Steps between accesses of the same streams.
#[derive(Default)]
struct Steps {
    num: usize,
    num_short: usize,
    num_most_frequent: usize,
    most_frequent: i32,
    longest: u32,
}

impl Steps {
    fn of(entries: &[Entry], short: u32) -> Steps {
        let mut steps: Vec<i32> = entries.iter().map(|e| e.step()).filter(|&s| s != 0).collect();
        steps.sort_unstable();
        let mut found = Steps { num: steps.len(), ..Steps::default() };
        found.longest = steps.iter().map(|step| step.unsigned_abs()).max().unwrap_or(0);
        found.num_short = steps.iter().filter(|&&s| s > 0 && s as u32 <= short).count();
        for same in steps.chunk_by(|a, b| a == b) {
            if same.len() > found.num_most_frequent {
                (found.num_most_frequent, found.most_frequent) = (same.len(), same[0]);
            }
        }
        found
    }
}

/// Whether the accesses are sequential, and by which rule; fills in the numbers.
pub fn look(
    sample: &Sample<'_>,
    repeats: &Repeats,
    options: &Options,
    finding: &mut Finding,
) -> Option<(Verdict, Rule)> {
    let entries = sample.entries;
    let steps = Steps::of(entries, step_that_tells(sample.num_ranks, options));
    let count = steps.num.max(1) as f64;
    finding.step_share = steps.num_short as f64 / count;
    finding.stride_share = steps.num_most_frequent as f64 / count;
    finding.stride = steps.most_frequent;
    finding.longest_step = steps.longest;
    let most = frontiers_that_tell(sample.num_ranks, options);
    let continuing = entries.iter().filter(|entry| usize::from(entry.frontier()) < most).count();
    finding.frontier_share = continuing as f64 / entries.len() as f64;
    // Streams that were seen once have no step: then steps tell about too few of the accesses.
    let steps_tell = steps.num * 2 >= entries.len();
    if steps_tell && finding.step_share >= options.sequential_share {
        return Some((Verdict::Sequential, Rule::Steps));
    }
    if steps_tell && finding.stride_share >= options.sequential_share {
        return Some((Verdict::Sequential, Rule::Stride));
    }
    // Hot names beside each other look like scans of them, but for the repeats.
    if finding.frontier_share >= options.sequential_share && !repeats.are_too_many {
        return Some((Verdict::Sequential, Rule::Frontiers));
    }
    let near = (4 * options.window as u64).min(sample.num_ranks / 4);
    if steps_tell && repeats.found == 0.0 && u64::from(steps.longest) < near {
        return Some((Verdict::Sequential, Rule::Buffered));
    }
    None
}
