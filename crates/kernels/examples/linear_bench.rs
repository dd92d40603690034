//! Prints how fast group linears run: `cargo run --release --example linear_bench`.

use std::time::Instant;

use artesian_kernels::isa;
use artesian_kernels::linear::{GroupPacker, LinearScratch, QuantRows, RowParts, GROUP};

fn main() {
    for (name, bits, group, zero) in [
        ("q4_1", 4, 32, None),
        ("q4_0", 4, 32, Some(8)),
        ("q8_0", 8, 32, Some(128)),
        ("q6_k", 8, 16, Some(32)),
    ] {
        let (n, k) = (1536, 576);
        let copies: Vec<_> = (0..24)
            .map(|_| {
                let packer = GroupPacker::new(n, k, bits, group, zero);
                let codes = vec![3u8; k];
                let factors = vec![0.5f32; k / group];
                for row in 0..n {
                    let parts = RowParts { codes: &codes, scales: &factors, mins: &factors };
                    // SAFETY: one thread.
                    unsafe { packer.pack_row(row, &parts) };
                }
                packer.finish()
            })
            .collect();
        for isa in isa::available().skip(1) {
            for m in [1, 2, 4, 8, 16, 64, 256] {
                let rows = QuantRows::new(m, k);
                let x = vec![1.0f32; k];
                for row in 0..m {
                    // SAFETY: one thread.
                    unsafe { rows.quantize(isa, row, k / GROUP, 0, &x) };
                }
                let mut scratch = LinearScratch::new(m, k);
                let best = (0..7)
                    .map(|_| {
                        let start = Instant::now();
                        for weight in &copies {
                            for panel in 0..weight.num_panels() {
                                std::hint::black_box(weight.compute(
                                    isa,
                                    panel,
                                    &rows,
                                    0,
                                    m,
                                    &mut scratch,
                                ));
                            }
                        }
                        start.elapsed().as_secs_f64() / copies.len() as f64
                    })
                    .fold(f64::MAX, f64::min);
                println!(
                    "{name} {:8} M={m:<4} {:7.1} us {:7.1} GMAC/s {:6.1} GB/s",
                    isa.name(),
                    best * 1e6,
                    (m * n * k) as f64 / best / 1e9,
                    copies[0].num_bytes() as f64 / best / 1e9
                );
            }
        }
    }
}
