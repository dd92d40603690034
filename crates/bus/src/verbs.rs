//! The interface that every transport implements.

use std::any::Any;
use std::sync::Arc;

use crate::{BusError, GlobalAddr, NodeId, Tally};

/// One one-sided operation. `found` fields are results.
#[derive(Debug)]
pub enum Verb<'a> {
    /// Copies `into.len()` bytes from `addr`.
    Read {
        /// First byte read.
        addr: GlobalAddr,
        /// Where the bytes go.
        into: &'a mut [u8],
    },
    /// Copies `from` to `addr`.
    Write {
        /// First byte written.
        addr: GlobalAddr,
        /// The bytes.
        from: &'a [u8],
    },
    /// Copies the parts one behind the other to `addr`, as one write.
    Gather {
        /// First byte written.
        addr: GlobalAddr,
        /// The bytes, in pieces.
        parts: &'a [&'a [u8]],
    },
    /// Replaces the word at `addr` by `desired` if it is `expected`.
    Cas {
        /// The word, 8-byte aligned.
        addr: GlobalAddr,
        /// What it must be.
        expected: u64,
        /// What it becomes.
        desired: u64,
        /// What it was: the swap happened if this equals `expected`.
        found: u64,
    },
    /// Adds `add` (wrapping) to the word at `addr`.
    Faa {
        /// The word, 8-byte aligned.
        addr: GlobalAddr,
        /// What is added.
        add: u64,
        /// What it was.
        found: u64,
    },
}

impl<'a> Verb<'a> {
    /// A read of `into.len()` bytes.
    pub fn read(addr: GlobalAddr, into: &'a mut [u8]) -> Self {
        Verb::Read { addr, into }
    }

    /// A write of `from`.
    pub fn write(addr: GlobalAddr, from: &'a [u8]) -> Self {
        Verb::Write { addr, from }
    }

    /// A compare and swap.
    pub fn cas(addr: GlobalAddr, expected: u64, desired: u64) -> Self {
        Verb::Cas { addr, expected, desired, found: 0 }
    }

    /// A fetch and add.
    pub fn faa(addr: GlobalAddr, add: u64) -> Self {
        Verb::Faa { addr, add, found: 0 }
    }

    /// The first byte it touches.
    pub fn addr(&self) -> GlobalAddr {
        match self {
            Verb::Read { addr, .. }
            | Verb::Write { addr, .. }
            | Verb::Gather { addr, .. }
            | Verb::Cas { addr, .. }
            | Verb::Faa { addr, .. } => *addr,
        }
    }

    /// The bytes it touches.
    pub fn len(&self) -> u64 {
        match self {
            Verb::Read { into, .. } => into.len() as u64,
            Verb::Write { from, .. } => from.len() as u64,
            Verb::Gather { parts, .. } => parts.iter().map(|part| part.len() as u64).sum(),
            Verb::Cas { .. } | Verb::Faa { .. } => 8,
        }
    }

    /// Whether a node of `bytes` bytes has all that it touches, aligned as it must be.
    pub fn is_within(&self, bytes: u64) -> bool {
        let offset = self.addr().offset();
        let aligned =
            !matches!(self, Verb::Cas { .. } | Verb::Faa { .. }) || offset.is_multiple_of(8);
        aligned && offset <= bytes && self.len() <= bytes - offset
    }

    /// Whether it touches no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a CAS or FAA found; 0 for the others.
    pub fn found(&self) -> u64 {
        match self {
            Verb::Cas { found, .. } | Verb::Faa { found, .. } => *found,
            _ => 0,
        }
    }
}

/// Who a client is to the operating system (or the simulator): enough to fence it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Process id; in the simulator the client's number.
    pub pid: u32,
    /// When that process started, so that a reused pid is not mistaken for it. 0 in the simulator,
    /// and where it is not known: then any process of that pid counts, and none is fenced.
    pub started: u64,
}

/// What became of a client that was to be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is dead or cut off: no verb of it can take effect any more.
    Fenced,
    /// It could not be cut off (another user's process, another host): do not declare it dead.
    OutOfReach,
}

/// One client's connection to the memory nodes of a pool.
///
/// Not shared between threads: each client has its own.
pub trait Verbs: Send {
    /// Posts the verbs and waits for all of them: one round trip. Verbs on one node take effect in
    /// order. On an error, verbs on healthy nodes have still been executed.
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError>;

    /// A word of this client's *own* registered memory, into which others write by verbs (its
    /// mailbox). Costs no round trip and is not counted; may be read before the own last writes
    /// are visible.
    fn mailbox(&self, addr: GlobalAddr) -> u64;

    /// Sleeps until the mailbox word differs from `seen` or `timeout_ns` have passed.
    fn wait_mailbox(&self, addr: GlobalAddr, seen: u64, timeout_ns: u64);

    /// Wakes a client that sleeps on its mailbox word, after a verb has changed it.
    fn wake_mailbox(&self, addr: GlobalAddr);

    /// Nanoseconds of a clock that all clients of the pool share and that never goes back.
    fn now_ns(&self) -> u64;

    /// Lets others go on for about `ns` nanoseconds (spins when short, sleeps when long).
    fn relax(&self, ns: u64);

    /// The caller, as others can fence it.
    fn identity(&self) -> Identity;

    /// Whether that client still exists (a stopped process does).
    fn is_alive(&self, client: Identity) -> bool;

    /// Makes sure that no further verb of `client` takes effect, and returns when that is so.
    fn fence(&self, client: Identity) -> Fate;

    /// Direct view of `len` bytes at `addr`, where the transport has them in this address space;
    /// valid as long as the transport lives. Others may write there meanwhile: use it only for
    /// immutable, pinned bytes.
    fn map(&self, addr: GlobalAddr, len: usize) -> Option<*const u8>;

    /// What keeps the memory of [`Verbs::map`] in this address space, even when this connection is
    /// gone; `None` if nothing can.
    fn anchor(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// The nodes that can be reached now, with their bytes.
    fn nodes(&self) -> Vec<(NodeId, u64)>;

    /// Verbs and round trips so far.
    fn tally(&self) -> Tally;
}
