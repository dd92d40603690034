//! The kernel threads and the instruction set they use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use artesian_kernels::isa::{self, Isa};
use artesian_kernels::threads::ThreadPool;
use artesian_peer::exchange::{own_nice, set_schedule};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Kernel threads with an instruction set.
#[pyclass(frozen)]
pub struct Runtime {
    pub pool: Arc<ThreadPool>,
    pub isa: Isa,
}

#[pymethods]
impl Runtime {
    #[new]
    #[pyo3(signature = (num_threads, isa=None))]
    fn new(num_threads: usize, isa: Option<&str>) -> PyResult<Runtime> {
        if !(1..=1024).contains(&num_threads) {
            return Err(PyValueError::new_err(format!(
                "the number of kernel threads must be 1 to 1024, not {num_threads}"
            )));
        }
        let isa = match isa {
            None => isa::strongest(),
            Some(name) => {
                Isa::from_name(name).filter(|isa| isa.is_available()).ok_or_else(|| {
                    let can: Vec<_> = isa::available().map(Isa::name).collect();
                    PyValueError::new_err(format!(
                        "this machine cannot run {name:?}; it can run {}",
                        can.join(", ")
                    ))
                })?
            }
        };
        Ok(Runtime { pool: Arc::new(ThreadPool::new(num_threads)), isa })
    }

    /// How many threads run a program.
    #[getter]
    fn num_threads(&self) -> usize {
        self.pool.num_threads()
    }

    /// Adds to the nice values of all these threads, the calling one included; whether the system
    /// agreed. Only privileged processes may take away.
    fn add_nice(&self, py: Python<'_>, more: i32) -> bool {
        let agreed = AtomicBool::new(true);
        py.detach(|| {
            self.pool.run(&|_| {
                let nice = own_nice().saturating_add(more).clamp(-20, 19);
                if !set_schedule(Some(nice), 0) {
                    agreed.store(false, Ordering::Relaxed);
                }
            });
        });
        agreed.into_inner()
    }

    /// Name of the instruction set in use.
    #[getter]
    fn isa(&self) -> &'static str {
        self.isa.name()
    }
}
