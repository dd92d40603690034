//! What verbs on shared memory cost: nanoseconds a verb by kind and batch size, and the bandwidth
//! of copies beside `memcpy`.
//!
//! Run: `cargo run --release -p artesian-bus --example bus_bench [delay]`,
//! where `delay` is a modelled delay of every batch in nanoseconds.

use std::hint::black_box;
use std::time::Instant;

use artesian_bus::shm::ShmNodes;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

const NODE: NodeId = NodeId(0);
const ROUNDS: usize = 7;
const NODE_BYTES: u64 = 64 << 20;

/// Nanoseconds of one call of each: the medians of a few rounds that take turns, so that what else
/// the machine does meets all of them alike.
fn time<const N: usize>(calls: usize, run: &mut dyn FnMut(usize)) -> [f64; N] {
    let mut rounds = [[0.0; ROUNDS]; N];
    for round in 0..ROUNDS {
        for (which, times) in rounds.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..calls {
                run(which);
            }
            times[round] = start.elapsed().as_nanos() as f64 / calls as f64;
        }
    }
    rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}

fn verbs_table(verbs: &dyn Verbs) {
    println!("\nns a verb         batch of 1         2         4         8        16");
    let at = |i: usize| GlobalAddr::new(NODE, i as u64 * 4096);
    for kind in ["read 8", "read 100", "write 8", "write 100", "cas", "faa"] {
        let cells = [1, 2, 4, 8, 16].map(|size| {
            let bytes = [7; 100];
            let mut buffers = [[0; 100]; 16];
            let [ns] = time(20_000, &mut |_| {
                let mut batch: Vec<Verb<'_>> = Vec::with_capacity(16);
                for (i, into) in buffers[..size].iter_mut().enumerate() {
                    batch.push(match kind {
                        "read 8" => Verb::read(at(i), &mut into[..8]),
                        "read 100" => Verb::read(at(i), into),
                        "write 8" => Verb::write(at(i), &bytes[..8]),
                        "write 100" => Verb::write(at(i), &bytes),
                        "cas" => Verb::cas(at(i), 1, 1),
                        _ => Verb::faa(at(i), 0),
                    });
                }
                verbs.batch(black_box(&mut batch)).expect("the node is there");
            });
            ns / size as f64
        });
        let cells: String = cells.iter().map(|ns| format!("{ns:>10.1}")).collect();
        println!("{kind:<18}{cells}");
    }
}

fn copies_table(verbs: &dyn Verbs) {
    println!("\ncopy bytes       memcpy GB/s        read       write   (times memcpy)");
    for bytes in [256, 4096, 65_536, 1 << 20, 4 << 20, 32 << 20] {
        let calls = ((128 << 20) / bytes).min(20_000);
        let (mut into, from) = (vec![1_u8; bytes], vec![2_u8; bytes]);
        let at = GlobalAddr::new(NODE, 0);
        let times: [f64; 3] = time(calls, &mut |which| match which {
            0 => black_box(&mut into).copy_from_slice(black_box(&from)),
            1 => verbs.batch(&mut [Verb::read(at, black_box(&mut into))]).expect("is there"),
            _ => verbs.batch(&mut [Verb::write(at, black_box(&from))]).expect("is there"),
        });
        let [plain, read, write] = times.map(|ns| bytes as f64 / ns);
        println!(
            "{bytes:<17}{plain:>11.1}{read:>12.1}{write:>12.1}   ({:.2}, {:.2})",
            read / plain,
            write / plain
        );
    }
}

fn main() {
    let delay = std::env::args().nth(1).map_or(0, |text| text.parse().expect("nanoseconds"));
    let pool = ShmNodes::open(&format!("bench-{}", std::process::id())).expect("a good name");
    pool.create_node(NODE, NODE_BYTES).expect("room in /dev/shm");
    let verbs = pool.connect().with_delay(delay);
    println!("shared memory, one client, modelled delay {delay} ns a batch");
    verbs_table(&verbs);
    copies_table(&verbs);
    pool.remove().expect("the pool is ours");
}
