//! Attention by peers: the executor beside an engine, and connections to those of others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use artesian_bus::shm::ShmVerbs;
use artesian_bus::Verbs;
use artesian_kernels::program::{Remote, RemoteAttention, Rows, RowsMut};
use artesian_peer::exchange::{
    self, mailboxes, Client, ConnectOptions, ExchangeError, ExchangeShape, Executor,
    ExecutorOptions, Links, Patience, RemoteRow, RemoteRun, Timing,
};
use artesian_peer::region::Region;
use numpy::{PyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::peer::{fault as peer_fault, KvRegion};
use crate::program::Program;
use crate::runtime::Runtime;

/// Rows of slot, generation and position.
const ROW: usize = 3;

fn fault(error: ExchangeError) -> PyErr {
    match error {
        ExchangeError::Shape(_) => PyValueError::new_err(error.to_string()),
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

fn nanos(seconds: f64) -> PyResult<u64> {
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// The mailboxes of a worker's region.
#[pyclass(frozen)]
pub struct Exchange {
    region: Arc<Region>,
    links: Arc<Mutex<Links>>,
}

fn shape(
    num_clients: usize,
    num_links: usize,
    max_rows: usize,
    qkv_width: usize,
    out_width: usize,
) -> PyResult<ExchangeShape> {
    let shape = ExchangeShape { num_clients, num_links, max_rows, qkv_width, out_width };
    shape.check().map_err(fault)?;
    Ok(shape)
}

#[pymethods]
impl Exchange {
    /// Makes the boxes in the mailboxes of `region`, which this process has made.
    #[new]
    fn new(
        region: &KvRegion,
        num_clients: usize,
        num_links: usize,
        max_rows: usize,
        qkv_width: usize,
        out_width: usize,
    ) -> PyResult<Exchange> {
        let shape = shape(num_clients, num_links, max_rows, qkv_width, out_width)?;
        let region = region.get()?;
        let boxes = mailboxes(&region);
        let num_bytes = region.shape().mailbox_bytes;
        exchange::format(&boxes.verbs, boxes.base, num_bytes, shape).map_err(fault)?;
        Ok(Exchange { region, links: Arc::new(Mutex::new(Links::new(num_links))) })
    }

    /// Bytes of mailboxes that such an exchange needs.
    #[staticmethod]
    fn num_bytes(
        num_clients: usize,
        num_links: usize,
        max_rows: usize,
        qkv_width: usize,
        out_width: usize,
    ) -> PyResult<u64> {
        Ok(shape(num_clients, num_links, max_rows, qkv_width, out_width)?.num_bytes())
    }

    /// Connects with the executor that serves in the region called `peer`.
    #[pyo3(signature = (program, peer, generation=0, timeout_s=1.0, spin_s=50e-6, yield_s=0.0))]
    fn connect(
        &self,
        py: Python<'_>,
        program: &Program,
        peer: &str,
        generation: u64,
        timeout_s: f64,
        spin_s: f64,
        yield_s: f64,
    ) -> PyResult<PyRemoteAttention> {
        let own = self.region.shape();
        let timeout_ns = nanos(timeout_s)?;
        let Some(link) = self.links.lock().take() else {
            return Err(PyRuntimeError::new_err("all links to executors are in use"));
        };
        let plan = Plan {
            link,
            generation,
            num_layers: program.num_attention_layers(),
            patience: Patience { spin_ns: nanos(spin_s)?, yield_ns: nanos(yield_s)? },
        };
        let connected = py.detach(|| {
            let far = Region::open(peer, own.block_bytes, own.fingerprint).map_err(peer_fault)?;
            let (here, there) = (mailboxes(&self.region), mailboxes(&far));
            let timing = Timing::within(&here.verbs, timeout_ns);
            let client = Client::connect(here, there, &plan.options(&self.region), timing);
            Ok((client, far))
        });
        let (client, far) = connected.inspect_err(|_: &PyErr| self.links.lock().give_back(link))?;
        match client {
            Ok(client) => Ok(PyRemoteAttention {
                client: Some(Mutex::new(client)),
                region: Arc::clone(&self.region),
                links: Arc::clone(&self.links),
                far: Arc::new(far),
                plan,
            }),
            Err(error) => {
                keep(&self.links, link, Arc::new(far));
                Err(fault(error))
            }
        }
    }
}

/// Lends an answer box to nobody while the peer may write to it.
fn keep(links: &Mutex<Links>, link: usize, far: Arc<Region>) {
    let can_write = move || !far.is_lost() && far.connect().is_alive(far.owner());
    links.lock().keep(link, Box::new(can_write));
}

/// What a connection is made with.
struct Plan {
    link: usize,
    generation: u64,
    num_layers: usize,
    patience: Patience,
}

impl Plan {
    fn options<'a>(&self, region: &'a Region) -> ConnectOptions<'a> {
        ConnectOptions {
            region: region.name(),
            link: self.link,
            generation: self.generation,
            num_layers: self.num_layers,
            fingerprint: region.shape().fingerprint,
            patience: self.patience,
        }
    }
}

/// A connection to a peer's executor.
#[pyclass(frozen, name = "RemoteAttention")]
pub struct PyRemoteAttention {
    /// There until it is dropped.
    client: Option<Mutex<Client<ShmVerbs>>>,
    region: Arc<Region>,
    links: Arc<Mutex<Links>>,
    far: Arc<Region>,
    plan: Plan,
}

/// One run of a program, by a connection or, where there is none any more, by nobody.
pub enum RemoteStep<'a> {
    Run(RemoteRun<'a, ShmVerbs>),
    Broken,
}

impl RemoteAttention for RemoteStep<'_> {
    fn send(&self, layer: usize, qkv: Rows<'_>) -> bool {
        matches!(self, RemoteStep::Run(run) if run.send(layer, qkv))
    }

    fn receive(&self, layer: usize, out: RowsMut<'_>) -> bool {
        matches!(self, RemoteStep::Run(run) if run.receive(layer, out))
    }

    fn refused(&self) -> Vec<usize> {
        match self {
            RemoteStep::Run(run) => run.refused(),
            RemoteStep::Broken => Vec::new(),
        }
    }
}

impl PyRemoteAttention {
    fn client(&self) -> &Mutex<Client<ShmVerbs>> {
        self.client.as_ref().expect("it is there until it is dropped")
    }

    /// Names the rows of a run.
    fn begin(&self, rows: &[RemoteRow], timeout_s: f64) -> PyResult<RemoteStep<'_>> {
        let timing = Timing::within(self.client().lock().verbs(), nanos(timeout_s)?);
        let run = RemoteRun::begin(self.client(), rows, timing);
        Ok(run.map_or(RemoteStep::Broken, RemoteStep::Run))
    }
}

/// A connection, (num_rows, 3) slots, generations and positions for it, and seconds to wait in all.
pub type RemoteRows<'py> = (PyRef<'py, PyRemoteAttention>, PyReadonlyArray2<'py, u32>, f64);

/// Names the rows of a run to all its peers: how many each has.
pub fn begin_all<'a>(remotes: &'a [RemoteRows<'_>]) -> PyResult<Vec<(usize, RemoteStep<'a>)>> {
    let mut steps = Vec::with_capacity(remotes.len());
    for (remote, rows, timeout_s) in remotes {
        let rows = rows_of(rows)?;
        steps.push((rows.len(), remote.begin(&rows, *timeout_s)?));
    }
    Ok(steps)
}

/// As programs take them.
pub fn as_remotes<'a>(steps: &'a [(usize, RemoteStep<'_>)]) -> Vec<Remote<'a>> {
    let remote = |(num_sequences, step): &'a (usize, RemoteStep<'_>)| Remote {
        num_sequences: *num_sequences,
        attention: step,
    };
    steps.iter().map(remote).collect()
}

/// The rows of a (num_rows, 3) array of slots, generations and positions.
fn rows_of(rows: &PyReadonlyArray2<'_, u32>) -> PyResult<Vec<RemoteRow>> {
    if rows.shape()[1] != ROW {
        return Err(PyValueError::new_err(format!(
            "remote rows have {ROW} columns, not {}",
            rows.shape()[1]
        )));
    }
    let row = |row: &[u32; ROW]| RemoteRow { slot: row[0], generation: row[1], position: row[2] };
    Ok(rows.as_slice()?.as_chunks().0.iter().map(row).collect())
}

#[pymethods]
impl PyRemoteAttention {
    /// Whether a step failed, so that it must connect again.
    #[getter]
    fn is_broken(&self) -> bool {
        self.client().lock().is_broken()
    }

    /// Whether the executor, as far as can be seen, still serves.
    #[getter]
    fn is_alive(&self) -> bool {
        self.client().lock().is_alive()
    }

    /// Rows of a step at most.
    #[getter]
    fn max_rows(&self) -> usize {
        self.client().lock().max_rows()
    }

    /// Connects again after a failure, to the same executor.
    fn reconnect(&self, py: Python<'_>, timeout_s: f64) -> PyResult<()> {
        let timeout_ns = nanos(timeout_s)?;
        py.detach(|| {
            let mut client = self.client().lock();
            let timing = Timing::within(client.verbs(), timeout_ns);
            client.reconnect(&self.plan.options(&self.region), timing)
        })
        .map_err(fault)
    }

    /// What was counted so far, by name.
    fn stats(&self) -> HashMap<&'static str, u64> {
        let stats = self.client().lock().stats();
        HashMap::from([
            ("num_steps", stats.num_steps),
            ("num_messages", stats.num_messages),
            ("num_rows", stats.num_rows),
            ("num_bytes", stats.num_bytes),
            ("round_trip_ns", stats.round_trip_ns),
            ("wait_ns", stats.wait_ns),
            ("num_failures", stats.num_failures),
        ])
    }
}

impl Drop for PyRemoteAttention {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let is_quiet = client.lock().is_quiet();
        drop(client);
        if is_quiet {
            self.links.lock().give_back(self.plan.link);
        } else {
            keep(&self.links, self.plan.link, Arc::clone(&self.far));
        }
    }
}

/// Threads that attend for peers over the arena of this process.
#[pyclass(frozen)]
pub struct AttentionExecutor {
    executor: Mutex<Option<Executor>>,
    /// Keeps the memory.
    _arena: Py<PyArray1<u8>>,
}

impl AttentionExecutor {
    fn with<T>(&self, use_it: impl FnOnce(&Executor) -> T) -> PyResult<T> {
        let executor = self.executor.lock();
        let executor = executor.as_ref();
        executor.map(use_it).ok_or_else(|| PyRuntimeError::new_err("the executor was closed"))
    }
}

#[pymethods]
impl AttentionExecutor {
    /// Serves in the mailboxes of `exchange`, over `arena`; `runtime` is the engine's.
    #[new]
    #[pyo3(signature = (
        exchange, runtime, program, arena, generation, num_slots, num_threads=1, share=1.0,
        spin_s=10e-6, yield_s=0.0, nice=None, slice_s=0.0
    ))]
    fn new(
        exchange: &Exchange,
        runtime: &Runtime,
        program: &Program,
        arena: Bound<'_, PyArray1<u8>>,
        generation: u64,
        num_slots: usize,
        num_threads: usize,
        share: f64,
        spin_s: f64,
        yield_s: f64,
        nice: Option<i32>,
        slice_s: f64,
    ) -> PyResult<AttentionExecutor> {
        if generation == 0 || !(1..=64).contains(&num_threads) || !(share > 0.0 && share <= 1.0) {
            return Err(PyValueError::new_err(format!(
                "an executor of generation {generation} with {num_threads} threads and a share of \
                 {share}: it takes a generation from 1, 1 to 64 threads, and a share above 0 and \
                 up to 1"
            )));
        }
        let (address, num_blocks) = program.blocks(&arena)?;
        let options = ExecutorOptions {
            generation,
            fingerprint: exchange.region.shape().fingerprint,
            num_slots,
            num_threads,
            share,
            patience: Patience { spin_ns: nanos(spin_s)?, yield_ns: nanos(yield_s)? },
            nice,
            slice_ns: nanos(slice_s)?,
        };
        let pool = Arc::clone(&runtime.pool);
        // SAFETY: the arena is kept by this object, whose executor ends before it. The engine
        // writes no blocks of residents: it has admitted them, and releases them first.
        let executor = unsafe {
            Executor::start(
                Arc::clone(&exchange.region),
                program.attention_server(),
                address as *mut u8,
                num_blocks,
                Box::new(move || pool.is_busy()),
                options,
            )
        };
        let executor = Mutex::new(Some(executor.map_err(fault)?));
        Ok(AttentionExecutor { executor, _arena: arena.unbind() })
    }

    /// Takes a sequence of whose tokens the first `num_tokens` are in `blocks`: slot, generation.
    fn admit(&self, py: Python<'_>, blocks: Vec<i32>, num_tokens: usize) -> PyResult<(u32, u32)> {
        let admit = |executor: &Executor| executor.residents().admit(&blocks, num_tokens);
        py.detach(|| self.with(admit))?.map_err(fault)
    }

    /// Gives a sequence more blocks.
    fn extend(&self, py: Python<'_>, slot: u32, generation: u32, blocks: Vec<i32>) -> PyResult<()> {
        let extend = |executor: &Executor| executor.residents().extend(slot, generation, &blocks);
        py.detach(|| self.with(extend))?.map_err(fault)
    }

    /// Lets a sequence go; whether it was there. Its blocks are not touched behind that.
    fn release(&self, py: Python<'_>, slot: u32, generation: u32) -> PyResult<bool> {
        py.detach(|| self.with(|executor| executor.residents().release(slot, generation)))
    }

    /// Tokens whose keys and values a sequence has; None: it is not there.
    fn num_tokens(&self, slot: u32, generation: u32) -> PyResult<Option<usize>> {
        self.with(|executor| executor.residents().num_tokens(slot, generation))
    }

    /// Changes the share of the time while the engine works.
    fn set_share(&self, share: f64) -> PyResult<()> {
        self.with(|executor| executor.set_share(share))
    }

    /// Whether its thread runs.
    #[getter]
    fn is_alive(&self) -> bool {
        self.with(Executor::is_alive).unwrap_or(false)
    }

    /// What it has done so far, by name.
    fn stats(&self) -> PyResult<HashMap<&'static str, u64>> {
        let stats = self.with(Executor::stats)?;
        let desk = stats.desk;
        Ok(HashMap::from([
            ("num_clients", desk.num_clients),
            ("num_steps", desk.num_steps),
            ("num_answers", desk.num_answers),
            ("num_rows", desk.num_rows),
            ("num_refused", desk.num_refused),
            ("num_late", desk.num_late),
            ("num_dead", desk.num_dead),
            ("num_turned_away", desk.num_turned_away),
            ("cpu_ns", stats.cpu_ns),
            ("busy_ns", stats.busy_ns),
            ("paused_ns", stats.paused_ns),
            ("kv_bytes", stats.kv_bytes),
            ("plan_hits", stats.plan_hits),
            ("plan_misses", stats.plan_misses),
            ("padding_rows", stats.padding_rows),
            ("num_residents", stats.num_residents as u64),
        ]))
    }

    /// Ends it, within a layer's time; clients see that it is gone.
    fn close(&self, py: Python<'_>) {
        let executor = self.executor.lock().take();
        py.detach(|| drop(executor));
    }
}
