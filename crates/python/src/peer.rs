//! Memory that workers lend each other.

use std::sync::Arc;

use artesian_peer::landing::SLOT_BYTES;
use artesian_peer::region::{self, Area, Region, RegionShape};
use artesian_peer::PeerError;
use numpy::ndarray::ArrayView1;
use numpy::PyArray1;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

pub fn fault(error: PeerError) -> PyErr {
    match error {
        PeerError::Bus(error) => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// A worker's memory that its peers can reach.
#[pyclass(frozen, name = "KvRegion")]
pub struct KvRegion {
    /// `None` once it was closed.
    region: Mutex<Option<Arc<Region>>>,
    /// Keeps the mapping as long as arrays are on it.
    mapped: Arc<Region>,
}

impl KvRegion {
    /// The region, unless it was closed.
    pub fn get(&self) -> PyResult<Arc<Region>> {
        let open = self.region.lock().clone();
        let name = self.mapped.name();
        open.ok_or_else(|| PyValueError::new_err(format!("region {name} was closed")))
    }
}

#[pymethods]
impl KvRegion {
    #[new]
    #[pyo3(signature = (name, num_blocks, block_bytes, fingerprint, generation=0,
        num_landings=0, mailbox_bytes=0))]
    fn new(
        name: &str,
        num_blocks: u64,
        block_bytes: u64,
        fingerprint: &str,
        generation: u64,
        num_landings: u32,
        mailbox_bytes: u64,
    ) -> PyResult<KvRegion> {
        let fingerprint = region::fingerprint(fingerprint);
        let control_bytes = u64::from(num_landings) * SLOT_BYTES;
        let shape = RegionShape {
            control_bytes,
            mailbox_bytes,
            block_bytes,
            num_blocks,
            fingerprint,
            generation,
        };
        let mapped = Arc::new(Region::create(name, shape).map_err(fault)?);
        Ok(KvRegion { region: Mutex::new(Some(mapped.clone())), mapped })
    }

    /// Removes the region of an owner that has died; whether there was one.
    #[staticmethod]
    fn remove(name: &str) -> PyResult<bool> {
        Region::remove(name).map_err(fault)
    }

    /// Names of this user's regions.
    #[staticmethod]
    fn names() -> PyResult<Vec<String>> {
        Region::names().map_err(fault)
    }

    #[getter]
    fn name(&self) -> &str {
        self.mapped.name()
    }

    #[getter]
    fn generation(&self) -> u64 {
        self.mapped.shape().generation
    }

    /// The arena's bytes.
    #[getter]
    fn memory(slf: Bound<'_, Self>) -> Bound<'_, PyArray1<u8>> {
        let (at, len) = slf.get().mapped.area(Area::Arena);
        // SAFETY: the array keeps this object, and with it the mapping. Peers write only blocks
        // that the owner has lent them, and it uses none of these before it has them back.
        unsafe {
            let view = ArrayView1::from_shape_ptr(len, at.cast_const());
            PyArray1::borrow_from_array(&view, slf.into_any())
        }
    }

    /// Asks for huge pages under these bytes of the arena.
    fn back(&self, py: Python<'_>, start: u64, end: u64) -> bool {
        let bytes = start..end.min(self.mapped.area(Area::Arena).1 as u64);
        py.detach(|| self.mapped.back(bytes))
    }

    /// Takes it away from the peers. Arrays on it stay valid.
    fn close(&self) {
        if self.region.lock().take().is_some() {
            self.mapped.end();
        }
    }
}
