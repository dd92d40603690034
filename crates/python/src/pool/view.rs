//! A value's bytes where they lie in the pool, as Python's buffer.

use std::os::raw::c_int;
use std::sync::Arc;

use artesian_pool::store::Pinned;
use pyo3::ffi;
use pyo3::prelude::*;

use super::ticker::Owner;

/// What a memoryview of a value holds: its bytes stay as they are until this is gone.
#[pyclass(frozen, module = "artesian.pool.native")]
pub struct View {
    bytes: Bytes,
    /// Keeps the client, and so its lease, without which the others would reuse the memory. Dropped
    /// after the bytes.
    _owner: Arc<Owner>,
}

enum Bytes {
    Pinned(Pinned),
    /// A value in pieces, put together.
    Copied(Vec<u8>),
}

impl View {
    pub fn new(pinned: Pinned, owner: Arc<Owner>) -> View {
        let bytes = match pinned.as_slice() {
            Some(_) => Bytes::Pinned(pinned),
            None => Bytes::Copied(pinned.to_vec()),
        };
        View { bytes, _owner: owner }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pinned(pinned) => pinned.as_slice().unwrap_or_default(),
            Bytes::Copied(bytes) => bytes,
        }
    }
}

#[pymethods]
impl View {
    /// # Safety
    /// As Python's protocol has it: `view` is to be filled in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = slf.get().bytes();
        let len = ffi::Py_ssize_t::try_from(bytes.len())?;
        // SAFETY: the bytes stay in place as long as the object lives, to which `view` gets a
        // reference here. They are marked read-only: whoever wants to write is refused.
        let refused = unsafe {
            let at = bytes.as_ptr().cast_mut().cast();
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), at, len, 1, flags)
        } != 0;
        if refused {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}
