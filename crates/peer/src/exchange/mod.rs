//! Attention by a peer: messages between a worker that decodes and the executor beside another
//! worker's engine, which has the keys and values of some of its sequences.
//!
//! Every message lies, when it is read, in the memory of whoever reads it: the other side wrote it
//! there by one batch of verbs, rows first and then the *post* word that says it is complete. A
//! step of decoding is one message that names its rows (a slot of the executor, its generation, the
//! token's position) and, for each attention layer, one message with the rows of all of the
//! executor's sequences and one back. The first is sent as soon as the step is known, so that the
//! executor has cut up its work when the first rows come.
//!
//! ## Why nobody reads what is being written
//!
//! The two sides take turns. The client writes rows only when it has read the answer to the ones
//! before, and names a step only when the last answer of the step before is read; the executor
//! writes an answer only when the rows have come, and has read them before. So one box a side is
//! enough. A client that has given up waiting breaks the connection: it may write nothing but a
//! greeting, of a new connection, until that is answered, and as one thread serves a client's
//! messages in order, whatever it still wrote for the old connection is there before that answer.
//!
//! ## Failures
//!
//! Every wait ends by itself, by the death of the other side, by the loss of its region or
//! by its executor's end, whichever is first. A box that was written under another connection's
//! number is not looked at. A client that dies loses its boxes once it is seen to be dead, never by
//! a time-out: a process that was merely stopped may wake up in the middle of writing a message.
//! For the same reason a client lends the answer box of a peer that did not say that it is done
//! with it to no other as long as that peer lives.

mod client;
mod desk;
mod executor;
mod layout;
mod links;
mod quota;
mod remote;
mod residents;
mod rows;
mod sched;
mod service;
mod wait;

pub use client::{Client, ClientStats, ConnectOptions, Mailboxes, Timing};
pub use desk::{Connector, Desk, DeskStats, Far, Service};
pub use executor::{mailboxes, Executor, ExecutorOptions, ExecutorStats, IsBusy};
pub use layout::{ExchangeShape, MAX_ROWS};
pub use links::Links;
pub use quota::Quota;
pub use remote::RemoteRun;
pub use residents::Residents;
pub use rows::{RemoteRow, RowSet};
pub use sched::{own_nice, set_schedule};
pub use wait::Patience;

use artesian_bus::{BusError, GlobalAddr, Verb, Verbs};

use layout::{post, HEADER_WORDS, PREPARING};

/// Why a message cannot be, or did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The bus refused, or the peer's memory is gone.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Numbers that do not fit together.
    #[error("{0}")]
    Shape(String),
    /// There is no executor, or another than the one that was meant.
    #[error("the executor's generation is {found}, not {wanted}: it was started anew")]
    Generation {
        /// Of the executor; 0: none.
        found: u64,
        /// The one that was meant.
        wanted: u64,
    },
    /// The executor has as many clients as it can have.
    #[error("all {0} boxes of the executor are taken: allow it more clients")]
    Full(usize),
    /// No answer came in time.
    #[error("the executor did not answer within {0} ms")]
    Late(u64),
    /// The executor has ended or died.
    #[error("the executor is gone")]
    Gone,
    /// An earlier step failed: connect again.
    #[error("the connection is broken")]
    Broken,
}

/// Makes the words of a region's mailboxes, which are zeros, so that peers find the boxes.
///
/// # Errors
/// For a shape that cannot be or does not fit into `bytes`, and where the bus refuses.
pub fn format<V: Verbs>(
    verbs: &V,
    base: GlobalAddr,
    bytes: u64,
    shape: ExchangeShape,
) -> Result<(), ExchangeError> {
    shape.check()?;
    if shape.num_bytes() > bytes {
        return Err(ExchangeError::Shape(format!(
            "mailboxes of {bytes} bytes are too small for {shape:?}: it takes {}",
            shape.num_bytes()
        )));
    }
    let idle = post(0, PREPARING).to_le_bytes();
    for client in 0..shape.num_clients {
        verbs.batch(&mut [Verb::write(shape.request(base, client).post, &idle)])?;
    }
    let words = shape.to_words().map(u64::to_le_bytes);
    verbs.batch(&mut [
        Verb::write(base.add(8), words[1..].as_flattened()),
        Verb::write(base, &words[0]),
    ])?;
    Ok(())
}

/// Reads `N` words at `addr`.
fn read_words<const N: usize, V: Verbs>(verbs: &V, addr: GlobalAddr) -> Result<[u64; N], BusError> {
    let mut words = [[0; 8]; N];
    verbs.batch(&mut [Verb::read(addr, words.as_flattened_mut())])?;
    Ok(words.map(u64::from_le_bytes))
}

/// The shape of the mailboxes at `base`.
fn read_shape<V: Verbs>(verbs: &V, base: GlobalAddr) -> Result<ExchangeShape, ExchangeError> {
    let words = read_words::<HEADER_WORDS, V>(verbs, ExchangeShape::front(base).header)?;
    ExchangeShape::of_words(words)
}
