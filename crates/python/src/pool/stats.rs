//! What can be seen of a pool from outside, as plain dictionaries.

use artesian_bus::shm::ShmNodes;
use artesian_pool::config::record;
use artesian_pool::observe::{self, ClientInfo, NodeInfo, Overview};
use artesian_pool::view::NodeState;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::errors::Fault;
use super::names::word_of;

/// Makes a dictionary of the values, by name.
macro_rules! dict {
    ($py:expr, $($name:ident: $value:expr),* $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(stringify!($name), $value)?;)*
        dict
    }};
}
pub(super) use dict;

/// Looks at a pool without joining it.
#[pyfunction]
pub fn look_at_pool<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let seen = py.detach(|| {
        let nodes = ShmNodes::open(name)?;
        if nodes.nodes()?.is_empty() {
            return Err(Fault::not_found(name));
        }
        Ok(observe::look(Box::new(nodes.connect()))?)
    })?;
    overview(py, &seen)
}

fn overview<'py>(py: Python<'py>, seen: &Overview) -> PyResult<Bound<'py, PyDict>> {
    let nodes = PyList::empty(py);
    for info in &seen.nodes {
        nodes.append(node(py, info)?)?;
    }
    let clients = PyList::empty(py);
    for info in &seen.clients {
        clients.append(client(py, info)?)?;
    }
    let namespaces = PyList::empty(py);
    for (known, used) in &seen.namespaces {
        namespaces.append(dict!(py,
            name: &known.name,
            kind: word_of(known.kind),
            used_bytes: used,
            quota_bytes: Some(known.limits.quota).filter(|&quota| quota > 0),
            floor_bytes: known.limits.floor,
            ttl_s: seconds(known.limits.default_ttl_ms),
        ))?;
    }
    let blocks = &seen.blocks;
    Ok(dict!(py,
        replicas: seen.config.replicas,
        node_bytes: seen.config.node_bytes,
        lease_ms: seen.config.lease_ms,
        max_clients: seen.config.max_clients - 1,
        view_epoch: seen.view_epoch,
        epoch: seen.epoch,
        num_regions: seen.regions.0,
        num_lost_regions: seen.regions.1,
        block_bytes: seen.config.block_bytes(),
        capacity_bytes: seen.capacity_bytes(),
        free_bytes: seen.free_bytes(),
        num_wrecked_blocks: blocks.wreck,
        nodes: nodes,
        clients: clients,
        namespaces: namespaces,
    ))
}

fn seconds(ms: u64) -> Option<f64> {
    (ms > 0).then_some(ms as f64 / 1e3)
}

fn node<'py>(py: Python<'py>, info: &NodeInfo) -> PyResult<Bound<'py, PyDict>> {
    let state = match info.state {
        NodeState::Live if info.bytes == 0 => "lost",
        NodeState::Live => "live",
        NodeState::Draining => "draining",
        NodeState::Dead => "gone",
    };
    Ok(dict!(py,
        number: info.node.0,
        state: state,
        size_bytes: info.bytes,
        num_regions: info.regions,
        num_free_places: info.free_places,
    ))
}

fn client<'py>(py: Python<'py>, info: &ClientInfo) -> PyResult<Bound<'py, PyDict>> {
    let state = match info.state {
        record::JOINING => "joining",
        record::LIVE if !info.is_alive => "dead",
        record::LIVE if info.is_idle => "idle",
        record::LIVE => "busy",
        record::DEAD => "dead",
        record::RECOVERING => "recovering",
        _ => "damaged",
    };
    Ok(dict!(py,
        place: info.client.index,
        incarnation: info.client.incarnation,
        pid: info.identity.pid,
        state: state,
        is_alive: info.is_alive,
        is_master: info.is_master,
        lease_left_ms: info.lease_left_ms,
        num_pins: info.pins,
        num_reads: info.reads,
        num_writes: info.writes,
    ))
}
