//! What a request costs a server, measured: requests come and answers go through shared memory.
//!
//! A request is a WRITE into the server's memory, which it polls; the answer is a WRITE into the
//! client's. The server does what [`crate::metadata`] asks of it. Client and server take turns on
//! one core, so that the times are the server's alone, and hold on a busy machine; what moving
//! the requests between two cores' caches would cost is left out, to the server's advantage.

use std::collections::HashMap;

use artesian_bus::shm::{ShmNodes, ShmVerbs};
use artesian_bus::{BusError, GlobalAddr, NodeId, Verb, Verbs};
use serde_json::{json, Value};

use crate::workload::key;
use crate::Error;

/// Requests that wait when the server looks.
const SLOTS: u64 = 64;
const SLOT_BYTES: u64 = 256;
const KEYS: u64 = 100_000;
const ROUNDS: u64 = 4_000;

/// A request: operation u64, key 16 bytes, sequence u64, which comes last.
const REQUEST_BYTES: usize = 32;

fn request_at(slot: u64) -> GlobalAddr {
    GlobalAddr::new(NodeId(0), slot * SLOT_BYTES)
}

fn answer_at(slot: u64) -> GlobalAddr {
    GlobalAddr::new(NodeId(0), slot * SLOT_BYTES + SLOT_BYTES / 2)
}

/// Nanoseconds of the server's time for a request: the median of many rounds.
pub fn measure() -> Result<Value, Error> {
    let pool = ShmNodes::open(&format!("bench-rpc-{}", std::process::id()))?;
    pool.create_node(NodeId(0), 1 << 20)?;
    let (client, server) = (pool.connect(), pool.connect());
    let mut server = Server::new(server);
    let mut rounds = Vec::new();
    for sequence in 1..=ROUNDS {
        post(&client, sequence, SLOTS)?;
        let before = client.now_ns();
        server.serve()?;
        rounds.push(client.now_ns() - before);
    }
    pool.remove()?;
    rounds.sort_unstable();
    let median = rounds[rounds.len() / 2] as f64;
    Ok(json!({ "requests": ROUNDS * SLOTS, "service_ns": median / SLOTS as f64 }))
}

struct Server {
    verbs: ShmVerbs,
    index: HashMap<[u8; 16], u64>,
    free: Vec<u64>,
    end: u64,
    seen: [u64; SLOTS as usize],
}

impl Server {
    fn new(verbs: ShmVerbs) -> Server {
        let index = (0..KEYS).map(|number| (key(number), number * 1024)).collect();
        Server { verbs, index, free: Vec::new(), end: KEYS * 1024, seen: [0; SLOTS as usize] }
    }

    /// Answers what has come.
    fn serve(&mut self) -> Result<(), BusError> {
        for slot in 0..SLOTS {
            let at = request_at(slot);
            let sequence = self.verbs.mailbox(at.add(REQUEST_BYTES as u64 - 8));
            if sequence == self.seen[slot as usize] {
                continue;
            }
            self.seen[slot as usize] = sequence;
            let mut request = [0; REQUEST_BYTES];
            self.verbs.batch(&mut [Verb::read(at, &mut request)])?;
            let mut answer = [0; 16];
            answer[..8].copy_from_slice(&self.answer(&request).to_le_bytes());
            answer[8..].copy_from_slice(&sequence.to_le_bytes());
            self.verbs.batch(&mut [Verb::write(answer_at(slot), &answer)])?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &[u8; REQUEST_BYTES]) -> u64 {
        let mut name = [0; 16];
        name.copy_from_slice(&request[8..24]);
        match request[0] {
            0 => self.index.get(&name).copied().unwrap_or(0),
            1 => self.free.pop().unwrap_or_else(|| {
                self.end += 1024;
                self.end
            }),
            _ => {
                let old = self.index.insert(name, self.end);
                self.free.extend(old);
                0
            }
        }
    }
}

fn post(verbs: &ShmVerbs, sequence: u64, slots: u64) -> Result<(), BusError> {
    let requests: Vec<[u8; REQUEST_BYTES]> = (0..slots)
        .map(|slot| {
            let mut request = [0; REQUEST_BYTES];
            request[0] = ((sequence + slot) % 3) as u8;
            request[8..24].copy_from_slice(&key((sequence * 31 + slot * 977) % KEYS));
            request[24..].copy_from_slice(&sequence.to_le_bytes());
            request
        })
        .collect();
    let writes = (0..slots).zip(&requests);
    let mut writes: Vec<Verb<'_>> =
        writes.map(|(slot, bytes)| Verb::write(request_at(slot), bytes)).collect();
    verbs.batch(&mut writes)
}
