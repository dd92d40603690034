//! Sampling: arrays of parameters checked and handed to the kernels row by row.

use artesian_kernels::isa::strongest;
use artesian_kernels::sampling::{
    logprobs_row, penalize_row, sample_row, LogitsError, Penalties, SamplingParams, Scratch,
};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use numpy::{PyReadwriteArray1, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pyo3::create_exception!(
    _core,
    InvalidLogitsError,
    PyValueError,
    "No token can be chosen from some rows of logits; `rows` (list of int) says which."
);

/// The error of all rows that have one, if any has.
fn check_rows(py: Python<'_>, bad: &[(usize, LogitsError)]) -> PyResult<()> {
    let Some((row, error)) = bad.first() else { return Ok(()) };
    let rows: Vec<usize> = bad.iter().map(|bad| bad.0).collect();
    let error = InvalidLogitsError::new_err(format!("row {row}: {error}"));
    error.value(py).setattr("rows", rows)?;
    Err(error)
}

fn check_length(name: &str, found: usize, expected: usize) -> PyResult<()> {
    if found == expected {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name} has {found} entries, expected {expected}")))
}

fn check_values(name: &str, values: &[f32], allowed: &str, ok: fn(f32) -> bool) -> PyResult<()> {
    match values.iter().position(|&value| !ok(value)) {
        None => Ok(()),
        Some(i) => {
            let value = values[i];
            Err(PyValueError::new_err(format!("{name}[{i}] is {value}, expected {allowed}")))
        }
    }
}

/// Token ids as unsigned numbers below `vocab_size`.
fn check_tokens(name: &str, tokens: &[i32], vocab_size: usize) -> PyResult<Vec<u32>> {
    let check = |(i, &token): (usize, &i32)| match u32::try_from(token) {
        Ok(token) if (token as usize) < vocab_size => Ok(token),
        _ => Err(PyValueError::new_err(format!(
            "{name}[{i}] is {token}, expected a token id from 0 to {}",
            vocab_size as i64 - 1
        ))),
    };
    tokens.iter().enumerate().map(check).collect()
}

/// Chooses one token from each row of logits.
#[pyfunction]
pub fn sample<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f32>,
    temperature: PyReadonlyArray1<'py, f32>,
    top_k: PyReadonlyArray1<'py, i32>,
    top_p: PyReadonlyArray1<'py, f32>,
    min_p: PyReadonlyArray1<'py, f32>,
    seeds: PyReadonlyArray1<'py, u64>,
    steps: PyReadonlyArray1<'py, u64>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let [num_rows, vocab_size] = [logits.shape()[0], logits.shape()[1]];
    let (temperature, top_k) = (temperature.as_slice()?, top_k.as_slice()?);
    let (top_p, min_p) = (top_p.as_slice()?, min_p.as_slice()?);
    let (seeds, steps) = (seeds.as_slice()?, steps.as_slice()?);
    check_length("temperature", temperature.len(), num_rows)?;
    check_length("top_k", top_k.len(), num_rows)?;
    check_length("top_p", top_p.len(), num_rows)?;
    check_length("min_p", min_p.len(), num_rows)?;
    check_length("seeds", seeds.len(), num_rows)?;
    check_length("steps", steps.len(), num_rows)?;
    check_values("temperature", temperature, "a finite number >= 0", |t| {
        t >= 0.0 && t.is_finite()
    })?;
    check_values("top_p", top_p, "0 < top_p <= 1", |p| p > 0.0 && p <= 1.0)?;
    check_values("min_p", min_p, "0 <= min_p <= 1", |p| (0.0..=1.0).contains(&p))?;
    let logits = logits.as_slice()?;
    let isa = strongest();
    let (mut tokens, mut bad) = (vec![0i32; num_rows], Vec::new());
    py.detach(|| {
        let mut scratch = Scratch::default();
        for i in 0..num_rows {
            let params = SamplingParams {
                temperature: temperature[i],
                top_k: usize::try_from(top_k[i]).unwrap_or(0),
                top_p: top_p[i],
                min_p: min_p[i],
                seed: seeds[i],
                step: steps[i],
            };
            let row = &logits[i * vocab_size..(i + 1) * vocab_size];
            match sample_row(isa, row, &params, &mut scratch) {
                Ok(token) => tokens[i] = token as i32,
                Err(error) => bad.push((i, error)),
            }
        }
    });
    check_rows(py, &bad)?;
    Ok(PyArray1::from_vec(py, tokens))
}

/// Arrays of [`logprobs`]: chosen, top ids, top log probabilities.
type LogprobArrays<'py> =
    (Bound<'py, PyArray1<f32>>, Bound<'py, PyArray2<i32>>, Bound<'py, PyArray2<f32>>);

/// Log probabilities of the chosen tokens and of the best ones.
#[pyfunction]
pub fn logprobs<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f32>,
    chosen: PyReadonlyArray1<'py, i32>,
    num_top: usize,
) -> PyResult<LogprobArrays<'py>> {
    let [num_rows, vocab_size] = [logits.shape()[0], logits.shape()[1]];
    check_length("chosen", chosen.len(), num_rows)?;
    let tokens = check_tokens("chosen", chosen.as_slice()?, vocab_size)?;
    if num_top > vocab_size {
        let message = format!("num_top is {num_top}, but there are {vocab_size} tokens");
        return Err(PyValueError::new_err(message));
    }
    let logits = logits.as_slice()?;
    let isa = strongest();
    let mut bad = Vec::new();
    let mut values = vec![0f32; num_rows];
    let mut top_ids = vec![-1i32; num_rows * num_top];
    let mut top_values = vec![f32::NEG_INFINITY; num_rows * num_top];
    py.detach(|| {
        for i in 0..num_rows {
            let row = &logits[i * vocab_size..(i + 1) * vocab_size];
            match logprobs_row(isa, row, tokens[i], num_top) {
                Ok(logprobs) => {
                    values[i] = logprobs.chosen;
                    for (j, (token, value)) in logprobs.top.into_iter().enumerate() {
                        top_ids[i * num_top + j] = token as i32;
                        top_values[i * num_top + j] = value;
                    }
                }
                Err(error) => bad.push((i, error)),
            }
        }
    });
    check_rows(py, &bad)?;
    Ok((
        PyArray1::from_vec(py, values),
        PyArray1::from_vec(py, top_ids).reshape([num_rows, num_top])?,
        PyArray1::from_vec(py, top_values).reshape([num_rows, num_top])?,
    ))
}

/// Adds biases to one row of logits and applies penalties, in place.
#[pyfunction]
pub fn penalize<'py>(
    py: Python<'py>,
    mut logits_row: PyReadwriteArray1<'py, f32>,
    prompt_ids: PyReadonlyArray1<'py, i32>,
    output_ids: PyReadonlyArray1<'py, i32>,
    repetition: f32,
    presence: f32,
    frequency: f32,
    bias_ids: PyReadonlyArray1<'py, i32>,
    bias_values: PyReadonlyArray1<'py, f32>,
) -> PyResult<()> {
    let row = logits_row.as_slice_mut()?;
    let prompt = check_tokens("prompt_ids", prompt_ids.as_slice()?, row.len())?;
    let output = check_tokens("output_ids", output_ids.as_slice()?, row.len())?;
    let biased = check_tokens("bias_ids", bias_ids.as_slice()?, row.len())?;
    let biases = bias_values.as_slice()?;
    check_length("bias_values", biases.len(), biased.len())?;
    check_values("bias_values", biases, "a number below infinity", |bias| bias < f32::INFINITY)?;
    let positive = |value: f32| value > 0.0 && value.is_finite();
    check_values("repetition", &[repetition], "a finite number > 0", positive)?;
    check_values("presence", &[presence], "a finite number", f32::is_finite)?;
    check_values("frequency", &[frequency], "a finite number", f32::is_finite)?;
    let penalties = Penalties { repetition, presence, frequency };
    let biases = biased.into_iter().zip(biases.iter().copied());
    py.detach(|| penalize_row(row, &prompt, &output, &penalties, biases));
    Ok(())
}
