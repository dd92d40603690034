//! A few keys that change together: what a history of transactions must look like.

use artesian_linear::Model;

/// Keys of a run.
pub const KEYS: usize = 4;

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads a key.
    Get(usize),
    /// Overwrites a key.
    Put(usize, u64),
    /// Removes a key.
    Delete(usize),
    /// Reads some keys, then writes or removes some.
    Transact { reads: Vec<usize>, writes: Vec<(usize, Option<u64>)> },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of `Get`.
    Found(Option<u64>),
    /// Of `Put`.
    Done,
    /// Of `Delete`: whether there was a value.
    Applied(bool),
    /// Of `Transact`: what was read.
    Committed(Vec<Option<u64>>),
    /// Of `Transact`: nothing happened.
    Conflict,
}

/// All keys as one object: transactions must be strictly serializable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bank;

impl Model for Bank {
    type State = [Option<u64>; KEYS];
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> [Option<u64>; KEYS] {
        [None; KEYS]
    }

    fn apply(
        &self,
        state: &[Option<u64>; KEYS],
        call: &Call,
        reply: Option<&Reply>,
    ) -> Option<[Option<u64>; KEYS]> {
        let mut after = *state;
        let gives = match call {
            Call::Get(key) => Reply::Found(state[*key]),
            Call::Put(key, value) => {
                after[*key] = Some(*value);
                Reply::Done
            }
            Call::Delete(key) => {
                after[*key] = None;
                Reply::Applied(state[*key].is_some())
            }
            Call::Transact { .. } if reply == Some(&Reply::Conflict) => return Some(after),
            Call::Transact { reads, writes } => {
                writes.iter().for_each(|&(key, value)| after[key] = value);
                Reply::Committed(reads.iter().map(|&key| state[key]).collect())
            }
        };
        reply.is_none_or(|reply| *reply == gives).then_some(after)
    }
}
