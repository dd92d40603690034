//! Addresses inside the pool, and the names of its clients.

use std::fmt;

/// Unit in which objects are placed, in bytes.
pub const GRANULE: u64 = 64;

/// A byte of the pool's replicated space: 46 bits. Its upper bits name a region, which lies on
/// one or several nodes at places that the view tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolAddr(pub u64);

impl PoolAddr {
    /// No address. Block 0 of region 0 holds a table, so no object ever lies here.
    pub const NULL: PoolAddr = PoolAddr(0);
    /// One past the largest address.
    pub const LIMIT: u64 = 1 << 46;

    /// The address `bytes` further.
    #[allow(clippy::should_implement_trait)]
    pub const fn add(self, bytes: u64) -> Self {
        PoolAddr(self.0 + bytes)
    }

    /// Whether this is [`PoolAddr::NULL`].
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for PoolAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:#x}", self.0)
    }
}

/// A client of the pool: its place in the client table, and which of the clients that have held
/// that place it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    /// Place in the client table; 0 is nobody.
    pub index: u16,
    /// Goes up each time the place is given away.
    pub incarnation: u16,
}

impl ClientId {
    /// Nobody: the owner of what is free.
    pub const NOBODY: ClientId = ClientId { index: 0, incarnation: 0 };

    /// Both numbers in the lower 32 bits.
    pub const fn word(self) -> u64 {
        ((self.incarnation as u64) << 16) | self.index as u64
    }

    /// The client of the lower 32 bits of `word`.
    pub const fn from_word(word: u64) -> Self {
        ClientId { index: word as u16, incarnation: (word >> 16) as u16 }
    }

    /// Whether this is nobody.
    pub const fn is_nobody(self) -> bool {
        self.index == 0
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}.{}", self.index, self.incarnation)
    }
}
