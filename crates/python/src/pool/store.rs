//! A namespace of the pool as a key-value store.

use std::sync::Arc;

use artesian_pool::client::Client;
use artesian_pool::namespace::Kind;
use artesian_pool::store::{Expiry, Version};
use artesian_pool::PoolError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyNotImplemented};

use super::batch;
use super::bytes::{self, Buffer, Value};
use super::core::Core;
use super::errors::Fault;
use super::handle::PoolHandle;
use super::names;
use super::ticker::Owner;
use super::view::View;

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

    /// The value as a new object, if that takes a few microseconds only: it is small, and no other
    /// thread has the client.
    #[inline]
    fn get_small(&self, py: Python<'_>, key: &[u8]) -> PyResult<Small> {
        let Some(mut guard) = self.core().try_client()? else { return Ok(Small::NotNow) };
        let mut found = Ok(None);
        let room = |len| {
            if len >= LARGE {
                return Err(PoolError::Conflict);
            }
            match bytes::fresh(py, len) {
                Ok((object, content)) => {
                    found = Ok(Some(object));
                    Ok(content)
                }
                Err(error) => {
                    found = Err(error);
                    Err(PoolError::Conflict)
                }
            }
        };
        let outcome =
            guard.get().get_to(self.namespace, key, room).map(|content| content.is_some());
        drop(guard);
        match (outcome, found?) {
            (Ok(true), Some(object)) => Ok(Small::There(object)),
            (Ok(_), _) => Ok(Small::Nothing),
            // Nobody but `room` says so: reading conflicts with nothing.
            (Err(PoolError::Conflict), _) => Ok(Small::NotNow),
            (Err(error), _) => Err(Fault::Pool(error).into()),
        }
    }

    /// The value as a new object, while others can use Python.
    fn get_large(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Py<PyBytes>>> {
        let (namespace, mut found) = (self.namespace, Ok(None));
        let outcome = self.core().run_detached(py, |client| {
            let room = |len| {
                // Nobody with Python's lock waits for the client, so this gets it.
                Python::attach(|py| match bytes::fresh(py, len) {
                    Ok((object, content)) => {
                        found = Ok(Some(object));
                        Ok(content)
                    }
                    Err(error) => {
                        found = Err(error);
                        Err(PoolError::Conflict)
                    }
                })
            };
            client.get_to(namespace, key, room).map(|content| content.is_some())
        });
        // An error of Python is the cause of the pool's.
        let object = found?;
        Ok(if outcome? { object } else { None })
    }
}

/// A look for a small value.
enum Small {
    There(Py<PyBytes>),
    Nothing,
    NotNow,
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
        let found = match self.get_small(py, key)? {
            Small::There(object) => Some(object),
            Small::Nothing => None,
            Small::NotNow => self.get_large(py, key)?,
        };
        Ok(found.map(|object| object.into_bound(py).into_any()).or(default))
    }

    /// As `get`, but `NotImplemented` if that would take longer than a few microseconds.
    #[pyo3(signature = (key, default=None))]
    fn get_now<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        Ok(match self.get_small(py, bytes::key(key)?)? {
            Small::There(object) => Some(object.into_bound(py).into_any()),
            Small::Nothing => default,
            Small::NotNow => Some(PyNotImplemented::get(py).to_owned().into_any()),
        })
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
        let core = self.core();
        let work = |client: &mut Client| client.get_into(namespace, key, into);
        let outcome = if room >= LARGE { core.run_detached(py, work) } else { core.run(py, work) };
        match outcome {
            Err(Fault::Pool(PoolError::TooLarge { what: "value", size, .. })) => {
                let text = format!("the value has {size} bytes, the buffer room for {room}");
                Err(Fault::Pool(PoolError::Invalid(text)).into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Up to `length` bytes of the value of `key` from byte `offset` on; `None` if it has none.
    fn get_range<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        offset: usize,
        length: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let mut part = Vec::new();
        let found = self.core().run_detached(py, |client| {
            let Some(size) = client.value_len(namespace, key)? else { return Ok(None) };
            part.resize(length.min(size.saturating_sub(offset)), 0);
            client.get_range(namespace, key, offset, &mut part)
        })?;
        Ok(found.map(|size| PyBytes::new(py, &part[..size.min(part.len())])))
    }

    /// Bytes of the value of `key`; `None` if it has none.
    fn size(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.value_len(namespace, key))?)
    }

    /// The value of `key` and the name of its present state; `None` if it has none.
    fn get_versioned<'py>(
        &self,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u64)>> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let mut value = Vec::new();
        let found =
            self.core().run(py, |client| client.get_versioned(namespace, key, &mut value))?;
        Ok(found.map(|version| (PyBytes::new(py, &value), version.0)))
    }

    /// Gives `key` this value if it is still in the state of that name (`None`: has none). The name
    /// of the new state, or `None` if it was in another one.
    #[pyo3(signature = (key, expected, value, *, ttl=None))]
    fn compare_and_set(
        &self,
        key: &Bound<'_, PyAny>,
        expected: Option<u64>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<Option<u64>> {
        let (py, namespace) = (key.py(), self.namespace);
        let (expiry, value) = (expiry(ttl)?, Value::of(value)?);
        let (key, value, expected) = (bytes::key(key)?, value.as_bytes(), expected.map(Version));
        let work =
            |client: &mut Client| client.compare_and_set(namespace, key, expected, value, expiry);
        let core = self.core();
        let large = value.len() >= LARGE;
        let done = if large { core.run_detached(py, work)? } else { core.run(py, work)? };
        Ok(done.map(|version| version.0))
    }

    /// Takes the value of `key` away if it is still in the state of that name; whether it was.
    fn compare_and_delete(&self, key: &Bound<'_, PyAny>, expected: u64) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let expected = Version(expected);
        Ok(self.core().run(py, |client| client.compare_and_delete(namespace, key, expected))?)
    }

    /// Adds to the value of `key`, an integer of 8 bytes; the sum.
    #[pyo3(signature = (key, by=1))]
    fn increment(&self, key: &Bound<'_, PyAny>, by: i64) -> PyResult<i64> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.increment(namespace, key, by))?)
    }

    /// Puts bytes behind the value of `key`; how long it is then.
    fn append(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (py, namespace, value) = (key.py(), self.namespace, Value::of(value)?);
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        let work = |client: &mut Client| client.append(namespace, key, value);
        let core = self.core();
        let large = value.len() >= LARGE;
        Ok(if large { core.run_detached(py, work)? } else { core.run(py, work)? })
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

    /// The values of the keys in their order, `None` for those that have none.
    fn get_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        batch::get(self.core(), self.namespace, keys)
    }

    /// Gives each key its value, whatever it had.
    #[pyo3(signature = (items, *, ttl=None))]
    fn put_many(&self, items: &Bound<'_, PyAny>, ttl: Option<f64>) -> PyResult<()> {
        batch::put(self.core(), self.namespace, items, expiry(ttl)?)
    }

    /// Takes the values of the keys away; for each whether there was one.
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
        batch::delete(self.core(), self.namespace, keys)
    }

    /// The value of `key` where it lies in the pool, to be read only; `None` if it has none.
    fn get_view<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        let found = self.core().run_detached(py, |client| client.get_pinned(namespace, key))?;
        let Some(pinned) = found else { return Ok(None) };
        let view = Bound::new(py, View::new(pinned, Arc::clone(&self.owner)))?;
        PyMemoryView::from(view.as_any()).map(Some)
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

    /// Lets the value of `key` expire after so many seconds; whether there is one.
    fn expire(&self, key: &Bound<'_, PyAny>, ttl: f64) -> PyResult<bool> {
        let (py, namespace) = (key.py(), self.namespace);
        let (expiry, key) = (expiry(Some(ttl))?, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.expire(namespace, key, expiry))?)
    }

    /// Lets the value of `key` never expire; whether there is one.
    fn persist(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, namespace, key) = (key.py(), self.namespace, bytes::key(key)?);
        Ok(self.core().run(py, |client| client.persist(namespace, key))?)
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
