//! Sequences whose earlier keys and values are still arriving while the program runs.
//!
//! Before each layer's attention every thread waits for that layer of the blocks that are on their
//! way. Each thread waits by itself and takes the same barriers whatever it sees. Where a gate says
//! no, a thread passes over the sequence's attention: so it never reads memory that others may be
//! writing, the rows of that sequence are arbitrary from there on, and those of all other sequences
//! are as ever, for no row depends on another sequence's.

use std::sync::Mutex;

use super::push::Push;
use super::remote::Remote;
use super::skip::{Probe, Skip};

/// How far the blocks of a sequence have come.
pub trait Gate: Sync {
    /// Waits, for a bounded time, until the first `num_bytes` bytes of each of the blocks are there
    /// and nobody writes to them. Once it has been false for one thread it stays so for all.
    fn wait(&self, num_bytes: usize) -> bool;
}

/// A sequence of the batch and what tells how far its blocks have come. It may have several.
#[derive(Clone, Copy)]
pub struct Gated<'a> {
    /// Number of the sequence in the batch.
    pub sequence: usize,
    /// Of some of its blocks.
    pub gate: &'a dyn Gate,
}

/// When a layer's attention ran, in seconds of the system's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerTime {
    /// Index of the layer in the KV blocks.
    pub layer: usize,
    /// The first thread came to it.
    pub start_s: f64,
    /// All blocks were there.
    pub ready_s: f64,
    /// It was over.
    pub end_s: f64,
}

/// What a run may have besides its batch.
#[derive(Clone, Copy, Default)]
pub struct Aside<'a> {
    /// Blocks that are on their way.
    pub gates: &'a [Gated<'a>],
    /// Who attends for the last sequences of the batch, in their order.
    pub remotes: &'a [Remote<'a>],
    /// Where keys and values go besides the arena.
    pub pushes: &'a [Push<'a>],
    /// Which sequences leave out sublayers.
    pub skips: &'a [Skip<'a>],
    /// Where to measure how much sublayers change their input.
    pub probe: Option<&'a Probe>,
    /// Where to note when each layer ran.
    pub times: Option<&'a Mutex<Vec<LayerTime>>>,
    /// Where to put what sequences that do not attend to everything read; see
    /// [`Program::report_shape`](super::Program::report_shape).
    pub report: Option<&'a Mutex<Vec<f32>>>,
}

impl Aside<'_> {
    /// Waits for the first `num_bytes` of all blocks; the sequences of which they will not be
    /// there.
    pub(super) fn missing(&self, num_bytes: usize) -> Vec<usize> {
        let is_missing = |gated: &&Gated<'_>| !gated.gate.wait(num_bytes);
        self.gates.iter().filter(is_missing).map(|gated| gated.sequence).collect()
    }

    /// Now, if anybody wants to know.
    pub(super) fn now_s(&self) -> f64 {
        if self.times.is_none() {
            return 0.0;
        }
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable memory of that type.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    }

    /// Notes a layer's times.
    pub(super) fn note(&self, layer: usize, start_s: f64, ready_s: f64, end_s: f64) {
        if let Some(times) = self.times {
            let mut times = times.lock().unwrap_or_else(|poison| poison.into_inner());
            times.push(LayerTime { layer, start_s, ready_s, end_s });
        }
    }
}
