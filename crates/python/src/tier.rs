//! Tiers of the context cache: a store, and the threads that move blocks to and from the arena.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artesian_kernels::kv::{KvDtype, KvLayout, KvSummaries};
use artesian_pool::client::Client;
use artesian_pool::{NodeLayout, PoolConfig};
use artesian_tier::{
    Codec, DiskOptions, DiskStore, Event, GateState, Int8, Key, LayerGate, Loaded, Memory, Mover,
    Outcome, Packed, Place, PoolOptions, PoolStore, Saved, Store, Throttled, TierError, Zstd,
};
use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::pool::{join, open, Fault, Outcome as Joined, Wish};

/// How far a group of blocks has come.
#[pyclass(frozen, name = "LayerGate")]
pub struct PyLayerGate(pub Arc<LayerGate>);

#[pymethods]
impl PyLayerGate {
    /// Bytes of every block that are there.
    #[getter]
    fn ready_bytes(&self) -> usize {
        self.0.ready_bytes()
    }

    /// Whether more may come, or all has.
    #[getter]
    fn is_open(&self) -> bool {
        self.0.state() == GateState::Open
    }

    /// Whether all blocks are there, and nobody gave up before.
    #[getter]
    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// How long the group's turn has lasted.
    #[getter]
    fn elapsed_s(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn wait(&self, py: Python<'_>, num_bytes: usize, timeout_s: f64) -> PyResult<bool> {
        let timeout = Duration::try_from_secs_f64(timeout_s);
        let timeout = timeout.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(py.detach(|| self.0.wait(num_bytes, Instant::now() + timeout)))
    }
}

/// Moves blocks between an arena and a store of blocks.
#[pyclass(frozen)]
pub struct BlockMover {
    mover: Mover,
    store: Arc<dyn Store>,
    /// Keeps the memory.
    _memory: Py<PyArray1<u8>>,
}

fn fault(error: TierError) -> PyErr {
    match error {
        TierError::Io { .. } | TierError::Pool { .. } => PyOSError::new_err(error.to_string()),
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
        Outcome::Skipped => "skipped",
        Outcome::Removed(true) => "removed",
        Outcome::Removed(false) => "absent",
        Outcome::Failed => "failed",
    }
}

impl BlockMover {
    fn start(
        store: Arc<dyn Store>,
        memory: &Bound<'_, PyArray1<u8>>,
        num_threads: usize,
        most_saving_bytes: usize,
    ) -> PyResult<BlockMover> {
        if !memory.is_contiguous() {
            return Err(PyValueError::new_err("the memory is not contiguous"));
        }
        // SAFETY: the array is kept, and nobody can resize it, as its owner is another object. The
        // Python side lends a block to one load at a time and changes none that is being saved;
        // programs read of blocks that are being loaded what gates have told of.
        let lent = unsafe { Memory::new(memory.data(), memory.len()) };
        let mover = Mover::new(store.clone(), lent, num_threads, most_saving_bytes);
        let mover = mover.map_err(fault)?;
        Ok(BlockMover { mover, store, _memory: memory.clone().unbind() })
    }
}

/// Layers, KV heads, their dimension, tokens, format and summaries of a block.
type KvShape = (usize, usize, usize, usize, String, String);

/// The codec of that name, for blocks of that shape.
fn codec_of(name: &str, shape: KvShape) -> PyResult<Arc<dyn Codec>> {
    let (layers, heads, head_dim, tokens, dtype, summaries) = shape;
    let wrong = |text: String| PyValueError::new_err(text);
    let dtype = KvDtype::from_name(&dtype).ok_or_else(|| wrong(format!("KV in {dtype}")))?;
    let summaries = KvSummaries::from_name(&summaries)
        .ok_or_else(|| wrong(format!("unknown summaries {summaries:?}")))?;
    let layout = KvLayout::new(layers, heads, head_dim, tokens, dtype);
    let layout = layout.map_err(|error| wrong(error.to_string()))?.with_summaries(summaries);
    match name {
        "zstd" => Ok(Arc::new(Zstd::new(dtype.element_bytes()))),
        "int8" => match Int8::new(layout) {
            Some(codec) => Ok(Arc::new(codec)),
            None => Err(wrong("KV is in int8 already: int8 makes it no smaller".into())),
        },
        _ => Err(wrong(format!("there is no compression {name:?}: zstd or int8"))),
    }
}

/// Encodes a block and decodes it again: the bytes of its form, the block as it comes back, and the
/// seconds that each took.
#[pyfunction]
pub fn try_codec<'py>(
    py: Python<'py>,
    name: &str,
    shape: KvShape,
    block: Bound<'py, PyArray1<u8>>,
) -> PyResult<(usize, Bound<'py, PyArray1<u8>>, f64, f64)> {
    let codec = codec_of(name, shape)?;
    let block = block.to_vec()?;
    let (mut bytes, started) = (Vec::with_capacity(block.len()), Instant::now());
    if !codec.encode(&block, &mut bytes) {
        return Err(PyValueError::new_err(format!("{name} has no form for this block")));
    }
    let encoded = started.elapsed().as_secs_f64();
    let (mut back, started) = (vec![0; block.len()], Instant::now());
    if !codec.decode(&bytes, &mut back) {
        return Err(PyValueError::new_err(format!("{name} does not understand itself")));
    }
    let decoded = started.elapsed().as_secs_f64();
    Ok((bytes.len(), PyArray1::from_vec(py, back), encoded, decoded))
}

/// Clients of the pool called `name`. It is made if there is none, with room for that many bytes of
/// blocks; one that is there stays as it is.
fn join_pool(name: &str, capacity_bytes: u64, num_clients: usize) -> Joined<Vec<Client>> {
    let bytes = Some(pool_bytes(capacity_bytes));
    let wanted = Wish { bytes, lease_ms: Some(LEASE_MS), ..Wish::default() };
    let opened = match open(name, &wanted) {
        Err(Fault::Mismatch(_)) => open(name, &Wish::default())?,
        outcome => outcome?,
    };
    let mut clients = vec![opened.client];
    while clients.len() < num_clients {
        clients.push(join(&opened.nodes)?);
    }
    Ok(clients)
}

/// A server that gives no sign of life for so long is ended by the others. One that has died is
/// noticed at once, so this may be long: for those that were stopped, or wait for memory.
const LEASE_MS: u32 = 60_000;
/// What of a pool is not for blocks: tables, heads, room that does not fit.
const POOL_SHARE: u64 = 16;
const POOL_TABLES: u64 = 16 << 20;

/// Bytes of a pool with room for so many bytes of blocks.
fn pool_bytes(capacity_bytes: u64) -> u64 {
    capacity_bytes.saturating_add(capacity_bytes / (POOL_SHARE - 1)).saturating_add(POOL_TABLES)
}

/// Bytes of blocks that a pool has room for.
fn room_in(config: &PoolConfig) -> u64 {
    let regions = NodeLayout::of(config).num_regions * u64::from(config.num_nodes);
    let room = regions * config.region_bytes() / u64::from(config.replicas);
    room - room / POOL_SHARE
}

#[pymethods]
impl BlockMover {
    /// Of a directory.
    #[new]
    #[pyo3(signature = (path, capacity_bytes, segment_bytes, layer_bytes, memory, num_threads,
        most_saving_bytes, bytes_per_s=None, compression=None))]
    fn new(
        path: PathBuf,
        capacity_bytes: u64,
        segment_bytes: u64,
        layer_bytes: u64,
        memory: Bound<'_, PyArray1<u8>>,
        num_threads: usize,
        most_saving_bytes: usize,
        bytes_per_s: Option<f64>,
        compression: Option<(String, KvShape)>,
    ) -> PyResult<BlockMover> {
        let codec = compression.map(|(name, shape)| codec_of(&name, shape)).transpose()?;
        let options = DiskOptions { path, capacity_bytes, segment_bytes, layer_bytes };
        let mut store: Arc<dyn Store> = Arc::new(DiskStore::open(options).map_err(fault)?);
        if let Some(bytes_per_s) = bytes_per_s {
            store = Arc::new(Throttled::new(store, bytes_per_s).map_err(fault)?);
        }
        let store = Arc::new(Packed::new(store, codec));
        BlockMover::start(store, &memory, num_threads, most_saving_bytes)
    }

    /// Of a memory pool.
    #[staticmethod]
    fn in_pool(
        py: Python<'_>,
        name: &str,
        capacity_bytes: u64,
        memory: Bound<'_, PyArray1<u8>>,
        num_threads: usize,
        most_saving_bytes: usize,
    ) -> PyResult<BlockMover> {
        let clients = py.detach(|| join_pool(name, capacity_bytes, num_threads + 1))?;
        let capacity_bytes = capacity_bytes.min(room_in(clients[0].fabric().config()));
        let options = PoolOptions { name: name.to_owned(), capacity_bytes };
        let store = py.detach(|| PoolStore::open(options, clients)).map_err(fault)?;
        BlockMover::start(Arc::new(store), &memory, num_threads, most_saving_bytes)
    }

    /// How many of the first names are those of blocks that are there.
    fn find(&self, keys: Vec<Key>) -> usize {
        keys.iter().take_while(|key| self.store.contains(key)).count()
    }

    fn save(&self, key: Key, offset: usize, num_bytes: usize) -> PyResult<Option<u64>> {
        self.mover.save(&key, Place { offset, bytes: num_bytes }).map_err(fault)
    }

    fn load(
        &self,
        blocks: Vec<(Key, usize)>,
        num_bytes: usize,
        stage_bytes: usize,
    ) -> PyResult<(Vec<u64>, PyLayerGate)> {
        let loading = self.mover.load_group(&blocks, num_bytes, stage_bytes).map_err(fault)?;
        Ok((loading.tickets, PyLayerGate(loading.gate)))
    }

    fn cancel(&self, gate: &PyLayerGate) {
        self.mover.cancel(&gate.0);
    }

    fn set_trace(&self, is_on: bool) {
        self.mover.set_trace(is_on);
    }

    fn take_trace(&self) -> Vec<(bool, usize, usize, f64, f64)> {
        let moved = |event: Event| {
            let Event { is_save, bytes: (start, end), start_s, end_s } = event;
            (is_save, start, end, start_s, end_s)
        };
        self.mover.take_trace().into_iter().map(moved).collect()
    }

    /// Saves a block from the store of another mover.
    fn copy(&self, key: Key, num_bytes: usize, source: &BlockMover) -> Option<u64> {
        self.mover.copy(&key, num_bytes, source.store.clone())
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
    fn capacity_bytes(&self) -> u64 {
        self.store.stats().capacity_bytes
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
