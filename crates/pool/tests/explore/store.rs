//! What a client does with the store.

use artesian_linear::{Call, Reply};
use artesian_pool::store::{Expiry, MAX_INLINE_BYTES};
use artesian_pool::txn::Draft;
use artesian_pool::PoolError;

use super::keys::{Key, Sort};
use super::worker::{End, Worker};

/// Most keys of a call with many.
const MANY: u64 = 6;
/// Most keys that a transaction reads, and that it writes.
const TOGETHER: u64 = 3;

type Outcome<T> = Result<T, End>;

impl Worker {
    /// Anything that the store can do.
    pub fn step_in_store(&mut self) -> Outcome<()> {
        match self.rng.below(12) {
            0 => self.many(),
            1 => self.transact(),
            2 => self.exchange(),
            _ => self.one(),
        }
    }

    fn some_key(&mut self) -> u32 {
        self.rng.below(u64::from(self.shared.keys.count())) as u32
    }

    fn some_keys(&mut self, most: u64) -> Vec<u32> {
        (0..self.rng.below(most) + 1).map(|_| self.some_key()).collect()
    }

    fn one(&mut self) -> Outcome<()> {
        let (key, value) = (self.some_key(), self.shared.record.fresh());
        let sort = self.shared.sort(key);
        let call = match self.rng.below(12) {
            0 | 1 => Call::Put(value),
            2 | 3 => Call::Insert(value),
            // What expires under an update, others have seen gone before it happens.
            4 if sort == Sort::Mortal => Call::Put(value),
            4 => Call::Update(value),
            5 | 6 => Call::Delete,
            // The sums do not come again.
            7 | 8 if sort == Sort::Number => Call::Incr(self.rng.word() >> 24),
            7 | 8 if sort == Sort::Text => Call::Append(value),
            _ => Call::Get,
        };
        self.call(key, call)
    }

    /// One operation on a key.
    pub fn perform_in_store(&mut self, number: u32, call: Call) -> Outcome<Reply> {
        let (key, values) = (self.shared.keys.key(number), self.shared.values(number));
        let expiry = match self.shared.sort(number) {
            Sort::Mortal => Expiry::In(1 + self.rng.below(3)),
            _ => Expiry::Never,
        };
        let client = &mut self.client;
        let bytes = |value| values.encode(value);
        Ok(match call {
            Call::Get => {
                let found = client.get_with(0, &key, |bytes| values.decode(bytes))?;
                Reply::Found(found.transpose().map_err(PoolError::Corrupt)?)
            }
            Call::Delete => Reply::Applied(client.delete(0, &key)?),
            Call::Put(value) => {
                client.put(0, &key, &bytes(value), expiry)?;
                Reply::Done
            }
            Call::Insert(value) if self.rng.once_in(4) => {
                let done = client.compare_and_set(0, &key, None, &bytes(value), expiry)?;
                Reply::Applied(done.is_some())
            }
            Call::Insert(value) => Reply::Applied(client.insert(0, &key, &bytes(value), expiry)?),
            Call::Update(value) => Reply::Applied(client.update(0, &key, &bytes(value), expiry)?),
            Call::Incr(by) => Reply::Sum(client.increment(0, &key, by as i64)? as u64),
            Call::Append(value) => {
                client.append(0, &key, &bytes(value))?;
                Reply::Done
            }
            Call::Cas(..) | Call::Take(_) => unreachable!("they need a version"),
        })
    }

    /// Reads a key, then changes or removes it unless it has changed.
    fn exchange(&mut self) -> Outcome<()> {
        let (number, shared) = (self.some_key(), self.shared.clone());
        let (key, values) = (shared.keys.key(number), shared.values(number));
        let mut found = Vec::new();
        let at = self.begin(number, Call::Get);
        let version = self.client.get_versioned(0, &key, &mut found)?;
        let value = version.map(|_| values.decode(&found)).transpose();
        let value = value.map_err(PoolError::Corrupt)?;
        shared.record.returns(at, Reply::Found(value));
        let Some((version, from)) = version.zip(value) else { return Ok(()) };
        let to = shared.record.fresh();
        let removes = shared.sort(number) == Sort::Mortal || self.rng.once_in(3);
        let call = if removes { Call::Take(from) } else { Call::Cas(from, to) };
        let at = self.begin(number, call);
        let applied = if removes {
            self.client.compare_and_delete(0, &key, version)?
        } else {
            let bytes = values.encode(to);
            self.client.compare_and_set(0, &key, Some(version), &bytes, Expiry::Never)?.is_some()
        };
        shared.record.returns(at, Reply::Applied(applied));
        Ok(())
    }

    /// Some keys at once, the same one twice perhaps.
    fn many(&mut self) -> Outcome<()> {
        let (numbers, shared) = (self.some_keys(MANY), self.shared.clone());
        let kind = self.rng.below(4);
        let call = |_: &u32| match kind {
            0 => Call::Put(shared.record.fresh()),
            1 => Call::Insert(shared.record.fresh()),
            2 => Call::Delete,
            _ => Call::Get,
        };
        let calls: Vec<Call> = numbers.iter().map(call).collect();
        let begun = numbers.iter().zip(&calls);
        let begun = begun.map(|(&number, &call)| self.begin(number, call));
        let begun: Vec<usize> = begun.collect();
        for (at, reply) in begun.into_iter().zip(self.perform_many(&numbers, &calls)) {
            shared.record.returns(at, reply?);
        }
        Ok(())
    }

    /// Calls of one kind.
    fn perform_many(&mut self, numbers: &[u32], calls: &[Call]) -> Vec<Outcome<Reply>> {
        let (shared, client) = (self.shared.clone(), &mut self.client);
        let keys: Vec<Key> = numbers.iter().map(|&number| shared.keys.key(number)).collect();
        let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let bytes = |(&number, call): (&u32, &Call)| match *call {
            Call::Put(value) | Call::Insert(value) => shared.values(number).encode(value),
            _ => Vec::new(),
        };
        let bytes: Vec<Vec<u8>> = numbers.iter().zip(calls).map(bytes).collect();
        let items: Vec<(&[u8], &[u8])> =
            names.iter().zip(&bytes).map(|(&key, bytes)| (key, &bytes[..])).collect();
        let applied = |done: Result<bool, PoolError>| Ok(Reply::Applied(done?));
        match calls[0] {
            Call::Put(_) => {
                let done = client.put_many(0, &items, Expiry::Never).into_iter();
                done.map(|done| Ok(done.map(|()| Reply::Done)?)).collect()
            }
            Call::Insert(_) => {
                client.insert_many(0, &items, Expiry::Never).into_iter().map(applied).collect()
            }
            Call::Delete => client.delete_many(0, &names).into_iter().map(applied).collect(),
            _ => {
                let found = client.get_many(0, &names).into_iter().zip(numbers);
                let decode = |(found, &number): (Result<Option<Vec<u8>>, PoolError>, &u32)| {
                    let value = found?.map(|bytes| shared.values(number).decode(&bytes));
                    Ok(Reply::Found(value.transpose().map_err(PoolError::Corrupt)?))
                };
                found.map(decode).collect()
            }
        }
    }

    /// Reads some keys and writes some, all at one moment. If it conflicts, it was only reads.
    fn transact(&mut self) -> Outcome<()> {
        let (shared, mut draft) = (self.shared.clone(), Draft::default());
        let (mut reads, mut bytes) = (Vec::new(), Vec::new());
        for number in self.some_keys(TOGETHER) {
            let at = self.begin(number, Call::Get);
            match draft.get(&mut self.client, 0, &shared.keys.key(number), &mut bytes) {
                Ok(there) => {
                    let value = there.then(|| shared.values(number).decode(&bytes)).transpose();
                    let found = Reply::Found(value.map_err(PoolError::Corrupt)?);
                    shared.record.returns(at, found);
                    reads.push((number, found));
                }
                Err(PoolError::Conflict) => {
                    shared.record.withdraws(at);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut writes = self.some_keys(TOGETHER);
        writes.sort_unstable();
        writes.dedup();
        let mut begun = Vec::new();
        for number in writes {
            let value = shared.record.fresh();
            let bytes = shared.values(number).encode(value);
            if bytes.len() <= MAX_INLINE_BYTES {
                draft.put(0, &shared.keys.key(number), &bytes, Expiry::Never)?;
                let at = self.begin(number, Call::Put(value));
                begun.push((at, Reply::Done));
                // What is read and written is not read again: the write says all.
                reads.retain(|read| read.0 != number);
            }
        }
        for (number, found) in reads {
            begun.push((self.begin(number, Call::Get), found));
        }
        match draft.commit(&mut self.client) {
            Ok(()) => begun.into_iter().for_each(|(at, reply)| shared.record.returns(at, reply)),
            Err(PoolError::Conflict) => {
                begun.into_iter().for_each(|(at, _)| shared.record.withdraws(at));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
