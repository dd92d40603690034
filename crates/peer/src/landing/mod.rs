//! Landings: KV that a peer writes into blocks that the owner of a region has lent it.
//!
//! The owner opens a landing, a slot of control words, and tells the peer its number and
//! generation. The peer writes in *sections*. The slot's state goes
//!
//! ```text
//! Open --attach--> Idle --begin--> Writing --end--> Idle ... --> Complete, or Failed
//! ```
//!
//! and each arrow is one compare-and-swap of the whole word, generation and writer included, so a
//! late, repeated or foreign attempt fails. The owner takes its blocks back by adding one bit to
//! the word, which always succeeds and tells what the state was:
//!
//! * not `Writing`: the writer's next compare-and-swap fails, so nothing is written from now on,
//!   and the blocks are the owner's at once;
//! * `Writing`: stores may be under way, and no message from the writer could have overtaken them.
//!   The blocks stay in quarantine until the writer, at the end of its section, finds the bit and
//!   answers `Stopped`, or its process is dead, which the operating system knows.
//!
//! So no write ever lands in a block that has another owner; nobody waits for anybody; a writer
//! that hangs costs the blocks of its landing until it goes on or dies, and nothing else.

mod cover;
mod pad;
mod word;
mod writer;

pub use pad::{Pad, Standing};
pub use word::{Progress, SLOT_BYTES};
pub use writer::{Target, Writer};
