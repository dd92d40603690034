//! Checking, repairing, saving and restoring a pool.

use std::path::PathBuf;

use artesian_pool::archive::{self, SaveOptions, Summary};
use artesian_pool::check::{self, Options, Report};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::errors::Fault;
use super::handle::PoolHandle;
use super::stats::dict;

/// Checks a pool by way of one of its clients; what was found, as dictionaries.
#[pyfunction]
pub fn check_pool<'py>(
    py: Python<'py>,
    handle: &PoolHandle,
    repair: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let options = Options { repair };
    let report =
        handle.owner.core.run_detached(py, |client| check::run(client, options, &mut |_| ()))?;
    to_dict(py, &report)
}

fn to_dict<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let findings = PyList::empty(py);
    for finding in &report.findings {
        findings.append(dict!(py,
            severity: finding.severity.to_string(),
            what: finding.what.to_string(),
            place: finding.place.to_string(),
            detail: &finding.detail,
            repaired: &finding.repaired,
        ))?;
    }
    let counts = &report.counts;
    let keys: u64 = counts.keys.values().map(|keys| keys.keys).sum();
    let key_bytes: u64 = counts.keys.values().map(|keys| keys.bytes).sum();
    Ok(dict!(py,
        findings: findings,
        num_omitted: report.omitted,
        is_clean: report.is_clean(),
        is_exact: report.is_exact,
        num_nodes: counts.nodes,
        num_clients: counts.clients,
        num_regions: counts.regions,
        num_keys: keys,
        key_bytes: key_bytes,
        in_use_bytes: counts.in_use.bytes,
        free_bytes: counts.free.bytes,
        held_bytes: counts.held.bytes,
        pending_bytes: counts.pending.bytes,
        wrecked_bytes: counts.wrecked.bytes,
        leaked_bytes: counts.leaked.bytes,
    ))
}

/// Saves all stores of the pool to a file.
#[pyfunction]
pub fn save_pool<'py>(
    py: Python<'py>,
    handle: &PoolHandle,
    path: PathBuf,
    frozen: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let options = SaveOptions { frozen };
    let core = &handle.owner.core;
    let saved =
        core.run_detached(py, |client| archive::save(client, &path, options, &mut |_| ()))?;
    summary(py, &saved)
}

/// Restores a file into the pool.
#[pyfunction]
pub fn load_pool<'py>(
    py: Python<'py>,
    handle: &PoolHandle,
    path: PathBuf,
) -> PyResult<Bound<'py, PyDict>> {
    let core = &handle.owner.core;
    let loaded = core.run_detached(py, |client| archive::load(client, &path, &mut |_| ()))?;
    summary(py, &loaded)
}

/// Reads a whole file and checks everything in it.
#[pyfunction]
pub fn verify_snapshot(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let read = py.detach(|| archive::verify(&path, &mut |_| ())).map_err(Fault::Pool)?;
    summary(py, &read)
}

fn summary<'py>(py: Python<'py>, summary: &Summary) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py,
        num_namespaces: summary.namespaces,
        num_values: summary.values,
        value_bytes: summary.bytes,
        num_left_out: summary.left_out,
        num_namespaces_left_out: summary.namespaces_left_out,
        file_bytes: summary.file_bytes,
        saved_unix_ms: summary.saved_unix_ms,
        is_frozen: summary.frozen,
    ))
}
