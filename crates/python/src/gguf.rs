//! Decoding of GGUF weights.

use artesian_kernels::gguf::{dequantize_row, Format};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Decodes a (rows, cols) tensor stored as `format` to float32.
#[pyfunction]
pub fn dequantize<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
    format_name: &str,
    rows: usize,
    cols: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let format = Format::from_name(format_name).ok_or_else(|| {
        let known = Format::ALL.map(Format::name).join(", ");
        PyValueError::new_err(format!("unknown weight format {format_name:?}: known are {known}"))
    })?;
    let bytes = data.as_slice()?;
    let row_bytes =
        format.row_bytes(cols).map_err(|error| PyValueError::new_err(error.to_string()))?;
    if row_bytes.checked_mul(rows) != Some(bytes.len()) {
        return Err(PyValueError::new_err(format!(
            "{rows} {} rows of {cols} weights take {row_bytes} bytes each, got {} bytes in all",
            format.name(),
            bytes.len()
        )));
    }
    let out = PyArray1::<f32>::zeros(py, [rows * cols], false);
    if !bytes.is_empty() {
        let mut out = out.readwrite();
        let out = out.as_slice_mut()?;
        py.detach(|| {
            for (bytes, out) in bytes.chunks_exact(row_bytes).zip(out.chunks_exact_mut(cols)) {
                dequantize_row(format, bytes, out).expect("lengths were checked above");
            }
        });
    }
    out.reshape([rows, cols])
}
