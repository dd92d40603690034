//! What a client of the run does.

use std::cell::{Cell, RefCell};

use artesian_bus::sim::Rng;
use artesian_bus::BusError;
use artesian_linear::{check, Operation, Verdict};
use artesian_pool::client::Client;
use artesian_pool::store::Expiry::Never;
use artesian_pool::{PoolError, Result};

use super::bank::{Bank, Call, Reply, KEYS};

/// What all clients share: the history, and what must not happen.
#[derive(Default)]
pub struct Shared {
    moment: Cell<u64>,
    history: RefCell<Vec<Operation<Call, Reply>>>,
    pub problems: RefCell<Vec<String>>,
}

impl Shared {
    /// A moment, or a value, that occurs once.
    fn fresh(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    /// Operations so far, and how many of them are transactions that committed.
    pub fn counts(&self) -> (u64, u64) {
        let history = self.history.borrow();
        let committed =
            |one: &&Operation<Call, Reply>| matches!(one.reply, Some(Reply::Committed(_)));
        (history.len() as u64, history.iter().filter(committed).count() as u64)
    }

    /// Whether all keys together behaved as one object.
    pub fn check(&self) -> std::result::Result<(), String> {
        match check(&Bank, &self.history.borrow()) {
            Verdict::Linearizable => Ok(()),
            Verdict::Violated(why) => Err(why),
            Verdict::TooCostly => Err("the history is too long to decide".into()),
        }
    }

    /// Runs `body`; notes why it failed, unless its client was declared dead.
    pub fn watch(&self, name: u32, body: impl FnOnce() -> Result<()>) {
        match body() {
            Ok(()) | Err(PoolError::Bus(BusError::Fenced)) => {}
            Err(error) => self.problems.borrow_mut().push(format!("client {name}: {error}")),
        }
    }
}

/// A number of operations with ticks in between.
pub fn work(
    client: &mut Client,
    shared: &Shared,
    rng: &mut Rng,
    name: u32,
    operations: u32,
) -> Result<()> {
    for _ in 0..operations {
        client.tick()?;
        let call = choose(shared, rng);
        let called = shared.fresh();
        let at = {
            let mut history = shared.history.borrow_mut();
            let open = u64::MAX;
            history.push(Operation {
                client: name,
                call: call.clone(),
                reply: None,
                called,
                returned: open,
            });
            history.len() - 1
        };
        let reply = perform(client, &call)?;
        let returned = shared.fresh();
        let operation = &mut shared.history.borrow_mut()[at];
        (operation.reply, operation.returned) = (Some(reply), returned);
    }
    Ok(())
}

fn choose(shared: &Shared, rng: &mut Rng) -> Call {
    let key = |rng: &mut Rng| rng.below(KEYS as u64) as usize;
    let value = |rng: &mut Rng| (!rng.once_in(4)).then(|| shared.fresh());
    match rng.below(8) {
        0 => Call::Get(key(rng)),
        1 => Call::Put(key(rng), shared.fresh()),
        2 => Call::Delete(key(rng)),
        _ => {
            let reads = (0..rng.below(3)).map(|_| key(rng)).collect();
            let mut writes: Vec<(usize, Option<u64>)> =
                (0..rng.below(4)).map(|_| (key(rng), value(rng))).collect();
            writes.sort_unstable();
            writes.dedup_by_key(|write| write.0);
            Call::Transact { reads, writes }
        }
    }
}

fn name_of(key: usize) -> [u8; 8] {
    (key as u64).to_le_bytes()
}

fn value_in(bytes: &[u8]) -> Result<u64> {
    let wrong = || PoolError::Corrupt(format!("a value of {} bytes", bytes.len()));
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))
}

fn perform(client: &mut Client, call: &Call) -> Result<Reply> {
    match call {
        Call::Get(key) => {
            let found = client.get_with(0, &name_of(*key), value_in)?;
            Ok(Reply::Found(found.transpose()?))
        }
        Call::Put(key, value) => {
            client.put(0, &name_of(*key), &value.to_le_bytes(), Never)?;
            Ok(Reply::Done)
        }
        Call::Delete(key) => Ok(Reply::Applied(client.delete(0, &name_of(*key))?)),
        Call::Transact { reads, writes } => match transact(client, reads, writes) {
            Ok(found) => Ok(Reply::Committed(found)),
            Err(PoolError::Conflict) => Ok(Reply::Conflict),
            Err(error) => Err(error),
        },
    }
}

fn transact(
    client: &mut Client,
    reads: &[usize],
    writes: &[(usize, Option<u64>)],
) -> Result<Vec<Option<u64>>> {
    let mut transaction = client.transaction();
    let mut into = Vec::new();
    let mut found = Vec::new();
    for key in reads {
        let there = transaction.get(0, &name_of(*key), &mut into)?;
        found.push(if there { Some(value_in(&into)?) } else { None });
    }
    for (key, value) in writes {
        match value {
            Some(value) => transaction.put(0, &name_of(*key), &value.to_le_bytes(), Never)?,
            None => transaction.delete(0, &name_of(*key))?,
        }
    }
    transaction.commit()?;
    Ok(found)
}
