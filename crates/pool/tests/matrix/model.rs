//! What histories are held to: keys with values, of which transactions change several at once.

use std::collections::BTreeMap;

use artesian_linear::{Call, Model, Register, Reply};

/// Something that happens at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// To one key.
    One(u32, Call),
    /// It is asked whether a key has a value.
    Look(u32),
    /// A value grows: see [`joined`].
    Append(u32, u64),
    /// Some keys are read, then some are written or removed.
    Transact { reads: Vec<u32>, writes: Vec<(u32, Option<u64>)> },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    One(Reply),
    /// Of a look.
    There(bool),
    /// Of an append.
    Done,
    /// Of a transaction: what it has read.
    Committed(Vec<Option<u64>>),
    /// Of a transaction: nothing happened.
    Conflict,
}

/// The name of a value to which another one was appended.
pub fn joined(value: Option<u64>, more: u64) -> u64 {
    match value {
        None => more,
        Some(value) => value.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(more),
    }
}

/// The keys of a case.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Values may go away by themselves: they are a cache's, or expire.
    pub forgetful: bool,
}

type State = BTreeMap<u32, u64>;

fn set(state: &mut State, key: u32, value: Option<u64>) {
    match value {
        Some(value) => state.insert(key, value),
        None => state.remove(&key),
    };
}

/// A reply that only an absent key gives: it may have gone just before.
fn tells_of_absence(call: &Call, told: Option<&Told>) -> bool {
    match (call, told) {
        (Call::Get, Some(Told::One(Reply::Found(None)))) => true,
        (Call::Insert(_), Some(Told::One(Reply::Applied(done)))) => *done,
        (_, Some(Told::One(Reply::Applied(done)))) => !done,
        _ => false,
    }
}

impl Model for Keys {
    type State = State;
    type Call = Act;
    type Reply = Told;

    fn initial(&self) -> State {
        State::new()
    }

    fn apply(&self, state: &State, act: &Act, told: Option<&Told>) -> Option<State> {
        let mut after = state.clone();
        let gives = match act {
            Act::One(key, call) => {
                let forgot = self.forgetful && tells_of_absence(call, told);
                let held = state.get(key).copied().filter(|_| !forgot);
                let (reply, then) = Register::step(held, call);
                set(&mut after, *key, then);
                Told::One(reply)
            }
            Act::Look(key) => {
                if self.forgetful && told == Some(&Told::There(false)) {
                    after.remove(key);
                }
                Told::There(after.contains_key(key))
            }
            Act::Append(key, more) => {
                set(&mut after, *key, Some(joined(state.get(key).copied(), *more)));
                Told::Done
            }
            Act::Transact { .. } if told == Some(&Told::Conflict) => return Some(after),
            Act::Transact { reads, writes } => {
                writes.iter().for_each(|&(key, value)| set(&mut after, key, value));
                Told::Committed(reads.iter().map(|key| state.get(key).copied()).collect())
            }
        };
        told.is_none_or(|told| *told == gives).then_some(after)
    }
}
