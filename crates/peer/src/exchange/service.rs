//! Attention over an arena, by the kernels of the engine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use artesian_kernels::program::{AttentionServer, Rows, RowsMut, ServedStep};
use artesian_kernels::threads::ThreadPool;

use super::residents::Residents;
use super::sched::thread_cpu_ns;
use super::{RemoteRow, RowSet, Service};

/// Rows for which a step's memory is made at least, and by how many more at a time.
const ROWS_INTERVAL: usize = 4;

/// What attending took.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Processor time of the executor's first thread.
    pub cpu_ns: AtomicU64,
    /// Time that went by meanwhile.
    pub busy_ns: AtomicU64,
    pub kv_bytes: AtomicU64,
    /// Steps that fitted the memory of an earlier one, and those that did not.
    pub plan_hits: AtomicU64,
    pub plan_misses: AtomicU64,
    /// Rows of memory that steps did not use.
    pub padding_rows: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The arena's address.
#[derive(Clone, Copy)]
pub(super) struct Arena(pub *mut u8);

// SAFETY: an address; those who follow it answer for it.
unsafe impl Send for Arena {}

/// A client's step.
#[derive(Default)]
struct ClientStep {
    step: ServedStep,
    rows: Vec<RemoteRow>,
    /// Of the rows that are served: their places among all.
    members: Vec<usize>,
    positions: Vec<i32>,
    tables: Vec<i32>,
    /// Rows that the memory has room for.
    bucket: usize,
    kv_bytes: usize,
}

/// Serves the residents of an arena.
pub(super) struct ArenaService {
    server: AttentionServer,
    residents: Arc<Residents>,
    pool: ThreadPool,
    arena: Arena,
    steps: Vec<ClientStep>,
    counts: Arc<Counts>,
    /// Served rows, when some are refused.
    qkv: Vec<f32>,
    out: Vec<f32>,
}

impl ArenaService {
    /// # Safety
    /// As long as this lives, `arena` is the memory of `residents`' blocks of the server's layout,
    /// 64-byte aligned, and nobody else writes the blocks of residents.
    pub unsafe fn new(
        server: AttentionServer,
        residents: Arc<Residents>,
        num_threads: usize,
        arena: Arena,
        counts: Arc<Counts>,
    ) -> ArenaService {
        let (steps, qkv, out) = Default::default();
        let pool = ThreadPool::new(num_threads);
        ArenaService { server, residents, pool, arena, steps, counts, qkv, out }
    }
}

impl ClientStep {
    /// Chooses the rows that can be served; the others go to `refused`.
    fn choose(&mut self, residents: &Residents, rows: &[RemoteRow], refused: &mut RowSet) -> usize {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.members.clear();
        self.positions.clear();
        let mut table = residents.lock();
        let mut stride = 0;
        for (index, &row) in rows.iter().enumerate() {
            // Two rows of a sequence cannot both be its next token.
            let is_again = rows[..index].iter().any(|other| other.slot == row.slot);
            match table.blocks_of(row).filter(|_| !is_again) {
                Some(blocks) => {
                    self.members.push(index);
                    self.positions.push(row.position as i32);
                    stride = stride.max(blocks.len());
                }
                None => refused.insert(index),
            }
        }
        self.tables.clear();
        self.tables.resize(self.members.len() * stride, 0);
        for (line, &index) in self.tables.chunks_exact_mut(stride.max(1)).zip(&self.members) {
            let blocks = table.blocks_of(rows[index]).expect("it was there, under this lock");
            line[..blocks.len()].copy_from_slice(blocks);
        }
        stride
    }

    /// Which of the served rows' sequences are not there any more.
    fn gone(&self, residents: &Residents, refused: &mut RowSet) -> Vec<usize> {
        let mut table = residents.lock();
        let mut gone = Vec::new();
        for (number, &index) in self.members.iter().enumerate() {
            if !table.has(self.rows[index]) {
                refused.insert(index);
                gone.push(number);
            }
        }
        gone
    }

    fn count(&mut self, counts: &Counts) {
        let bucket = self.rows.len().next_multiple_of(ROWS_INTERVAL);
        if bucket > self.bucket {
            self.bucket = bucket;
            add(&counts.plan_misses, 1);
        } else {
            add(&counts.plan_hits, 1);
        }
        add(&counts.padding_rows, (self.bucket - self.rows.len()) as u64);
    }
}

impl Service for ArenaService {
    fn num_layers(&self) -> usize {
        self.server.num_layers()
    }

    fn widths(&self, place: usize) -> (usize, usize) {
        (self.server.qkv_width(place), self.server.out_width(place))
    }

    fn begin(&mut self, client: usize, rows: &[RemoteRow], refused: &mut RowSet) {
        if self.steps.len() <= client {
            self.steps.resize_with(client + 1, ClientStep::default);
        }
        let step = &mut self.steps[client];
        let stride = step.choose(&self.residents, rows, refused);
        step.count(&self.counts);
        let prepared = self.server.prepare(
            &mut step.step,
            &step.positions,
            &step.tables,
            stride,
            self.residents.num_blocks(),
            self.pool.num_threads(),
        );
        if prepared.is_err() {
            step.members.iter().for_each(|&index| refused.insert(index));
            step.members.clear();
        }
        step.kv_bytes = if step.members.is_empty() {
            0
        } else {
            self.server.num_kv_bytes(&step.step) / self.server.num_layers()
        };
    }

    fn attend(
        &mut self,
        client: usize,
        place: usize,
        qkv: &[f32],
        out: &mut [f32],
        refused: &mut RowSet,
    ) {
        let step = &mut self.steps[client];
        if step.members.is_empty() {
            return;
        }
        let (qkv_width, out_width) = (self.server.qkv_width(place), self.server.out_width(place));
        let (start, cpu_start) = (std::time::Instant::now(), thread_cpu_ns());
        // The blocks stay those of the residents that are there now.
        let attending = self.residents.attend();
        let skip = step.gone(&self.residents, refused);
        let is_whole = step.members.len() == step.rows.len();
        if !is_whole {
            self.qkv.clear();
            let row = |&index: &usize| &qkv[index * qkv_width..(index + 1) * qkv_width];
            step.members.iter().for_each(|index| self.qkv.extend_from_slice(row(index)));
            self.out.resize(step.members.len() * out_width, 0.0);
        }
        let (from, to) =
            if is_whole { (qkv, &mut *out) } else { (&self.qkv[..], &mut self.out[..]) };
        // SAFETY: whoever made this promised it for the residents, which rows to skip are not.
        unsafe {
            self.server.attend(
                &step.step,
                &self.pool,
                place,
                &skip,
                Rows::new(from, qkv_width),
                RowsMut::new(to, out_width),
                self.arena.0,
            );
        }
        if place + 1 == self.server.num_layers() {
            let mut table = self.residents.lock();
            step.members.iter().for_each(|&index| table.stored(step.rows[index]));
        }
        drop(attending);
        if !is_whole {
            for (&index, row) in step.members.iter().zip(self.out.chunks_exact(out_width)) {
                out[index * out_width..][..out_width].copy_from_slice(row);
            }
        }
        add(&self.counts.cpu_ns, thread_cpu_ns().saturating_sub(cpu_start));
        add(&self.counts.busy_ns, start.elapsed().as_nanos() as u64);
        add(&self.counts.kv_bytes, step.kv_bytes as u64);
    }

    fn end(&mut self, client: usize) {
        if let Some(step) = self.steps.get_mut(client) {
            step.members.clear();
        }
    }
}
