//! Attention that leaves groups out, against dense attention and against what it says of itself.

use artesian_kernels::attention::{
    attend, store, AttentionBatch, AttentionBuffers, AttentionError, AttentionLayer, AttentionPlan,
    AttentionShape, Rope, RopeRows, Selector, SparseRule, SparseSequence, Turn, TurnScratch,
    REPORT_FIELDS,
};
use artesian_kernels::isa::{available, strongest, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout, KvSummaries, GROUP_TOKENS};
use artesian_kernels::threads::ThreadPool;

const RULE: SparseRule = SparseRule {
    selector: Selector::Progressive,
    epsilon: 0.9,
    budget_tokens: 0,
    dense_layers: 0,
    min_context_tokens: 0,
    audit: true,
};

fn with(selector: Selector, epsilon: f32, budget_tokens: usize) -> SparseRule {
    SparseRule { selector, epsilon, budget_tokens, ..RULE }
}

/// Numbers around 0, the same for the same seed.
fn floats(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() * size).collect()
}

/// Queries, keys and values of a sequence: keys of a group are alike, as those of real text are.
fn rows(seed: u64, shape: &AttentionShape, len: usize) -> Vec<f32> {
    let (heads, kv_heads, dim) = (shape.num_heads, shape.num_kv_heads, shape.head_dim);
    let width = (heads + 2 * kv_heads) * dim;
    let mut rows = floats(seed, len * width, 1.0);
    for (token, row) in rows.chunks_exact_mut(width).enumerate() {
        let topic = floats(seed + 1 + (token / 24) as u64, kv_heads * dim, 1.5);
        row[heads * dim..(heads + kv_heads) * dim].iter_mut().zip(topic).for_each(|(x, t)| *x += t);
    }
    rows
}

/// One layer over an arena full of NaNs, with blocks of a sequence in no order.
struct Bench {
    shape: AttentionShape,
    layout: KvLayout,
    isa: Isa,
    pool: ThreadPool,
    arena: Vec<u8>,
    num_blocks: usize,
}

/// A sequence whose rows up to `at` are stored, and which computes those of `range` now.
struct Part<'a> {
    rows: &'a [f32],
    blocks: &'a [i32],
    range: std::ops::Range<usize>,
    rule: Option<SparseRule>,
}

struct Output {
    out: Vec<Vec<f32>>,
    /// By entry and query head.
    report: Vec<[f32; REPORT_FIELDS]>,
}

impl Bench {
    fn new(
        (heads, kv_heads, head_dim): (usize, usize, usize),
        dtype: KvDtype,
        summaries: KvSummaries,
        isa: Isa,
        num_threads: usize,
    ) -> Bench {
        let shape = AttentionShape {
            num_heads: heads,
            num_kv_heads: kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: None,
            softcap: None,
        };
        let layout = KvLayout::new(2, kv_heads, head_dim, 64, dtype).unwrap();
        let layout = layout.with_summaries(summaries);
        let num_blocks = 200;
        let arena = vec![0xff; num_blocks * layout.block_bytes() + 64];
        Bench { shape, layout, isa, pool: ThreadPool::new(num_threads), arena, num_blocks }
    }

    fn width(&self) -> usize {
        (self.shape.num_heads + 2 * self.shape.num_kv_heads) * self.shape.head_dim
    }

    fn arena(&mut self) -> *mut u8 {
        let start = self.arena.as_mut_ptr();
        start.wrapping_add(start.align_offset(64))
    }

    fn plan(&self, parts: &[Part<'_>]) -> Result<(AttentionPlan, Vec<i32>), AttentionError> {
        let stride = parts.iter().map(|part| part.blocks.len()).max().unwrap();
        let (mut positions, mut row_starts) = (Vec::new(), vec![0]);
        let (mut context_lens, mut tables, mut sparse) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, part) in parts.iter().enumerate() {
            positions.extend(part.range.clone().map(|p| p as i32));
            row_starts.push(positions.len() as i32);
            context_lens.push(part.range.end as i32);
            tables.extend(part.blocks);
            tables.resize(context_lens.len() * stride, -1);
            sparse.extend(part.rule.map(|rule| SparseSequence { sequence, rule }));
        }
        let batch = AttentionBatch {
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &context_lens,
            block_tables: &tables,
            table_stride: stride,
            sparse: &sparse,
        };
        let threads = self.pool.num_threads();
        let (layout, shape) = (&self.layout, &self.shape);
        let plan = AttentionPlan::new(&batch, layout, shape, self.num_blocks, threads, self.isa)?;
        Ok((plan, row_starts))
    }

    /// One step of layer 1.
    fn step(&mut self, parts: &[Part<'_>]) -> Output {
        let (plan, row_starts) = self.plan(parts).unwrap();
        let width = self.width();
        let out_width = self.shape.num_heads * self.shape.head_dim;
        let chosen = |part: &Part<'_>| part.rows[part.range.start * width..].to_vec();
        let qkv: Vec<f32> = parts
            .iter()
            .flat_map(|part| chosen(part)[..part.range.len() * width].to_vec())
            .collect();
        let mut out = vec![f32::NAN; qkv.len() / width * out_width];
        let num_entries = parts.iter().filter(|part| part.rule.is_some()).count();
        let mut buffers = AttentionBuffers::new();
        buffers.reserve(&plan, self.pool.num_threads());
        buffers.start_report(num_entries, 2, self.shape.num_heads);
        let rope = RopeRows::none();
        let layer = AttentionLayer {
            layer: 1,
            q_norm: None,
            k_norm: None,
            norm_eps: 1e-6,
            rope: &rope,
            qkv: qkv.as_ptr(),
            qkv_stride: width,
            out: out.as_mut_ptr(),
            out_stride: out_width,
            arena: self.arena(),
        };
        self.pool.run(&|worker| {
            // SAFETY: the arrays have the batch's rows and the arena its blocks; sequences share
            // none that they write.
            unsafe {
                worker.for_each(plan.num_store_items(), |item| store(&plan, &layer, item));
                worker.for_each(plan.num_attend_items(), |item| {
                    attend(&plan, &layer, &buffers, worker.id(), item)
                });
            }
        });
        let rows =
            |s: usize| row_starts[s] as usize * out_width..row_starts[s + 1] as usize * out_width;
        let num_heads = self.shape.num_heads;
        let numbers = buffers.report().as_chunks::<REPORT_FIELDS>().0;
        Output {
            out: (0..parts.len()).map(|s| out[rows(s)].to_vec()).collect(),
            report: numbers.chunks_exact(num_heads).skip(1).step_by(2).flatten().copied().collect(),
        }
    }

    /// Stores all rows but the last, and computes the last by each rule.
    fn decode(&mut self, seed: u64, len: usize, rules: &[Option<SparseRule>]) -> Vec<Output> {
        let rows = rows(seed, &self.shape, len);
        let blocks = blocks(len, 0);
        let part = |range, rule| Part { rows: &rows, blocks: &blocks, range, rule };
        self.step(&[part(0..len - 1, None)]);
        rules.iter().map(|&rule| self.step(&[part(len - 1..len, rule)])).collect()
    }
}

/// Blocks of a sequence, all mixed up.
fn blocks(len: usize, first: usize) -> Vec<i32> {
    (0..len.div_ceil(64)).map(|i| (first + i * 37 % 61) as i32).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

#[test]
fn all_of_the_weight_is_dense_attention() {
    for isa in available() {
        for dtype in KvDtype::ALL {
            let mut bench = Bench::new((6, 2, 64), dtype, KvSummaries::Cuboid, isa, 2);
            for len in [400, 2_560, 2_565] {
                let rule = with(Selector::Progressive, 1.0, 0);
                let [dense, all] =
                    bench.decode(7, len, &[None, Some(rule)]).try_into().ok().unwrap();
                for (got, expected) in all.out[0].iter().zip(&dense.out[0]) {
                    assert!((got - expected).abs() < 1e-3, "{isa:?} {dtype:?} {len}");
                }
                for [read, visible, estimated, found] in all.report {
                    let groups = len.div_ceil(GROUP_TOKENS) as f32;
                    assert_eq!((read, visible), (groups, groups));
                    assert!(estimated > 0.9999 && found > 0.9999);
                }
            }
        }
    }
}

/// |o* - o| <= 2 (1 - p) max |v| for a kept weight p, whatever was kept.
#[test]
fn the_error_is_bounded_by_the_weight_that_was_left_out() {
    for summaries in [KvSummaries::Cuboid, KvSummaries::Mean, KvSummaries::MinMax] {
        let mut bench = Bench::new((6, 2, 32), KvDtype::F32, summaries, strongest(), 2);
        let rules = [
            with(Selector::Progressive, 0.5, 0),
            with(Selector::Progressive, 0.9, 0),
            with(Selector::Progressive, 0.99, 256),
            with(Selector::TopK, 1.0, 512),
            with(Selector::TopP, 0.7, 0),
            with(Selector::TopP, 0.9, 320),
            with(Selector::Window, 1.0, 256),
        ];
        let mut num_errors = 0;
        for (seed, len) in [(11, 700), (12, 2_200), (13, 3_333), (14, 3_200)] {
            let all: Vec<_> = [None].into_iter().chain(rules.map(Some)).collect();
            let outputs = bench.decode(seed, len, &all);
            let rows = rows(seed, &bench.shape, len);
            let values = rows.chunks_exact(bench.width()).flat_map(|row| row[8 * 32..].chunks(32));
            let largest =
                values.map(|v| v.iter().map(|x| x * x).sum::<f32>().sqrt()).fold(0.0, f32::max);
            for (rule, output) in rules.iter().zip(&outputs[1..]) {
                for (head, &[read, visible, _, found]) in output.report.iter().enumerate() {
                    let place = head * 32..(head + 1) * 32;
                    let error = distance(&output.out[0][place.clone()], &outputs[0].out[0][place]);
                    assert!((0.0..=1.0 + 1e-6).contains(&found), "{rule:?}: {found}");
                    assert!(error <= 2.0 * (1.0 - found) * largest + 1e-4, "{rule:?}: {error}");
                    num_errors += usize::from(error > 1e-3);
                    assert!(read >= 3.0 && read <= visible);
                    if rule.budget_tokens > 0 {
                        assert!(read * 32.0 <= rule.budget_tokens as f32, "{rule:?}: {read}");
                    }
                }
            }
        }
        assert!(num_errors > 50, "something must have been left out: {num_errors}");
    }
}

#[test]
fn more_epsilon_keeps_more() {
    let mut bench = Bench::new((6, 2, 64), KvDtype::F16, KvSummaries::Cuboid, strongest(), 1);
    let rules = [0.5, 0.8, 0.95].map(|epsilon| Some(with(Selector::Progressive, epsilon, 0)));
    let outputs = bench.decode(3, 3_000, &rules);
    let mean = |output: &Output, field: usize| {
        output.report.iter().map(|numbers| numbers[field]).sum::<f32>() / output.report.len() as f32
    };
    for pair in outputs.windows(2) {
        assert!(mean(&pair[0], 0) < mean(&pair[1], 0));
        assert!(mean(&pair[0], 3) < mean(&pair[1], 3));
    }
    for (output, rule) in outputs.iter().zip(rules) {
        assert!(mean(output, 2) >= rule.unwrap().epsilon);
    }
}

#[test]
fn results_depend_neither_on_threads_nor_on_companions() {
    for isa in available() {
        for selector in Selector::ALL {
            let rule = Some(with(selector, 0.8, 640));
            let mut expected: Option<(Vec<f32>, Vec<f32>)> = None;
            for num_threads in 1..=3 {
                let mut bench =
                    Bench::new((3, 1, 64), KvDtype::F16, KvSummaries::Cuboid, isa, num_threads);
                let (long, short) = (rows(5, &bench.shape, 2_700), rows(6, &bench.shape, 900));
                let (mine, other) = (blocks(2_700, 0), blocks(900, 100));
                let part = |range, rule| Part { rows: &long, blocks: &mine, range, rule };
                let beside = |range, rule| Part { rows: &short, blocks: &other, range, rule };
                bench.step(&[part(0..2_699, None), beside(0..800, None)]);
                let alone = bench.step(&[part(2_699..2_700, rule)]).out.remove(0);
                let mut steps = vec![alone];
                for rows in [800..801, 801..850, 850..851] {
                    let is_sparse = rows.start == 850;
                    let beside = beside(rows, rule.filter(|_| is_sparse));
                    steps.push(bench.step(&[beside, part(2_699..2_700, rule)]).out.remove(1));
                }
                let dense = bench.step(&[part(2_699..2_700, None)]).out.remove(0);
                let (sparse, whole) = expected.get_or_insert((steps[0].clone(), dense.clone()));
                steps.iter().for_each(|step| assert_eq!(step, sparse, "{selector:?}"));
                assert_eq!(&dense, whole);
                assert_ne!(sparse, whole);
            }
        }
    }
}

/// Short contexts, first layers, and several rows: bit for bit as without a rule.
#[test]
fn where_a_rule_does_not_hold_attention_is_dense() {
    let mut bench = Bench::new((6, 2, 64), KvDtype::F16, KvSummaries::Cuboid, strongest(), 2);
    let rows = rows(9, &bench.shape, 3_000);
    let blocks = blocks(3_000, 0);
    let part = |range, rule| Part { rows: &rows, blocks: &blocks, range, rule };
    bench.step(&[part(0..2_999, None)]);
    let dense = bench.step(&[part(2_999..3_000, None)]).out;
    let first_layers = SparseRule { dense_layers: 2, ..RULE };
    let too_short = SparseRule { min_context_tokens: 3_000, ..RULE };
    for rule in [first_layers, too_short] {
        let output = bench.step(&[part(2_999..3_000, Some(rule))]);
        assert_eq!(output.out, dense);
        assert!(output.report.iter().all(|numbers| *numbers == [94.0, 94.0, 1.0, 1.0]));
    }
    let two = bench.step(&[part(2_998..3_000, Some(RULE))]);
    assert_eq!(two.out[0][6 * 64..], dense[0]);
    assert!(two.report.iter().all(|numbers| *numbers == [0.0; 4]));
}

/// Summaries are those of the stored keys, however these came to be stored.
#[test]
fn summaries_are_sealed_by_whoever_fills_a_group() {
    for dtype in KvDtype::ALL {
        for (kind, vectors) in
            [(KvSummaries::Cuboid, 2), (KvSummaries::MinMax, 2), (KvSummaries::Mean, 1)]
        {
            let mut kept: Option<Vec<u8>> = None;
            for chunk in [70, 1, 33] {
                let mut bench = Bench::new((2, 2, 16), dtype, kind, strongest(), 2);
                let rows = rows(21, &bench.shape, 70);
                for start in (0..70).step_by(chunk) {
                    let range = start..(start + chunk).min(70);
                    bench.step(&[Part { rows: &rows, blocks: &[3, 5], range, rule: None }]);
                }
                let arena = bench.arena();
                let layer = 3 * bench.layout.block_bytes() + bench.layout.layer_range(1).start;
                let bytes = bench.layout.layer_bytes();
                // SAFETY: the arena has that block.
                let layer = unsafe { std::slice::from_raw_parts(arena.add(layer), bytes) };
                assert_eq!(kept.get_or_insert_with(|| layer.to_vec()), layer, "{dtype:?} {kind:?}");
                check_summary(&bench.layout, kind, vectors, &rows, layer);
            }
        }
    }
}

/// Compares with plain arithmetic over the keys, which the formats round.
fn check_summary(layout: &KvLayout, kind: KvSummaries, vectors: usize, rows: &[f32], layer: &[u8]) {
    let summaries = &layer[layout.tiles_bytes()..];
    for (place, summary) in summaries.chunks_exact(vectors * 32).take(4).enumerate() {
        let (kv_head, group) = (place / 2, place % 2);
        for dim in 0..16 {
            let key = |token: usize| rows[(group * 32 + token) * 96 + 32 + kv_head * 16 + dim];
            let keys: Vec<f32> = (0..32).map(key).collect();
            let most = keys.iter().copied().fold(f32::MIN, f32::max);
            let least = keys.iter().copied().fold(f32::MAX, f32::min);
            let centre = (most + least) / 2.0;
            let expected = match kind {
                KvSummaries::Mean => [keys.iter().sum::<f32>() / 32.0, 0.0],
                KvSummaries::MinMax => [centre, (most - least) / 2.0],
                _ => [centre, keys.iter().map(|k| (k - centre).abs()).sum::<f32>() / 32.0],
            };
            for (vector, expected) in expected[..vectors].iter().enumerate() {
                let at = (vector * 16 + dim) * 2;
                let got = half::f16::from_le_bytes([summary[at], summary[at + 1]]).to_f32();
                assert!((got - expected).abs() < 0.02, "{kind:?} {got} {expected}");
            }
        }
    }
}

/// Keys that move get the summaries of what they become.
#[test]
fn turned_keys_have_summaries_of_their_own() {
    let kind = KvSummaries::Cuboid;
    let mut bench = Bench::new((2, 2, 16), KvDtype::F32, kind, strongest(), 1);
    let rows = rows(22, &bench.shape, 64);
    bench.step(&[Part { rows: &rows, blocks: &[3], range: 0..64, rule: None }]);
    let (layout, isa, arena) = (bench.layout, bench.isa, bench.arena());
    let place = |block: usize| {
        arena.wrapping_add(block * layout.block_bytes() + layout.layer_range(1).start)
    };
    let turn = Turn::new(&Rope::new(&[0.5, 0.2, 0.1], false, 1.0), -96);
    // SAFETY: the arena has both blocks, and nobody else uses them.
    let layer = unsafe {
        turn.layer(isa, &layout, place(3), place(7), &mut TurnScratch::new());
        std::slice::from_raw_parts(place(7), layout.layer_bytes())
    };
    let mut turned = rows.clone();
    for (token, row) in turned.chunks_exact_mut(96).enumerate() {
        for (kv_head, dim) in (0..2).flat_map(|head| (0..16).map(move |dim| (head, dim))) {
            let group = &layer[(kv_head * 2 + token / 32) * layout.group_bytes()..];
            let at = (dim * 32 + token % 32) * 4;
            let key = f32::from_le_bytes(group[at..at + 4].try_into().unwrap());
            row[32 + kv_head * 16 + dim] = key;
        }
    }
    assert_ne!(turned, rows);
    check_summary(&layout, kind, 2, &turned, layer);
}

#[test]
fn impossible_rules_are_refused_with_reasons() {
    let fault = |summaries, rules: &[SparseRule]| {
        let bench = Bench::new((2, 1, 32), KvDtype::F16, summaries, strongest(), 1);
        let (rows, blocks) = (rows(1, &bench.shape, 64), blocks(640, 0));
        let part = |&rule: &SparseRule| Part {
            rows: &rows,
            blocks: &blocks,
            range: 639..640,
            rule: Some(rule),
        };
        let parts: Vec<_> = rules.iter().map(part).collect();
        bench.plan(&parts).map(|_| ()).map_err(|error| error.to_string())
    };
    let none = KvSummaries::None;
    assert!(fault(none, &[RULE]).unwrap_err().contains("hold no summaries"));
    assert_eq!(fault(none, &[with(Selector::Window, 1.0, 64)]), Ok(()));
    for epsilon in [0.0, -1.0, 1.5, f32::NAN] {
        let error = fault(KvSummaries::Cuboid, &[with(Selector::Progressive, epsilon, 0)]);
        assert!(error.unwrap_err().contains("must be in (0, 1]"));
    }
    let error = fault(KvSummaries::Cuboid, &[with(Selector::TopK, 1.0, 0)]);
    assert!(error.unwrap_err().contains("top-k attention needs a budget"));
}
