//! One client's part of a workload.

use std::ops::Bound;

use artesian_pool::client::Client;
use artesian_pool::store::Expiry;
use pico_args::Arguments;
use rustix::time::{clock_gettime, ClockId};
use serde_json::{json, Map, Value};

use crate::costs::Costs;
use crate::setup::{join, scattered, tree};
use crate::workload::{key, Kind, Workload};
use crate::zipf::Random;
use crate::Error;

/// One operation of so many is timed and its verbs counted; of large values every one. Not a
/// power of two, which would always or never meet what is done once in so many operations.
const EVERY: u64 = 17;
const LARGE: usize = 16 << 10;
/// Values of one scan at most; every number is as likely.
const MOST_SCANNED: u64 = 100;
/// How often the lease is looked after.
const TICK_NS: u64 = 200_000_000;

const KINDS: [(Kind, &str); 5] = [
    (Kind::Read, "read"),
    (Kind::Update, "update"),
    (Kind::Insert, "insert"),
    (Kind::ReadModifyWrite, "read-modify-write"),
    (Kind::Scan, "scan"),
];

pub struct Runner {
    pub client: Client,
    pub workload: Workload,
    pub value: Vec<u8>,
    into: Vec<u8>,
    misses: u64,
    every: u64,
    /// The ordered index, of workload E.
    tree: Option<u16>,
    lengths: Random,
}

/// Works from now on, and counts from `--start` (nanoseconds of the monotonic clock) on for
/// `--seconds`.
pub fn run(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let letter: String = args.value_from_str("--workload")?;
    let keys: u64 = args.value_from_str("--keys")?;
    let value_bytes: usize = args.value_from_str("--value-bytes")?;
    let seconds: f64 = args.value_from_str("--seconds")?;
    let start: Option<u64> = args.opt_value_from_str("--start")?;
    let me: u64 = args.opt_value_from_str("--client")?.unwrap_or(0);
    let clients: u64 = args.opt_value_from_str("--clients")?.unwrap_or(1);
    let delay_ns: u64 = args.opt_value_from_str("--delay-ns")?.unwrap_or(0);
    let cache_mib: usize = args.opt_value_from_str("--cache-mib")?.unwrap_or(16);
    let every = if value_bytes >= LARGE { 1 } else { EVERY };
    let every: u64 = args.opt_value_from_str("--every")?.unwrap_or(every);
    let batch: Option<usize> = args.opt_value_from_str("--batch")?;
    let workload = Workload::new(&letter, keys, me, clients).ok_or("workloads are a to f")?;
    let mut client = join(pool, delay_ns, cache_mib)?;
    let tree = if letter == "e" { Some(tree(&mut client)?) } else { None };
    let start = start.unwrap_or_else(|| client.fabric().verbs().now_ns() + 500_000_000);
    let value = (0..value_bytes).map(|at| at as u8).collect();
    let lengths = Random(me);
    let mut runner =
        Runner { client, workload, value, into: Vec::new(), misses: 0, every, tree, lengths };
    runner.work(start)?;
    let ns = (seconds * 1e9) as u64;
    let counted = match batch {
        Some(batch) => runner.count_batches(start, ns, batch)?,
        None => runner.count(start, ns)?,
    };
    runner.client.leave()?;
    Ok(counted)
}

/// Seconds of CPU time of this process.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

impl Runner {
    /// Works until `end`; the counts do not matter.
    fn work(&mut self, end: u64) -> Result<(), Error> {
        while self.client.fabric().verbs().now_ns() < end {
            self.client.tick()?;
            for _ in 0..if self.value.len() >= LARGE { 1 } else { 256 } {
                self.step()?;
            }
        }
        Ok(())
    }

    fn count(&mut self, start: u64, ns: u64) -> Result<Value, Error> {
        let every = self.every;
        let mut costs = KINDS.map(|_| Costs::new());
        let (mut done, mut ticked, mut now) = (0_u64, start, start);
        self.misses = 0;
        let cpu = cpu_seconds();
        while now < start + ns {
            for _ in 1..every {
                self.step()?;
            }
            let before = (self.client.fabric().verbs().tally(), self.now());
            let kind = self.step()?;
            now = self.now();
            let tally = self.client.fabric().verbs().tally() - before.0;
            let at = KINDS.iter().position(|(known, _)| *known == kind);
            if let Some(Ok(costs)) = at.map(|at| &mut costs[at]) {
                costs.add(now - before.1, tally);
            }
            done += every;
            if now - ticked > TICK_NS {
                self.client.tick()?;
                ticked = now;
            }
        }
        let mut kinds = Map::new();
        for ((_, name), costs) in KINDS.into_iter().zip(costs) {
            if let Some(report) = costs?.report() {
                kinds.insert(name.into(), report);
            }
        }
        let seconds = (now - start) as f64 / 1e9;
        Ok(json!({
            "operations": done,
            "seconds": seconds,
            "ops_per_s": done as f64 / seconds,
            "cpu_seconds": cpu_seconds() - cpu,
            "misses": self.misses,
            "kinds": kinds,
        }))
    }

    pub fn now(&self) -> u64 {
        self.client.fabric().verbs().now_ns()
    }

    #[inline]
    fn step(&mut self) -> Result<Kind, Error> {
        let (kind, number) = self.workload.next();
        if let Some(tree) = self.tree {
            self.ordered(tree, kind, &scattered(number))?;
            return Ok(kind);
        }
        let key = key(number);
        match kind {
            Kind::Scan => return Err("only the ordered index scans".into()),
            Kind::Read => self.read(&key)?,
            Kind::Update => self.write(&key, number)?,
            Kind::Insert => {
                self.stamp(number);
                self.client.insert(0, &key, &self.value, Expiry::Never)?;
            }
            Kind::ReadModifyWrite => {
                self.read(&key)?;
                self.write(&key, number)?;
            }
        }
        Ok(kind)
    }

    /// A step of workload E.
    fn ordered(&mut self, tree: u16, kind: Kind, key: &[u8]) -> Result<(), Error> {
        if kind == Kind::Insert {
            self.client.tree_insert(tree, key, &self.value)?;
            return Ok(());
        }
        let length = self.lengths.below(MOST_SCANNED) as usize + 1;
        let (into, from) = (&mut self.into, Bound::Included(key));
        into.clear();
        let found = self.client.tree_scan(tree, from, Bound::Unbounded, length, |_, value| {
            into.extend_from_slice(value);
            true
        })?;
        self.misses += u64::from(found == 0);
        Ok(())
    }

    fn read(&mut self, key: &[u8]) -> Result<(), Error> {
        let found = self.client.get(0, key, &mut self.into)?;
        self.misses += u64::from(!found);
        Ok(())
    }

    fn write(&mut self, key: &[u8], number: u64) -> Result<(), Error> {
        self.stamp(number);
        Ok(self.client.put(0, key, &self.value, Expiry::Never)?)
    }

    /// Makes the value differ from the others.
    fn stamp(&mut self, number: u64) {
        if let Some(first) = self.value.first_chunk_mut() {
            *first = number.to_le_bytes();
        }
    }
}
