//! Attention against a plain f64 version, and against itself cut up in other ways.

use artesian_kernels::attention::{
    attend, store, AttentionBatch, AttentionBuffers, AttentionError, AttentionLayer, AttentionPlan,
    AttentionShape, Rope, RopeRows,
};
use artesian_kernels::isa::{available, strongest, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::threads::ThreadPool;

/// xorshift64*, enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    fn float(&mut self) -> f32 {
        (self.next() as f64 / (1u64 << 52) as f64 - 1.0) as f32
    }
    fn floats(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| self.float() * size).collect()
    }
}

/// Everything about a layer but the tokens.
#[derive(Clone)]
struct Model {
    shape: AttentionShape,
    layout: KvLayout,
    layer: usize,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    inv_freq: Vec<f32>,
    interleaved: bool,
}

impl Model {
    fn new(num_heads: usize, num_kv_heads: usize, head_dim: usize, dtype: KvDtype) -> Model {
        Model {
            shape: AttentionShape {
                num_heads,
                num_kv_heads,
                head_dim,
                scale: 1.0 / (head_dim as f32).sqrt(),
                window: None,
                softcap: None,
            },
            layout: KvLayout::new(2, num_kv_heads, head_dim, 32, dtype).unwrap(),
            layer: 1,
            q_norm: None,
            k_norm: None,
            inv_freq: (0..head_dim / 2)
                .map(|i| 1e4f32.powf(-2.0 * i as f32 / head_dim as f32))
                .collect(),
            interleaved: false,
        }
    }

    fn random(random: &mut Random, dtype: KvDtype) -> Model {
        let num_kv_heads = 1 + random.below(3);
        let num_heads = num_kv_heads * random.pick(&[1, 2, 3, 4, 7, 16, 17]);
        let head_dim = random.pick(&[16, 32, 48, 64, 80, 96, 128, 256]);
        let mut model = Model::new(num_heads, num_kv_heads, head_dim, dtype);
        let block_size = random.pick(&[32, 64, 96]);
        model.layout = KvLayout::new(2, num_kv_heads, head_dim, block_size, dtype).unwrap();
        model.layer = random.below(2);
        model.shape.window = random.pick(&[None, None, Some(1), Some(33), Some(300), Some(512)]);
        model.shape.softcap = random.pick(&[None, None, Some(5.0)]);
        if random.below(2) == 0 {
            model.q_norm = Some(random.floats(head_dim, 2.0));
            model.k_norm = Some(random.floats(head_dim, 2.0));
        }
        model.interleaved = random.below(2) == 0;
        model.inv_freq.truncate(random.pick(&[0, head_dim / 4, head_dim / 2]));
        model
    }

    fn row_len(&self) -> usize {
        (self.shape.num_heads + 2 * self.shape.num_kv_heads) * self.shape.head_dim
    }
    fn out_len(&self) -> usize {
        self.shape.num_heads * self.shape.head_dim
    }
}

/// Tokens of one sequence and where its blocks lie.
struct Tokens {
    qkv: Vec<f32>,
    len: usize,
    blocks: Vec<i32>,
}

/// An arena full of NaN bytes, and a way to run steps on it.
struct Bench {
    model: Model,
    isa: Isa,
    pool: ThreadPool,
    arena: Vec<u8>,
    num_blocks: usize,
}

impl Bench {
    fn new(model: &Model, isa: Isa, num_threads: usize, num_blocks: usize) -> Bench {
        let arena = vec![0xff; model.layout.block_bytes() * num_blocks];
        Bench { model: model.clone(), isa, pool: ThreadPool::new(num_threads), arena, num_blocks }
    }

    /// Runs rows `range` of each sequence as one step; returns their outputs.
    fn step(&mut self, parts: &[(&Tokens, std::ops::Range<usize>)]) -> Vec<Vec<f32>> {
        let (row_len, out_len) = (self.model.row_len(), self.model.out_len());
        let stride = parts.iter().map(|(tokens, _)| tokens.blocks.len()).max().unwrap();
        let (mut positions, mut row_starts) = (Vec::new(), vec![0]);
        let (mut context_lens, mut tables, mut qkv) = (Vec::new(), Vec::new(), Vec::new());
        for (tokens, range) in parts {
            positions.extend(range.clone().map(|p| p as i32));
            row_starts.push(positions.len() as i32);
            context_lens.push(range.end as i32);
            tables.extend(&tokens.blocks);
            tables.resize(context_lens.len() * stride, -1);
            qkv.extend_from_slice(&tokens.qkv[range.start * row_len..range.end * row_len]);
        }
        let batch = AttentionBatch {
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &tables,
            table_stride: stride,
            sparse: &[],
        };
        let num_threads = self.pool.num_threads();
        let model = &self.model;
        let plan = AttentionPlan::new(
            &batch,
            &model.layout,
            &model.shape,
            self.num_blocks,
            num_threads,
            self.isa,
        )
        .unwrap();
        let mut buffers = AttentionBuffers::new();
        buffers.reserve(&plan, num_threads);
        let rope = RopeRows::new(&Rope::new(&model.inv_freq, model.interleaved, 1.0), &positions);
        let mut out = vec![f32::NAN; positions.len() * out_len];
        let layer = AttentionLayer {
            layer: model.layer,
            q_norm: model.q_norm.as_deref(),
            k_norm: model.k_norm.as_deref(),
            norm_eps: 1e-6,
            rope: &rope,
            qkv: qkv.as_ptr(),
            qkv_stride: row_len,
            out: out.as_mut_ptr(),
            out_stride: out_len,
            arena: self.arena.as_mut_ptr(),
        };
        self.pool.run(&|worker| {
            // SAFETY: the arrays have the batch's rows and the arena its blocks; sequences share
            // none.
            unsafe {
                worker.for_each(plan.num_store_items(), |item| store(&plan, &layer, item));
                worker.for_each(plan.num_attend_items(), |item| {
                    attend(&plan, &layer, &buffers, worker.id(), item)
                });
            }
        });
        let rows =
            |s: usize| row_starts[s] as usize * out_len..row_starts[s + 1] as usize * out_len;
        (0..parts.len()).map(|s| out[rows(s)].to_vec()).collect()
    }

    /// Runs one sequence in chunks of `chunk` tokens.
    fn run(&mut self, tokens: &Tokens, chunk: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for start in (0..tokens.len).step_by(chunk) {
            out.extend(self.step(&[(tokens, start..(start + chunk).min(tokens.len))]).remove(0));
        }
        out
    }
}

/// Sequences of these lengths in blocks that are all mixed up.
fn sequences(random: &mut Random, model: &Model, lens: &[usize]) -> (Vec<Tokens>, usize) {
    let block_size = model.layout.block_size_tokens();
    let num_blocks = lens.iter().map(|len| len.div_ceil(block_size)).sum::<usize>() + 1;
    let mut free: Vec<i32> = (0..num_blocks as i32).collect();
    let sequences = lens
        .iter()
        .map(|&len| Tokens {
            qkv: random.floats(len * model.row_len(), 2.0),
            len,
            blocks: (0..len.div_ceil(block_size))
                .map(|_| free.remove(random.below(free.len())))
                .collect(),
        })
        .collect();
    (sequences, num_blocks)
}

/// Rounds a stored vector as the format does.
fn round_as(dtype: KvDtype, x: &mut [f64]) {
    let scale = x.iter().fold(0f64, |a, b| a.max(b.abs())) / 127.0;
    for x in x {
        *x = match dtype {
            KvDtype::F32 => *x,
            KvDtype::F16 => half::f16::from_f64(*x).to_f64(),
            KvDtype::Bf16 => half::bf16::from_f64(*x).to_f64(),
            KvDtype::Int8 => (*x / scale).round() * scale,
        }
    }
}

fn norm_and_rope(model: &Model, x: &[f32], norm: Option<&[f32]>, position: usize) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    if let Some(weight) = norm {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        for (x, w) in x.iter_mut().zip(weight) {
            *x *= f64::from(*w) / (mean + 1e-6).sqrt();
        }
    }
    let num_pairs = model.inv_freq.len();
    for (i, &freq) in model.inv_freq.iter().enumerate() {
        let (sin, cos) = (position as f64 * f64::from(freq)).sin_cos();
        let (a, b) = if model.interleaved { (2 * i, 2 * i + 1) } else { (i, i + num_pairs) };
        (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
    }
    x
}

/// Attention of the last `num_rows` tokens by the definition.
fn twin(model: &Model, tokens: &Tokens, num_rows: usize) -> Vec<f32> {
    let AttentionShape { num_heads, num_kv_heads, head_dim, .. } = model.shape;
    let head = |position: usize, head: usize| {
        &tokens.qkv[position * model.row_len() + head * head_dim..][..head_dim]
    };
    let stored = |side: usize| -> Vec<Vec<Vec<f64>>> {
        (0..num_kv_heads)
            .map(|h| {
                (0..tokens.len)
                    .map(|p| {
                        let x = head(p, num_heads + side * num_kv_heads + h);
                        let mut x = if side == 0 {
                            norm_and_rope(model, x, model.k_norm.as_deref(), p)
                        } else {
                            x.iter().map(|&x| f64::from(x)).collect()
                        };
                        round_as(model.layout.dtype(), &mut x);
                        x
                    })
                    .collect()
            })
            .collect()
    };
    let (keys, values) = (stored(0), stored(1));
    let mut out = Vec::new();
    for position in tokens.len - num_rows..tokens.len {
        let first = model.shape.window.map_or(0, |w| (position + 1).saturating_sub(w));
        for h in 0..num_heads {
            let q = norm_and_rope(model, head(position, h), model.q_norm.as_deref(), position);
            let kv = h / (num_heads / num_kv_heads);
            let scores: Vec<f64> = (first..=position)
                .map(|p| {
                    let dot: f64 = q.iter().zip(&keys[kv][p]).map(|(a, b)| a * b).sum();
                    let score = dot * f64::from(model.shape.scale);
                    model
                        .shape
                        .softcap
                        .map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for dim in 0..head_dim {
                let dot: f64 =
                    weights.iter().zip(first..).map(|(w, p)| w * values[kv][p][dim]).sum();
                out.push((dot / sum) as f32);
            }
        }
    }
    out
}

/// Whether a kernel rounds queries and weights to bf16.
fn rounds_to_bf16(model: &Model, isa: Isa) -> bool {
    isa >= Isa::Avx512Bf16 && model.layout.dtype() == KvDtype::Bf16
}

fn assert_close(got: &[f32], expected: &[f32], model: &Model, isa: Isa) {
    assert_eq!(got.len(), expected.len());
    // A key that rounding takes to the neighbouring number moves a score; bf16 queries move all of
    // them.
    let (most, root_mean_square) = match model.layout.dtype() {
        _ if rounds_to_bf16(model, isa) => (0.15, 0.015),
        KvDtype::F32 => (1e-4, 5e-6),
        _ => (0.05, 0.003),
    };
    let mut squares = 0f64;
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= most,
            "{isa:?} {:?} {:?} at {i}: {a}, not {b}",
            model.layout,
            model.shape
        );
        squares += f64::from(a - b).powi(2);
    }
    let rms = (squares / got.len() as f64).sqrt();
    assert!(
        rms <= root_mean_square,
        "{isa:?} {:?} {:?}: root mean square error {rms}",
        model.layout,
        model.shape
    );
}

#[test]
fn matches_the_definition_on_random_shapes() {
    let mut random = Random(7);
    for round in 0..10 {
        for dtype in KvDtype::ALL {
            let model = Model::random(&mut random, dtype);
            let lens = [1 + random.below(40), 1 + random.below(600), 32, 1 + random.below(600)];
            let (sequences, num_blocks) = sequences(&mut random, &model, &lens);
            let num_last: Vec<usize> =
                lens.iter().map(|&len| (1 + random.below(20)).min(len)).collect();
            let expected: Vec<Vec<f32>> = sequences
                .iter()
                .zip(&num_last)
                .map(|(tokens, &n)| twin(&model, tokens, n))
                .collect();
            for isa in available() {
                let mut bench = Bench::new(&model, isa, 1 + round % 3, num_blocks);
                let parts = |first: bool| -> Vec<_> {
                    let range =
                        |len: usize, n: usize| if first { 0..len - n } else { len - n..len };
                    let all = sequences.iter().zip(&num_last).map(|(t, &n)| (t, range(t.len, n)));
                    all.filter(|(_, range)| !range.is_empty()).collect()
                };
                bench.step(&parts(true));
                for (got, expected) in bench.step(&parts(false)).iter().zip(&expected) {
                    assert_close(got, expected, &model, isa);
                }
            }
        }
    }
}

/// The models of the invariance tests: of each kernel, with and without what is optional.
fn varied_models(random: &mut Random) -> Vec<Model> {
    let mut models = Vec::new();
    for dtype in KvDtype::ALL {
        let mut plain = Model::new(9, 3, 64, dtype);
        plain.interleaved = true;
        let mut windowed = Model::new(4, 1, 96, dtype);
        windowed.shape.window = Some(70);
        windowed.shape.softcap = Some(20.0);
        windowed.q_norm = Some(random.floats(96, 1.0));
        windowed.k_norm = Some(random.floats(96, 1.0));
        models.extend([plain, windowed]);
    }
    models
}

#[test]
fn chunks_decoding_and_threads_change_no_bit() {
    let mut random = Random(11);
    for model in varied_models(&mut random) {
        let (sequences, num_blocks) = sequences(&mut random, &model, &[600]);
        for isa in available() {
            if isa < strongest() && isa != Isa::Avx2 && model.shape.window.is_some() {
                continue; // the same code as its neighbours
            }
            let whole = Bench::new(&model, isa, 1, num_blocks).run(&sequences[0], 600);
            assert!(whole.iter().all(|x| x.is_finite()));
            for (chunk, num_threads) in [(1, 2), (7, 3), (32, 2), (100, 1), (513, 3)] {
                let out =
                    Bench::new(&model, isa, num_threads, num_blocks).run(&sequences[0], chunk);
                let same = whole.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same,
                    "{isa:?} {:?}: chunks of {chunk}, {num_threads} threads",
                    model.layout
                );
            }
        }
    }
}

#[test]
fn what_shares_the_batch_changes_no_bit() {
    let mut random = Random(13);
    for model in varied_models(&mut random) {
        let lens = [700, 45, 1_030, 1, 64];
        let (sequences, num_blocks) = sequences(&mut random, &model, &lens);
        for isa in available() {
            let alone: Vec<Vec<f32>> = sequences
                .iter()
                .map(|tokens| Bench::new(&model, isa, 2, num_blocks).run(tokens, tokens.len))
                .collect();
            let mut bench = Bench::new(&model, isa, 2, num_blocks);
            let cut = [699, 20, 500, 0, 33];
            let first: Vec<_> =
                sequences.iter().zip(cut).filter(|(_, n)| *n > 0).map(|(t, n)| (t, 0..n)).collect();
            bench.step(&first);
            let second: Vec<_> = sequences.iter().zip(cut).map(|(t, n)| (t, n..t.len)).collect();
            for ((got, alone), cut) in bench.step(&second).iter().zip(&alone).zip(cut) {
                let expected = &alone[cut * model.out_len()..];
                let same = got.len() == expected.len()
                    && got.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa:?} {:?}", model.layout);
            }
        }
    }
}

#[test]
fn blocks_out_of_the_window_are_not_touched() {
    let mut random = Random(17);
    for dtype in KvDtype::ALL {
        let mut model = Model::new(4, 2, 64, dtype);
        model.shape.window = Some(64);
        let (mut sequences, num_blocks) = sequences(&mut random, &model, &[400]);
        let mut bench = Bench::new(&model, strongest(), 2, num_blocks);
        let expected = Bench::new(&model, strongest(), 1, num_blocks).run(&sequences[0], 400);
        bench.step(&[(&sequences[0], 0..399)]);
        sequences[0].blocks[..10].fill(-1); // tokens 0..320; the last sees 336..400
        let last = bench.step(&[(&sequences[0], 399..400)]).remove(0);
        assert_eq!(last, expected[399 * model.out_len()..]);
    }
}

#[test]
fn wrong_batches_are_refused() {
    let layout = KvLayout::new(1, 2, 64, 32, KvDtype::F16).unwrap();
    let shape = AttentionShape {
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 64,
        scale: 0.125,
        window: None,
        softcap: None,
    };
    let good = AttentionBatch {
        positions: &[38, 39, 0],
        row_starts: &[0, 2, 3],
        context_lens: &[40, 1],
        block_tables: &[3, 0, 1, 7],
        table_stride: 2,
        sparse: &[],
    };
    let plan = |batch: &AttentionBatch<'_>, shape: &AttentionShape| {
        AttentionPlan::new(batch, &layout, shape, 4, 2, Isa::Portable)
            .map(|plan| plan.num_store_items())
    };
    assert_eq!(plan(&good, &shape), Ok(1));
    let wrong = |result| matches!(result, Err(AttentionError::Batch(_)));
    assert!(wrong(plan(&AttentionBatch { positions: &[38, 40, 0], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { positions: &[38, 39], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { positions: &[38, 39, 0, 1], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { row_starts: &[0, 3], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { row_starts: &[0, -2, 3], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { context_lens: &[1, 1], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { context_lens: &[40, -1], ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { table_stride: 1, ..good }, &shape)));
    assert!(wrong(plan(&AttentionBatch { table_stride: usize::MAX, ..good }, &shape)));
    assert_eq!(
        plan(&AttentionBatch { block_tables: &[3, 4, 1, 7], ..good }, &shape),
        Err(AttentionError::Block { sequence: 0, entry: 1, block: 4, num_blocks: 4 })
    );
    assert_eq!(
        plan(&good, &AttentionShape { window: Some(0), ..shape }),
        Err(AttentionError::Window)
    );
    assert!(matches!(
        plan(&good, &AttentionShape { num_heads: 3, ..shape }),
        Err(AttentionError::Shape { .. })
    ));
    assert!(matches!(
        plan(&good, &AttentionShape { scale: -1.0, ..shape }),
        Err(AttentionError::Number { .. })
    ));
}
