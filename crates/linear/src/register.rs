//! One key of a map: absent, or a value.

use crate::Model;

/// What can be asked of a key. Values are numbers that name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads.
    Get,
    /// Overwrites whatever is there.
    Put(u64),
    /// Writes if the key is absent.
    Insert(u64),
    /// Writes if the key is there.
    Update(u64),
    /// Removes.
    Delete,
    /// Writes the second value if the key has the first.
    Cas(u64, u64),
    /// Adds to the number; an absent key counts as 0.
    Incr(u64),
    /// Removes the value if it is this one.
    Take(u64),
    /// Adds to the end; an absent key counts as empty. The value is then called [`append`].
    Append(u64),
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of `Get`: the value, if the key was there.
    Found(Option<u64>),
    /// Of `Put` and `Append`.
    Done,
    /// Of `Insert`, `Update`, `Delete`, `Cas` and `Take`: whether it did something.
    Applied(bool),
    /// Of `Incr`: the sum.
    Sum(u64),
}

/// The name of what `Append(value)` makes of a key's `state`: another one for every sequence.
pub fn append(state: Option<u64>, value: u64) -> u64 {
    let mixed = |state: u64| (state ^ state >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state.map_or(value, |state| mixed(state).rotate_left(31) ^ value)
}

/// The sequential register.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register;

impl Register {
    /// What `call` does to `state`: the reply and the new state.
    pub fn step(state: Option<u64>, call: &Call) -> (Reply, Option<u64>) {
        let applied = |applies: bool, then: Option<u64>| {
            (Reply::Applied(applies), if applies { then } else { state })
        };
        match *call {
            Call::Get => (Reply::Found(state), state),
            Call::Put(value) => (Reply::Done, Some(value)),
            Call::Insert(value) => applied(state.is_none(), Some(value)),
            Call::Update(value) => applied(state.is_some(), Some(value)),
            Call::Delete => applied(state.is_some(), None),
            Call::Cas(from, to) => applied(state == Some(from), Some(to)),
            Call::Incr(by) => {
                let sum = state.unwrap_or(0).wrapping_add(by);
                (Reply::Sum(sum), Some(sum))
            }
            Call::Take(value) => applied(state == Some(value), None),
            Call::Append(value) => (Reply::Done, Some(append(state, value))),
        }
    }
}

impl Model for Register {
    type State = Option<u64>;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn apply(
        &self,
        state: &Option<u64>,
        call: &Call,
        reply: Option<&Reply>,
    ) -> Option<Option<u64>> {
        let (gives, after) = Register::step(*state, call);
        reply.is_none_or(|reply| *reply == gives).then_some(after)
    }
}

/// A key of a cache, or one whose values expire: a register that may empty itself at any time. What
/// is gone stays away until the next write. Not for `Incr` and `Append`, which may find something
/// or nothing when nobody hears of their end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Model for Forgetful {
    type State = Option<u64>;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn apply(
        &self,
        state: &Option<u64>,
        call: &Call,
        reply: Option<&Reply>,
    ) -> Option<Option<u64>> {
        let forgot = || Register.apply(&None, call, reply);
        match (call, reply) {
            // With a value still there it does nothing, and might as well be left out.
            (Call::Insert(_), None) => forgot(),
            _ => Register.apply(state, call, reply).or_else(forgot),
        }
    }
}
