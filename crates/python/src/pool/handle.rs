//! The handle of an open pool.

use std::sync::Arc;

use artesian_bus::shm::{self, ShmNodes};
use artesian_peer::region::Region;
use pyo3::prelude::*;

use super::core::Core;
use super::errors::Fault;
use super::open::{open, Wish};
use super::ticker::Owner;
use crate::peer::fault;

/// One client of a pool; see `artesian.pool.Pool`.
#[pyclass(frozen, module = "artesian.pool.native")]
pub struct PoolHandle {
    pub owner: Arc<Owner>,
    created: bool,
}

#[pymethods]
impl PoolHandle {
    #[new]
    #[pyo3(signature = (name, *, size_bytes=None, nodes=None, replicas=None, lease_ms=None,
                        max_clients=None, create=None))]
    fn new(
        py: Python<'_>,
        name: &str,
        size_bytes: Option<u64>,
        nodes: Option<u16>,
        replicas: Option<u8>,
        lease_ms: Option<u32>,
        max_clients: Option<u16>,
        create: Option<bool>,
    ) -> PyResult<PoolHandle> {
        let wish = Wish { bytes: size_bytes, nodes, replicas, lease_ms, max_clients, create };
        let opened = py.detach(|| open(name, &wish))?;
        let created = opened.created;
        let core = Core::new(name.to_owned(), opened.nodes, opened.client);
        let owner = Arc::new(Owner::new(Arc::new(core))?);
        Ok(PoolHandle { owner, created })
    }

    /// Whether this handle made the pool.
    #[getter]
    fn created(&self) -> bool {
        self.created
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.owner.core.is_closed()
    }

    /// Leaves the pool; does nothing the second time.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.owner.close())?)
    }

    /// Deletes a namespace and all its keys.
    fn drop_namespace(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        Ok(self.owner.core.run_detached(py, |client| client.drop_namespace(name))?)
    }
}

/// Names of this user's pools on this host, sorted.
#[pyfunction]
pub fn list_pools() -> PyResult<Vec<String>> {
    let mut names = shm::pools().map_err(Fault::from)?;
    // Memory that workers lend each other is no pool.
    let regions = Region::names().map_err(fault)?;
    names.retain(|name| !regions.iter().any(|region| *name == Region::pool_name(region)));
    Ok(names)
}

/// Removes a pool with all that is in it; how many nodes it had.
#[pyfunction]
pub fn remove_pool(py: Python<'_>, name: &str) -> PyResult<usize> {
    Ok(py.detach(|| ShmNodes::open(name)?.remove()).map_err(Fault::from)?)
}
