//! Creating and joining pools in shared memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use artesian_bus::shm::{ShmNodes, ShmVerbs};
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};
use artesian_pool::client::Client;
use artesian_pool::{lifecycle, PoolConfig, PoolError};

use super::errors::{Fault, Outcome};

/// How long a pool that is just being created by somebody else is waited for.
const CREATION: Duration = Duration::from_secs(10);
/// Bytes of a pool that is created without saying how large.
const DEFAULT_BYTES: u64 = 1 << 30;
/// The least bytes of a node that hold the tables and some regions.
const LEAST_NODE_BYTES: u64 = 8 << 20;

/// What the caller wants of a pool; `None` takes what there is, or the usual.
#[derive(Clone, Copy, Default)]
pub struct Wish {
    pub bytes: Option<u64>,
    pub nodes: Option<u16>,
    pub replicas: Option<u8>,
    pub lease_ms: Option<u32>,
    pub max_clients: Option<u16>,
    pub create: Option<bool>,
}

impl Wish {
    /// The numbers of a new pool.
    fn config(&self, name: &str) -> Outcome<PoolConfig> {
        let replicas = self.replicas.unwrap_or(1);
        let nodes = self.nodes.unwrap_or(u16::from(replicas)).max(1);
        let bytes = self.bytes.unwrap_or(DEFAULT_BYTES);
        let node_bytes = (bytes / u64::from(nodes)).next_multiple_of(4096);
        let mut config = PoolConfig::for_size(node_bytes.max(LEAST_NODE_BYTES), nodes, replicas);
        config.lease_ms = self.lease_ms.unwrap_or(config.lease_ms);
        config.max_clients = self.max_clients.map_or(config.max_clients, |n| n.saturating_add(1));
        config.validate()?;
        if node_bytes < LEAST_NODE_BYTES {
            let least = (LEAST_NODE_BYTES * u64::from(nodes)) >> 20;
            return Err(Fault::Pool(PoolError::Invalid(format!(
                "a pool of {bytes} bytes on {nodes} nodes is too small: {name:?} needs {least} MiB \
                 at least"
            ))));
        }
        Ok(config)
    }

    /// Refuses a pool that has other numbers than were asked for.
    fn check(&self, name: &str, there: &PoolConfig) -> Outcome<()> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, wanted: Option<u64>, there: u64| {
            if let Some(wanted) = wanted.filter(|&wanted| wanted != there) {
                wrong.push(format!("{what} {there}, not {wanted}"));
            }
        };
        let nodes = u64::from(there.num_nodes);
        let rounded = |bytes: u64| (bytes / nodes).next_multiple_of(4096) * nodes;
        compare("size in bytes", self.bytes.map(rounded), there.node_bytes * nodes);
        compare("number of nodes", self.nodes.map(u64::from), nodes);
        compare("replicas", self.replicas.map(u64::from), there.replicas.into());
        compare("lease in ms", self.lease_ms.map(u64::from), there.lease_ms.into());
        let places = u64::from(there.max_clients) - 1;
        compare("clients at most", self.max_clients.map(u64::from), places);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Fault::Mismatch(format!(
            "the pool {name:?} exists with other numbers: {}; leave them out to join it as it is, \
             or remove it first (artesian pool remove {name})",
            wrong.join(", ")
        )))
    }
}

/// A pool as it was opened.
pub struct Opened {
    pub nodes: Arc<ShmNodes>,
    pub client: Client,
    pub created: bool,
}

/// Joins the pool called `name`, or creates it, as `wish` says.
pub fn open(name: &str, wish: &Wish) -> Outcome<Opened> {
    let nodes = ShmNodes::open(name)?;
    let exists = !nodes.nodes()?.is_empty();
    if exists && wish.create == Some(true) {
        return Err(Fault::Exists(format!(
            "there is a pool {name:?} already: join it (create=False), or remove it first \
             (artesian pool remove {name})"
        )));
    }
    if !exists && wish.create == Some(false) {
        return Err(Fault::not_found(name));
    }
    let created = !exists && create(&nodes, &wish.config(name)?, wish.create == Some(true))?;
    let client = join(&nodes)?;
    if let Err(error) = wish.check(name, client.fabric().config()) {
        client.leave()?;
        return Err(error);
    }
    Ok(Opened { nodes, client, created })
}

/// Makes the pool. False if somebody else was quicker (an error if it `must` be this one).
fn create(nodes: &Arc<ShmNodes>, config: &PoolConfig, must: bool) -> Outcome<bool> {
    for number in 0..config.num_nodes {
        let Err(error) = nodes.create_node(NodeId(number), config.node_bytes) else { continue };
        if number == 0 && !nodes.nodes()?.is_empty() && !must {
            return Ok(false);
        }
        for made in 0..number {
            nodes.remove_node(NodeId(made))?;
        }
        return Err(error.into());
    }
    lifecycle::format(&nodes.connect(), config)?;
    Ok(true)
}

/// Joins; waits for a creation that is under way.
pub fn join(nodes: &Arc<ShmNodes>) -> Outcome<Client> {
    let started = Instant::now();
    loop {
        match Client::join(Box::new(nodes.connect())) {
            Ok(client) => return Ok(client),
            Err(error) => {
                let patient = started.elapsed() < CREATION;
                if !patient || !is_half_made(&nodes.connect()) {
                    return Err(error.into());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a node has no header yet.
fn is_half_made(verbs: &ShmVerbs) -> bool {
    verbs.nodes().iter().any(|&(node, _)| {
        let mut magic = [0; 8];
        let read = verbs.batch(&mut [Verb::read(GlobalAddr::new(node, 0), &mut magic)]);
        read.is_ok() && magic == [0; 8]
    })
}
