//! A namespace of the pool that evicts.

use std::sync::Arc;

use artesian_pool::cache::{CacheConfig, CacheStats};
use artesian_pool::namespace::Limits;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::bytes::{self, Value};
use super::core::Core;
use super::errors::{Fault, Outcome};
use super::handle::PoolHandle;
use super::stats::dict;
use super::store::expiry;
use super::ticker::Owner;

/// Keys and values of which those go that are least worth keeping; see `artesian.pool.Cache`.
#[pyclass(frozen, subclass, module = "artesian.pool.native")]
pub struct Cache {
    owner: Arc<Owner>,
    namespace: u16,
}

impl Cache {
    #[inline]
    fn core(&self) -> &Core {
        &self.owner.core
    }

    fn get_copy(&self, py: Python<'_>, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let namespace = self.namespace;
        self.core().run_detached(py, |client| client.cache_get_with(namespace, key, <[u8]>::to_vec))
    }
}

#[pymethods]
impl Cache {
    /// Opens the cache, or makes it.
    #[new]
    #[pyo3(signature = (handle, name, *, max_bytes, max_keys, algorithms, adaptive, sample,
                        history, ttl=None))]
    fn new(
        py: Python<'_>,
        handle: &PoolHandle,
        name: &str,
        max_bytes: u64,
        max_keys: u64,
        algorithms: Vec<String>,
        adaptive: bool,
        sample: u32,
        history: u64,
        ttl: Option<f64>,
    ) -> PyResult<Cache> {
        let ttl = super::names::ttl_ms(ttl)?;
        let owner = Arc::clone(&handle.owner);
        let config = CacheConfig {
            objects: max_keys,
            bytes: max_bytes,
            algorithms,
            adaptive,
            sample,
            history,
        };
        let namespace = owner.core.run_detached(py, |client| {
            let id = client.cache_open(name, &config)?;
            if let Some(default_ttl_ms) = ttl {
                let known = client.namespaces()?.into_iter().find(|known| known.id == id);
                let limits = known.map(|known| known.limits).unwrap_or_default();
                client.set_limits(name, Limits { default_ttl_ms, ..limits })?;
            }
            Ok(id)
        })?;
        Ok(Cache { owner, namespace })
    }

    /// Whether an operation would have to wait for another thread's.
    fn is_busy(&self) -> bool {
        self.core().is_busy()
    }

    /// The value of `key`, or `default`. Counts as a use of it.
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
                guard.get().cache_get_with(self.namespace, key, made).map_err(Fault::Pool)?
            }
            None => self.get_copy(py, key)?.map(|value| PyBytes::new(py, &value)),
        };
        Ok(found.map(Bound::into_any).or(default))
    }

    /// Gives `key` this value, whatever it had. If there is no room, something else goes.
    #[pyo3(signature = (key, value, *, ttl=None))]
    fn put(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<()> {
        let (py, namespace) = (key.py(), self.namespace);
        let (expiry, value) = (expiry(ttl)?, Value::of(value)?);
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        Ok(self.core().run(py, |client| client.cache_put(namespace, key, value, expiry))?)
    }

    /// Takes the value of `key` away; whether there was one.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.cache_delete(namespace, key))?)
    }

    /// Counts a use of `key` without reading its value; whether it has one.
    fn touch(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.cache_touch(namespace, key))?)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.touch(key)
    }

    /// What this client did in the cache, and how full it is.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let namespace = self.namespace;
        let stats = self.core().run_detached(py, |client| client.cache_stats(namespace))?;
        to_dict(py, &stats)
    }
}

fn to_dict<'py>(py: Python<'py>, stats: &CacheStats) -> PyResult<Bound<'py, PyDict>> {
    let experts = PyList::empty(py);
    for expert in &stats.experts {
        experts.append(dict!(py,
            name: &expert.name,
            weight: expert.weight,
            num_evictions: expert.evictions,
        ))?;
    }
    Ok(dict!(py,
        num_hits: stats.hits,
        num_misses: stats.misses,
        num_puts: stats.puts,
        num_deletes: stats.deletes,
        num_evictions: stats.evictions,
        num_regrets: stats.regrets,
        num_keys: stats.objects,
        used_bytes: stats.bytes,
        max_keys: Some(stats.most_objects).filter(|&most| most > 0),
        max_bytes: Some(stats.most_bytes).filter(|&most| most > 0),
        experts: experts,
    ))
}
