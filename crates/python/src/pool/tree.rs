//! A namespace of the pool whose keys have an order.

use std::ops::Bound as End;
use std::sync::Arc;

use artesian_pool::client::Client;
use artesian_pool::namespace::Kind;
use artesian_pool::PoolError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::bytes::{self, Value};
use super::core::Core;
use super::errors::{Fault, Outcome};
use super::handle::PoolHandle;
use super::names;
use super::ticker::Owner;

/// Keys in order, and their values; see `artesian.pool.TreeStore`.
#[pyclass(frozen, subclass, module = "artesian.pool.native")]
pub struct Tree {
    owner: Arc<Owner>,
    namespace: u16,
}

/// Keys and values of a scan, one behind the other.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Rows {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((end, self.bytes.len()));
    }

    fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let mut start = 0;
        for &(key, value) in &self.ends {
            let pair = (
                PyBytes::new(py, &self.bytes[start..key]),
                PyBytes::new(py, &self.bytes[key..value]),
            );
            list.append(PyTuple::new(py, [pair.0, pair.1])?)?;
            start = value;
        }
        Ok(list)
    }
}

fn end(key: Option<&[u8]>, included: bool) -> End<&[u8]> {
    match key {
        None => End::Unbounded,
        Some(key) if included => End::Included(key),
        Some(key) => End::Excluded(key),
    }
}

impl Tree {
    #[inline]
    fn core(&self) -> &Core {
        &self.owner.core
    }

    fn get_copy(&self, py: Python<'_>, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let namespace = self.namespace;
        self.core().run_detached(py, |client| client.tree_get_with(namespace, key, <[u8]>::to_vec))
    }
}

#[pymethods]
impl Tree {
    /// Opens the namespace, or makes it. Limits that are given are set.
    #[new]
    #[pyo3(signature = (handle, name, *, quota_bytes=None))]
    fn new(
        py: Python<'_>,
        handle: &PoolHandle,
        name: &str,
        quota_bytes: Option<u64>,
    ) -> PyResult<Tree> {
        let owner = Arc::clone(&handle.owner);
        let wish = names::Wish { kind: Kind::Tree, quota: quota_bytes, default_ttl_ms: None };
        let namespace = owner.core.run_detached(py, |client| names::open(client, name, &wish))?;
        Ok(Tree { owner, namespace })
    }

    /// Whether an operation would have to wait for another thread's.
    fn is_busy(&self) -> bool {
        self.core().is_busy()
    }

    /// The value of `key`, or `default`.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let key = bytes::key(key)?;
        let found = match self.core().try_client()? {
            Some(mut guard) => {
                let made = |value: &[u8]| PyBytes::new(py, value);
                guard.get().tree_get_with(self.namespace, key, made).map_err(Fault::Pool)?
            }
            None => self.get_copy(py, key)?.map(|value| PyBytes::new(py, &value)),
        };
        Ok(found.map(Bound::into_any).or(default))
    }

    /// Gives `key` this value, whatever it had.
    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, namespace, value) = (key.py(), self.namespace, Value::of(value)?);
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        Ok(self.core().run(py, |client| client.tree_put(namespace, key, value))?)
    }

    /// Gives `key` this value if it has none; whether it did.
    fn insert(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, value) = (key.py(), self.namespace, Value::of(value)?);
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        Ok(self.core().run(py, |client| client.tree_insert(namespace, key, value))?)
    }

    /// Takes the value of `key` away; whether there was one.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.tree_delete(namespace, key))?)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let found = self.core().run(py, |client| client.tree_get_with(namespace, key, |_| ()))?;
        Ok(found.is_some())
    }

    /// Keys with their values from `start` on and below `stop`, at most `limit`; with `reverse` the
    /// last ones, the last first. `open_start` leaves `start` itself out.
    #[pyo3(signature = (start, stop, *, limit, reverse=false, open_start=false))]
    fn rows<'py>(
        &self,
        py: Python<'py>,
        start: Option<&Bound<'py, PyAny>>,
        stop: Option<&Bound<'py, PyAny>>,
        limit: usize,
        reverse: bool,
        open_start: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let from = end(start.map(bytes::key).transpose()?, !open_start);
        let to = end(stop.map(bytes::key).transpose()?, false);
        let (namespace, mut rows) = (self.namespace, Rows::default());
        let work = |client: &mut Client| -> Result<usize, PoolError> {
            let show = |key: &[u8], value: &[u8]| {
                rows.push(key, value);
                true
            };
            if reverse {
                client.tree_scan_back(namespace, from, to, limit, show)
            } else {
                client.tree_scan(namespace, from, to, limit, show)
            }
        };
        self.core().run_detached(py, work)?;
        rows.to_list(py)
    }

    /// Bytes of nodes and values, as far as the clients have told.
    fn used_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        let namespace = self.namespace;
        Ok(self.core().run_detached(py, |client| client.usage(namespace))?)
    }
}
