//! What a client does in its strand.

use std::cell::RefCell;
use std::rc::Rc;

use artesian_bus::sim::Rng;
use artesian_bus::{BusError, Verbs};
use artesian_linear::Call;
use artesian_pool::cache::CacheConfig;
use artesian_pool::client::Client;
use artesian_pool::config::record;
use artesian_pool::{ClientId, PoolError};

use super::keys::{Keys, Sort};
use super::values::Values;
use crate::common::record::Record;

/// What all clients of a run share.
pub struct Shared {
    pub keys: Keys,
    /// The keys are those of such a cache.
    pub cache: Option<CacheConfig>,
    pub cache_bytes: usize,
    pub values: Values,
    /// Decides which keys are of which sort.
    pub sorts: u32,
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
    /// Operations so far.
    begun: u32,
}

impl Shared {
    /// What sort of key that is.
    pub fn sort(&self, number: u32) -> Sort {
        if self.cache.is_some() {
            return Sort::Text;
        }
        Sort::of(number + self.sorts)
    }

    /// The values of that key.
    pub fn values(&self, number: u32) -> Values {
        match self.sort(number) {
            Sort::Number => Values { padding: 0 },
            _ => self.values,
        }
    }

    /// Whether all keys behaved as they should.
    pub fn check(&self) -> Result<(), String> {
        let forgets = |key| self.cache.is_some() || self.sort(key) == Sort::Mortal;
        self.record.check(forgets)
    }

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
        Ok(Worker { client, shared: Rc::clone(shared), rng, name, cache, ticked: 0, begun: 0 })
    }

    /// A number of operations with ticks in between.
    pub fn work(&mut self, operations: u32) -> Result<(), End> {
        let most = self.begun + operations;
        while self.begun < most {
            self.tick_if_due()?;
            match self.cache {
                Some(namespace) => self.step_in_cache(namespace)?,
                None => self.step_in_store()?,
            }
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

    /// Notes that an operation begins.
    pub fn begin(&mut self, number: u32, call: Call) -> usize {
        self.begun += 1;
        self.shared.record.calls(self.name, number, call)
    }

    /// One operation on a key with its record.
    pub fn call(&mut self, number: u32, call: Call) -> Result<(), End> {
        let at = self.begin(number, call);
        let reply = match self.cache {
            Some(namespace) => self.perform_in_cache(namespace, number, call)?,
            None => self.perform_in_store(number, call)?,
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
