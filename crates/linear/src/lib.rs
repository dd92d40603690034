//! Is a history of concurrent operations linearizable? That is: can every operation be given one
//! moment between its call and its return so that, executed one by one in that order, all of them
//! give the replies they gave?
//!
//! The search is Wing and Gong's with Lowe's memoisation: operations are linearized one by one, and
//! a set of linearized operations with the state they lead to is never tried twice. Histories of a
//! map fall apart by key ([`check_by_key`]), which keeps the search small.
//!
//! Operations whose callers died or were told of an error that leaves the outcome open have no
//! reply: they may have taken effect at any time after their call, or never.

mod ordered;
mod register;
mod search;

pub use ordered::{split_scans, MapCall, MapReply, OrderedMap};
pub use register::{append, Call, Forgetful, Register, Reply};
pub use search::{check, Verdict};

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

/// A sequential specification.
pub trait Model {
    /// What operations act on.
    type State: Clone + Eq + Hash + Debug;
    /// An operation with its arguments.
    type Call: Debug;
    /// What it gave back.
    type Reply: Debug;

    /// Where every history starts.
    fn initial(&self) -> Self::State;

    /// The state after `call`, if `reply` is what it gives in `state`. Every reply will do if it is
    /// not known.
    fn apply(
        &self,
        state: &Self::State,
        call: &Self::Call,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// Who called; only for the reader of a failure.
    pub client: u32,
    /// What.
    pub call: C,
    /// The reply; `None` if the outcome is open.
    pub reply: Option<R>,
    /// When it was called. No two moments of a history are the same.
    pub called: u64,
    /// When it returned; not looked at if there is no reply.
    pub returned: u64,
}

/// The operations of `model`.
pub type History<M> = Vec<Operation<<M as Model>::Call, <M as Model>::Reply>>;

/// Checks the operations on each key for themselves, which is enough if operations on different
/// keys do not meet. Gives the first key that fails with its verdict.
pub fn check_by_key<M: Model, K: Ord + Debug>(
    model: &M,
    history: impl IntoIterator<Item = (K, Operation<M::Call, M::Reply>)>,
) -> Result<(), String> {
    let mut by_key: BTreeMap<K, History<M>> = BTreeMap::new();
    for (key, operation) in history {
        by_key.entry(key).or_default().push(operation);
    }
    for (key, operations) in &by_key {
        match check(model, operations) {
            Verdict::Linearizable => {}
            Verdict::Violated(why) => return Err(format!("key {key:?}: {why}")),
            Verdict::TooCostly => {
                let count = operations.len();
                return Err(format!("key {key:?}: {count} operations are too many to decide"));
            }
        }
    }
    Ok(())
}
