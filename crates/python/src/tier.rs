//! Tiers of the context cache: a store, and the threads that move blocks to and from the arena.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use artesian_tier::{
    DiskOptions, DiskStore, Key, Loaded, Memory, Mover, Outcome, Place, Saved, Store, TierError,
};
use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// Moves blocks between an arena and a directory of blocks.
#[pyclass(frozen)]
pub struct BlockMover {
    mover: Mover,
    store: Arc<DiskStore>,
    /// Keeps the memory.
    _memory: Py<PyArray1<u8>>,
}

fn fault(error: TierError) -> PyErr {
    match error {
        TierError::Io { .. } => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Saved(Saved::New) => "saved",
        Outcome::Saved(Saved::Known) => "known",
        Outcome::Full => "full",
        Outcome::Loaded(Loaded::Hit) => "hit",
        Outcome::Loaded(Loaded::Absent) => "absent",
        Outcome::Loaded(Loaded::Vanished) => "vanished",
        Outcome::Loaded(Loaded::Corrupt) => "corrupt",
        Outcome::Removed(true) => "removed",
        Outcome::Removed(false) => "absent",
        Outcome::Failed => "failed",
    }
}

#[pymethods]
impl BlockMover {
    #[new]
    #[pyo3(signature = (path, capacity_bytes, segment_bytes, memory, num_threads,
        most_saving_bytes))]
    fn new(
        path: PathBuf,
        capacity_bytes: u64,
        segment_bytes: u64,
        memory: Bound<'_, PyArray1<u8>>,
        num_threads: usize,
        most_saving_bytes: usize,
    ) -> PyResult<BlockMover> {
        if !memory.is_contiguous() {
            return Err(PyValueError::new_err("the memory is not contiguous"));
        }
        let options = DiskOptions { path, capacity_bytes, segment_bytes };
        let store = Arc::new(DiskStore::open(options).map_err(fault)?);
        // SAFETY: the array is kept, and nobody can resize it, as its owner is another object. The
        // Python side lends a block to one load at a time and changes none that is being saved.
        let lent = unsafe { Memory::new(memory.data(), memory.len()) };
        let mover = Mover::new(store.clone(), lent, num_threads, most_saving_bytes);
        let mover = mover.map_err(fault)?;
        Ok(BlockMover { mover, store, _memory: memory.unbind() })
    }

    /// How many of the first names are those of blocks that are there.
    fn find(&self, keys: Vec<Key>) -> usize {
        keys.iter().take_while(|key| self.store.contains(key)).count()
    }

    fn save(&self, key: Key, offset: usize, num_bytes: usize) -> PyResult<Option<u64>> {
        self.mover.save(&key, Place { offset, bytes: num_bytes }).map_err(fault)
    }

    fn load(&self, key: Key, offset: usize, num_bytes: usize) -> PyResult<u64> {
        self.mover.load(&key, Place { offset, bytes: num_bytes }).map_err(fault)
    }

    fn remove(&self, key: Key) -> u64 {
        self.mover.remove(&key)
    }

    fn poll(&self) -> Vec<(u64, &'static str, f64)> {
        let done = self.mover.poll().into_iter();
        done.map(|done| (done.ticket, name(done.outcome), done.took.as_secs_f64())).collect()
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.mover.wait(timeout))
    }

    fn entries(&self) -> Vec<(Key, u64, u64)> {
        let entries = self.store.entries().into_iter();
        entries.map(|entry| (entry.key, entry.bytes, entry.saved_ms)).collect()
    }

    #[getter]
    fn used_bytes(&self) -> u64 {
        self.store.stats().used_bytes
    }

    #[getter]
    fn num_blocks(&self) -> u64 {
        self.store.stats().num_blocks
    }

    #[getter]
    fn num_open(&self) -> usize {
        self.mover.num_open()
    }

    fn take_error(&self) -> Option<String> {
        self.mover.take_error()
    }
}
