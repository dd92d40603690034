//! Speed of attention that leaves groups out, beside dense attention over the same blocks.
//!
//! `cargo run --release --example sparse_bench [isa] [dtype] [threads] [part read] [audited]`; all
//! selectors but top-p read the same part, by their budgets; the medians of interleaved runs are
//! shown. Keys are random: where time goes does not depend on their values, what is kept does.

use std::time::Instant;

use artesian_kernels::attention::{
    attend, AttentionBatch, AttentionBuffers, AttentionLayer, AttentionPlan, AttentionShape,
    RopeRows, Selector, SparseRule, SparseSequence,
};
use artesian_kernels::isa::{strongest, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout, KvSummaries};
use artesian_kernels::threads::ThreadPool;

const HUGE_PAGE: usize = 2 << 20;
const SECONDS: f64 = 1.0;

/// Attention of one model.
struct Model {
    name: &'static str,
    shape: AttentionShape,
    num_layers: usize,
    contexts: [usize; 3],
}

/// Blocks in huge pages, filled with numbers of ordinary size.
struct Arena {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Arena {
    fn new(len: usize, dtype: KvDtype) -> Arena {
        let mut memory = Vec::<u8>::with_capacity(len + HUGE_PAGE);
        let start = memory.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: the range is this vector's; the advice has no effect but on speed.
        unsafe { libc::madvise(memory.as_mut_ptr().add(start).cast(), len, libc::MADV_HUGEPAGE) };
        memory.resize(len + HUGE_PAGE, 0);
        let mut state = 1u64;
        for pair in memory[start..start + len].as_chunks_mut::<2>().0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let x = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            *pair = match dtype {
                KvDtype::Bf16 => half::bf16::from_f32(x).to_le_bytes(),
                _ => half::f16::from_f32(x).to_le_bytes(),
            };
        }
        Arena { memory, start, len }
    }

    /// Puts it out of the caches, as the weights of a model do between two steps.
    fn evict(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..self.len).step_by(64) {
            // SAFETY: the range is readable.
            unsafe { std::arch::x86_64::_mm_clflush(self.memory.as_ptr().add(self.start + line)) }
        }
    }
}

/// One step of sequences of the same length.
struct Step<'a> {
    model: &'a Model,
    layout: KvLayout,
    arena: Arena,
    context: usize,
    num_sequences: usize,
    isa: Isa,
    pool: &'a ThreadPool,
}

impl Step<'_> {
    /// Seconds of a step, and the part of the groups that it read.
    fn run(&mut self, rule: Option<SparseRule>, buffers: &mut AttentionBuffers) -> (f64, f64) {
        let AttentionShape { num_heads, num_kv_heads, head_dim, .. } = self.model.shape;
        let (sequences, context) = (self.num_sequences, self.context);
        let stride = context.div_ceil(32);
        let num_blocks = stride * sequences;
        let tables: Vec<i32> = (0..num_blocks).map(|i| (i * 7_919 % num_blocks) as i32).collect();
        let positions = vec![context as i32 - 1; sequences];
        let row_starts: Vec<i32> = (0..=sequences as i32).collect();
        let sparse: Vec<SparseSequence> = (0..sequences)
            .flat_map(|sequence| rule.map(|rule| SparseSequence { sequence, rule }))
            .collect();
        let batch = AttentionBatch {
            positions: &positions,
            row_starts: &row_starts,
            context_lens: &vec![context as i32; sequences],
            block_tables: &tables,
            table_stride: stride,
            sparse: &sparse,
        };
        let width = (num_heads + 2 * num_kv_heads) * head_dim;
        let qkv: Vec<f32> = (0..sequences * width).map(|i| (i as f32 * 31.0).sin()).collect();
        let mut out = vec![0f32; sequences * num_heads * head_dim];
        let rope = RopeRows::none();
        self.arena.evict();
        let start = Instant::now();
        let threads = self.pool.num_threads();
        let (layout, shape) = (&self.layout, &self.model.shape);
        let plan =
            AttentionPlan::new(&batch, layout, shape, num_blocks, threads, self.isa).unwrap();
        buffers.reserve(&plan, threads);
        buffers.start_report(sparse.len(), self.model.num_layers, num_heads);
        let arena = self.arena.memory.as_mut_ptr().wrapping_add(self.arena.start);
        let layer = |layer| AttentionLayer {
            layer,
            q_norm: None,
            k_norm: None,
            norm_eps: 1e-6,
            rope: &rope,
            qkv: qkv.as_ptr(),
            qkv_stride: width,
            out: out.as_mut_ptr(),
            out_stride: num_heads * head_dim,
            arena,
        };
        let layers: Vec<AttentionLayer<'_>> = (0..self.model.num_layers).map(layer).collect();
        self.pool.run(&|worker| {
            for layer in &layers {
                worker.for_each(plan.num_attend_items(), |item| {
                    // SAFETY: the arrays have the batch's rows and the arena its blocks.
                    unsafe { attend(&plan, layer, buffers, worker.id(), item) };
                });
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        let numbers = buffers.report().as_chunks::<4>().0;
        let [read, visible] = [0, 1].map(|at| numbers.iter().map(|n| n[at]).sum::<f32>());
        (seconds, if visible > 0.0 { f64::from(read / visible) } else { 1.0 })
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(step: &mut Step<'_>, part: f64, is_audited: bool) {
    let budget_tokens = (step.context as f64 * part) as usize / 32 * 32;
    let rule = |selector, epsilon, budget_tokens| SparseRule {
        selector,
        epsilon,
        budget_tokens,
        dense_layers: 0,
        min_context_tokens: 0,
        audit: is_audited,
    };
    let rules = [
        ("dense", None),
        ("progressive", Some(rule(Selector::Progressive, 0.999_999, budget_tokens))),
        ("top-k", Some(rule(Selector::TopK, 1.0, budget_tokens))),
        ("top-p", Some(rule(Selector::TopP, part as f32, 0))),
        ("window", Some(rule(Selector::Window, 1.0, budget_tokens))),
    ];
    let mut buffers = AttentionBuffers::new();
    let mut times = vec![Vec::new(); rules.len()];
    let mut parts = vec![0.0; rules.len()];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < SECONDS || times[0].len() < 3 {
        for (place, (_, rule)) in rules.iter().enumerate() {
            let (seconds, part) = step.run(*rule, &mut buffers);
            times[place].push(seconds);
            parts[place] = part;
        }
    }
    let groups = step.num_sequences * step.context.div_ceil(32) * step.model.num_layers;
    let bytes = groups * step.layout.tiles_bytes();
    let dense = median(&mut times[0]);
    for (place, (name, _)) in rules.iter().enumerate() {
        let seconds = median(&mut times[place]);
        println!(
            "{} {:2} x {:5} {name:12} read {:.3}: {:8.3} ms {:5.1} GB/s {:5.2} x dense",
            step.model.name,
            step.num_sequences,
            step.context,
            parts[place],
            seconds * 1e3,
            bytes as f64 * parts[place] / seconds / 1e9,
            dense / seconds,
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let isa = args.first().map_or(strongest(), |name| Isa::from_name(name).expect("isa"));
    let dtype = args.get(1).map_or(KvDtype::F16, |name| KvDtype::from_name(name).expect("dtype"));
    let num_threads = args.get(2).map_or(2, |n| n.parse().expect("threads"));
    let part = args.get(3).map_or(0.3, |n| n.parse().expect("part"));
    let is_audited = args.get(4).is_some();
    let pool = ThreadPool::new(num_threads);
    let shape = |num_heads, num_kv_heads, head_dim: usize| AttentionShape {
        num_heads,
        num_kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window: None,
        softcap: None,
    };
    let models = [
        Model {
            name: "9 heads, 3 KV, 64 ",
            shape: shape(9, 3, 64),
            num_layers: 30,
            contexts: [2_048, 4_096, 8_192],
        },
        Model {
            name: "4 heads, 1 KV, 256",
            shape: shape(4, 1, 256),
            num_layers: 3,
            contexts: [8_192, 16_384, 32_768],
        },
    ];
    println!("{} {} {num_threads} threads", isa.name(), dtype.name());
    for model in &models {
        let AttentionShape { num_kv_heads, head_dim, .. } = model.shape;
        let layout = KvLayout::new(model.num_layers, num_kv_heads, head_dim, 32, dtype).unwrap();
        let layout = layout.with_summaries(KvSummaries::Cuboid);
        for context in model.contexts {
            for num_sequences in [1, 4] {
                let len = num_sequences * context.div_ceil(32) * layout.block_bytes();
                let arena = Arena::new(len, dtype);
                let step =
                    &mut Step { model, layout, arena, context, num_sequences, isa, pool: &pool };
                measure(step, part, is_audited);
            }
        }
    }
}
