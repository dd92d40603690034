//! A namespace of the pool as a key-value store.

use std::sync::Arc;

use artesian_pool::client::Client;
use artesian_pool::namespace::Kind;
use artesian_pool::store::Expiry;
use artesian_pool::PoolError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::bytes::{self, Buffer, Value};
use super::core::Core;
use super::errors::{Fault, Outcome};
use super::handle::PoolHandle;
use super::names;
use super::ticker::Owner;

/// From so many bytes on, Python's lock is given up for the time of the copy.
const LARGE: usize = 64 << 10;

/// Keys and values; see `artesian.pool.HashStore`.
#[pyclass(frozen, subclass, module = "artesian.pool.native")]
pub struct Store {
    pub owner: Arc<Owner>,
    pub namespace: u16,
}

/// Milliseconds after which a value is gone, from seconds.
pub fn expiry(ttl: Option<f64>) -> PyResult<Expiry> {
    match ttl {
        None => Ok(Expiry::Default),
        Some(f64::INFINITY) => Ok(Expiry::Never),
        Some(seconds) if seconds > 0.0 && seconds < 1e12 => {
            Ok(Expiry::In((seconds * 1e3).ceil() as u64))
        }
        Some(seconds) => {
            let text = format!("ttl is {seconds}, expected seconds above 0");
            Err(Fault::Pool(PoolError::Invalid(text)).into())
        }
    }
}

enum Write {
    Put,
    Insert,
    Update,
}

impl Store {
    #[inline]
    fn core(&self) -> &Core {
        &self.owner.core
    }

    #[inline]
    fn write(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
        how: Write,
    ) -> PyResult<bool> {
        let (py, namespace) = (key.py(), self.namespace);
        let (expiry, value) = (expiry(ttl)?, Value::of(value)?);
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        let work = move |client: &mut Client| match how {
            Write::Put => client.put(namespace, key, value, expiry).map(|()| true),
            Write::Insert => client.insert(namespace, key, value, expiry),
            Write::Update => client.update(namespace, key, value, expiry),
        };
        if value.len() < LARGE {
            Ok(self.core().run(py, work)?)
        } else {
            Ok(self.core().run_detached(py, work)?)
        }
    }

    fn get_copy(&self, py: Python<'_>, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let namespace = self.namespace;
        self.core().run_detached(py, |client| client.get_with(namespace, key, <[u8]>::to_vec))
    }
}

#[pymethods]
impl Store {
    /// Opens the namespace, or makes it. Limits that are given are set.
    #[new]
    #[pyo3(signature = (handle, name, *, quota_bytes=None, ttl=None))]
    fn new(
        py: Python<'_>,
        handle: &PoolHandle,
        name: &str,
        quota_bytes: Option<u64>,
        ttl: Option<f64>,
    ) -> PyResult<Store> {
        let default_ttl_ms = names::ttl_ms(ttl)?;
        let owner = Arc::clone(&handle.owner);
        let wish = names::Wish { kind: Kind::Store, quota: quota_bytes, default_ttl_ms };
        let namespace = owner.core.run_detached(py, |client| names::open(client, name, &wish))?;
        Ok(Store { owner, namespace })
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
                let client = guard.get();
                let made = |value: &[u8]| PyBytes::new(py, value);
                client.get_with(self.namespace, key, made).map_err(Fault::Pool)?
            }
            None => self.get_copy(py, key)?.map(|value| PyBytes::new(py, &value)),
        };
        Ok(found.map(Bound::into_any).or(default))
    }

    /// Copies the value of `key` into a writable buffer; its bytes, or `None`.
    fn get_into(
        &self,
        key: &Bound<'_, PyAny>,
        buffer: &Bound<'_, PyAny>,
    ) -> PyResult<Option<usize>> {
        let (py, namespace) = (key.py(), self.namespace);
        let key = bytes::key(key)?;
        let mut buffer = Buffer::get(buffer, true)?;
        let into = buffer.as_bytes_mut();
        let room = into.len();
        let large = room >= LARGE;
        let work = |client: &mut Client| {
            client.get_with(namespace, key, |value| {
                if value.len() <= into.len() {
                    into[..value.len()].copy_from_slice(value);
                }
                value.len()
            })
        };
        let core = self.core();
        let found = if large { core.run_detached(py, work)? } else { core.run(py, work)? };
        match found {
            Some(size) if size > room => {
                let text = format!("the value has {size} bytes, the buffer room for {room}");
                Err(Fault::Pool(PoolError::Invalid(text)).into())
            }
            found => Ok(found),
        }
    }

    /// Gives `key` this value, whatever it had.
    #[pyo3(signature = (key, value, *, ttl=None))]
    fn put(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<()> {
        self.write(key, value, ttl, Write::Put).map(drop)
    }

    /// Gives `key` this value if it has none; whether it did.
    #[pyo3(signature = (key, value, *, ttl=None))]
    fn insert(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<bool> {
        self.write(key, value, ttl, Write::Insert)
    }

    /// Gives `key` this value if it has one; whether it did.
    #[pyo3(signature = (key, value, *, ttl=None))]
    fn update(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<bool> {
        self.write(key, value, ttl, Write::Update)
    }

    /// Takes the value of `key` away; whether there was one.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.delete(namespace, key))?)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.contains(namespace, key))?)
    }

    /// Seconds until the value of `key` expires: `None` if it never does or there is none.
    fn ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let found = self.core().run(py, |client| client.ttl_ms(namespace, key))?;
        Ok(found.flatten().map(|ms| ms as f64 / 1e3))
    }

    /// Some keys, at least `limit` unless there are no more, and the cursor to go on with; begin
    /// with 0, which is also the end.
    fn scan<'py>(
        &self,
        py: Python<'py>,
        cursor: u64,
        limit: usize,
    ) -> PyResult<(Bound<'py, PyList>, u64)> {
        let namespace = self.namespace;
        let page =
            self.core().run_detached(py, |client| client.scan_keys(namespace, cursor, limit))?;
        let keys = page.keys.iter().map(|key| PyBytes::new(py, key));
        Ok((PyList::new(py, keys)?, page.cursor))
    }

    /// How many keys there are, about.
    fn count(&self, py: Python<'_>) -> PyResult<u64> {
        let namespace = self.namespace;
        Ok(self.core().run_detached(py, |client| client.count(namespace))?)
    }

    /// Deletes all keys; how many there were.
    fn clear(&self, py: Python<'_>) -> PyResult<u64> {
        let namespace = self.namespace;
        Ok(self.core().run_detached(py, |client| client.clear(namespace))?)
    }

    /// Bytes of the objects, as far as the clients have told.
    fn used_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        let namespace = self.namespace;
        Ok(self.core().run_detached(py, |client| client.usage(namespace))?)
    }
}
