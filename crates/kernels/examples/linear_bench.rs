//! Prints how fast quantised linears run on one thread:
//! `cargo run --release --example linear_bench [isa]`.

use std::time::Instant;

use artesian_kernels::gguf::Format;
use artesian_kernels::isa::{self, Isa};
use artesian_kernels::linear::{LinearScratch, QuantInput, QuantLinear};
use artesian_kernels::threads::ThreadPool;

const SHAPE: (usize, usize) = (1536, 512);
/// More than the second-level cache holds together.
const NUM_WEIGHTS: usize = 24;

fn main() {
    let only = std::env::args().nth(1).and_then(|name| Isa::from_name(&name));
    let (rows, cols) = SHAPE;
    let pool = ThreadPool::new(1);
    for format in [Format::Q4_1, Format::Q4_0, Format::Q8_0, Format::Q6_K] {
        let bytes = rows * format.row_bytes(cols).expect("whole blocks");
        let data: Vec<u8> = (0..bytes).map(|i| (i % 51) as u8).collect();
        for isa in isa::available().skip(1).filter(|isa| only.is_none_or(|only| only == *isa)) {
            let pack = || QuantLinear::from_blocks(&pool, isa, format, &data, rows, cols);
            let start = Instant::now();
            let weights: Vec<_> = (0..NUM_WEIGHTS).map(|_| pack().expect("fits")).collect();
            let packed = (NUM_WEIGHTS * rows * cols) as f64 / start.elapsed().as_secs_f64();
            println!("{} {}: packs {:.0} M weights/s", format.name(), isa.name(), packed / 1e6);
            for m in [1, 2, 4, 8, 16, 64, 256] {
                time(isa, format, &weights, m);
            }
        }
    }
}

fn time(isa: Isa, format: Format, weights: &[QuantLinear], m: usize) {
    let (rows, cols) = SHAPE;
    let input = QuantInput::new(isa, m, cols);
    let x: Vec<f32> = (0..cols).map(|i| (i % 17) as f32 - 8.0).collect();
    for row in 0..m {
        // SAFETY: one thread.
        unsafe { input.quantize_row(isa, row, &x) };
    }
    let mut scratch = LinearScratch::new(m, cols);
    let best = (0..9)
        .map(|_| {
            let start = Instant::now();
            for weight in weights {
                for panel in 0..weight.num_panels() {
                    std::hint::black_box(weight.compute(isa, panel, &input, 0, m, &mut scratch));
                }
            }
            start.elapsed().as_secs_f64() / weights.len() as f64
        })
        .fold(f64::MAX, f64::min);
    println!(
        "{} {:8} M={m:<4} {:7.1} us {:7.1} GMAC/s {:6.1} GB/s",
        format.name(),
        isa.name(),
        best * 1e6,
        (m * rows * cols) as f64 / best / 1e9,
        weights[0].num_bytes() as f64 / best / 1e9
    );
}
