//! Weights, and recording and running a model's forward pass.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artesian_kernels::attention::{AttentionShape, Selector, SparseRule, SparseSequence};
use artesian_kernels::float::FloatLinear;
use artesian_kernels::gguf::Format;
use artesian_kernels::kv::{KvDtype, KvLayout, KvSummaries};
use artesian_kernels::linear::{round_to_int8, QuantLinear};
use artesian_kernels::program::{
    self, Activation, Aside, AttentionOp, AttentionServer, BatchView, Gate, Gated, LayerTime,
    ProgramError, RopeOp, SharedWeight, ValueId,
};
use numpy::{
    PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2,
    PyReadwriteArray3, PyReadwriteArray4, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::exchange::{as_remotes, begin_all, RemoteRows};
use crate::landing::{as_pushes, writers, Pushed};
use crate::runtime::Runtime;
use crate::skip::{as_skips, probe_for, Skipped};
use crate::tier::PyLayerGate;

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A packed (rows, cols) weight.
#[pyclass(frozen)]
pub struct Weight(SharedWeight);

#[pymethods]
impl Weight {
    #[new]
    #[pyo3(signature = (runtime, data, format_name, rows, cols, int8=false))]
    fn new(
        py: Python<'_>,
        runtime: &Runtime,
        data: PyReadonlyArray1<'_, u8>,
        format_name: &str,
        rows: usize,
        cols: usize,
        int8: bool,
    ) -> PyResult<Weight> {
        let format = Format::from_name(format_name).ok_or_else(|| {
            PyValueError::new_err(format!("unknown weight format {format_name:?}"))
        })?;
        let data = data.as_slice()?;
        let weight = py.detach(|| {
            let (pool, isa) = (&runtime.pool, runtime.isa);
            if int8 {
                let blocks = round_to_int8(format, data, rows, cols).map_err(value_error)?;
                let weight = QuantLinear::from_blocks(pool, isa, Format::Q8_0, &blocks, rows, cols);
                weight.map(program::Weight::Quant).map_err(value_error)
            } else if format.is_quantized() {
                let weight = QuantLinear::from_blocks(pool, isa, format, data, rows, cols);
                weight.map(program::Weight::Quant).map_err(value_error)
            } else {
                let weight = FloatLinear::pack(pool, isa, format, data, rows, cols);
                weight.map(program::Weight::Float).map_err(value_error)
            }
        });
        Ok(Weight(Arc::new(weight?)))
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.rows()
    }

    #[getter]
    fn cols(&self) -> usize {
        self.0.cols()
    }

    #[getter]
    fn num_bytes(&self) -> usize {
        self.0.num_bytes()
    }
}

/// Shape of the KV of a model.
#[pyclass(frozen, name = "KvLayout")]
#[derive(Clone)]
pub struct PyKvLayout(pub KvLayout);

#[pymethods]
impl PyKvLayout {
    #[new]
    #[pyo3(signature = (
        num_layers, num_kv_heads, head_dim, block_size_tokens, dtype, summaries="none"
    ))]
    fn new(
        num_layers: usize,
        num_kv_heads: usize,
        head_dim: usize,
        block_size_tokens: usize,
        dtype: &str,
        summaries: &str,
    ) -> PyResult<PyKvLayout> {
        let dtype = KvDtype::from_name(dtype)
            .ok_or_else(|| PyValueError::new_err(format!("unknown KV dtype {dtype:?}")))?;
        let summaries = KvSummaries::from_name(summaries)
            .ok_or_else(|| PyValueError::new_err(format!("unknown summaries {summaries:?}")))?;
        let layout = KvLayout::new(num_layers, num_kv_heads, head_dim, block_size_tokens, dtype);
        Ok(PyKvLayout(layout.map_err(value_error)?.with_summaries(summaries)))
    }

    /// Bytes of one block.
    #[getter]
    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }
}

/// Records a model's operations; values are numbers.
#[pyclass]
pub struct ProgramBuilder(Option<program::ProgramBuilder>);

impl ProgramBuilder {
    fn inner(&mut self) -> PyResult<&mut program::ProgramBuilder> {
        self.0.as_mut().ok_or_else(|| PyValueError::new_err("this program was built already"))
    }
}

type Vector<'py> = PyReadonlyArray1<'py, f32>;

fn vector(array: Option<Vector<'_>>) -> PyResult<Option<Vec<f32>>> {
    array.map(|array| Ok(array.as_slice()?.to_vec())).transpose()
}

fn recorded(value: Result<ValueId, ProgramError>) -> PyResult<usize> {
    value.map(|id| id.0).map_err(value_error)
}

#[pymethods]
impl ProgramBuilder {
    #[new]
    fn new() -> ProgramBuilder {
        ProgramBuilder(Some(program::ProgramBuilder::new()))
    }

    fn embed(&mut self, table: &Weight, factor: f32) -> PyResult<usize> {
        Ok(self.inner()?.embed(table.0.clone(), factor).0)
    }

    #[pyo3(signature = (x, weight, eps, residual=None))]
    fn rms_norm(
        &mut self,
        x: usize,
        weight: Vector<'_>,
        eps: f32,
        residual: Option<usize>,
    ) -> PyResult<usize> {
        let weight = weight.as_slice()?.to_vec();
        recorded(self.inner()?.rms_norm(ValueId(x), weight, eps, residual.map(ValueId)))
    }

    #[pyo3(signature = (x, weights, bias=None, residual=None))]
    fn linear(
        &mut self,
        x: usize,
        weights: Vec<PyRef<'_, Weight>>,
        bias: Option<Vector<'_>>,
        residual: Option<usize>,
    ) -> PyResult<usize> {
        let parts = weights.iter().map(|weight| weight.0.clone()).collect();
        let bias = vector(bias)?;
        recorded(self.inner()?.linear(ValueId(x), parts, bias, residual.map(ValueId)))
    }

    #[pyo3(signature = (
        qkv, layer, num_heads, num_kv_heads, head_dim, scale, window=None, softcap=None,
        norm_eps=1e-6, inv_freq=None, interleaved=false, magnitude=1.0, q_norm=None, k_norm=None
    ))]
    fn attention(
        &mut self,
        qkv: usize,
        layer: usize,
        num_heads: usize,
        num_kv_heads: usize,
        head_dim: usize,
        scale: f32,
        window: Option<usize>,
        softcap: Option<f32>,
        norm_eps: f32,
        inv_freq: Option<Vector<'_>>,
        interleaved: bool,
        magnitude: f32,
        q_norm: Option<Vector<'_>>,
        k_norm: Option<Vector<'_>>,
    ) -> PyResult<usize> {
        let op = AttentionOp {
            layer,
            shape: AttentionShape { num_heads, num_kv_heads, head_dim, scale, window, softcap },
            norm_eps,
            rope: vector(inv_freq)?.map(|inv_freq| RopeOp { inv_freq, interleaved, magnitude }),
            q_norm: vector(q_norm)?,
            k_norm: vector(k_norm)?,
        };
        recorded(self.inner()?.attention(ValueId(qkv), op))
    }

    fn gated(&mut self, x: usize, activation: &str) -> PyResult<usize> {
        let activation = Activation::from_name(activation)
            .ok_or_else(|| PyValueError::new_err(format!("unknown activation {activation:?}")))?;
        recorded(self.inner()?.gated(ValueId(x), activation))
    }

    fn add(&mut self, x: usize, y: usize) -> PyResult<usize> {
        recorded(self.inner()?.add(ValueId(x), ValueId(y)))
    }

    fn logit_rows(&mut self, x: usize) -> PyResult<usize> {
        recorded(self.inner()?.logit_rows(ValueId(x)))
    }

    fn softcap(&mut self, x: usize, cap: f32) -> PyResult<usize> {
        recorded(self.inner()?.softcap(ValueId(x), cap))
    }

    fn build(
        &mut self,
        runtime: &Runtime,
        output: usize,
        layout: &PyKvLayout,
        max_rows: usize,
    ) -> PyResult<Program> {
        let builder =
            self.0.take().ok_or_else(|| PyValueError::new_err("this program was built already"))?;
        let threads = runtime.pool.num_threads();
        let program = builder.build(ValueId(output), layout.0, max_rows, threads, runtime.isa);
        let program = program.map_err(value_error)?;
        Ok(Program { program, layout: layout.0, times: Mutex::default() })
    }
}

/// A built forward pass.
#[pyclass(frozen)]
pub struct Program {
    program: program::Program,
    layout: KvLayout,
    /// When layers ran, if anybody asked.
    times: Mutex<Option<Vec<LayerTime>>>,
}

/// A sequence that does not attend to everything: its number, selector, epsilon, budget of tokens,
/// dense layers, least context, and whether it is audited.
type SparseRow = (usize, String, f32, usize, usize, usize, bool);

fn sparse_sequence(row: SparseRow) -> PyResult<SparseSequence> {
    let (sequence, name, epsilon, budget_tokens, dense_layers, min_context_tokens, audit) = row;
    let selector = Selector::from_name(&name)
        .ok_or_else(|| PyValueError::new_err(format!("no kernel selects by {name:?}")))?;
    let rule =
        SparseRule { selector, epsilon, budget_tokens, dense_layers, min_context_tokens, audit };
    Ok(SparseSequence { sequence, rule })
}

/// Adds when a run's layers ran to what was noted before.
fn add_times(times: &mut Option<Vec<LayerTime>>, noted: Option<Mutex<Vec<LayerTime>>>) {
    if let (Some(times), Some(noted)) = (times, noted) {
        times.extend(noted.into_inner().unwrap_or_else(|poison| poison.into_inner()));
    }
}

/// Copies what a run has read into the caller's array.
fn fill_report(
    report: Option<PyReadwriteArray4<'_, f32>>,
    read: Option<Mutex<Vec<f32>>>,
) -> PyResult<()> {
    let (Some(mut report), Some(read)) = (report, read) else { return Ok(()) };
    let read = read.into_inner().unwrap_or_else(|poison| poison.into_inner());
    let report = report.as_slice_mut()?;
    if report.len() != read.len() {
        let (got, want) = (report.len(), read.len());
        return Err(value_error(format!("a report of {got} numbers, not of {want}")));
    }
    report.copy_from_slice(&read);
    Ok(())
}

/// A gate that is waited for until a time that all threads share.
struct Until<'a>(&'a artesian_tier::LayerGate, Instant);

impl Gate for Until<'_> {
    fn wait(&self, num_bytes: usize) -> bool {
        self.0.wait(num_bytes, self.1)
    }
}

/// The gates of a batch, all waited for until the same time.
fn until_all<'a>(
    gates: &'a [(usize, PyRef<'_, PyLayerGate>)],
    until: Instant,
) -> Vec<(usize, Until<'a>)> {
    gates.iter().map(|(sequence, gate)| (*sequence, Until(&gate.0, until))).collect()
}

/// As the kernels read them.
fn as_gated<'a>(gates: &'a [(usize, Until<'_>)]) -> Vec<Gated<'a>> {
    gates.iter().map(|(sequence, gate)| Gated { sequence: *sequence, gate }).collect()
}

impl Program {
    /// Address and number of the blocks of an arena.
    ///
    /// No slice is made of it: threads of a tier write, at the same time, blocks that nobody else
    /// has, and those parts of a batch's blocks that its gates have not told of.
    pub fn blocks(&self, arena: &Bound<'_, PyArray1<u8>>) -> PyResult<(usize, usize)> {
        let address = arena.data().addr();
        if !arena.is_contiguous() || !address.is_multiple_of(64) {
            return Err(PyValueError::new_err("the KV arena must be one piece, 64-byte aligned"));
        }
        Ok((address, arena.len() / self.layout.block_bytes()))
    }
}

impl Program {
    /// Its attention layers alone.
    pub fn attention_server(&self) -> AttentionServer {
        self.program.attention_server()
    }

    /// How many these are.
    pub fn num_attention_layers(&self) -> usize {
        self.program.num_attention_layers()
    }
}

#[pymethods]
impl Program {
    /// Columns of the output.
    #[getter]
    fn output_width(&self) -> usize {
        self.program.output_width()
    }

    /// Most rows of a batch.
    #[getter]
    fn max_rows(&self) -> usize {
        self.program.max_rows()
    }

    /// Numbers below which all sublayers are.
    #[getter]
    fn num_sublayers(&self) -> usize {
        self.program.num_sublayers()
    }

    /// Layers, query heads and numbers of each in the report of a sequence of `sparse`.
    #[getter]
    fn report_shape(&self) -> [usize; 3] {
        self.program.report_shape()
    }

    /// Begins, or ends, to note when each layer's attention runs.
    fn set_trace(&self, is_on: bool) {
        *self.times.lock().unwrap_or_else(|poison| poison.into_inner()) = is_on.then(Vec::new);
    }

    /// Layer, and when it was come to, its blocks were there, and it was over, in seconds.
    fn take_trace(&self) -> Vec<(usize, f64, f64, f64)> {
        let mut times = self.times.lock().unwrap_or_else(|poison| poison.into_inner());
        let taken = times.as_mut().map(std::mem::take).unwrap_or_default().into_iter();
        taken.map(|time| (time.layer, time.start_s, time.ready_s, time.end_s)).collect()
    }

    /// Runs a batch; see `artesian.engine.batch.Batch` for its arrays, gates, remotes, pushes and
    /// sparse sequences. Returns the remote sequences whose peers failed. `report`: f32
    /// (len(sparse), *report_shape).
    #[pyo3(signature = (
        runtime, tokens, positions, row_starts, context_lens, block_tables, logit_rows, arena, out,
        gates=Vec::new(), timeout_s=0.0, remotes=Vec::new(), pushes=Vec::new(), skips=Vec::new(),
        probe=None, sparse=Vec::new(), report=None
    ))]
    fn run(
        &self,
        py: Python<'_>,
        runtime: &Runtime,
        tokens: PyReadonlyArray1<'_, i32>,
        positions: PyReadonlyArray1<'_, i32>,
        row_starts: PyReadonlyArray1<'_, i32>,
        context_lens: PyReadonlyArray1<'_, i32>,
        block_tables: PyReadonlyArray2<'_, i32>,
        logit_rows: PyReadonlyArray1<'_, i32>,
        arena: Bound<'_, PyArray1<u8>>,
        mut out: PyReadwriteArray2<'_, f32>,
        gates: Vec<(usize, PyRef<'_, PyLayerGate>)>,
        timeout_s: f64,
        remotes: Vec<RemoteRows<'_>>,
        pushes: Vec<Pushed<'_>>,
        skips: Vec<Skipped>,
        mut probe: Option<PyReadwriteArray3<'_, f32>>,
        sparse: Vec<SparseRow>,
        report: Option<PyReadwriteArray4<'_, f32>>,
    ) -> PyResult<Vec<usize>> {
        let sparse: Vec<_> = sparse.into_iter().map(sparse_sequence).collect::<PyResult<_>>()?;
        let batch = BatchView {
            tokens: tokens.as_slice()?,
            positions: positions.as_slice()?,
            row_starts: row_starts.as_slice()?,
            context_lens: context_lens.as_slice()?,
            block_tables: block_tables.as_slice()?,
            table_stride: block_tables.as_array().ncols(),
            logit_rows: logit_rows.as_slice()?,
            sparse: &sparse,
        };
        let ((address, num_blocks), out) = (self.blocks(&arena)?, out.as_slice_mut()?);
        let (measured, measures) = probe_for(&mut probe)?;
        let timeout = Duration::try_from_secs_f64(timeout_s).map_err(value_error)?;
        let gates = until_all(&gates, Instant::now() + timeout);
        let writers = writers(&pushes);
        // Peers prepare for the step while the program comes to its first attention.
        let steps = begin_all(&remotes)?;
        let mut times = self.times.lock().unwrap_or_else(|poison| poison.into_inner());
        let noted = times.is_some().then(Mutex::default);
        let read = report.is_some().then(Mutex::default);
        let failed = py
            .detach(|| {
                let gates = as_gated(&gates);
                let (remotes, pushes) = (as_remotes(&steps), as_pushes(&writers));
                let skips = as_skips(&skips);
                let aside = Aside {
                    gates: &gates,
                    remotes: &remotes,
                    pushes: &pushes,
                    skips: &skips,
                    probe: measures.as_ref(),
                    times: noted.as_ref(),
                    report: read.as_ref(),
                };
                let arena = address as *mut u8;
                // SAFETY: the array holds `num_blocks` whole blocks and outlives the call. Only the
                // engine writes to them, through here, the threads of tiers, which keep to gates,
                // and an executor, which keeps to blocks that the engine has given it.
                unsafe { self.program.run(&runtime.pool, batch, aside, arena, num_blocks, out) }
            })
            .map_err(value_error)?;
        if let (Some(into), Some(probe)) = (measured, measures) {
            into.copy_from_slice(&probe.into_values());
        }
        add_times(&mut times, noted);
        fill_report(report, read)?;
        Ok(failed)
    }

    /// Copies block `from[i]` to `to[i]` for tokens that stand `delta` positions further on.
    fn turn(
        &self,
        py: Python<'_>,
        runtime: &Runtime,
        arena: Bound<'_, PyArray1<u8>>,
        from_blocks: PyReadonlyArray1<'_, i32>,
        to_blocks: PyReadonlyArray1<'_, i32>,
        delta: i32,
    ) -> PyResult<()> {
        let (address, num_blocks) = self.blocks(&arena)?;
        let (from, to) = (from_blocks.as_slice()?, to_blocks.as_slice()?);
        py.detach(|| {
            // SAFETY: the array holds `num_blocks` whole blocks and outlives the call. Only the
            // engine writes to these, through here; what tiers write are others.
            unsafe {
                self.program.turn(&runtime.pool, address as *mut u8, num_blocks, from, to, delta)
            }
        })
        .map_err(value_error)
    }
}
