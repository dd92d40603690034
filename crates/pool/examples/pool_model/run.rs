//! A workload of many clients in virtual time.

use std::sync::Arc;
use std::thread;

use artesian_bus::heap::HeapNodes;
use artesian_pool::client::Client;
use artesian_pool::store::Expiry;
use artesian_pool::{lifecycle, PoolConfig};
use pico_args::Arguments;
use serde_json::{json, Value};

use crate::clock::Clock;
use crate::metadata::Metadata;
use crate::server::Server;
use crate::timed::{Place, Timed};
use crate::workload::{key, Kind, Workload};
use crate::Error;

const NODE_BYTES: usize = 512 << 20;
/// pids on the heap that no client has.
const MAKER: u32 = 100_000;

/// Who finds and places objects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The clients: this pool.
    Clients,
    /// The same, but every allocation asks the node.
    NodeAllocation,
    /// A metadata server.
    Metadata,
}

/// What all clients share.
struct World {
    mode: Mode,
    memory: Arc<HeapNodes>,
    metadata: Metadata,
    allocators: Vec<Server>,
    letter: String,
    keys: u64,
    value_bytes: usize,
    clients: usize,
    virtual_ns: u64,
}

/// Operations per second of virtual time.
pub fn run(mut args: Arguments) -> Result<Value, Error> {
    let mode = match args.value_from_str::<_, String>("--mode")?.as_str() {
        "clients" => Mode::Clients,
        "node-allocation" => Mode::NodeAllocation,
        "metadata" => Mode::Metadata,
        other => return Err(format!("unknown mode {other:?}").into()),
    };
    let clients: usize = args.value_from_str("--clients")?;
    let service_ns: u64 = args.value_from_str("--service-ns")?;
    let round_trip_ns: u64 = args.value_from_str("--round-trip-ns")?;
    let replicas: u8 = args.value_from_str("--replicas")?;
    let value_bytes: usize = args.value_from_str("--value-bytes")?;
    let virtual_ms: u64 = args.value_from_str("--virtual-ms")?;
    let world = World {
        mode,
        memory: HeapNodes::new(u16::from(replicas), NODE_BYTES),
        metadata: Metadata::new(service_ns, u16::from(replicas), value_bytes),
        allocators: (0..replicas).map(|_| Server::new(service_ns)).collect(),
        letter: args.value_from_str("--workload")?,
        keys: args.value_from_str("--keys")?,
        value_bytes,
        clients,
        virtual_ns: virtual_ms * 1_000_000,
    };
    world.fill(round_trip_ns)?;
    let servers = || world.allocators.iter().chain([world.metadata.server()]);
    let requests: Vec<u64> = servers().map(Server::requests).collect();
    let clock = Clock::new(clients);
    let done: u64 = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|me| {
                let (world, place) = (&world, Place::new(&clock, me, round_trip_ns));
                scope.spawn(move || world.work(me, place).map_err(|error| error.to_string()))
            })
            .collect();
        let ended = clients.into_iter().map(|client| client.join().expect("clients do not panic"));
        ended.sum::<Result<u64, String>>()
    })?;
    let busy = servers().zip(requests).map(|(server, before)| {
        server.busy_ns(server.requests() - before) as f64 / world.virtual_ns as f64
    });
    Ok(json!({
        "operations": done,
        "ops_per_s": done as f64 / world.virtual_ns as f64 * 1e9,
        "busiest_server": busy.fold(0.0, f64::max),
    }))
}

impl World {
    fn verbs(&self, pid: u32, place: Place) -> Timed {
        Timed { heap: self.memory.connect(pid), place }
    }

    fn fill(&self, round_trip_ns: u64) -> Result<(), Error> {
        let place = Place::new(&Clock::new(1), 0, round_trip_ns);
        let verbs = self.verbs(MAKER, place);
        let value = vec![7; self.value_bytes];
        if self.mode == Mode::Metadata {
            for number in 0..self.keys {
                self.metadata.put(&verbs, &key(number), &value)?;
            }
            return Ok(());
        }
        let replicas = self.allocators.len() as u8;
        let mut config = PoolConfig::for_size(NODE_BYTES as u64, u16::from(replicas), replicas);
        config.max_clients = 256;
        lifecycle::format(&verbs, &config)?;
        let mut client = Client::join(Box::new(verbs))?;
        for number in 0..self.keys {
            client.put(0, &key(number), &value, Expiry::Never)?;
        }
        Ok(client.leave()?)
    }

    /// One client: learns where the keys are, then works; how many operations it did in time.
    fn work(&self, me: usize, place: Place) -> Result<u64, Error> {
        let pid = me as u32 + 1;
        let mut workload = Workload::new(&self.letter, self.keys, me as u64, self.clients as u64)
            .ok_or("workloads are a to f")?;
        let (value, mut into) = (vec![me as u8; self.value_bytes], Vec::new());
        if self.mode == Mode::Metadata {
            let verbs = self.verbs(pid, place.clone());
            return self.count(&place, &mut workload, |kind, key| match kind {
                Kind::Read => found(self.metadata.get(&verbs, key, &mut into)?),
                _ => Ok(self.metadata.put(&verbs, key, &value)?),
            });
        }
        let mut client = Client::join(Box::new(self.verbs(pid, place.clone())))?;
        for number in 0..self.keys {
            client.get(0, &key(number), &mut into)?;
        }
        self.count(&place, &mut workload, |kind, key| match kind {
            Kind::Read => found(client.get(0, key, &mut into)?),
            _ => {
                if self.mode == Mode::NodeAllocation {
                    let node = usize::from(key[15]) % self.allocators.len();
                    self.allocators[node].call(&place, || ());
                }
                Ok(client.put(0, key, &value, Expiry::Never)?)
            }
        })
    }

    fn count(
        &self,
        place: &Place,
        workload: &mut Workload,
        mut step: impl FnMut(Kind, &[u8; 16]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        place.enter();
        let until = place.now_ns() + self.virtual_ns;
        let mut done = 0;
        let outcome = loop {
            let (kind, number) = workload.next();
            if let Err(error) = step(kind, &key(number)) {
                break Err(error);
            }
            if place.now_ns() > until {
                break Ok(done);
            }
            done += 1;
        };
        place.leave();
        outcome
    }
}

/// Every key has a value.
fn found(found: bool) -> Result<(), Error> {
    if found {
        Ok(())
    } else {
        Err("a key without a value".into())
    }
}
