//! What clients do, and how it is written down.

use artesian_bus::NodeId;
use artesian_linear::{Call, Reply};
use artesian_pool::client::Client;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::store::Expiry;
use artesian_pool::view::NodeState;
use artesian_pool::{resize, PoolError, Result};

use super::model::{Act, Told};
use super::value::{decode, encode};

/// An operation. Values are given by name and bytes.
#[derive(Clone, Debug)]
pub enum Deed {
    Get(u32),
    Put(u32, u64, usize),
    /// For so many milliseconds.
    PutFor(u32, u64, usize, u64),
    /// The value goes away after so many milliseconds, or never (0).
    Expire(u32, u64),
    Insert(u32, u64, usize),
    Update(u32, u64, usize),
    Delete(u32),
    Increment(u32, u64),
    /// Reads, then writes if nobody has changed the key.
    Compare(u32, u64, usize),
    Append(u32, u64, usize),
    GetMany(Vec<u32>),
    PutMany(Vec<(u32, u64)>, usize),
    DeleteMany(Vec<u32>),
    Transact(Vec<u32>, Vec<(u32, Option<u64>)>),
    /// Opens a namespace, which is made if there is none, and uses it.
    Open(&'static str),
    /// The last memory node comes to the pool.
    AddNode,
    /// Everything moves off the first one.
    DrainNode,
}

/// What came back: values or truths, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Values(Vec<Option<u64>>),
    Conflict,
}

impl Outcome {
    pub fn encode(&self) -> String {
        let word = |value: &Option<u64>| value.map_or("-".into(), |value| value.to_string());
        match self {
            Outcome::Conflict => "conflict".into(),
            Outcome::Values(values) => values.iter().map(word).collect::<Vec<String>>().join(" "),
        }
    }

    pub fn decode(text: &str) -> Outcome {
        match text {
            "conflict" => Outcome::Conflict,
            text => {
                Outcome::Values(text.split_whitespace().map(|word| word.parse().ok()).collect())
            }
        }
    }

    fn value(&self, number: usize) -> Option<u64> {
        match self {
            Outcome::Values(values) => values.get(number).copied().flatten(),
            Outcome::Conflict => None,
        }
    }
}

/// Where a case's keys lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arena {
    Store,
    Tree,
    Cache,
}

/// An opened namespace with its keys.
#[derive(Clone, Copy)]
pub struct Space {
    pub arena: Arena,
    pub id: u16,
    pub key: fn(u16, u32) -> Vec<u8>,
}

/// What a deed does to each key, with what came back; without an outcome everything is open.
pub fn acts(deed: &Deed, outcome: Option<&Outcome>) -> Vec<(u32, Act, Option<Told>)> {
    let value = |number| outcome.and_then(|outcome| outcome.value(number));
    let one = |key: u32, call, reply: Reply| {
        (key, Act::One(key, call), outcome.map(|_| Told::One(reply)))
    };
    let truth = |number| Reply::Applied(value(number) == Some(1));
    let each = |keys: &[u32], act: &dyn Fn(usize, u32) -> (u32, Act, Option<Told>)| {
        keys.iter().enumerate().map(|(number, &key)| act(number, key)).collect()
    };
    match deed {
        Deed::Get(key) => vec![one(*key, Call::Get, Reply::Found(value(0)))],
        Deed::Put(key, name, _) | Deed::PutFor(key, name, ..) => {
            vec![one(*key, Call::Put(*name), Reply::Done)]
        }
        // It changes nothing, and tells whether there is a value.
        Deed::Expire(key, _) => {
            let told = outcome.map(|_| Told::There(value(0) == Some(1)));
            vec![(*key, Act::Look(*key), told)]
        }
        Deed::Insert(key, name, _) => vec![one(*key, Call::Insert(*name), truth(0))],
        Deed::Update(key, name, _) => vec![one(*key, Call::Update(*name), truth(0))],
        Deed::Delete(key) => vec![one(*key, Call::Delete, truth(0))],
        Deed::Increment(key, by) => {
            vec![one(*key, Call::Incr(*by), Reply::Sum(value(0).unwrap_or(0)))]
        }
        // What it had read is not known: if it did something, it wrote.
        Deed::Compare(key, name, _) if outcome.is_none() => {
            vec![one(*key, Call::Put(*name), Reply::Done)]
        }
        Deed::Compare(key, name, _) => {
            let call = value(0).map_or(Call::Insert(*name), |seen| Call::Cas(seen, *name));
            vec![one(*key, Call::Get, Reply::Found(value(0))), one(*key, call, truth(1))]
        }
        Deed::Append(key, name, _) => {
            vec![(*key, Act::Append(*key, *name), outcome.map(|_| Told::Done))]
        }
        Deed::GetMany(keys) => {
            each(keys, &|number, key| one(key, Call::Get, Reply::Found(value(number))))
        }
        Deed::DeleteMany(keys) => each(keys, &|number, key| one(key, Call::Delete, truth(number))),
        Deed::PutMany(items, _) => {
            items.iter().map(|&(key, name)| one(key, Call::Put(name), Reply::Done)).collect()
        }
        Deed::Transact(reads, writes) => {
            let act = Act::Transact { reads: reads.clone(), writes: writes.clone() };
            let told = outcome.map(|outcome| match outcome {
                Outcome::Conflict => Told::Conflict,
                Outcome::Values(values) => Told::Committed(values.clone()),
            });
            vec![(0, act, told)]
        }
        Deed::Open(_) | Deed::AddNode | Deed::DrainNode => Vec::new(),
    }
}

fn damaged(text: String) -> PoolError {
    PoolError::Corrupt(text)
}

fn truths(results: Vec<Result<bool>>) -> Result<Outcome> {
    let truths = results.into_iter().map(|result| result.map(|done| Some(u64::from(done))));
    Ok(Outcome::Values(truths.collect::<Result<_>>()?))
}

impl Space {
    fn key(&self, number: u32) -> Vec<u8> {
        (self.key)(self.id, number)
    }

    /// Carries the deed out.
    pub fn perform(&self, client: &mut Client, deed: &Deed) -> Result<Outcome> {
        match self.arena {
            Arena::Store => self.perform_in_store(client, deed),
            _ => self.perform_elsewhere(client, deed),
        }
    }

    fn perform_in_store(&self, client: &mut Client, deed: &Deed) -> Result<Outcome> {
        let (id, never) = (self.id, Expiry::Never);
        match deed {
            Deed::Get(key) => {
                let found = client.get_with(id, &self.key(*key), decode)?;
                Ok(Outcome::Values(vec![found.transpose().map_err(damaged)?]))
            }
            Deed::Put(key, name, bytes) => {
                client.put(id, &self.key(*key), &encode(*name, *bytes), never)?;
                Ok(Outcome::Values(Vec::new()))
            }
            Deed::PutFor(key, name, bytes, ms) => {
                client.put(id, &self.key(*key), &encode(*name, *bytes), Expiry::In(*ms))?;
                Ok(Outcome::Values(Vec::new()))
            }
            Deed::Expire(key, ms) => {
                let expiry = if *ms == 0 { never } else { Expiry::In(*ms) };
                truths(vec![client.expire(id, &self.key(*key), expiry)])
            }
            Deed::Insert(key, name, bytes) => {
                let done = client.insert(id, &self.key(*key), &encode(*name, *bytes), never);
                truths(vec![done])
            }
            Deed::Update(key, name, bytes) => {
                let done = client.update(id, &self.key(*key), &encode(*name, *bytes), never);
                truths(vec![done])
            }
            Deed::Delete(key) => truths(vec![client.delete(id, &self.key(*key))]),
            Deed::Increment(key, by) => {
                let sum = client.increment(id, &self.key(*key), *by as i64)?;
                Ok(Outcome::Values(vec![Some(sum as u64)]))
            }
            Deed::Compare(key, name, bytes) => self.compare(client, *key, *name, *bytes),
            Deed::Append(key, name, bytes) => {
                client.append(id, &self.key(*key), &encode(*name, *bytes))?;
                Ok(Outcome::Values(Vec::new()))
            }
            Deed::Open(name) => open(client, name),
            Deed::AddNode => add_node(client),
            Deed::DrainNode => {
                resize::drain_node(client, NodeId(0), &mut |_| {})?;
                Ok(Outcome::Values(Vec::new()))
            }
            _ => self.perform_on_many(client, deed),
        }
    }

    fn compare(&self, client: &mut Client, key: u32, name: u64, bytes: usize) -> Result<Outcome> {
        let (key, mut found) = (self.key(key), Vec::new());
        let version = client.get_versioned(self.id, &key, &mut found)?;
        let seen = version.map(|_| decode(&found)).transpose().map_err(damaged)?;
        let value = encode(name, bytes);
        let done = client.compare_and_set(self.id, &key, version, &value, Expiry::Never)?;
        Ok(Outcome::Values(vec![seen, Some(u64::from(done.is_some()))]))
    }

    fn perform_on_many(&self, client: &mut Client, deed: &Deed) -> Result<Outcome> {
        let keys_of = |numbers: &[u32]| -> Vec<Vec<u8>> {
            numbers.iter().map(|&number| self.key(number)).collect()
        };
        match deed {
            Deed::GetMany(numbers) => {
                let keys = keys_of(numbers);
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let mut values = Vec::new();
                for found in client.get_many(self.id, &keys) {
                    let name = found?.map(|value| decode(&value)).transpose();
                    values.push(name.map_err(damaged)?);
                }
                Ok(Outcome::Values(values))
            }
            Deed::PutMany(items, bytes) => {
                let encoded: Vec<(Vec<u8>, Vec<u8>)> = items
                    .iter()
                    .map(|&(key, name)| (self.key(key), encode(name, *bytes)))
                    .collect();
                let items: Vec<(&[u8], &[u8])> =
                    encoded.iter().map(|(key, value)| (&key[..], &value[..])).collect();
                let done = client.put_many(self.id, &items, Expiry::Never);
                done.into_iter().collect::<Result<()>>()?;
                Ok(Outcome::Values(Vec::new()))
            }
            Deed::DeleteMany(numbers) => {
                let keys = keys_of(numbers);
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                truths(client.delete_many(self.id, &keys))
            }
            Deed::Transact(reads, writes) => match self.transact(client, reads, writes) {
                Err(PoolError::Conflict) => Ok(Outcome::Conflict),
                values => Ok(Outcome::Values(values?)),
            },
            other => unreachable!("{other:?} in a store"),
        }
    }

    fn transact(
        &self,
        client: &mut Client,
        reads: &[u32],
        writes: &[(u32, Option<u64>)],
    ) -> Result<Vec<Option<u64>>> {
        let mut transaction = client.transaction();
        let (mut values, mut into) = (Vec::new(), Vec::new());
        for &key in reads {
            let found = transaction.get(self.id, &self.key(key), &mut into)?;
            values.push(found.then(|| decode(&into)).transpose().map_err(damaged)?);
        }
        for &(key, name) in writes {
            match name {
                Some(name) => {
                    transaction.put(self.id, &self.key(key), &encode(name, 40), Expiry::Never)?;
                }
                None => transaction.delete(self.id, &self.key(key))?,
            }
        }
        transaction.commit()?;
        Ok(values)
    }

    /// In a cache or a tree.
    fn perform_elsewhere(&self, client: &mut Client, deed: &Deed) -> Result<Outcome> {
        let (id, is_tree) = (self.id, self.arena == Arena::Tree);
        match deed {
            Deed::Get(key) => {
                let mut into = Vec::new();
                let found = match is_tree {
                    true => client.tree_get(id, &self.key(*key), &mut into)?,
                    false => client.cache_get(id, &self.key(*key), &mut into)?,
                };
                let name = found.then(|| decode(&into)).transpose().map_err(damaged)?;
                Ok(Outcome::Values(vec![name]))
            }
            Deed::Put(key, name, bytes) => {
                let (key, value) = (self.key(*key), encode(*name, *bytes));
                match is_tree {
                    true => client.tree_put(id, &key, &value)?,
                    false => client.cache_put(id, &key, &value, Expiry::Never)?,
                }
                Ok(Outcome::Values(Vec::new()))
            }
            Deed::Insert(key, name, bytes) if is_tree => {
                let done = client.tree_insert(id, &self.key(*key), &encode(*name, *bytes));
                truths(vec![done])
            }
            Deed::Delete(key) if is_tree => truths(vec![client.tree_delete(id, &self.key(*key))]),
            Deed::Delete(key) => truths(vec![client.cache_delete(id, &self.key(*key))]),
            other => unreachable!("{other:?} in a {:?}", self.arena),
        }
    }
}

fn add_node(client: &mut Client) -> Result<Outcome> {
    let nodes = client.fabric().verbs().nodes();
    let last = nodes.last().map_or(NodeId(0), |node| node.0);
    resize::add_node(client, last, &mut |_| {})?;
    Ok(Outcome::Values(Vec::new()))
}

/// Ends what one who changed the pool's nodes has begun.
pub fn finish_resize(client: &mut Client) -> Result<()> {
    resize::restore_replicas(client, &mut |_| {})?;
    let nodes = client.fabric().view().nodes.clone();
    for (number, state) in nodes.into_iter().enumerate() {
        if state == NodeState::Draining {
            resize::drain_node(client, NodeId(number as u16), &mut |_| {})?;
        }
    }
    Ok(())
}

fn open(client: &mut Client, name: &str) -> Result<Outcome> {
    let id = client.namespace(name, Kind::Store, Limits::default())?;
    client.put(id, b"key", b"value", Expiry::Never)?;
    if !client.contains(id, b"key")? {
        return Err(damaged(format!("what was put into {name:?} is not there")));
    }
    Ok(Outcome::Values(vec![Some(u64::from(id))]))
}
