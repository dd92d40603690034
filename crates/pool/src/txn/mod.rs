//! Transactions on several keys of the store (ours, after rTX's idea: whoever meets a wreck repairs
//! it).
//!
//! Slots change without locks, so a transaction cannot lock them. Instead it puts an **intent**
//! into the slot of every key that it writes, by an ordinary SNAPSHOT round. An intent names the
//! value before, the value to come, and the transaction's **status word**. That word changes once,
//! from pending to committed or aborted: the commit point of all keys together. It is replicated
//! as a slot is, so it survives the loss of nodes.
//!
//! Whoever meets an intent looks at the status: committed, it puts the new value in place; aborted,
//! it puts the old one back; pending, it waits a little and then aborts, at once if the owner is
//! dead. So nobody waits for anybody in the end. Keys that were only read are checked after all
//! intents are placed and before the commit: transactions are serializable.
//!
//! What is freed by whom: the transaction's owner, or the recovery of its death, frees what was
//! replaced once it is committed. Intents, the status word and, if it is aborted, the new values
//! are the owner's too; nobody else ever frees them.

mod commit;
mod format;
mod resolve;
#[cfg(test)]
mod tests;
mod transaction;

pub use transaction::{Draft, Transaction, MAX_WRITES};

pub(crate) use commit::Placed;
pub(crate) use format::{status_object, Intent};
pub(crate) use resolve::{as_read, read_intent, reconcile_status, resolve};
