//! Keys and values as Python gives them, without copies.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The bytes of a key: those of a `bytes` object, or a string's in UTF-8.
#[inline]
pub fn key<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(bytes.as_bytes());
    }
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes());
    }
    Err(PyTypeError::new_err(format!("a key is bytes or str, not {}", type_name(key))))
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "that".into(), |name| name.to_string())
}

/// A `bytes` object of that length, and where its content is to be written before anybody else gets
/// to see it.
pub fn fresh<'a>(py: Python<'_>, len: usize) -> PyResult<(Py<PyBytes>, &'a mut [u8])> {
    let size = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: Python's lock is held. The new object is ours, or there is an error.
    let made = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: `len` bytes that stay where they are as long as the object lives; callers keep it
    // beside the slice. Nobody else knows them yet, and they are written before they are read.
    let content =
        unsafe { std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(made.as_ptr()).cast(), len) };
    Ok((made.unbind(), content))
}

/// The bytes of a value: `bytes`, or anything else with the buffer protocol and contiguous bytes.
pub enum Value<'a> {
    Bytes(&'a [u8]),
    Buffer(Buffer),
}

impl<'a> Value<'a> {
    #[inline]
    pub fn of(value: &'a Bound<'_, PyAny>) -> PyResult<Value<'a>> {
        match value.cast::<PyBytes>() {
            Ok(bytes) => Ok(Value::Bytes(bytes.as_bytes())),
            Err(_) => Value::other(value),
        }
    }

    #[cold]
    fn other(value: &'a Bound<'_, PyAny>) -> PyResult<Value<'a>> {
        if value.is_instance_of::<PyString>() {
            let text = "a value is bytes or has the buffer protocol; encode a str first";
            return Err(PyTypeError::new_err(text));
        }
        Ok(Value::Buffer(Buffer::get(value, false)?))
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Buffer(buffer) => buffer.as_bytes(),
        }
    }
}

/// An object's buffer, held until this is dropped. Lives on a thread with Python's lock.
pub struct Buffer(Box<ffi::Py_buffer>);

impl Buffer {
    /// The contiguous bytes of `object`, whatever they mean; to write to, if wanted.
    pub fn get(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<Buffer> {
        let mut view = Box::new(ffi::Py_buffer::new());
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        // SAFETY: the object is alive, and the view stays where it is in its box.
        let refused = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, flags) } != 0;
        if !refused {
            return Ok(Buffer(view));
        }
        let py = object.py();
        let error = PyErr::fetch(py);
        let kind = type_name(object);
        if error.is_instance_of::<PyTypeError>(py) {
            let text = format!("bytes, or an object with the buffer protocol, not {kind}");
            return Err(PyTypeError::new_err(text));
        }
        let what = if writable { "contiguous writable" } else { "contiguous" };
        Err(PyValueError::new_err(format!("no {what} buffer of that {kind}: {error}")))
    }

    pub fn as_bytes(&self) -> &[u8] {
        if self.0.len <= 0 {
            return &[];
        }
        // SAFETY: the exporter keeps these bytes in place until the buffer is released. Another
        // thread that writes to them meanwhile makes their content random, as with any reader.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.0.len as usize) }
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len <= 0 {
            return &mut [];
        }
        // SAFETY: as above, and the buffer was asked for to be written to.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.0.len as usize) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: got by `PyObject_GetBuffer` and not released yet; Python's lock is held.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) };
    }
}
