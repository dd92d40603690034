//! The memory pool: one client per handle, its operations, and the thread that keeps it alive.

mod batch;
mod bytes;
mod cache;
mod care;
mod core;
mod errors;
mod fork;
mod handle;
mod names;
mod open;
mod resize;
mod stats;
mod store;
mod ticker;
mod transaction;
mod tree;
mod view;

use pyo3::prelude::*;

pub use errors::{Fault, Outcome};
pub use open::{join, open, Wish};

/// Adds the pool's classes and functions.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<handle::PoolHandle>()?;
    module.add_class::<store::Store>()?;
    module.add_class::<tree::Tree>()?;
    module.add_class::<cache::Cache>()?;
    module.add_class::<transaction::Transaction>()?;
    module.add_function(wrap_pyfunction!(care::save_pool, module)?)?;
    module.add_function(wrap_pyfunction!(care::load_pool, module)?)?;
    module.add_function(wrap_pyfunction!(care::verify_snapshot, module)?)?;
    module.add_function(wrap_pyfunction!(care::check_pool, module)?)?;
    module.add_function(wrap_pyfunction!(resize::add_node, module)?)?;
    module.add_function(wrap_pyfunction!(resize::drain_node, module)?)?;
    module.add_function(wrap_pyfunction!(handle::list_pools, module)?)?;
    module.add_function(wrap_pyfunction!(handle::remove_pool, module)?)?;
    module.add_function(wrap_pyfunction!(stats::look_at_pool, module)?)?;
    Ok(())
}
