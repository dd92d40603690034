//! Errors as Python sees them: the classes of `artesian.pool.errors`.

use artesian_bus::{shm, BusError};
use artesian_pool::PoolError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

const MODULE: &str = "artesian.pool.errors";

/// What can go wrong in a binding, beside what goes wrong in the pool.
#[derive(Debug)]
pub enum Fault {
    /// The pool's.
    Pool(PoolError),
    /// The pool was closed by this process.
    Closed(String),
    /// The pool was opened before a fork, by the process with that number.
    Forked(u32),
    /// There is no pool of that name.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// It has other numbers than were asked for.
    Mismatch(String),
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Fault {
        Fault::Pool(error)
    }
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Fault {
        Fault::Pool(error.into())
    }
}

/// Shorthand.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// There is no pool called `name`; says which there are.
    pub fn not_found(name: &str) -> Fault {
        let others = match shm::pools() {
            Ok(names) if names.is_empty() => "; this user has none on this host".into(),
            Ok(names) => format!("; there are: {}", names.join(", ")),
            Err(_) => String::new(),
        };
        Fault::NotFound(format!("there is no pool {name:?}{others}"))
    }

    /// The class and the text.
    fn describe(&self) -> (&'static str, String) {
        match self {
            Fault::Pool(error) => (class_of(error), error.to_string()),
            Fault::Closed(name) => {
                ("PoolClosedError", format!("the pool {name:?} was closed: open it again"))
            }
            Fault::Forked(pid) => (
                "PoolForkedError",
                format!(
                    "this pool was opened by process {pid} before a fork: open it again in this \
                     process ({})",
                    std::process::id()
                ),
            ),
            Fault::NotFound(text) => ("PoolNotFoundError", text.clone()),
            Fault::Exists(text) => ("PoolExistsError", text.clone()),
            Fault::Mismatch(text) => ("PoolMismatchError", text.clone()),
        }
    }
}

fn class_of(error: &PoolError) -> &'static str {
    match error {
        PoolError::Bus(BusError::Fenced) => "FencedError",
        PoolError::Bus(BusError::NodeLost(_)) | PoolError::Lost(_) => "DataLostError",
        PoolError::Bus(BusError::BadAddress { .. }) | PoolError::Corrupt(_) => "CorruptPoolError",
        PoolError::Bus(BusError::System(_)) => "PoolSystemError",
        PoolError::Full { .. } => "PoolFullError",
        PoolError::QuotaExceeded { .. } => "QuotaExceededError",
        PoolError::TooLarge { what: "key", .. } => "KeyTooLargeError",
        PoolError::TooLarge { .. } => "ValueTooLargeError",
        PoolError::Invalid(_) => "PoolUsageError",
        PoolError::Timeout { .. } => "PoolTimeoutError",
        PoolError::Conflict => "ConflictError",
        _ => "PoolError",
    }
}

/// The numbers of an error, as attributes.
fn numbers<'py>(py: Python<'py>, fault: &Fault) -> PyResult<Bound<'py, PyDict>> {
    let values = PyDict::new(py);
    match fault {
        Fault::Pool(PoolError::Full { bytes }) => values.set_item("size_bytes", bytes)?,
        Fault::Pool(PoolError::QuotaExceeded { namespace, used, quota }) => {
            values.set_item("namespace", namespace)?;
            values.set_item("used_bytes", used)?;
            values.set_item("quota_bytes", quota)?;
        }
        Fault::Pool(PoolError::TooLarge { size, limit, .. }) => {
            values.set_item("size_bytes", size)?;
            values.set_item("limit_bytes", limit)?;
        }
        Fault::Pool(PoolError::Timeout { waited_ms, .. }) => {
            values.set_item("waited_ms", waited_ms)?;
        }
        _ => {}
    }
    Ok(values)
}

fn raise(py: Python<'_>, fault: &Fault) -> PyResult<PyErr> {
    let (class, text) = fault.describe();
    let class = py.import(MODULE)?.getattr(class)?;
    let error = class.call((text,), Some(&numbers(py, fault)?))?;
    Ok(PyErr::from_value(error))
}

impl From<Fault> for PyErr {
    #[cold]
    fn from(fault: Fault) -> PyErr {
        Python::attach(|py| raise(py, &fault).unwrap_or_else(|error| error))
    }
}
