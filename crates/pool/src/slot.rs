//! The 64-bit word through which an index refers to an object.
//!
//! ```text
//! 63      56 55 54      48 47      40 39                    0
//! | finger-  |R| version | class    | address in granules  |
//! ```
//!
//! R says that a transaction that was rolled back has put this value back (see [`crate::txn`]): it
//! refers to the same object as two changes before, whose log entry speaks of that time.
//! The version goes up with every change of the slot, so that a value never comes back while
//! somebody may still hold the old one (FUSEE's slots lack it: a reused address looks unchanged).

use std::fmt;

use crate::address::{PoolAddr, GRANULE};
use crate::class::SizeClass;

/// A slot's value. 0 is a slot that never held anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u64);

/// Class numbers with another meaning than a size.
pub mod tag {
    /// Counts as empty. Deleted: the address is the deleting client's log object and the
    /// fingerprint byte that object's size class. With [`super::GONE`] added to the class: a split
    /// has moved the key, whose object it was. With any other byte there is no object.
    pub const TOMBSTONE: u8 = 0xfe;
    /// Added to a size class: a split is moving the key to another subtable. The address is still
    /// the object's, and the slot does not change until it is emptied.
    pub const MOVED: u8 = 0x80;
    /// Held by a transaction: the address is its intent object, of [`super::INTENT_CLASS`].
    pub const INTENT: u8 = 0xfc;
    /// Not in an index: the word that says what becomes of a transaction.
    pub const STATUS: u8 = 0xfa;
    /// Counts as empty: emptied for good by the operation of the log object at the address, whose
    /// size class is the fingerprint byte. It keeps no object in use: that one's owner frees it
    /// when the round is over.
    pub const EMPTIED: u8 = 0xf9;
    /// Evicted from the cache: the address is the evicting client's log object, of
    /// [`super::HISTORY_CLASS`], and the fingerprint byte tells which experts wanted it.
    pub const HISTORY: u8 = 0xfb;
}

/// In the fingerprint byte of a tombstone: the object is not this slot's any more.
const GONE: u8 = 0x80;

/// The size class of all intent objects, so that their log entries are found.
pub const INTENT_CLASS: SizeClass = SizeClass(1);
/// The size class of the log objects behind the cache's history entries.
pub const HISTORY_CLASS: SizeClass = SizeClass(0);

impl Slot {
    /// Never used.
    pub const EMPTY: Slot = Slot(0);
    /// In a log entry: decided, but over a value that was lost with its node.
    pub const UNKNOWN: Slot = Slot(0xff << 40);

    const RESTORED: u64 = 1 << 55;
    /// Versions are counted modulo this.
    const VERSIONS: u8 = 128;

    /// A slot of its parts; `kind` is a size class or a [`tag`].
    pub const fn new(fingerprint: u8, version: u8, kind: u8, addr: PoolAddr) -> Slot {
        Slot(
            (fingerprint as u64) << 56
                | ((version % Self::VERSIONS) as u64) << 48
                | (kind as u64) << 40
                | ((addr.0 / GRANULE) & ((1 << 40) - 1)),
        )
    }

    /// Eight bits of the key's hash.
    pub const fn fingerprint(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The version.
    pub const fn version(self) -> u8 {
        (self.0 >> 48) as u8 % Self::VERSIONS
    }

    /// The version of what replaces this value.
    pub const fn next_version(self) -> u8 {
        (self.version() + 1) % Self::VERSIONS
    }

    /// This value as it is put back over `intent` when the transaction is rolled back. A slot that
    /// was never used gets a tombstone instead: nothing becomes [`Slot::EMPTY`] again.
    pub const fn restored_over(self, intent: Slot) -> Slot {
        let version = intent.next_version();
        if self.0 == 0 {
            return Slot::new(0xff, version, tag::TOMBSTONE, PoolAddr::NULL);
        }
        let back = Slot::new(self.fingerprint(), version, self.kind(), self.addr());
        Slot(back.0 | Self::RESTORED)
    }

    /// Whether a transaction that was rolled back has put this value back.
    pub const fn is_restored(self) -> bool {
        self.0 & Self::RESTORED != 0
    }

    /// Size class or [`tag`].
    pub const fn kind(self) -> u8 {
        (self.0 >> 40) as u8
    }

    /// The size class, if it refers to an object directly.
    pub const fn class(self) -> Option<SizeClass> {
        if self.0 != 0 && (self.kind() as usize) < SizeClass::COUNT {
            Some(SizeClass(self.kind()))
        } else {
            None
        }
    }

    /// The object's address.
    pub const fn addr(self) -> PoolAddr {
        PoolAddr((self.0 & ((1 << 40) - 1)) * GRANULE)
    }

    /// The class of the object whose operation put this value here; `None` for values that no
    /// operation log stands behind (moves of a split, empty).
    pub const fn logged_class(self) -> Option<SizeClass> {
        match self.kind() {
            tag::INTENT => Some(INTENT_CLASS),
            tag::HISTORY => Some(HISTORY_CLASS),
            tag::TOMBSTONE if (self.fingerprint() as usize) < SizeClass::COUNT => {
                Some(SizeClass(self.fingerprint()))
            }
            _ => self.class(),
        }
    }

    /// Where the log entry of the operation lies that put this value here.
    pub fn log(self) -> Option<PoolAddr> {
        let emptier = (self.kind() == tag::EMPTIED).then_some(SizeClass(self.fingerprint()));
        let class = self.logged_class().or(emptier).filter(|_| !self.is_restored())?;
        let addr = self.addr();
        (!addr.is_null()).then(|| crate::object::log_addr(addr, class))
    }

    /// Where the log entry lies of the last operation that put a value here: that of
    /// [`Slot::log`], or what a split or a transaction has made of that value since. For tracing
    /// back what happened.
    pub fn trail(self) -> Option<PoolAddr> {
        let class = match self.kind() {
            tag::TOMBSTONE => Some(SizeClass(self.fingerprint() & !GONE)),
            tag::INTENT => Some(INTENT_CLASS),
            tag::HISTORY => Some(HISTORY_CLASS),
            tag::EMPTIED => Some(SizeClass(self.fingerprint())),
            kind => Some(SizeClass(kind & !tag::MOVED)),
        };
        let class = class.filter(|class| (class.0 as usize) < SizeClass::COUNT)?;
        let addr = self.addr();
        (!addr.is_null()).then(|| crate::object::log_addr(addr, class))
    }

    /// The value of a slot whose key was deleted by the operation of the object at `addr`.
    pub const fn tombstone(version: u8, class: SizeClass, addr: PoolAddr) -> Slot {
        Slot::new(class.0, version, tag::TOMBSTONE, addr)
    }

    /// The value of a slot whose object the experts in `bitmap` had evicted by the operation of the
    /// object at `addr`.
    pub const fn history(version: u8, bitmap: u8, addr: PoolAddr) -> Slot {
        Slot::new(bitmap, version, tag::HISTORY, addr)
    }

    /// The value of a slot that the operation of the object at `addr` has emptied for good: vacant,
    /// and no object is to be freed when it is taken. The operation's object is its own to free.
    pub const fn emptied(version: u8, class: SizeClass, addr: PoolAddr) -> Slot {
        Slot::new(class.0, version, tag::EMPTIED, addr)
    }

    /// The value that freezes this one while a split moves it.
    pub const fn frozen(self) -> Slot {
        let kind = self.kind() | tag::MOVED;
        Slot::new(self.fingerprint(), self.next_version(), kind, self.addr())
    }

    /// The value that replaces this frozen one when the key has moved: vacant, and no object is to
    /// be freed when it is taken.
    pub const fn cleared(self) -> Slot {
        let class = self.kind() & !tag::MOVED;
        Slot::new(class | GONE, self.next_version(), tag::TOMBSTONE, self.addr())
    }

    /// The object that a frozen value still refers to, as the slot it moves to has it; `None` if
    /// this value is not frozen.
    pub const fn thawed(self) -> Option<Slot> {
        let kind = self.kind() ^ tag::MOVED;
        if self.0 == 0 || kind as usize >= SizeClass::COUNT {
            return None;
        }
        Some(Slot::new(self.fingerprint(), self.next_version(), kind, self.addr()))
    }

    /// The object that it keeps in use: a key's, also while it is being moved, or that of a
    /// deletion or an eviction.
    pub const fn names(self) -> Option<PoolAddr> {
        let vacated = matches!(self.kind(), tag::TOMBSTONE | tag::HISTORY);
        let logged = vacated && self.logged_class().is_some();
        if self.class().is_some() || self.thawed().is_some() || logged {
            Some(self.addr())
        } else {
            None
        }
    }

    /// Whether an insert may take it.
    pub const fn is_vacant(self) -> bool {
        self.0 == 0 || matches!(self.kind(), tag::TOMBSTONE | tag::EMPTIED)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return write!(f, "empty");
        }
        let (fp, version, kind) = (self.fingerprint(), self.version(), self.kind());
        write!(f, "fp {fp:#x} v{version} kind {kind} {:?}", self.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let addr = PoolAddr(PoolAddr::LIMIT - GRANULE);
        let slot = Slot::new(0xab, 0x4d, 17, addr);
        assert_eq!((slot.fingerprint(), slot.version(), slot.kind()), (0xab, 0x4d, 17));
        assert_eq!(Slot::new(0, 127, 17, addr).next_version(), 0);
        assert_eq!((slot.addr(), slot.class()), (addr, Some(SizeClass(17))));
        assert!(Slot::EMPTY.class().is_none() && Slot::EMPTY.is_vacant());
        assert!(Slot::new(1, 2, tag::TOMBSTONE, addr).is_vacant());
        let (frozen, thawed) = (slot.frozen(), slot.frozen().thawed().unwrap());
        assert!(frozen.class().is_none() && frozen.log().is_none() && !frozen.is_vacant());
        assert_eq!((thawed.class(), thawed.version()), (slot.class(), slot.version() + 2));
        let cleared = frozen.cleared();
        assert!(cleared.is_vacant() && cleared.version() == slot.version() + 2);
        assert!(cleared.logged_class().is_none() && cleared.names().is_none());
        assert_eq!((frozen.trail(), cleared.trail()), (slot.log(), slot.log()));
        assert!(slot.trail() == slot.log() && Slot::EMPTY.trail().is_none());
        assert!(slot.thawed().is_none() && Slot::EMPTY.thawed().is_none());
        assert!(Slot::new(1, 2, tag::TOMBSTONE, addr).thawed().is_none());
    }

    #[test]
    fn who_emptied_a_slot_is_known_and_keeps_nothing() {
        let (class, addr) = (SizeClass(3), PoolAddr(0x3000));
        let emptied = Slot::emptied(9, class, addr);
        assert!(emptied.is_vacant() && emptied.names().is_none() && emptied.class().is_none());
        assert!(emptied.logged_class().is_none() && emptied.thawed().is_none());
        let log = Some(crate::object::log_addr(addr, class));
        assert_eq!((emptied.log(), emptied.trail(), emptied.version()), (log, log, 9));
        let intent = Slot::new(1, emptied.next_version(), tag::INTENT, PoolAddr(0x2000));
        let back = emptied.restored_over(intent);
        assert!(back.is_vacant() && back.log().is_none() && back.trail() == log);
    }

    #[test]
    fn what_is_put_back_is_a_new_value_of_the_same_object() {
        let old = Slot::new(0xab, 126, 17, PoolAddr(0x1000));
        let intent = Slot::new(0xab, old.next_version(), tag::INTENT, PoolAddr(0x2000));
        let back = old.restored_over(intent);
        assert_eq!((back.class(), back.addr(), back.version()), (old.class(), old.addr(), 0));
        assert!(back.log().is_none() && back.trail() == old.log() && back.is_restored());
        assert!(!back.frozen().is_restored());
        let never = Slot::EMPTY.restored_over(intent);
        assert!(never.is_vacant() && never != Slot::EMPTY && never.log().is_none());
        assert!(Slot::tombstone(3, SizeClass(2), PoolAddr(64)).restored_over(intent).is_vacant());
    }
}
