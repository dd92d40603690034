//! Executors and clients over real shared memory, with programs whose last sequences are remote.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artesian_bus::shm::ShmVerbs;
use artesian_kernels::attention::AttentionShape;
use artesian_kernels::buffer::Buffer;
use artesian_kernels::float::FloatLinear;
use artesian_kernels::gguf::Format;
use artesian_kernels::isa::strongest;
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::program::{
    Aside, AttentionOp, BatchView, Program, ProgramBuilder, Remote, RopeOp, SharedWeight, Weight,
};
use artesian_kernels::threads::ThreadPool;
use artesian_peer::exchange::{
    format, mailboxes, Client, ConnectOptions, ExchangeError, ExchangeShape, Executor,
    ExecutorOptions, Patience, RemoteRow, RemoteRun, Timing,
};
use artesian_peer::region::{Area, Region, RegionShape};
use parking_lot::Mutex;

const VOCAB: usize = 40;
const WIDTH: usize = 32;
const HEAD_DIM: usize = 32;
const LAYERS: usize = 3;
const BLOCK: usize = 32;
const TABLE: usize = 64;
const SEQUENCES: usize = 5;
const NUM_BLOCKS: usize = SEQUENCES * TABLE;
const FINGERPRINT: u64 = 99;
const SHAPE: ExchangeShape = ExchangeShape {
    num_clients: 2,
    num_links: 2,
    max_rows: 8,
    qkv_width: 4 * HEAD_DIM,
    out_width: 2 * HEAD_DIM,
};

fn program(pool: &ThreadPool) -> Program {
    let mut state = 7u64;
    let mut value = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.3
    };
    let mut weight = |rows: usize, cols: usize| -> SharedWeight {
        let bytes: Vec<u8> = (0..rows * cols).flat_map(|_| value().to_le_bytes()).collect();
        let packed = FloatLinear::pack(pool, strongest(), Format::F32, &bytes, rows, cols);
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
        let qkv = builder.linear(x, vec![weight(4 * HEAD_DIM, WIDTH)], None, None).unwrap();
        let inv_freq = (0..HEAD_DIM / 2).map(|i| 0.5f32.powi(i as i32)).collect();
        let rope = Some(RopeOp { inv_freq, interleaved: false, magnitude: 1.0 });
        let op = AttentionOp { layer, shape, norm_eps: 1e-5, rope, q_norm: None, k_norm: None };
        let attended = builder.attention(qkv, op).unwrap();
        x = builder.linear(attended, vec![weight(WIDTH, 2 * HEAD_DIM)], None, Some(x)).unwrap();
    }
    let rows = builder.logit_rows(x).unwrap();
    let logits = builder.linear(rows, vec![weight(VOCAB, WIDTH)], None, None).unwrap();
    let layout = KvLayout::new(LAYERS, 1, HEAD_DIM, BLOCK, KvDtype::F16).unwrap();
    builder.build(logits, layout, 300, pool.num_threads(), strongest()).unwrap()
}

/// A worker: its region, with arena and mailboxes, and the program.
struct Worker {
    pool: ThreadPool,
    program: Program,
    region: Arc<Region>,
}

impl Worker {
    fn new() -> Worker {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pool = ThreadPool::new(1);
        let program = program(&pool);
        let layout = KvLayout::new(LAYERS, 1, HEAD_DIM, BLOCK, KvDtype::F16).unwrap();
        let shape = RegionShape {
            control_bytes: 0,
            mailbox_bytes: SHAPE.num_bytes(),
            block_bytes: layout.block_bytes() as u64,
            num_blocks: NUM_BLOCKS as u64,
            fingerprint: 5,
            generation: 1,
        };
        let name = format!("exchange-{}-{number}", std::process::id());
        let region = Arc::new(Region::create(&name, shape).unwrap());
        let boxes = mailboxes(&region);
        format(&boxes.verbs, boxes.base, SHAPE.num_bytes(), SHAPE).unwrap();
        Worker { pool, program, region }
    }

    fn arena(&self) -> *mut u8 {
        self.region.area(Area::Arena).0
    }

    fn executor(&self, generation: u64) -> Executor {
        let server = self.program.attention_server();
        let options = ExecutorOptions {
            generation,
            fingerprint: FINGERPRINT,
            num_slots: 8,
            num_threads: 1,
            share: 1.0,
            patience: Patience { spin_ns: 5_000, yield_ns: 1_000_000 },
            nice: None,
            slice_ns: 0,
        };
        let (region, is_busy) = (Arc::clone(&self.region), Box::new(|| false));
        // SAFETY: the region's arena has these blocks, and lives as long as the executor.
        unsafe { Executor::start(region, server, self.arena(), NUM_BLOCKS, is_busy, options) }
            .unwrap()
    }

    fn connect(&self, peer: &Worker, generation: u64, link: usize) -> Connected {
        let options = connect_options(&self.region, generation, link);
        let (here, there) = (mailboxes(&self.region), mailboxes(&peer.region));
        let timing = Timing::within(&here.verbs, 5_000_000_000);
        Client::connect(here, there, &options, timing).map(Mutex::new)
    }

    /// Runs rows of sequences; those at the end are remote.
    fn run(
        &self,
        parts: &[(usize, usize, usize)],
        remotes: &[Remote<'_>],
    ) -> (Vec<f32>, Vec<usize>) {
        let (mut tokens, mut positions, mut logit_rows) = (vec![], vec![], vec![]);
        let (mut row_starts, mut context_lens, mut tables) = (vec![0], vec![], vec![]);
        for &(number, context, rows) in parts {
            for position in context - rows..context {
                tokens.push(((position * 13 + number * 5) % VOCAB) as i32);
                positions.push(position as i32);
            }
            logit_rows.push(tokens.len() as i32 - 1);
            row_starts.push(tokens.len() as i32);
            context_lens.push(context as i32);
            tables.extend(blocks(number));
        }
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &tables,
            table_stride: TABLE,
            logit_rows: &logit_rows,
            sparse: &[],
        };
        let mut out = vec![0.0; parts.len() * VOCAB];
        let aside = Aside { remotes, ..Aside::default() };
        // SAFETY: the arena has the blocks; an executor writes none of these.
        let failed = unsafe {
            self.program.run(&self.pool, batch, aside, self.arena(), NUM_BLOCKS, &mut out)
        };
        (out, failed.unwrap())
    }
}

type Connected = Result<Mutex<Client<ShmVerbs>>, ExchangeError>;

fn connect_options(region: &Region, generation: u64, link: usize) -> ConnectOptions<'_> {
    ConnectOptions {
        region: region.name(),
        link,
        generation,
        num_layers: LAYERS,
        fingerprint: FINGERPRINT,
        patience: Patience { spin_ns: 5_000, yield_ns: 500_000 },
    }
}

fn blocks(number: usize) -> Vec<i32> {
    (0..TABLE).map(|i| ((number * TABLE + i) * 3 % NUM_BLOCKS) as i32).collect()
}

fn within(client: &Mutex<Client<ShmVerbs>>, ms: u64) -> Timing {
    Timing::within(client.lock().verbs(), ms * 1_000_000)
}

#[test]
fn decoding_with_remote_sequences_gives_the_same_bits() {
    let (near, far, twin) = (Worker::new(), Worker::new(), Worker::new());
    let mut executor = far.executor(3);
    let client = near.connect(&far, 3, 1).unwrap();
    let contexts = [100, 31, 64, 7, 1];
    for (number, context) in contexts.into_iter().enumerate() {
        twin.run(&[(number, context, context)], &[]);
        // The first two are decoded here, the others lie there.
        let home = if number < 2 { &near } else { &far };
        home.run(&[(number, context, context)], &[]);
    }
    let names: Vec<(u32, u32)> = (2..SEQUENCES)
        .map(|number| executor.residents().admit(&blocks(number), contexts[number]).unwrap())
        .collect();
    for step in 0..60 {
        let parts: Vec<(usize, usize, usize)> = contexts
            .into_iter()
            .enumerate()
            .map(|(number, context)| (number, context + step + 1, 1))
            .collect();
        let right = twin.run(&parts, &[]).0;
        let rows: Vec<RemoteRow> = names
            .iter()
            .zip(&parts[2..])
            .map(|(&(slot, generation), part)| RemoteRow {
                slot,
                generation,
                position: part.1 as u32 - 1,
            })
            .collect();
        let run = RemoteRun::begin(&client, &rows, within(&client, 5_000)).unwrap();
        let (found, failed) =
            near.run(&parts, &[Remote { num_sequences: rows.len(), attention: &run }]);
        assert!(failed.is_empty() && found == right, "step {step}");
    }
    let stats = client.lock().stats();
    assert_eq!((stats.num_steps, stats.num_messages), (60, 60 * (1 + LAYERS as u64)));
    assert_eq!(stats.num_rows, 60 * 3 * LAYERS as u64);
    let served = executor.stats();
    assert_eq!(served.desk.num_answers, 60 * LAYERS as u64);
    assert_eq!((served.plan_hits, served.plan_misses, served.padding_rows), (59, 1, 60));
    assert!(served.kv_bytes > 0 && served.num_residents == 3);
    assert_eq!(executor.residents().num_tokens(names[0].0, names[0].1), Some(64 + 60));
    executor.stop();
    assert!(!client.lock().is_alive());
}

#[test]
fn what_was_released_is_refused_alone_and_nothing_is_written_for_it() {
    let (near, far) = (Worker::new(), Worker::new());
    let executor = far.executor(3);
    let client = near.connect(&far, 0, 0).unwrap();
    for number in 0..3 {
        far.run(&[(number, 40, 40)], &[]);
    }
    let admit = |number: usize| executor.residents().admit(&blocks(number)[..2], 40).unwrap();
    let names = [admit(0), admit(1), admit(2)];
    let run = |positions: [u32; 3]| {
        let rows: Vec<RemoteRow> = (names.iter().zip(positions))
            .map(|(&(slot, generation), position)| RemoteRow { slot, generation, position })
            .collect();
        let run = RemoteRun::begin(&client, &rows, within(&client, 5_000)).unwrap();
        let parts: Vec<_> = (0..3).map(|number| (number, 41, 1)).collect();
        near.run(&parts, &[Remote { num_sequences: 3, attention: &run }])
    };
    let (right, failed) = run([40, 40, 40]);
    assert!(failed.is_empty());
    assert!(executor.residents().release(names[1].0, names[1].1));
    let block_bytes = far.region.shape().block_bytes as usize;
    let written = Buffer::<u8>::zeroed(block_bytes);
    // SAFETY: a block of the arena, which nobody uses now.
    unsafe { far.arena().add(blocks(1)[1] as usize * block_bytes).write_bytes(0, block_bytes) };
    let (found, failed) = run([40, 40, 40]);
    assert_eq!(failed, [1]);
    assert!(found[..VOCAB] == right[..VOCAB] && found[2 * VOCAB..] == right[2 * VOCAB..]);
    // Tokens of which there is no room, or that cannot come next, are refused too.
    assert_eq!(run([39, 40, 42]).1, [0, 1, 2]);
    // SAFETY: as above.
    let block = unsafe {
        std::slice::from_raw_parts(
            far.arena().add(blocks(1)[1] as usize * block_bytes),
            block_bytes,
        )
    };
    assert!(block == written.as_slice());
}

#[test]
fn the_end_of_an_executor_is_seen_in_mid_step_and_another_is_another() {
    let (near, far) = (Worker::new(), Worker::new());
    let mut executor = far.executor(3);
    let client = near.connect(&far, 3, 0).unwrap();
    let rows = [RemoteRow { slot: 0, generation: 0, position: 0 }];
    client.lock().begin(&rows).unwrap();
    executor.stop();
    let row = [0u8; 4 * HEAD_DIM * 4];
    client.lock().send(&[&row]).unwrap();
    let mut out = [0u8; 2 * HEAD_DIM * 4];
    let start = Instant::now();
    let timing = within(&client, 60_000);
    let ended = client.lock().receive(&mut [&mut out], timing);
    assert_eq!(ended, Err(ExchangeError::Gone));
    assert!(start.elapsed() < Duration::from_secs(30), "it does not wait for the time-out");
    assert!(client.lock().is_broken());
    let _other = far.executor(4);
    let again = client.lock().reconnect(&connect_options(&near.region, 3, 0), timing);
    assert_eq!(again, Err(ExchangeError::Generation { found: 4, wanted: 3 }));
    assert!(near.connect(&far, 4, 1).is_ok());
}

/// Ends another thread's loop, also when this one fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tokens that take a while to attend to.
const LONG: usize = 2000;

/// Engines that come and go with sequences while the executor attends: whoever has released one
/// may write its blocks, and no row that was served has seen that.
#[test]
fn blocks_are_the_engine_s_once_it_has_released_them() {
    let (near, far) = (Worker::new(), Worker::new());
    let executor = far.executor(3);
    let client = near.connect(&far, 3, 0).unwrap();
    for end in (250..=LONG).step_by(250) {
        far.run(&[(0, end, 250)], &[]);
    }
    // The last layer of the sequence's blocks: what is read of it late is in no later layer's way.
    let block_bytes = far.region.shape().block_bytes as usize;
    let layer_bytes = block_bytes / LAYERS;
    let arena = far.arena().expose_provenance();
    let places: Vec<usize> = (blocks(0).iter())
        .map(|&block| arena + (block as usize + 1) * block_bytes - layer_bytes)
        .collect();
    let mut kept = vec![0; TABLE * layer_bytes];
    for (&place, kept) in places.iter().zip(kept.chunks_exact_mut(layer_bytes)) {
        // SAFETY: inside of the arena, which nobody uses now.
        unsafe { kept.as_mut_ptr().copy_from(place as *const u8, layer_bytes) };
    }
    let name = Mutex::new(executor.residents().admit(&blocks(0), LONG).unwrap());
    let is_over = AtomicBool::new(false);
    let (mut served, mut refused, mut right) = (0, 0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let (slot, generation) = *name.lock();
                assert!(executor.residents().release(slot, generation));
                for (&place, kept) in places.iter().zip(kept.chunks_exact(layer_bytes)) {
                    let place = place as *mut u8;
                    // SAFETY: blocks of the arena that are the engine's now.
                    unsafe {
                        place.write_bytes(255, layer_bytes);
                        place.copy_from(kept.as_ptr(), layer_bytes);
                    }
                }
                *name.lock() = executor.residents().admit(&blocks(0), LONG).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let _end = SetAtEnd(&is_over);
        for _ in 0..3000 {
            let (slot, generation) = *name.lock();
            let rows = [RemoteRow { slot, generation, position: LONG as u32 }];
            let run = RemoteRun::begin(&client, &rows, within(&client, 20_000)).unwrap();
            let remote = [Remote { num_sequences: 1, attention: &run }];
            let (found, failed) = near.run(&[(0, LONG + 1, 1)], &remote);
            if !failed.is_empty() {
                refused += 1;
                continue;
            }
            served += 1;
            right = if right.is_empty() { found.clone() } else { right };
            assert!(found == right && found.iter().all(|value| value.is_finite()));
        }
    });
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
}

#[test]
fn several_clients_are_served_at_once() {
    let far = Worker::new();
    let executor = far.executor(3);
    far.run(&[(0, 40, 40)], &[]);
    far.run(&[(1, 40, 40)], &[]);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (far, executor) = (&far, &executor);
            scope.spawn(move || {
                let near = Worker::new();
                let twin = Worker::new();
                twin.run(&[(number, 40, 40)], &[]);
                let client = near.connect(far, 3, 0).unwrap();
                let name = executor.residents().admit(&blocks(number), 40).unwrap();
                for step in 0..100u32 {
                    let rows =
                        [RemoteRow { slot: name.0, generation: name.1, position: 40 + step }];
                    let run = RemoteRun::begin(&client, &rows, within(&client, 20_000)).unwrap();
                    let parts = [(number, 41 + step as usize, 1)];
                    let remote = [Remote { num_sequences: 1, attention: &run }];
                    assert_eq!(near.run(&parts, &remote), (twin.run(&parts, &[]).0, vec![]));
                }
            });
        }
    });
    assert_eq!(executor.stats().desk.num_steps, 200);
}
