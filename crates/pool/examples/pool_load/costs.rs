//! What operations of one kind cost.

use artesian_bus::Tally;
use hdrhistogram::Histogram;
use serde_json::{json, Value};

use crate::Error;

/// Operations with more round trips are counted as having this many.
const MOST_TRIPS: usize = 32;

/// Latencies and verbs of the operations that were looked at.
pub struct Costs {
    latencies_ns: Histogram<u64>,
    trips: [u64; MOST_TRIPS],
    sum: Tally,
}

impl Costs {
    pub fn new() -> Result<Costs, Error> {
        let latencies_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Costs { latencies_ns, trips: [0; MOST_TRIPS], sum: Tally::default() })
    }

    pub fn add(&mut self, ns: u64, tally: Tally) {
        self.latencies_ns.saturating_record(ns);
        self.trips[(tally.round_trips as usize).min(MOST_TRIPS - 1)] += 1;
        let sum = &mut self.sum;
        sum.reads += tally.reads;
        sum.writes += tally.writes;
        sum.cas += tally.cas;
        sum.faa += tally.faa;
        sum.round_trips += tally.round_trips;
        sum.bytes += tally.bytes;
    }

    /// `None` if there were no such operations. "usual" is the most frequent number of round
    /// trips; the means hold what is amortised over many operations as well.
    pub fn report(&self) -> Option<Value> {
        let count = self.latencies_ns.len();
        if count == 0 {
            return None;
        }
        let usual = (0..MOST_TRIPS).max_by_key(|&trips| self.trips[trips]);
        let mean = |sum: u64| (sum as f64 / count as f64 * 1000.0).round() / 1000.0;
        Some(json!({
            "sampled": count,
            "mean_ns": self.latencies_ns.mean(),
            "p50_ns": self.latencies_ns.value_at_quantile(0.5),
            "p99_ns": self.latencies_ns.value_at_quantile(0.99),
            "max_ns": self.latencies_ns.max(),
            "usual_round_trips": usual,
            "round_trips": mean(self.sum.round_trips),
            "reads": mean(self.sum.reads),
            "writes": mean(self.sum.writes),
            "cas": mean(self.sum.cas),
            "faa": mean(self.sum.faa),
            "bytes": mean(self.sum.bytes),
        }))
    }
}
