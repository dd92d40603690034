//! Weights, and recording and running a model's forward pass.

use std::sync::Arc;

use artesian_kernels::attention::AttentionShape;
use artesian_kernels::float::FloatLinear;
use artesian_kernels::gguf::Format;
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::linear::{round_to_int8, QuantLinear};
use artesian_kernels::program::{
    self, Activation, AttentionOp, BatchView, ProgramError, RopeOp, SharedWeight, ValueId,
};
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray1, PyReadwriteArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::runtime::Runtime;

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
pub struct PyKvLayout(KvLayout);

#[pymethods]
impl PyKvLayout {
    #[new]
    fn new(
        num_layers: usize,
        num_kv_heads: usize,
        head_dim: usize,
        block_size_tokens: usize,
        dtype: &str,
    ) -> PyResult<PyKvLayout> {
        let dtype = KvDtype::from_name(dtype)
            .ok_or_else(|| PyValueError::new_err(format!("unknown KV dtype {dtype:?}")))?;
        let layout = KvLayout::new(num_layers, num_kv_heads, head_dim, block_size_tokens, dtype);
        Ok(PyKvLayout(layout.map_err(value_error)?))
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
        Ok(Program { program: program.map_err(value_error)?, layout: layout.0 })
    }
}

/// A built forward pass.
#[pyclass(frozen)]
pub struct Program {
    program: program::Program,
    layout: KvLayout,
}

impl Program {
    /// Address and number of the blocks of an arena.
    fn blocks(&self, arena: &mut [u8]) -> PyResult<(usize, usize)> {
        if !arena.as_ptr().addr().is_multiple_of(64) {
            return Err(PyValueError::new_err("the KV arena must be 64-byte aligned"));
        }
        Ok((arena.as_mut_ptr().addr(), arena.len() / self.layout.block_bytes()))
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

    /// Runs a batch; see `artesian.engine.batch.Batch` for its arrays.
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
        mut arena: PyReadwriteArray1<'_, u8>,
        mut out: PyReadwriteArray2<'_, f32>,
    ) -> PyResult<()> {
        let batch = BatchView {
            tokens: tokens.as_slice()?,
            positions: positions.as_slice()?,
            row_starts: row_starts.as_slice()?,
            context_lens: context_lens.as_slice()?,
            block_tables: block_tables.as_slice()?,
            table_stride: block_tables.as_array().ncols(),
            logit_rows: logit_rows.as_slice()?,
        };
        let (address, num_blocks) = self.blocks(arena.as_slice_mut()?)?;
        let out = out.as_slice_mut()?;
        py.detach(|| {
            // SAFETY: the arena is exclusively borrowed for the call and holds `num_blocks` whole
            // blocks.
            unsafe { self.program.run(&runtime.pool, batch, address as *mut u8, num_blocks, out) }
        })
        .map_err(value_error)
    }

    /// Copies block `from[i]` to `to[i]` for tokens that stand `delta` positions further on.
    fn turn(
        &self,
        py: Python<'_>,
        runtime: &Runtime,
        mut arena: PyReadwriteArray1<'_, u8>,
        from_blocks: PyReadonlyArray1<'_, i32>,
        to_blocks: PyReadonlyArray1<'_, i32>,
        delta: i32,
    ) -> PyResult<()> {
        let (address, num_blocks) = self.blocks(arena.as_slice_mut()?)?;
        let (from, to) = (from_blocks.as_slice()?, to_blocks.as_slice()?);
        py.detach(|| {
            // SAFETY: the arena is exclusively borrowed for the call and holds `num_blocks` whole
            // blocks.
            unsafe {
                self.program.turn(&runtime.pool, address as *mut u8, num_blocks, from, to, delta)
            }
        })
        .map_err(value_error)
    }
}
