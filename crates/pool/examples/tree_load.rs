//! The ordered index on a pool in shared memory: operations a second, round trips, and what the
//! logs of its transactions cost. One client, so that nothing but the index is measured; one line
//! of JSON a shape.
//!
//! ```text
//! tree_load [--keys 100000] [--value-bytes 20] [--seconds 1] [--rounds 5] [--delay-ns 0]
//! ```
//!
//! Rates are operations per second of CPU time, as one client never waits for anything else: what
//! others do on the machine counts less. With and without logs take turns within every round.
//! `--delay-ns` models a network: every batch takes that much longer, spinning.

use std::ops::Bound;
use std::sync::Arc;

use artesian_bus::shm::ShmNodes;
use artesian_bus::NodeId;
use artesian_pool::client::Client;
use artesian_pool::namespace::{self, Kind, Limits};
use artesian_pool::{lifecycle, PoolConfig};
use pico_args::Arguments;
use rustix::time::{clock_gettime, ClockId};
use serde_json::{json, Value};

type Error = Box<dyn std::error::Error>;

/// Nodes and copies.
const SHAPES: [(u16, u8); 4] = [(1, 1), (3, 1), (3, 2), (3, 3)];
const NODE_BYTES: u64 = 256 << 20;
/// Keys of a scan.
const SCAN: usize = 100;

struct Plan {
    keys: u64,
    value: Vec<u8>,
    ns: u64,
    rounds: usize,
    delay_ns: u64,
}

/// Rates of the rounds, and what the operations of the last one cost.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    round_trips: f64,
    log_bytes: f64,
}

impl Measured {
    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    fn report(&self) -> Value {
        json!({
            "ops_per_cpu_s": self.median().round(),
            "lowest": self.rates.iter().copied().fold(f64::MAX, f64::min).round(),
            "highest": self.rates.iter().copied().fold(0.0, f64::max).round(),
            "round_trips": self.round_trips,
            "log_bytes": self.log_bytes,
        })
    }
}

fn main() -> Result<(), Error> {
    let mut args = Arguments::from_env();
    let seconds: f64 = args.opt_value_from_str("--seconds")?.unwrap_or(1.0);
    let plan = Plan {
        keys: args.opt_value_from_str("--keys")?.unwrap_or(100_000),
        value: vec![7; args.opt_value_from_str("--value-bytes")?.unwrap_or(20)],
        ns: (seconds * 1e9) as u64,
        rounds: args.opt_value_from_str("--rounds")?.unwrap_or(5),
        delay_ns: args.opt_value_from_str("--delay-ns")?.unwrap_or(0),
    };
    for (nodes, replicas) in SHAPES {
        let name = format!("tree-load-{}", std::process::id());
        let shm = ShmNodes::open(&name)?;
        for node in 0..nodes {
            shm.create_node(NodeId(node), NODE_BYTES)?;
        }
        let outcome = measure(&shm, nodes, replicas, &plan);
        shm.remove()?;
        println!("{}", outcome?);
    }
    Ok(())
}

/// Keys in no order: neighbours in time are not neighbours in the tree.
fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn measure(shm: &Arc<ShmNodes>, nodes: u16, replicas: u8, plan: &Plan) -> Result<Value, Error> {
    let config = PoolConfig::for_size(NODE_BYTES, nodes, replicas);
    lifecycle::format(&shm.connect(), &config)?;
    let mut client = Client::join(Box::new(shm.connect().with_delay(plan.delay_ns)))?;
    let tree = namespace::create(client.fabric(), "tree", Kind::Tree, Limits::default())?.id;
    for number in 0..plan.keys {
        client.tree_put(tree, &key(number), &plan.value)?;
    }
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut any = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % plan.keys
    };
    let mut into = Vec::new();
    let mut figures: [Measured; 6] = Default::default();
    for _ in 0..plan.rounds {
        let [get, scan, update, update_off, pair, pair_off] = &mut figures;
        run(&mut client, plan, get, |client| {
            client.tree_get(tree, &key(any()), &mut into).map(drop)
        })?;
        run(&mut client, plan, scan, |client| {
            let from = key(any());
            let bounds = (Bound::Included(&from[..]), Bound::Unbounded);
            client.tree_scan(tree, bounds.0, bounds.1, SCAN, |_, _| true).map(drop)
        })?;
        for (off, update, pair) in [(false, update, pair), (true, update_off, pair_off)] {
            client.tree_logs_off(off);
            run(&mut client, plan, update, |client| {
                client.tree_put(tree, &key(any()), &plan.value)
            })?;
            // An insert and a delete: the tree stays as large as it is.
            run(&mut client, plan, pair, |client| {
                let new = key(plan.keys + any());
                client.tree_insert(tree, &new, &plan.value)?;
                client.tree_delete(tree, &new).map(drop)
            })?;
        }
        client.tree_logs_off(false);
    }
    client.leave()?;
    let [get, scan, update, update_off, pair, pair_off] = &figures;
    let overhead = |on: &Measured, off: &Measured| {
        ((1.0 - on.median() / off.median()) * 1000.0).round() / 10.0
    };
    Ok(json!({
        "nodes": nodes,
        "replicas": replicas,
        "keys": plan.keys,
        "value_bytes": plan.value.len(),
        "delay_ns": plan.delay_ns,
        "get": get.report(),
        "scan_100": scan.report(),
        "update": update.report(),
        "update_without_logs": update_off.report(),
        "insert_and_delete": pair.report(),
        "insert_and_delete_without_logs": pair_off.report(),
        "log_overhead_percent_update": overhead(update, update_off),
        "log_overhead_percent_insert_and_delete": overhead(pair, pair_off),
    }))
}

/// CPU time of this process.
fn cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

/// One round of one kind of operation.
fn run(
    client: &mut Client,
    plan: &Plan,
    measured: &mut Measured,
    mut operation: impl FnMut(&mut Client) -> artesian_pool::Result<()>,
) -> Result<(), Error> {
    client.tick()?;
    let (started, mut done) = (cpu_ns(), 0_u64);
    let before = (client.fabric().verbs().tally(), client.tree_log_bytes());
    while cpu_ns() - started < plan.ns {
        for _ in 0..64 {
            operation(client)?;
        }
        done += 64;
    }
    let seconds = (cpu_ns() - started) as f64 / 1e9;
    let trips = (client.fabric().verbs().tally() - before.0).round_trips;
    let each = |sum: u64| (sum as f64 / done as f64 * 100.0).round() / 100.0;
    measured.rates.push(done as f64 / seconds);
    measured.round_trips = each(trips);
    measured.log_bytes = each(client.tree_log_bytes() - before.1);
    Ok(())
}
