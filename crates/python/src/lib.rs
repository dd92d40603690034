//! Python bindings: conversions only, no logic.

mod exchange;
mod files;
mod gguf;
mod landing;
mod peer;
mod pool;
mod program;
mod runtime;
mod sampling;
mod skip;
mod tier;

use pyo3::prelude::*;

/// Names of the instruction sets this machine can run, weakest first.
#[pyfunction]
fn available_isas() -> Vec<&'static str> {
    artesian_kernels::isa::available().map(|isa| isa.name()).collect()
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(available_isas, module)?)?;
    module.add_function(wrap_pyfunction!(gguf::dequantize, module)?)?;
    module.add_function(wrap_pyfunction!(sampling::sample, module)?)?;
    module.add_function(wrap_pyfunction!(sampling::logprobs, module)?)?;
    module.add_function(wrap_pyfunction!(sampling::penalize, module)?)?;
    module.add("InvalidLogitsError", module.py().get_type::<sampling::InvalidLogitsError>())?;
    module.add_class::<runtime::Runtime>()?;
    module.add_class::<program::Weight>()?;
    module.add_class::<program::PyKvLayout>()?;
    module.add_class::<program::ProgramBuilder>()?;
    module.add_class::<program::Program>()?;
    module.add_class::<tier::BlockMover>()?;
    module.add_function(wrap_pyfunction!(tier::try_codec, module)?)?;
    module.add_class::<tier::PyLayerGate>()?;
    module.add_class::<peer::KvRegion>()?;
    module.add_class::<landing::LandingPad>()?;
    module.add_class::<landing::LandingWriter>()?;
    module.add_class::<exchange::Exchange>()?;
    module.add_class::<exchange::PyRemoteAttention>()?;
    module.add_class::<exchange::AttentionExecutor>()?;
    module.add_class::<files::PyAccessStreamTree>()?;
    pool::register(module)
}
