//! What sequences of a batch leave out, and the measuring of sublayers.

use artesian_kernels::program::{Probe, Skip};
use numpy::{PyReadwriteArray3, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A sequence of the batch, its sublayers, and a scale for each.
pub type Skipped = (usize, Vec<u32>, Vec<f32>);

/// As the kernels read them.
pub fn as_skips(skips: &[Skipped]) -> Vec<Skip<'_>> {
    skips
        .iter()
        .map(|(sequence, sublayers, scales)| Skip { sequence: *sequence, sublayers, scales })
        .collect()
}

/// A probe for a (2, sublayers, rows) array, and where its values go.
pub fn probe_for<'a>(
    array: &'a mut Option<PyReadwriteArray3<'_, f32>>,
) -> PyResult<(Option<&'a mut [f32]>, Option<Probe>)> {
    let Some(array) = array else { return Ok((None, None)) };
    let &[2, num_sublayers, num_rows] = array.shape() else {
        return Err(PyValueError::new_err(format!(
            "a probe is (2, sublayers, rows), not {:?}",
            array.shape()
        )));
    };
    Ok((Some(array.as_slice_mut()?), Some(Probe::new(num_sublayers, num_rows))))
}
