//! Many keys of a store in one call, while others can use Python.

use std::ops::Range;

use artesian_pool::client::Client;
use artesian_pool::store::Expiry;
use artesian_pool::PoolError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMapping, PyString};

use super::bytes::{self, Value};
use super::core::Core;

/// All that an iterable gives; a string is none, though its letters could be keys.
fn all<'py>(some: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if some.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("several keys are wanted, not one str"));
    }
    some.try_iter()?.collect()
}

/// Keys and values of a mapping, or of an iterable of pairs.
fn pairs<'py>(items: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let items = match items.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => items.clone(),
    };
    all(&items)?.iter().map(|item| item.extract()).collect()
}

/// The results, or the first error among them.
fn whole<R>(results: Vec<Result<R, PoolError>>) -> Result<Vec<R>, PoolError> {
    results.into_iter().collect()
}

/// Values as they come, one behind the other.
struct Values {
    bytes: Vec<u8>,
    places: Vec<Option<Range<usize>>>,
}

fn read(client: &mut Client, namespace: u16, keys: &[&[u8]]) -> Result<Values, PoolError> {
    let mut values = Values { bytes: Vec::new(), places: vec![None; keys.len()] };
    let mut first: Option<(usize, PoolError)> = None;
    client.get_many_with(namespace, keys, |number, told| match told {
        Ok(None) => {}
        Ok(Some(value)) => {
            let start = values.bytes.len();
            values.bytes.extend_from_slice(value);
            values.places[number] = Some(start..values.bytes.len());
        }
        // Keys are told of in no order.
        Err(error) if first.as_ref().is_none_or(|(known, _)| number < *known) => {
            first = Some((number, error));
        }
        Err(_) => {}
    });
    match first {
        None => Ok(values),
        Some((_, error)) => Err(error),
    }
}

/// The values of the keys in their order, `None` for those that have none.
pub fn get<'py>(
    core: &Core,
    namespace: u16,
    keys: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let (py, keys) = (keys.py(), all(keys)?);
    let keys = keys.iter().map(bytes::key).collect::<PyResult<Vec<&[u8]>>>()?;
    let values = core.run_detached(py, |client| read(client, namespace, &keys))?;
    let value = |place: Option<Range<usize>>| place.map(|at| PyBytes::new(py, &values.bytes[at]));
    PyList::new(py, values.places.into_iter().map(value))
}

/// Gives each key its value.
pub fn put(core: &Core, namespace: u16, items: &Bound<'_, PyAny>, expiry: Expiry) -> PyResult<()> {
    let (py, items) = (items.py(), pairs(items)?);
    // All are looked at before the first is written.
    let values = items.iter().map(|item| Value::of(&item.1)).collect::<PyResult<Vec<_>>>()?;
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::with_capacity(items.len());
    for ((key, _), value) in items.iter().zip(&values) {
        pairs.push((bytes::key(key)?, value.as_bytes()));
    }
    let work = |client: &mut Client| whole(client.put_many(namespace, &pairs, expiry)).map(drop);
    Ok(core.run_detached(py, work)?)
}

/// Takes the values of the keys away; for each whether there was one.
pub fn delete(core: &Core, namespace: u16, keys: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    let (py, keys) = (keys.py(), all(keys)?);
    let keys = keys.iter().map(bytes::key).collect::<PyResult<Vec<&[u8]>>>()?;
    Ok(core.run_detached(py, |client| whole(client.delete_many(namespace, &keys)))?)
}
