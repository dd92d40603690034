//! KV that peers write into a worker's memory.

use std::sync::Arc;
use std::time::Duration;

use artesian_bus::shm::ShmVerbs;
use artesian_kernels::kv::KvLayout;
use artesian_kernels::program::{LayerSink, Push};
use artesian_peer::landing::{Pad, Standing, Target, Writer, SLOT_BYTES};
use artesian_peer::region::{self, Area, Region};
use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::peer::{fault, KvRegion};
use crate::program::PyKvLayout;

/// Slots of a region.
fn num_slots(region: &Region) -> u32 {
    (region.shape().control_bytes / SLOT_BYTES).try_into().unwrap_or(u32::MAX)
}

/// The landings in a region, for its owner.
#[pyclass(frozen)]
pub struct LandingPad(Mutex<Pad<ShmVerbs>>);

#[pymethods]
impl LandingPad {
    #[new]
    fn new(region: &KvRegion) -> PyResult<LandingPad> {
        let region = region.get()?;
        let control = region.shape().addr(Area::Control);
        let life = region.shape().generation;
        Ok(LandingPad(Mutex::new(Pad::new(region.connect(), control, num_slots(&region), life))))
    }

    fn open(&self) -> PyResult<Option<(u32, u64)>> {
        self.0.lock().open().map_err(fault)
    }

    fn revoke(&self, slot: u32) -> PyResult<bool> {
        self.0.lock().revoke(slot).map_err(fault)
    }

    fn release(&self, slot: u32) -> PyResult<()> {
        self.0.lock().release(slot).map_err(fault)
    }

    fn state(&self, slot: u32) -> PyResult<&'static str> {
        let standing = self.0.lock().standing(slot).map_err(|error| fault(error.into()))?;
        Ok(match standing {
            Standing::Free => "free",
            Standing::Open => "open",
            Standing::Writing => "writing",
            Standing::Complete => "complete",
            Standing::Failed => "failed",
            Standing::Quarantined => "quarantined",
            Standing::Revoked => "revoked",
        })
    }

    fn is_quiet(&self, slot: u32) -> PyResult<bool> {
        self.0.lock().is_quiet(slot).map_err(|error| fault(error.into()))
    }

    /// Sections and bytes written, and the last layer.
    fn progress(&self, slot: u32) -> PyResult<(u64, u64, u32)> {
        let progress = self.0.lock().progress(slot).map_err(|error| fault(error.into()))?;
        Ok((progress.num_sections, progress.num_bytes, progress.layer))
    }

    fn idle_s(&self, slot: u32) -> PyResult<f64> {
        let idle_ns = self.0.lock().idle_ns(slot).map_err(fault)?;
        Ok(Duration::from_nanos(idle_ns).as_secs_f64())
    }

    #[getter]
    fn num_lent(&self) -> usize {
        self.0.lock().num_lent()
    }
}

/// Writes KV of this worker's arena into a peer's.
#[pyclass(frozen)]
pub struct LandingWriter {
    writer: Writer<ShmVerbs>,
    layout: KvLayout,
    /// This worker's arena.
    arena: Py<PyArray1<u8>>,
    /// The peer's memory stays mapped.
    _region: Arc<Region>,
}

#[pymethods]
impl LandingWriter {
    #[new]
    fn new(
        py: Python<'_>,
        region_name: &str,
        fingerprint: &str,
        slot: u32,
        generation: u64,
        first_block: usize,
        blocks: Vec<u32>,
        layout: &PyKvLayout,
        arena: Bound<'_, PyArray1<u8>>,
        num_threads: usize,
    ) -> PyResult<LandingWriter> {
        let layout = layout.0;
        if !arena.is_contiguous() || !arena.len().is_multiple_of(layout.block_bytes()) {
            return Err(PyValueError::new_err("the KV arena must be whole blocks in one piece"));
        }
        let (fingerprint, bytes) = (region::fingerprint(fingerprint), layout.block_bytes() as u64);
        let (writer, region) = py
            .detach(|| {
                let region = region::reach(region_name, bytes, fingerprint)?;
                let target = Target {
                    control: region.shape().addr(Area::Control),
                    num_slots: num_slots(&region),
                    arena: region.shape().addr(Area::Arena),
                    num_blocks: region.shape().num_blocks,
                    slot,
                    generation,
                    first_block,
                    blocks,
                };
                let writer = Writer::attach(target, layout, num_threads, || region.connect())?;
                Ok((writer, region))
            })
            .map_err(fault)?;
        Ok(LandingWriter { writer, layout, arena: arena.unbind(), _region: region })
    }

    #[getter]
    fn num_bytes(&self) -> u64 {
        self.writer.num_bytes()
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.writer.look()
    }

    /// Writes whole blocks of the own arena as the prompt's block `first` and those behind it.
    fn push_blocks(&self, py: Python<'_>, blocks: Vec<usize>, first: usize) -> PyResult<bool> {
        let (arena, num_bytes) = {
            let arena = self.arena.bind(py);
            (arena.data().addr(), arena.len())
        };
        let block_bytes = self.layout.block_bytes();
        let num_blocks = num_bytes / block_bytes;
        if let Some(block) = blocks.iter().find(|&&block| block >= num_blocks) {
            let text = format!("block {block} is none of the arena's {num_blocks}");
            return Err(PyValueError::new_err(text));
        }
        Ok(py.detach(|| {
            blocks.iter().enumerate().all(|(place, block)| {
                let at = arena + block * block_bytes;
                self.push_block(first + place, at)
            })
        }))
    }

    fn complete(&self, py: Python<'_>) -> bool {
        py.detach(|| self.writer.complete())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.writer.fail());
    }
}

impl LandingWriter {
    /// Writes a block that lies at that address, in a section of its own.
    fn push_block(&self, number: usize, at: usize) -> bool {
        let layer_bytes = self.layout.layer_bytes();
        let tokens = self.layout.block_size_tokens();
        let is_written = (0..self.layout.num_layers()).all(|layer| {
            let at = (at + self.layout.layer_range(layer).start) as *const u8;
            // SAFETY: in bounds of the arena, which is kept. The engine, whose thread is here,
            // changes no block that is full.
            let bytes = unsafe { std::slice::from_raw_parts(at, layer_bytes) };
            self.writer.write_layer(layer, number, tokens, bytes)
        });
        self.writer.end_section();
        is_written
    }
}

/// A sequence of a batch, and who gets its keys and values.
pub type Pushed<'py> = (usize, PyRef<'py, LandingWriter>);

/// The writers themselves, which need no Python.
pub fn writers<'a>(pushes: &'a [Pushed<'_>]) -> Vec<(usize, &'a Writer<ShmVerbs>)> {
    pushes.iter().map(|(sequence, writer)| (*sequence, &writer.writer)).collect()
}

/// As a program takes them.
pub fn as_pushes<'a>(writers: &'a [(usize, &Writer<ShmVerbs>)]) -> Vec<Push<'a>> {
    let push = |&(sequence, writer): &'a (usize, &Writer<ShmVerbs>)| Push {
        sequence,
        sink: writer as &dyn LayerSink,
    };
    writers.iter().map(push).collect()
}
