//! Transactions on several keys.

use std::sync::Arc;

use artesian_pool::txn::Draft;
use artesian_pool::PoolError;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes::{self, Value};
use super::errors::{Fault, Outcome};
use super::handle::PoolHandle;
use super::store::{expiry, Store};
use super::ticker::Owner;

/// Reads and writes that happen together; see `artesian.pool.Transaction`.
#[pyclass(frozen, subclass, module = "artesian.pool.native")]
pub struct Transaction {
    owner: Arc<Owner>,
    draft: Mutex<Option<Draft>>,
}

impl Transaction {
    /// The namespace of a store, which must be of the same client.
    fn namespace(&self, store: &Store) -> Outcome<u16> {
        if Arc::ptr_eq(&self.owner, &store.owner) {
            return Ok(store.namespace);
        }
        let text = "the store is of another pool object than the transaction";
        Err(Fault::Pool(PoolError::Invalid(text.into())))
    }

    fn with<R>(&self, work: impl FnOnce(&mut Draft) -> Result<R, PoolError>) -> Outcome<R> {
        // Nobody waits for Python's lock with a draft in hand, so this is a short wait.
        match self.draft.lock().as_mut() {
            Some(draft) => Ok(work(draft)?),
            None => Err(over()),
        }
    }
}

fn over() -> Fault {
    Fault::Pool(PoolError::Invalid("the transaction is over: begin another one".into()))
}

#[pymethods]
impl Transaction {
    #[new]
    fn new(handle: &PoolHandle) -> Transaction {
        let draft = Mutex::new(Some(Draft::default()));
        Transaction { owner: Arc::clone(&handle.owner), draft }
    }

    /// The value of `key` in `store`, or `default`.
    #[pyo3(signature = (store, key, default=None))]
    fn get<'py>(
        &self,
        store: &Store,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, namespace) = (key.py(), self.namespace(store)?);
        let key = bytes::key(key)?;
        let mut value = Vec::new();
        let found = self.owner.core.run_detached(py, |client| {
            let mut draft = self.draft.lock();
            match draft.as_mut() {
                Some(draft) => draft.get(client, namespace, key, &mut value).map(Some),
                None => Ok(None),
            }
        })?;
        match found {
            None => Err(over().into()),
            Some(false) => Ok(default),
            Some(true) => Ok(Some(PyBytes::new(py, &value).into_any())),
        }
    }

    /// `key` has this value in `store` once the transaction is committed.
    #[pyo3(signature = (store, key, value, *, ttl=None))]
    fn put(
        &self,
        store: &Store,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<()> {
        let (namespace, expiry) = (self.namespace(store)?, expiry(ttl)?);
        let value = Value::of(value)?;
        let (key, value) = (bytes::key(key)?, value.as_bytes());
        Ok(self.with(|draft| draft.put(namespace, key, value, expiry))?)
    }

    /// `key` has no value in `store` once the transaction is committed.
    fn delete(&self, store: &Store, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let (namespace, key) = (self.namespace(store)?, bytes::key(key)?);
        Ok(self.with(|draft| draft.delete(namespace, key))?)
    }

    /// Makes all writes visible at once.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let Some(draft) = self.draft.lock().take() else { return Err(over().into()) };
        Ok(self.owner.core.run_detached(py, |client| draft.commit(client))?)
    }

    /// Forgets everything.
    fn abort(&self) {
        self.draft.lock().take();
    }

    /// Whether it was committed or aborted.
    #[getter]
    fn is_over(&self) -> bool {
        self.draft.lock().is_none()
    }
}
