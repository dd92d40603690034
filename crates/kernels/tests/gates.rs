//! Programs whose sequences' keys and values arrive, or leave, while they run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artesian_kernels::attention::AttentionShape;
use artesian_kernels::buffer::Buffer;
use artesian_kernels::float::FloatLinear;
use artesian_kernels::gguf::Format;
use artesian_kernels::isa::{available, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::program::{
    Aside, AttentionOp, BatchView, Gate, Gated, LayerSink, Program, ProgramBuilder, Push, RopeOp,
    SharedWeight, Weight,
};
use artesian_kernels::threads::ThreadPool;

const VOCAB: usize = 50;
const WIDTH: usize = 64;
const HEAD_DIM: usize = 32;
const LAYERS: usize = 4;
const BLOCK: usize = 32;
const NUM_THREADS: usize = 3;
/// Blocks of the first sequence's history, which come while the program runs.
const COMING: usize = 9;
const NUM_BLOCKS: usize = 16;

/// xorshift64*, enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
}

struct Bench {
    pool: ThreadPool,
    program: Program,
    layout: KvLayout,
    arena: Buffer<u8>,
}

impl Bench {
    fn new(isa: Isa, dtype: KvDtype) -> Bench {
        let pool = ThreadPool::new(NUM_THREADS);
        let mut random = Random(7);
        let mut weight = |rows: usize, cols: usize| -> SharedWeight {
            let value = |_| (random.next() as f64 / (1u64 << 52) as f64 - 1.0) as f32 * 0.2;
            let bytes: Vec<u8> =
                (0..rows * cols).map(value).flat_map(|value| value.to_le_bytes()).collect();
            let packed = FloatLinear::pack(&pool, isa, Format::F32, &bytes, rows, cols);
            Arc::new(Weight::Float(packed.unwrap()))
        };
        let shape = AttentionShape {
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: HEAD_DIM,
            scale: 0.2,
            window: None,
            softcap: None,
        };
        let mut builder = ProgramBuilder::new();
        let mut x = builder.embed(weight(VOCAB, WIDTH), 1.0);
        for layer in 0..LAYERS {
            let normed = builder.rms_norm(x, vec![1.0; WIDTH], 1e-5, None).unwrap();
            let qkv = builder.linear(normed, vec![weight(4 * HEAD_DIM, WIDTH)], None, None);
            let inv_freq = (0..HEAD_DIM / 2).map(|i| 0.5f32.powi(i as i32)).collect();
            let rope = Some(RopeOp { inv_freq, interleaved: false, magnitude: 1.0 });
            let (q_norm, k_norm) = (None, None);
            let op = AttentionOp { layer, shape, norm_eps: 1e-5, rope, q_norm, k_norm };
            let attended = builder.attention(qkv.unwrap(), op).unwrap();
            let part = weight(WIDTH, 2 * HEAD_DIM);
            x = builder.linear(attended, vec![part], None, Some(x)).unwrap();
        }
        let rows = builder.logit_rows(x).unwrap();
        let logits = builder.linear(rows, vec![weight(VOCAB, WIDTH)], None, None).unwrap();
        let layout = KvLayout::new(LAYERS, 1, HEAD_DIM, BLOCK, dtype).unwrap();
        let program = builder.build(logits, layout, 512, NUM_THREADS, isa).unwrap();
        let arena = Buffer::<u8>::zeroed(NUM_BLOCKS * layout.block_bytes());
        Bench { pool, program, layout, arena }
    }

    /// Computes rows of sequences, each with (first position, tokens, blocks).
    fn run(&self, sequences: &[(usize, usize, &[i32])], gates: &[Gated<'_>]) -> Vec<f32> {
        self.run_aside(sequences, Aside { gates, ..Aside::default() })
    }

    fn run_aside(&self, sequences: &[(usize, usize, &[i32])], aside: Aside<'_>) -> Vec<f32> {
        let (mut tokens, mut positions, mut logit_rows) = (vec![], vec![], vec![]);
        let (mut row_starts, mut context_lens) = (vec![0], vec![]);
        let stride = sequences.iter().map(|sequence| sequence.2.len()).max().unwrap();
        let mut block_tables = vec![];
        for &(first, count, blocks) in sequences {
            for position in first..first + count {
                tokens.push(((position * 13 + blocks[0] as usize * 5) % VOCAB) as i32);
                positions.push(position as i32);
            }
            logit_rows.push(tokens.len() as i32 - 1);
            row_starts.push(tokens.len() as i32);
            context_lens.push((first + count) as i32);
            block_tables.extend(blocks);
            block_tables.resize(context_lens.len() * stride, 0);
        }
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &block_tables,
            table_stride: stride,
            logit_rows: &logit_rows,
            sparse: &[],
        };
        let times = Mutex::new(Vec::new());
        let aside = Aside { times: Some(&times), ..aside };
        let mut out = vec![0.0; sequences.len() * VOCAB];
        // SAFETY: the arena has the blocks; what others write of them the gates have not told of.
        let ran = unsafe {
            self.program.run(
                &self.pool,
                batch,
                aside,
                self.arena.as_ptr_mut(),
                NUM_BLOCKS,
                &mut out,
            )
        };
        ran.unwrap();
        let times = times.into_inner().unwrap();
        assert_eq!(times.iter().map(|time| time.layer).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(times.iter().all(|t| t.start_s <= t.ready_s && t.ready_s <= t.end_s));
        out
    }
}

/// Opens as layers come, or says no from some call on.
struct TestGate {
    layer_bytes: usize,
    ready: AtomicUsize,
    calls: AtomicUsize,
    most_calls: usize,
}

impl TestGate {
    fn new(layer_bytes: usize, ready: usize, most_calls: usize) -> TestGate {
        let (ready, calls) = (AtomicUsize::new(ready), AtomicUsize::new(0));
        TestGate { layer_bytes, ready, calls, most_calls }
    }
}

impl Gate for TestGate {
    fn wait(&self, num_bytes: usize) -> bool {
        if self.calls.fetch_add(1, Ordering::AcqRel) >= self.most_calls {
            return false;
        }
        while self.ready.load(Ordering::Acquire) * self.layer_bytes < num_bytes {
            std::thread::yield_now();
        }
        true
    }
}

const A: [i32; 10] = [3, 7, 1, 12, 9, 4, 14, 5, 0, 10];
const B: [i32; 2] = [2, 6];
const NEW: [(usize, usize, &[i32]); 2] = [(COMING * BLOCK, 17, &A), (40, 5, &B)];

/// With both histories computed: the right logits, and all bytes of the arena before.
fn expected(bench: &Bench) -> (Vec<f32>, Vec<u8>) {
    bench.run(&[(0, COMING * BLOCK, &A), (0, 40, &B)], &[]);
    let before = bench.arena.as_slice().to_vec();
    (bench.run(&NEW, &[]), before)
}

/// Takes the first sequence's history away: not a number everywhere.
fn spoil(bench: &Bench, before: &[u8]) {
    let block_bytes = bench.layout.block_bytes();
    for (at, &byte) in before.iter().enumerate() {
        let is_coming = A[..COMING].contains(&((at / block_bytes) as i32));
        // SAFETY: inside of the arena, which nobody uses now.
        unsafe { *bench.arena.as_ptr_mut().add(at) = if is_coming { 255 } else { byte } };
    }
}

#[test]
fn layers_that_come_while_it_runs_are_waited_for() {
    for isa in available() {
        for (seed, dtype) in [(1, KvDtype::F32), (2, KvDtype::F16), (3, KvDtype::Bf16)] {
            let bench = Bench::new(isa, dtype);
            let (right, before) = expected(&bench);
            let mut random = Random(seed);
            for _ in 0..6 {
                spoil(&bench, &before);
                let gate = TestGate::new(bench.layout.layer_bytes(), 0, usize::MAX);
                let delays: Vec<u64> = (0..LAYERS).map(|_| random.next() % 3_000).collect();
                let base = bench.arena.as_ptr_mut().addr();
                let found = std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for (layer, &delay) in delays.iter().enumerate() {
                            std::thread::sleep(Duration::from_micros(delay));
                            for block in &A[..COMING] {
                                let start = *block as usize * bench.layout.block_bytes();
                                let range = bench.layout.layer_range(layer);
                                let from = &before[start..][range.clone()];
                                let to = (base + start + range.start) as *mut u8;
                                // SAFETY: inside of the arena; the gate has not told of it.
                                unsafe { to.copy_from(from.as_ptr(), from.len()) };
                            }
                            gate.ready.store(layer + 1, Ordering::Release);
                        }
                    });
                    bench.run(&NEW, &[Gated { sequence: 0, gate: &gate }])
                });
                assert_eq!(found, right, "{} {dtype:?} {delays:?}", isa.name());
            }
        }
    }
}

#[test]
fn what_does_not_come_changes_no_other_sequence() {
    let bench = Bench::new(artesian_kernels::isa::strongest(), KvDtype::F16);
    let (right, before) = expected(&bench);
    // Threads may see different answers before the same layer.
    for most_calls in 0..=NUM_THREADS * LAYERS {
        spoil(&bench, &before);
        // What came has come, so that who was told so reads what is right.
        let block_bytes = bench.layout.block_bytes();
        for block in &A[..COMING] {
            let at = *block as usize * block_bytes;
            // SAFETY: inside of the arena, which nobody uses now.
            unsafe {
                bench.arena.as_ptr_mut().add(at).copy_from(before[at..].as_ptr(), block_bytes);
            }
        }
        let gate = TestGate::new(bench.layout.layer_bytes(), LAYERS, most_calls);
        let other = TestGate::new(bench.layout.layer_bytes(), LAYERS, usize::MAX);
        let gates = [Gated { sequence: 0, gate: &gate }, Gated { sequence: 0, gate: &other }];
        let found = bench.run(&NEW, &gates);
        assert_eq!(found[VOCAB..], right[VOCAB..], "after {most_calls} calls");
        let is_right = found[..VOCAB] == right[..VOCAB];
        assert_eq!(is_right, most_calls == NUM_THREADS * LAYERS, "after {most_calls} calls");
        assert_eq!(other.calls.load(Ordering::Relaxed), NUM_THREADS * LAYERS, "asked by all");
    }
    spoil(&bench, &before);
    let gate = TestGate::new(bench.layout.layer_bytes(), 0, 0);
    let found = bench.run(&NEW, &[Gated { sequence: 0, gate: &gate }]);
    assert_eq!(found[VOCAB..], right[VOCAB..], "and nothing that has not come is read");
}

/// Writes to another arena, in which block `n` of the sequence is block `n + 1`, until it closes.
struct TestSink {
    block_bytes: usize,
    arena: Buffer<u8>,
    /// Layers that it has begun, ended, and begins at most.
    begun: AtomicUsize,
    ended: AtomicUsize,
    spoilt: AtomicUsize,
    most: usize,
}

impl TestSink {
    fn new(layout: &KvLayout, most: usize) -> TestSink {
        let arena = Buffer::<u8>::zeroed(NUM_BLOCKS * layout.block_bytes());
        let [begun, ended, spoilt] = [0; 3].map(AtomicUsize::new);
        TestSink { block_bytes: layout.block_bytes(), arena, begun, ended, spoilt, most }
    }
}

impl LayerSink for TestSink {
    fn begin(&self, _layer: usize) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed) < self.most
    }

    unsafe fn write(
        &self,
        block: usize,
        _num_tokens: usize,
        offset: usize,
        bytes: *const u8,
        len: usize,
    ) {
        assert!(offset + len <= self.block_bytes);
        let to = self.arena.as_ptr_mut().wrapping_add((block + 1) * self.block_bytes + offset);
        // SAFETY: the caller's bytes; no two calls are for the same place.
        unsafe { to.copy_from(bytes, len) };
    }

    fn spoil(&self) {
        self.spoilt.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self, _layer: usize) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

const LENGTH: usize = COMING * BLOCK + 17;

/// Computes a sequence in chunks, beside another one, with its keys and values pushed.
fn push(bench: &Bench, chunk: usize, sink: &TestSink) -> Vec<f32> {
    let mut out = vec![];
    for (step, first) in (0..LENGTH).step_by(chunk).enumerate() {
        let count = chunk.min(LENGTH - first);
        let sequences: [(usize, usize, &[i32]); 2] = [(step, 1, &B), (first, count, &A)];
        let num_others = usize::from(step < 2 * BLOCK);
        let pushes = [Push { sequence: num_others, sink }];
        let aside = Aside { pushes: &pushes, ..Aside::default() };
        out = bench.run_aside(&sequences[1 - num_others..], aside);
    }
    out[out.len() - VOCAB..].to_vec()
}

#[test]
fn what_is_pushed_is_what_is_stored() {
    for isa in available() {
        for dtype in KvDtype::ALL {
            let bench = Bench::new(isa, dtype);
            let all = isa == artesian_kernels::isa::strongest() && dtype == KvDtype::Bf16;
            let chunks = [LENGTH, 64, 7, 1];
            for &chunk in if all { &chunks } else { &chunks[..2] } {
                let sink = TestSink::new(&bench.layout, usize::MAX);
                push(&bench, chunk, &sink);
                let block_bytes = bench.layout.block_bytes();
                for (number, &block) in A.iter().enumerate() {
                    let stored = &bench.arena.as_slice()[block as usize * block_bytes..];
                    let pushed = &sink.arena.as_slice()[(number + 1) * block_bytes..];
                    let name = isa.name();
                    let same = stored[..block_bytes] == pushed[..block_bytes];
                    assert!(same, "{name} {dtype:?} {chunk}: {number}");
                }
                let rest = &sink.arena.as_slice()[(A.len() + 1) * block_bytes..];
                assert!(rest.iter().all(|&byte| byte == 0), "and nothing else");
                let num_layers = LENGTH.div_ceil(chunk) * LAYERS;
                assert_eq!(sink.ended.load(Ordering::Relaxed), num_layers);
            }
        }
    }
}

#[test]
fn a_sink_that_closes_gets_nothing_more_and_stops_nobody() {
    let bench = Bench::new(artesian_kernels::isa::strongest(), KvDtype::Bf16);
    let right = push(&bench, 64, &TestSink::new(&bench.layout, usize::MAX));
    for most in [0, 1, LAYERS + 2] {
        let sink = TestSink::new(&bench.layout, most);
        assert_eq!(push(&bench, 64, &sink), right);
        assert_eq!(sink.ended.load(Ordering::Relaxed), most);
        let is_empty = sink.arena.as_slice().iter().all(|&byte| byte == 0);
        assert_eq!(is_empty, most == 0);
    }
}

#[test]
fn a_push_of_a_sequence_that_is_not_there_is_refused() {
    let bench = Bench::new(artesian_kernels::isa::strongest(), KvDtype::Bf16);
    let sink = TestSink::new(&bench.layout, usize::MAX);
    let pushes = [Push { sequence: 1, sink: &sink }];
    let batch = BatchView {
        tokens: &[1],
        positions: &[0],
        row_starts: &[0, 1],
        context_lens: &[1],
        block_tables: &[3],
        table_stride: 1,
        logit_rows: &[0],
        sparse: &[],
    };
    let aside = Aside { pushes: &pushes, ..Aside::default() };
    let mut out = vec![0.0; VOCAB];
    let arena = bench.arena.as_ptr_mut();
    // SAFETY: the arena has the blocks, and nobody else uses it.
    let ran = unsafe { bench.program.run(&bench.pool, batch, aside, arena, NUM_BLOCKS, &mut out) };
    assert!(ran.unwrap_err().to_string().contains("sequence 1 is pushed"));
}

#[test]
fn what_is_pushed_of_a_sequence_whose_blocks_do_not_come_is_told_to_be_spoilt() {
    let bench = Bench::new(artesian_kernels::isa::strongest(), KvDtype::F16);
    expected(&bench);
    for most_calls in [0, 1, NUM_THREADS * LAYERS - 1, NUM_THREADS * LAYERS] {
        let gate = TestGate::new(bench.layout.layer_bytes(), LAYERS, most_calls);
        let gates = [Gated { sequence: 0, gate: &gate }];
        let sinks = [0; 2].map(|_| TestSink::new(&bench.layout, usize::MAX));
        let pushes = [0, 1].map(|sequence| Push { sequence, sink: &sinks[sequence] });
        bench.run_aside(&NEW, Aside { gates: &gates, pushes: &pushes, ..Aside::default() });
        let spoilt = sinks.map(|sink| sink.spoilt.into_inner() > 0);
        assert_eq!(spoilt, [most_calls < NUM_THREADS * LAYERS, false], "{most_calls}");
    }
}
