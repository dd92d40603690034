//! The tree of access streams: arguments checked, results as tuples.

use artesian_files::{
    AccessStreamTree, Finding, Level, Options, Read, Remembered, Rule, UnitReport, Verdict,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Sequential => "sequential",
        Verdict::Random => "random",
        Verdict::Skewed => "skewed",
    }
}

fn verdict_of(name: &str) -> Option<Verdict> {
    let all = [Verdict::Sequential, Verdict::Random, Verdict::Skewed];
    all.into_iter().find(|&verdict| verdict_name(verdict) == name)
}

fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::TooFew => "too few",
        Rule::Steps => "steps",
        Rule::Stride => "stride",
        Rule::Frontiers => "frontiers",
        Rule::Buffered => "buffered",
        Rule::Gaps => "gaps",
        Rule::GapsOfPart => "gaps of a part",
        Rule::Repeats => "repeats",
        Rule::Elimination => "elimination",
        Rule::Remembered => "remembered",
    }
}

/// The numbers of a finding, by name.
fn numbers<'py>(py: Python<'py>, finding: &Finding) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    let named = [
        ("num_accesses", f64::from(finding.num_accesses)),
        ("num_children", finding.num_children as f64),
        ("step_share", finding.step_share),
        ("stride_share", finding.stride_share),
        ("stride", f64::from(finding.stride)),
        ("frontier_share", finding.frontier_share),
        ("longest_step", f64::from(finding.longest_step)),
        ("ks_distance", finding.ks_distance),
        ("ks_limit", finding.ks_limit),
        ("repeats", finding.repeats),
        ("expected_repeats", finding.expected_repeats),
        ("repeats_limit", finding.repeats_limit),
    ];
    for (name, value) in named {
        found.set_item(name, value)?;
    }
    Ok(found)
}

/// See `artesian.files.tree`.
#[pyclass(name = "AccessStreamTree", module = "artesian._core")]
pub struct PyAccessStreamTree {
    tree: AccessStreamTree,
}

/// Mean, deviation and last of the seconds until reuse, watched and reused children, accesses per
/// second, children, bytes, stride, whether it is provisional.
type UnitTuple = (f64, f64, f64, u32, u32, f64, u64, f64, i32, bool);

fn unit_tuple(unit: UnitReport) -> UnitTuple {
    let UnitReport { reuse, rate, num_children, data_bytes, stride, is_provisional } = unit;
    (
        reuse.mean_s,
        reuse.deviation_s,
        reuse.last_s,
        reuse.num_watched,
        reuse.num_reused,
        rate,
        num_children,
        data_bytes,
        stride,
        is_provisional,
    )
}

#[pymethods]
impl PyAccessStreamTree {
    #[new]
    #[pyo3(signature = (**options))]
    fn new(options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut found = Options::default();
        for (name, value) in options.iter().flat_map(|options| options.iter()) {
            match name.extract::<String>()?.as_str() {
                "block_bytes" => found.block_bytes = value.extract()?,
                "window" => found.window = value.extract()?,
                "max_nodes" => found.max_nodes = value.extract()?,
                "max_units" => found.max_units = value.extract()?,
                "max_listed" => found.max_listed = value.extract()?,
                "provisional_after" => found.provisional_after = value.extract()?,
                "full_after" => found.full_after = value.extract()?,
                "retest_every" => found.retest_every = value.extract()?,
                "fewest" => found.fewest = value.extract()?,
                "sequential_share" => found.sequential_share = value.extract()?,
                "longest_step" => found.longest_step = value.extract()?,
                "num_frontiers" => found.num_frontiers = value.extract()?,
                "alpha" => found.alpha = value.extract()?,
                "repeat_deviations" => found.repeat_deviations = value.extract()?,
                "tests_repeats" => found.tests_repeats = value.extract()?,
                other => {
                    return Err(PyValueError::new_err(format!("the tree has no option {other}")))
                }
            }
        }
        let tree = AccessStreamTree::new(found)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyAccessStreamTree { tree })
    }

    /// Unit above, 0 if none, and whether units changed.
    fn access(
        &mut self,
        path: &str,
        offset: u64,
        length: u64,
        file_bytes: u64,
        stream: u64,
        reader: u64,
        time_s: f64,
    ) -> (u32, bool) {
        let read = Read { path, offset, length, file_bytes, stream, reader, time_s };
        let touched = self.tree.access(&read);
        (touched.unit, touched.has_changes)
    }

    fn list(&mut self, folder: &str, names: Vec<String>) {
        self.tree.list(folder, names.iter().map(String::as_str));
    }

    fn unit_of(&self, path: &str) -> u32 {
        self.tree.unit_of(path)
    }

    fn take_changes(&mut self) -> Vec<(u32, String, &'static str)> {
        let changes = self.tree.take_changes();
        changes.into_iter().map(|c| (c.unit, c.path, verdict_name(c.verdict))).collect()
    }

    fn unit(&self, unit: u32) -> Option<UnitTuple> {
        self.tree.unit(unit).map(unit_tuple)
    }

    /// Per level: path, verdict, rule, whether provisional, whether a unit, numbers.
    fn explain<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Vec<LevelTuple<'py>>> {
        let levels = self.tree.explain(path);
        levels.into_iter().map(|level| level_tuple(py, level)).collect()
    }

    fn remember(&self) -> Vec<(String, &'static str, bool)> {
        let found = self.tree.remember();
        found.into_iter().map(|r| (r.path, verdict_name(r.verdict), r.is_reread)).collect()
    }

    fn recall(&mut self, verdicts: Vec<(String, String, bool)>) {
        self.tree.recall(verdicts.into_iter().filter_map(|(path, verdict, is_reread)| {
            verdict_of(&verdict).map(|verdict| Remembered { path, verdict, is_reread })
        }));
    }

    fn was_reread(&self, path: &str) -> bool {
        self.tree.was_reread(path)
    }

    /// Nodes, their bytes, and their bytes with listings.
    fn size(&self) -> (usize, usize, usize) {
        self.tree.size()
    }
}

type LevelTuple<'py> = (String, &'static str, &'static str, bool, bool, Bound<'py, PyDict>);

fn level_tuple<'py>(py: Python<'py>, level: Level) -> PyResult<LevelTuple<'py>> {
    let found = numbers(py, &level.finding)?;
    found.set_item("accesses_per_s", level.rate)?;
    found.set_item("reuse_mean_s", level.reuse.mean_s)?;
    found.set_item("num_watched", level.reuse.num_watched)?;
    found.set_item("num_reused", level.reuse.num_reused)?;
    found.set_item("data_bytes", level.data_bytes)?;
    let verdict = verdict_name(level.finding.verdict);
    let rule = rule_name(level.finding.rule);
    Ok((level.path, verdict, rule, level.is_provisional, level.is_unit, found))
}
