//! Making, filling and removing a pool.

use artesian_bus::shm::ShmNodes;
use artesian_bus::{NodeId, Verbs};
use artesian_pool::client::Client;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::store::Expiry;
use artesian_pool::{lifecycle, PoolConfig};
use pico_args::Arguments;
use serde_json::{json, Value};

use crate::workload::key;
use crate::Error;

/// A new pool, in place of one of that name.
pub fn create(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let nodes: u16 = args.opt_value_from_str("--nodes")?.unwrap_or(1);
    let replicas: u8 = args.opt_value_from_str("--replicas")?.unwrap_or(1);
    let mib: u64 = args.opt_value_from_str("--node-mib")?.unwrap_or(512);
    remove(pool)?;
    let shm = ShmNodes::open(pool)?;
    for node in 0..nodes {
        shm.create_node(NodeId(node), mib << 20)?;
    }
    let config = PoolConfig::for_size(mib << 20, nodes, replicas);
    lifecycle::format(&shm.connect(), &config)?;
    Ok(json!({ "nodes": nodes, "replicas": replicas, "node_mib": mib }))
}

/// Removes the pool if there is one.
pub fn remove(pool: &str) -> Result<Value, Error> {
    Ok(json!({ "removed": ShmNodes::open(pool)?.remove()? }))
}

/// Declares a memory node dead.
pub fn kill(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let node: u16 = args.value_from_str("--node")?;
    let shm = ShmNodes::open(pool)?;
    let at = shm.connect().now_ns();
    shm.kill_node(NodeId(node))?;
    Ok(json!({ "killed_at_ns": at }))
}

/// A client of the pool with a modelled delay of every batch; 0 for none.
pub fn join(pool: &str, delay_ns: u64, cache_mib: usize) -> Result<Client, Error> {
    let verbs = ShmNodes::open(pool)?.connect().with_delay(delay_ns);
    Ok(Client::with_cache(Box::new(verbs), cache_mib << 20)?)
}

/// The pool's ordered index, made by whoever is first.
pub fn tree(client: &mut Client) -> Result<u16, Error> {
    Ok(client.namespace("tree", Kind::Tree, Limits::default())?)
}

/// Key `number` of the ordered index: what is inserted one after the other lies far apart.
#[inline]
pub fn scattered(number: u64) -> [u8; 16] {
    // Odd and no multiple of 5: no two numbers below the modulus become one.
    key((u128::from(number) * 618_033_988_749 % 1_000_000_000_000) as u64)
}

/// Gives keys 0 to `--keys` a value, in the ordered index with `--tree`.
pub fn fill(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let keys: u64 = args.value_from_str("--keys")?;
    let value_bytes: usize = args.value_from_str("--value-bytes")?;
    let mut client = join(pool, 0, 16)?;
    let tree = if args.contains("--tree") { Some(tree(&mut client)?) } else { None };
    let value = vec![7; value_bytes];
    let started = client.fabric().verbs().now_ns();
    for number in 0..keys {
        match tree {
            Some(tree) => client.tree_put(tree, &scattered(number), &value)?,
            None => client.put(0, &key(number), &value, Expiry::Never)?,
        }
        if number % 1024 == 0 {
            client.tick()?;
        }
    }
    let seconds = (client.fabric().verbs().now_ns() - started) as f64 / 1e9;
    client.leave()?;
    Ok(json!({ "keys": keys, "seconds": seconds }))
}
