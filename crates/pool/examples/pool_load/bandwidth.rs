//! How fast this machine copies, in the patterns of reads and writes of large values.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pico_args::Arguments;
use serde_json::{json, Value};

use crate::Error;

/// Bytes per second of `memcpy` between one buffer and many that take turns.
pub fn memcpy(mut args: Arguments) -> Result<Value, Error> {
    let bytes: usize = args.value_from_str("--value-bytes")?;
    let buffers: usize = args.value_from_str("--keys")?;
    let seconds: f64 = args.value_from_str("--seconds")?;
    let mut many: Vec<Vec<u8>> = (0..buffers).map(|at| vec![at as u8; bytes]).collect();
    let mut one = vec![1; bytes];
    let read = rate(seconds, bytes, |at| one.copy_from_slice(black_box(&many[at % buffers])));
    let write = rate(seconds, bytes, |at| many[at % buffers].copy_from_slice(black_box(&one)));
    Ok(json!({ "read_bytes_per_s": read, "write_bytes_per_s": write }))
}

fn rate(seconds: f64, bytes: usize, mut copy: impl FnMut(usize)) -> f64 {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        copy(done);
        done += 1;
    }
    (done * bytes) as f64 / start.elapsed().as_secs_f64()
}
