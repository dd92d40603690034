//! Memory nodes that come and go while the pool is used.
//!
//! The work is done by a client of its own, so that this process's others go on meanwhile.

use artesian_bus::NodeId;
use artesian_pool::client::Client;
use artesian_pool::resize::{self, Progress};
use artesian_pool::view::NodeState;
use artesian_pool::PoolError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::{Fault, Outcome};
use super::handle::PoolHandle;
use super::stats::dict;

/// Tells Python how far it is: bytes copied and copies left. An error of its is kept for the end,
/// as a resize goes on once it has begun.
struct Teller {
    told: Option<Py<PyAny>>,
    error: Option<PyErr>,
}

impl Teller {
    fn tell(&mut self, progress: Progress) {
        let Some(told) = self.told.as_ref().filter(|_| self.error.is_none()) else { return };
        let outcome = Python::attach(|py| told.call1(py, (progress.bytes, progress.left)));
        self.error = outcome.err();
    }
}

type Work<'a> = dyn FnMut(&mut Client, &mut dyn FnMut(Progress)) -> Outcome<Progress> + Send + 'a;

fn with_client(
    py: Python<'_>,
    handle: &PoolHandle,
    told: Option<Py<PyAny>>,
    work: &mut Work<'_>,
) -> PyResult<Progress> {
    // Refuses a pool that was closed or opened before a fork.
    handle.owner.core.run_detached(py, |_| Ok(()))?;
    let (nodes, mut teller) = (&handle.owner.core.nodes, Teller { told, error: None });
    let outcome = py.detach(|| -> Outcome<Progress> {
        let mut client = Client::join(Box::new(nodes.connect()))?;
        let outcome = work(&mut client, &mut |progress| teller.tell(progress));
        client.leave()?;
        outcome
    });
    match teller.error {
        Some(error) => Err(error),
        None => Ok(outcome?),
    }
}

fn summary<'py>(py: Python<'py>, number: u16, progress: &Progress) -> PyResult<Bound<'py, PyDict>> {
    Ok(dict!(py,
        node: number,
        moved_bytes: progress.bytes,
        num_copies: progress.copies,
        num_regions_added: progress.regions_added,
    ))
}

/// Makes a memory node, the next or the one of that number, and gives it its share.
#[pyfunction]
pub fn add_node<'py>(
    py: Python<'py>,
    handle: &PoolHandle,
    number: Option<u16>,
    told: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let nodes = &handle.owner.core.nodes;
    let mut node = NodeId(number.unwrap_or(0));
    let done = with_client(py, handle, told, &mut |client, progress| {
        let next = client.fabric().view().nodes.len() as u16;
        node = NodeId(number.unwrap_or(next));
        let is_there = nodes.nodes()?.iter().any(|(known, _)| *known == node);
        // It may be there if somebody died in the middle.
        if node.0 == next && !is_there {
            nodes.create_node(node, client.fabric().config().node_bytes)?;
        }
        Ok(resize::add_node(client, node, progress)?)
    })?;
    summary(py, node.0, &done)
}

/// Moves everything off a memory node, takes it out of the pool and gives its memory back.
#[pyfunction]
pub fn drain_node<'py>(
    py: Python<'py>,
    handle: &PoolHandle,
    number: u16,
    told: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (nodes, node) = (&handle.owner.core.nodes, NodeId(number));
    let done = with_client(py, handle, told, &mut |client, progress| {
        let done = resize::drain_node(client, node, progress)?;
        if client.fabric().view().nodes.get(usize::from(number)) != Some(&NodeState::Dead) {
            let text = format!("memory node {number} is still in use: drain it again");
            return Err(Fault::Pool(PoolError::Invalid(text)));
        }
        nodes.kill_node(node)?;
        Ok(done)
    })?;
    summary(py, number, &done)
}
