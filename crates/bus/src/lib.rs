//! The bus: five calls on the memory of other processes and hosts.
//!
//! Memory lies on *memory nodes*. A client reads and writes it by one-sided verbs: `read`, `write`,
//! `cas`, `faa`, and a batch of them that is posted with one doorbell and waited for once (one
//! round trip). Nothing runs on the node for a verb. Two rules hold on every transport:
//!
//! * an aligned 8-byte word is atomic, nothing larger is: a large read may be torn;
//! * verbs of one batch on one node take effect in their order; between nodes there is none.
//!
//! Transports: [`shm`] (shared memory of this host), `sim` (deterministic, seeded; for tests),
//! [`heap`] (one lock a node: the slow obvious twin of the others).

mod address;
pub mod conformance;
mod counters;
mod error;
pub mod fault;
pub mod heap;
pub mod shm;
#[cfg(feature = "sim")]
pub mod sim;
mod verbs;
mod wrap;

pub use address::{GlobalAddr, NodeId};
pub use counters::{Counters, Tally};
pub use error::BusError;
pub use verbs::{Fate, Identity, Verb, Verbs};
