//! What a client does in its strand.

use std::cell::RefCell;
use std::rc::Rc;

use artesian_bus::sim::Rng;
use artesian_bus::{BusError, Verbs};
use artesian_linear::{Call, Reply};
use artesian_pool::cache::CacheConfig;
use artesian_pool::client::Client;
use artesian_pool::config::record;
use artesian_pool::store::Expiry;
use artesian_pool::{ClientId, PoolError};

use super::keys::Keys;
use crate::common::record::Record;

/// What all clients of a run share.
pub struct Shared {
    pub keys: Keys,
    /// The keys are those of such a cache.
    pub cache: Option<CacheConfig>,
    pub cache_bytes: usize,
    /// Longest padding of a value, in bytes.
    pub padding: u64,
    pub record: Record,
    /// What must not happen.
    pub problems: RefCell<Vec<String>>,
}

/// Why a client stopped.
pub enum End {
    /// It was declared dead.
    Fenced,
    /// Something that must not happen.
    Problem(PoolError),
}

impl From<PoolError> for End {
    fn from(error: PoolError) -> End {
        match error {
            PoolError::Bus(BusError::Fenced) => End::Fenced,
            error => End::Problem(error),
        }
    }
}

/// A client at work.
pub struct Worker {
    pub client: Client,
    pub shared: Rc<Shared>,
    pub rng: Rng,
    pub name: u32,
    /// The cache's namespace, if the keys are those of one.
    cache: Option<u16>,
    ticked: u64,
}

impl Shared {
    /// Runs `body`; notes why it failed, if it should not have.
    pub fn watch(&self, name: u32, body: impl FnOnce() -> Result<(), End>) {
        if let Err(End::Problem(error)) = body() {
            self.problems.borrow_mut().push(format!("client {name}: {error}"));
        }
    }
}

impl Worker {
    pub fn join(
        verbs: Box<dyn Verbs>,
        shared: &Rc<Shared>,
        rng: Rng,
        name: u32,
    ) -> Result<Worker, End> {
        let mut client = Client::with_cache(verbs, shared.cache_bytes)?;
        let open = |config: &CacheConfig| client.cache_open("cache", config);
        let cache = shared.cache.as_ref().map(open).transpose()?;
        Ok(Worker { client, shared: Rc::clone(shared), rng, name, cache, ticked: 0 })
    }

    /// A number of operations with ticks in between.
    pub fn work(&mut self, operations: u32) -> Result<(), End> {
        for _ in 0..operations {
            self.tick_if_due()?;
            let key = self.rng.below(u64::from(self.shared.keys.count())) as u32;
            self.step(key)?;
        }
        Ok(())
    }

    fn lease_ns(&self) -> u64 {
        u64::from(self.client.fabric().config().lease_ms) * 1_000_000
    }

    pub fn tick_if_due(&mut self) -> Result<(), End> {
        let now = self.client.fabric().verbs().now_ns();
        if now - self.ticked > self.lease_ns() / 16 {
            self.ticked = now;
            self.client.tick()?;
        }
        Ok(())
    }

    /// One operation on a key.
    fn step(&mut self, key: u32) -> Result<(), End> {
        let value = self.shared.record.fresh();
        let call = match self.rng.below(10) {
            0..=4 if self.cache.is_some() => Call::Put(value),
            0 | 1 => Call::Put(value),
            2 | 3 => Call::Insert(value),
            4 => Call::Update(value),
            5 | 6 => Call::Delete,
            _ => Call::Get,
        };
        self.call(key, call)
    }

    /// One operation with its record.
    pub fn call(&mut self, number: u32, call: Call) -> Result<(), End> {
        let key = self.shared.keys.key(number);
        if let Some(id) = self.cache {
            return self.call_cache(id, number, &key, call);
        }
        let at = self.shared.record.calls(self.name, number, call);
        let client = &mut self.client;
        let reply = match call {
            Call::Get => {
                let found = client.get_with(0, &key, read)?;
                Reply::Found(found.transpose().map_err(|text| {
                    End::Problem(PoolError::Corrupt(format!("key {number}: {text}")))
                })?)
            }
            Call::Delete => Reply::Applied(client.delete(0, &key)?),
            Call::Put(value) | Call::Insert(value) | Call::Update(value) => {
                let bytes = write(value, self.rng.below(self.shared.padding + 1) as usize);
                match call {
                    Call::Put(_) => {
                        client.put(0, &key, &bytes, Expiry::Never)?;
                        Reply::Done
                    }
                    Call::Insert(_) => {
                        Reply::Applied(client.insert(0, &key, &bytes, Expiry::Never)?)
                    }
                    _ => Reply::Applied(client.update(0, &key, &bytes, Expiry::Never)?),
                }
            }
            Call::Cas(..) | Call::Incr(_) => return Ok(()),
        };
        self.shared.record.returns(at, reply);
        Ok(())
    }

    /// The same with a cache.
    fn call_cache(&mut self, id: u16, number: u32, key: &[u8], call: Call) -> Result<(), End> {
        if self.rng.once_in(8) {
            self.client.cache_touch(id, key)?;
        }
        let at = self.shared.record.calls(self.name, number, call);
        let reply = match call {
            Call::Put(value) => {
                let bytes = write(value, self.rng.below(self.shared.padding + 1) as usize);
                self.client.cache_put(id, key, &bytes, Expiry::Never)?;
                Reply::Done
            }
            Call::Delete => Reply::Applied(self.client.cache_delete(id, key)?),
            _ => {
                let found = self.client.cache_get_with(id, key, read)?;
                Reply::Found(found.transpose().map_err(|text| {
                    End::Problem(PoolError::Corrupt(format!("key {number}: {text}")))
                })?)
            }
        };
        self.shared.record.returns(at, reply);
        Ok(())
    }

    /// Looks after the others until nobody else is in the pool.
    pub fn outlive(&mut self) -> Result<(), End> {
        let lease = self.lease_ns();
        let started = self.client.fabric().verbs().now_ns();
        loop {
            self.client.tick()?;
            let others = self.others()?;
            let Some((client, state)) = others.first() else { return Ok(()) };
            let waited = self.client.fabric().verbs().now_ns() - started;
            if waited > 40 * lease {
                let what = format!("{client:?} in state {state}");
                let waited_ms = waited / 1_000_000;
                return Err(End::Problem(PoolError::Timeout { what, waited_ms }));
            }
            self.client.fabric().verbs().relax(lease / 10);
        }
    }

    fn others(&self) -> Result<Vec<(ClientId, u8)>, End> {
        let fabric = self.client.fabric();
        let mut others = Vec::new();
        for index in 1..fabric.config().max_clients {
            let word = loop {
                match fabric.read_word(fabric.client_record(index, record::STATE)[0]) {
                    Err(PoolError::ViewChanged) => {}
                    word => break word?,
                }
            };
            let (state, client) = record::split(word);
            if state != record::FREE && client != fabric.me() {
                others.push((client, state));
            }
        }
        Ok(others)
    }
}

/// The bytes of value `value` with so much padding.
fn write(value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + padding, value as u8);
    bytes
}

/// The value in bytes that [`write`] made.
fn read(bytes: &[u8]) -> Result<u64, String> {
    let Some((head, padding)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("a value of {} bytes", bytes.len()));
    };
    let value = u64::from_le_bytes(*head);
    if padding.iter().all(|&byte| byte == value as u8) {
        Ok(value)
    } else {
        Err(format!("value {value} with wrong padding"))
    }
}
