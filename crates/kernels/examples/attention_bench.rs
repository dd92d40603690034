//! Speed of attention: GB/s of keys and values read when decoding, GMAC/s when prefilling.
//!
//! `cargo run --release --example attention_bench [isa] [dtype] [threads]`; the fastest of several
//! runs is shown.

use std::time::Instant;

use artesian_kernels::attention::{
    attend, store, AttentionBatch, AttentionBuffers, AttentionLayer, AttentionPlan, AttentionShape,
    Rope, RopeRows,
};
use artesian_kernels::isa::{strongest, Isa};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_kernels::threads::ThreadPool;

/// Attention of one model.
struct Model {
    name: &'static str,
    shape: AttentionShape,
}

/// Sequences of one step.
struct Step {
    num_sequences: usize,
    context_len: usize,
    num_rows: usize,
    num_layers: usize,
}

/// Puts a range of memory out of the caches, as the weights of a model do between two steps.
fn evict(start: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(64) {
        // SAFETY: the range is readable.
        unsafe { std::arch::x86_64::_mm_clflush(start.add(line)) }
    }
}

/// Seconds of all layers of one step, the fastest of several runs.
fn measure(model: &Model, step: &Step, dtype: KvDtype, isa: Isa, pool: &ThreadPool) -> f64 {
    let AttentionShape { num_heads, num_kv_heads, head_dim, .. } = model.shape;
    let layout = KvLayout::new(step.num_layers, num_kv_heads, head_dim, 32, dtype).unwrap();
    let table_stride = step.context_len.div_ceil(32);
    let num_blocks = table_stride * step.num_sequences;
    // An ordinary number in every format; neighbours in a sequence are not neighbours in the arena.
    let mut arena = vec![0x3cu8; num_blocks * layout.block_bytes() + 64];
    let arena_start = arena.as_mut_ptr();
    // SAFETY: there are 64 bytes more than needed.
    let arena_start = unsafe { arena_start.add(arena_start.align_offset(64)) };
    let tables: Vec<i32> = (0..num_blocks).map(|i| (i * 7_919 % num_blocks) as i32).collect();
    let first = step.context_len - step.num_rows;
    let positions: Vec<i32> =
        (0..step.num_sequences).flat_map(|_| (first..step.context_len).map(|p| p as i32)).collect();
    let row_starts: Vec<i32> =
        (0..=step.num_sequences).map(|s| (s * step.num_rows) as i32).collect();
    let context_lens = vec![step.context_len as i32; step.num_sequences];
    let batch = AttentionBatch {
        positions: &positions,
        row_starts: &row_starts,
        context_lens: &context_lens,
        block_tables: &tables,
        table_stride,
        sparse: &[],
    };
    let row_len = (num_heads + 2 * num_kv_heads) * head_dim;
    let qkv: Vec<f32> = (0..positions.len() * row_len).map(|i| ((i * 31) as f32).sin()).collect();
    let mut out = vec![0f32; positions.len() * num_heads * head_dim];
    let inv_freq: Vec<f32> = (0..head_dim / 2).map(|i| 0.9f32.powi(i as i32)).collect();
    let rows = RopeRows::new(&Rope::new(&inv_freq, true, 1.0), &positions);
    let mut buffers = AttentionBuffers::new();
    let mut fastest = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 1.0 {
        if step.num_rows == 1 {
            evict(arena_start, num_blocks * layout.block_bytes());
        }
        let run = Instant::now();
        let plan =
            AttentionPlan::new(&batch, &layout, &model.shape, num_blocks, pool.num_threads(), isa)
                .unwrap();
        buffers.reserve(&plan, pool.num_threads());
        let layer = |layer| AttentionLayer {
            layer,
            q_norm: None,
            k_norm: None,
            norm_eps: 1e-6,
            rope: &rows,
            qkv: qkv.as_ptr(),
            qkv_stride: row_len,
            out: out.as_mut_ptr(),
            out_stride: num_heads * head_dim,
            arena: arena_start,
        };
        let layers: Vec<AttentionLayer<'_>> = (0..step.num_layers).map(layer).collect();
        run_layers(pool, &plan, &layers, &buffers);
        fastest = fastest.min(run.elapsed().as_secs_f64());
    }
    fastest
}

fn run_layers(
    pool: &ThreadPool,
    plan: &AttentionPlan,
    layers: &[AttentionLayer<'_>],
    buffers: &AttentionBuffers,
) {
    pool.run(&|worker| {
        for layer in layers {
            // SAFETY: the arrays have the batch's rows and the arena its blocks; sequences share
            // none.
            unsafe {
                if plan.num_store_items() > 0 {
                    worker.for_each(plan.num_store_items(), |item| store(plan, layer, item));
                }
                worker.for_each(plan.num_attend_items(), |item| {
                    attend(plan, layer, buffers, worker.id(), item);
                });
            }
        }
    });
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let isa = args.first().map_or(strongest(), |name| Isa::from_name(name).expect("isa"));
    let dtype = args.get(1).map_or(KvDtype::Bf16, |name| KvDtype::from_name(name).expect("dtype"));
    let num_threads = args.get(2).map_or(2, |n| n.parse().expect("threads"));
    let pool = ThreadPool::new(num_threads);
    let shape = |num_heads, num_kv_heads, head_dim: usize, window| AttentionShape {
        num_heads,
        num_kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window,
        softcap: None,
    };
    let models = [
        Model { name: "9 heads, 3 KV, 64", shape: shape(9, 3, 64, None) },
        Model { name: "4 heads, 1 KV, 256", shape: shape(4, 1, 256, None) },
        Model { name: "the same, window 512", shape: shape(4, 1, 256, Some(512)) },
    ];
    println!("{} {} {num_threads} threads", isa.name(), dtype.name());
    for model in &models {
        let AttentionShape { num_heads, num_kv_heads, head_dim, window, .. } = model.shape;
        let seen = |position: usize| (position + 1).min(window.unwrap_or(usize::MAX));
        for (num_sequences, context_len) in [(1, 128), (1, 4_000), (16, 128), (16, 1_000)] {
            let step = Step { num_sequences, context_len, num_rows: 1, num_layers: 8 };
            let seconds = measure(model, &step, dtype, isa, &pool);
            let elements = 2
                * num_kv_heads
                * head_dim
                * step.num_layers
                * num_sequences
                * seen(context_len - 1);
            let bytes = elements * dtype.element_bytes();
            println!(
                "{:22} decode  {num_sequences:3} x {context_len:5}: {:8.3} ms/layer {:7.1} GB/s",
                model.name,
                seconds * 1e3 / step.num_layers as f64,
                bytes as f64 / seconds / 1e9
            );
        }
        for (context_len, num_rows) in [(1_024, 42), (512, 512), (2_048, 2_048), (7_000, 7_000)] {
            let step = Step { num_sequences: 1, context_len, num_rows, num_layers: 2 };
            let seconds = measure(model, &step, dtype, isa, &pool);
            let pairs: usize = (context_len - num_rows..context_len).map(seen).sum();
            let macs = 2 * num_heads * head_dim * pairs * step.num_layers;
            println!(
                "{:22} prefill {num_rows:5} of {context_len:5}: {:8.3} ms/layer {:7.1} GMAC/s",
                model.name,
                seconds * 1e3 / step.num_layers as f64,
                macs as f64 / seconds / 1e9
            );
        }
    }
}
