//! Programs some of whose sequences a peer attends for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};

use artesian_kernels::attention::AttentionShape;
use artesian_kernels::buffer::Buffer;
use artesian_kernels::float::FloatLinear;
use artesian_kernels::gguf::Format;
use artesian_kernels::isa::{available, strongest, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::program::{
    Aside, AttentionOp, AttentionServer, BatchView, Program, ProgramBuilder, Remote,
    RemoteAttention, RopeOp, Rows, RowsMut, ServedStep, SharedWeight, Weight,
};
use artesian_kernels::threads::ThreadPool;

const VOCAB: usize = 40;
const WIDTH: usize = 48;
const BLOCK: usize = 32;
const BLOCKS_PER_SEQUENCE: usize = 12;
const MAX_SEQUENCES: usize = 6;
const NUM_BLOCKS: usize = MAX_SEQUENCES * BLOCKS_PER_SEQUENCE;

/// xorshift64*, enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn floats(&mut self, count: usize, size: f32) -> Vec<f32> {
        let value = |_| (self.next() as f64 / (1u64 << 52) as f64 - 1.0) as f32 * size;
        (0..count).map(value).collect()
    }
}

/// A random model, and the KV of sequences that it has computed.
struct Bench {
    pool: ThreadPool,
    program: Program,
    arena: Buffer<u8>,
}

impl Bench {
    fn new(seed: u64, isa: Isa, dtype: KvDtype, num_threads: usize) -> Bench {
        let mut random = Random(seed * 77 + 1);
        let pool = ThreadPool::new(num_threads);
        let (num_kv_heads, group) = (1 + random.below(2), 1 + random.below(3));
        let head_dim = [16, 32, 64][random.below(3)];
        let num_layers = 1 + random.below(4);
        let heads = num_kv_heads * group;
        let weight = |random: &mut Random, rows: usize, cols: usize| -> SharedWeight {
            let bytes: Vec<u8> = random
                .floats(rows * cols, 0.3)
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let packed = FloatLinear::pack(&pool, isa, Format::F32, &bytes, rows, cols);
            Arc::new(Weight::Float(packed.unwrap()))
        };
        let mut builder = ProgramBuilder::new();
        let mut x = builder.embed(weight(&mut random, VOCAB, WIDTH), 1.0);
        for layer in 0..num_layers {
            let normed = builder.rms_norm(x, vec![1.0; WIDTH], 1e-5, None).unwrap();
            let part = weight(&mut random, (heads + 2 * num_kv_heads) * head_dim, WIDTH);
            let qkv = builder.linear(normed, vec![part], None, None).unwrap();
            let shape = AttentionShape {
                num_heads: heads,
                num_kv_heads,
                head_dim,
                scale: 0.3,
                window: [None, Some(70)][random.below(2)],
                softcap: [None, Some(20.0)][random.below(2)],
            };
            let has_norms = random.below(2) == 1;
            let norm = |random: &mut Random| has_norms.then(|| random.floats(head_dim, 1.5));
            let base = [0.5f32, 0.8][random.below(2)];
            let rope = (random.below(4) > 0).then(|| RopeOp {
                inv_freq: (0..head_dim / 2).map(|i| base.powi(i as i32)).collect(),
                interleaved: random.below(2) == 1,
                magnitude: 1.0,
            });
            let (q_norm, k_norm) = (norm(&mut random), norm(&mut random));
            let op = AttentionOp { layer, shape, norm_eps: 1e-5, rope, q_norm, k_norm };
            let attended = builder.attention(qkv, op).unwrap();
            let part = weight(&mut random, WIDTH, heads * head_dim);
            x = builder.linear(attended, vec![part], None, Some(x)).unwrap();
        }
        let rows = builder.logit_rows(x).unwrap();
        let part = weight(&mut random, VOCAB, WIDTH);
        let logits = builder.linear(rows, vec![part], None, None).unwrap();
        let layout = KvLayout::new(num_layers, num_kv_heads, head_dim, BLOCK, dtype).unwrap();
        let program = builder.build(logits, layout, 512, num_threads, isa).unwrap();
        let arena = Buffer::<u8>::zeroed(NUM_BLOCKS * layout.block_bytes());
        Bench { pool, program, arena }
    }

    /// Computes the last `rows` of sequences that are numbered and end behind `context` tokens.
    fn run(&self, sequences: &[Part], remotes: &[Remote<'_>]) -> (Vec<f32>, Vec<usize>) {
        let (mut tokens, mut positions, mut logit_rows) = (vec![], vec![], vec![]);
        let (mut row_starts, mut context_lens) = (vec![0], vec![]);
        let mut block_tables = vec![];
        for part in sequences {
            for position in part.context - part.rows..part.context {
                tokens.push(((position * 13 + part.number * 5) % VOCAB) as i32);
                positions.push(position as i32);
            }
            logit_rows.push(tokens.len() as i32 - 1);
            row_starts.push(tokens.len() as i32);
            context_lens.push(part.context as i32);
            block_tables.extend(blocks(part.number));
        }
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &block_tables,
            table_stride: BLOCKS_PER_SEQUENCE,
            logit_rows: &logit_rows,
            sparse: &[],
        };
        let aside = Aside { remotes, ..Aside::default() };
        let mut out = vec![0.0; sequences.len() * VOCAB];
        let arena = self.arena.as_ptr_mut();
        // SAFETY: the arena has the blocks, and nobody else uses it.
        let failed =
            unsafe { self.program.run(&self.pool, batch, aside, arena, NUM_BLOCKS, &mut out) };
        (out, failed.unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        self.arena.as_slice().to_vec()
    }

    fn set_bytes(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.arena.len());
        // SAFETY: as long as the arena, which nobody uses now.
        unsafe { self.arena.as_ptr_mut().copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// Makes the blocks of a sequence not a number.
    fn spoil(&self, number: usize) {
        let block_bytes = self.arena.len() / NUM_BLOCKS;
        for block in blocks(number) {
            // SAFETY: inside of the arena, which nobody uses now.
            unsafe {
                self.arena
                    .as_ptr_mut()
                    .add(block as usize * block_bytes)
                    .write_bytes(255, block_bytes)
            };
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Part {
    number: usize,
    context: usize,
    rows: usize,
}

/// The blocks of a sequence, here and at its peer.
fn blocks(number: usize) -> impl Iterator<Item = i32> {
    (0..BLOCKS_PER_SEQUENCE)
        .map(move |i| ((number * BLOCKS_PER_SEQUENCE + i) * 5 % NUM_BLOCKS) as i32)
}

/// A layer's rows on their way, one behind the other.
type Message = (usize, Vec<f32>);

/// The near end of channels to a thread that attends.
struct Peer {
    to: Mutex<Sender<Message>>,
    from: Mutex<Receiver<Message>>,
    /// Layers after which it says nothing more.
    most_layers: usize,
    num_sent: AtomicUsize,
    num_received: AtomicUsize,
}

impl RemoteAttention for Peer {
    fn send(&self, layer: usize, qkv: Rows<'_>) -> bool {
        self.num_sent.fetch_add(1, Ordering::Relaxed);
        let rows = (0..qkv.len()).flat_map(|row| qkv.row(row).to_vec()).collect();
        self.to.lock().unwrap().send((layer, rows)).is_ok()
    }

    fn receive(&self, layer: usize, mut out: RowsMut<'_>) -> bool {
        if self.num_received.fetch_add(1, Ordering::Relaxed) >= self.most_layers {
            out.row_mut(0).fill(f32::NAN);
            return false;
        }
        let (found, rows) = self.from.lock().unwrap().recv().unwrap();
        assert_eq!(found, layer);
        for (row, values) in rows.chunks_exact(out.width()).enumerate() {
            out.row_mut(row).copy_from_slice(values);
        }
        true
    }
}

/// Serves the layers of one step; `arena` is the peer's.
fn serve(
    server: &AttentionServer,
    threads: usize,
    arena: &Buffer<u8>,
    parts: &[Part],
    from: &Receiver<Message>,
    to: &Sender<Message>,
) {
    let pool = ThreadPool::new(threads);
    let mut step = ServedStep::new();
    let positions: Vec<i32> = parts.iter().map(|part| part.context as i32 - 1).collect();
    let tables: Vec<i32> = parts.iter().flat_map(|part| blocks(part.number)).collect();
    server
        .prepare(&mut step, &positions, &tables, BLOCKS_PER_SEQUENCE, NUM_BLOCKS, threads)
        .unwrap();
    assert!(parts.is_empty() || server.num_kv_bytes(&step) > 0);
    for place in 0..server.num_layers() {
        let Ok((layer, rows)) = from.recv() else { return };
        assert_eq!(layer, server.layer(place));
        let width = server.out_width(place);
        let mut out = vec![0.0; parts.len() * width];
        let qkv = Rows::new(&rows, server.qkv_width(place));
        // SAFETY: the peer's arena has the blocks, and this thread alone uses it.
        unsafe {
            server.attend(
                &step,
                &pool,
                place,
                &[],
                qkv,
                RowsMut::new(&mut out, width),
                arena.as_ptr_mut(),
            )
        };
        let _ = to.send((layer, out));
    }
}

/// Runs `sequences` with those from `num_local` on at `num_peers` peers that have `peer_bytes`;
/// peer `i` is silent after `most_layers[i]`.
fn run_remote(
    bench: &Bench,
    arena: &Buffer<u8>,
    sequences: &[Part],
    num_local: usize,
    most_layers: &[usize],
) -> (Vec<f32>, Vec<usize>, Vec<usize>) {
    let server = bench.program.attention_server();
    let remote = &sequences[num_local..];
    let share = remote.len().div_ceil(most_layers.len()).max(1);
    let mut parts: Vec<&[Part]> = remote.chunks(share).collect();
    parts.resize(most_layers.len(), &[]);
    std::thread::scope(|scope| {
        let peers: Vec<Peer> = parts
            .iter()
            .zip(most_layers)
            .map(|(&parts, &most_layers)| {
                let (to, peer_from) = channel();
                let (peer_to, from) = channel();
                let server = &server;
                scope.spawn(move || serve(server, 2, arena, parts, &peer_from, &peer_to));
                Peer {
                    to: Mutex::new(to),
                    from: Mutex::new(from),
                    most_layers,
                    num_sent: AtomicUsize::new(0),
                    num_received: AtomicUsize::new(0),
                }
            })
            .collect();
        let remotes: Vec<Remote<'_>> = parts
            .iter()
            .zip(&peers)
            .map(|(parts, peer)| Remote { num_sequences: parts.len(), attention: peer })
            .collect();
        let (out, failed) = bench.run(sequences, &remotes);
        let sent = peers.iter().map(|peer| peer.num_sent.load(Ordering::Relaxed)).collect();
        (out, failed, sent)
    })
}

/// Histories of random length of all sequences in the arena; the decode step that follows.
fn history(bench: &Bench, random: &mut Random) -> Vec<Part> {
    let most = BLOCKS_PER_SEQUENCE * BLOCK - 4;
    let parts: Vec<Part> = (0..MAX_SEQUENCES)
        .map(|number| {
            let context = [1 + random.below(most), 32, 256, 33][random.below(4)];
            Part { number, context, rows: context }
        })
        .collect();
    for &part in &parts {
        bench.run(&[part], &[]);
    }
    parts.iter().map(|part| Part { context: part.context + 1, rows: 1, ..*part }).collect()
}

#[test]
fn remote_rows_are_the_local_ones_bit_for_bit() {
    let mut seed = 0;
    for isa in available() {
        for dtype in KvDtype::ALL {
            for num_threads in [1, 3] {
                seed += 1;
                let bench = Bench::new(seed, isa, dtype, num_threads);
                let mut random = Random(seed + 100);
                let mut next = history(&bench, &mut random);
                // The first local sequence computes several rows, as prefill chunks do.
                next[0].context += 2;
                next[0].rows = 3;
                let before = bench.bytes();
                let (right, _) = bench.run(&next, &[]);
                let after = bench.bytes();
                for num_local in 1..=MAX_SEQUENCES {
                    bench.set_bytes(&before);
                    let arena = Buffer::<u8>::zeroed(before.len());
                    // SAFETY: as long, and nobody uses it yet.
                    unsafe { arena.as_ptr_mut().copy_from(before.as_ptr(), before.len()) };
                    (num_local..MAX_SEQUENCES).for_each(|number| bench.spoil(number));
                    let peers = vec![usize::MAX; 1 + random.below(2)];
                    let (found, failed, _) = run_remote(&bench, &arena, &next, num_local, &peers);
                    let case = format!("{} {dtype:?} seed {seed} {num_local} local", isa.name());
                    assert!(found == right, "{case}");
                    assert_eq!(failed, Vec::<usize>::new(), "{case}");
                    // Keys and values of local rows are here, those of remote rows with the peer.
                    let block_bytes = before.len() / NUM_BLOCKS;
                    for (number, part) in next.iter().enumerate() {
                        let there = number >= num_local;
                        let at = blocks(part.number).nth((part.context - 1) / BLOCK).unwrap();
                        let at = at as usize * block_bytes..(at as usize + 1) * block_bytes;
                        let bytes = if there { arena.as_slice() } else { bench.arena.as_slice() };
                        assert!(bytes[at.clone()] == after[at], "{case}: sequence {number}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_may_be_remote_altogether() {
    for (seed, num_threads) in [(1, 1), (2, 2), (3, 3), (4, 2)] {
        let bench = Bench::new(seed, strongest(), KvDtype::F16, num_threads);
        let next = history(&bench, &mut Random(seed));
        let before = bench.bytes();
        let (right, _) = bench.run(&next, &[]);
        let arena = Buffer::<u8>::zeroed(before.len());
        // SAFETY: as long, and nobody uses it yet.
        unsafe { arena.as_ptr_mut().copy_from(before.as_ptr(), before.len()) };
        (0..MAX_SEQUENCES).for_each(|number| bench.spoil(number));
        let (found, failed, _) = run_remote(&bench, &arena, &next, 0, &[usize::MAX]);
        assert!(found == right && failed.is_empty());
    }
}

#[test]
fn a_peer_that_fails_changes_no_other_sequence() {
    for num_threads in [1, 3] {
        let bench = Bench::new(9, strongest(), KvDtype::F16, num_threads);
        let next = history(&bench, &mut Random(4));
        let before = bench.bytes();
        let (right, _) = bench.run(&next, &[]);
        let num_layers = bench.program.attention_server().num_layers();
        for most_layers in 0..num_layers {
            bench.set_bytes(&before);
            let arena = Buffer::<u8>::zeroed(before.len());
            // SAFETY: as long, and nobody uses it yet.
            unsafe { arena.as_ptr_mut().copy_from(before.as_ptr(), before.len()) };
            let peers = [most_layers, usize::MAX];
            let (found, failed, sent) = run_remote(&bench, &arena, &next, 2, &peers);
            assert_eq!(failed, [2, 3], "after {most_layers} layers");
            assert_eq!(sent, [most_layers + 1, num_layers], "and nothing more is sent to it");
            for number in [0, 1, 4, 5] {
                let range = number * VOCAB..(number + 1) * VOCAB;
                assert!(found[range.clone()] == right[range], "sequence {number}");
            }
        }
    }
}

/// Serves nothing, and says so of one row.
struct Refusing;

impl RemoteAttention for Refusing {
    fn send(&self, _: usize, _: Rows<'_>) -> bool {
        true
    }

    fn receive(&self, _: usize, _: RowsMut<'_>) -> bool {
        true
    }

    fn refused(&self) -> Vec<usize> {
        vec![1]
    }
}

#[test]
fn refused_rows_are_reported_and_batches_that_cannot_be_are_not_run() {
    let bench = Bench::new(5, strongest(), KvDtype::F32, 1);
    let next = history(&bench, &mut Random(6));
    let remote = |num_sequences| [Remote { num_sequences, attention: &Refusing }];
    assert_eq!(bench.run(&next, &remote(3)).1, [4]);
    let several = Part { context: 8, rows: 2, number: 0 };
    for (parts, remote) in [(&next[..2], remote(3)), (&[next[1], several][..], remote(1))] {
        let run = || bench.run(parts, &remote);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}

#[test]
fn steps_that_do_not_fit_are_refused() {
    let bench = Bench::new(5, strongest(), KvDtype::F32, 1);
    let server = bench.program.attention_server();
    let mut step = ServedStep::new();
    let mut prepare = |position: i32, table: &[i32]| {
        server.prepare(&mut step, &[position], table, table.len(), NUM_BLOCKS, 1).is_ok()
    };
    assert!(prepare(31, &[0]) && !prepare(32, &[0]) && prepare(32, &[0, 71]));
    assert!(!prepare(-1, &[0]) && !prepare(i32::MAX, &[0]) && !prepare(3, &[72]));
    assert!(!prepare(3, &[-1]));
}
