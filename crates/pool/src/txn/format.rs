//! Intents and status words, as they lie in the pool.
//!
//! ```text
//! intent: the value of an object of kind Intent, class INTENT_CLASS:
//!   hash u64 | status address u64 | old slot u64 | new slot u64 | sequence of the new object u64
//! status: the value of an object of kind Intent, class 0: one slot word of kind STATUS
//! ```

use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::object::{self, word, Header, Kind, HEADER_BYTES};
use crate::slot::{tag, Slot, INTENT_CLASS};

/// Bytes of an intent's value.
const INTENT_BYTES: usize = 40;
/// Where the status word lies in its object.
pub(super) const STATUS_AT: u64 = HEADER_BYTES as u64;

/// What a transaction is about to do with one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Hash of the key.
    pub hash: u64,
    /// Where the transaction's status word lies.
    pub status: PoolAddr,
    /// What the slot held before.
    pub old: Slot,
    /// What it holds once the transaction is committed.
    pub new: Slot,
    /// The number in the log entry of the object of `new`.
    pub sequence: u64,
}

impl Intent {
    /// Bytes of an intent's object.
    pub const OBJECT_BYTES: usize = object::object_bytes(0, INTENT_BYTES);

    /// The value of its object.
    pub fn encode(&self) -> [u8; INTENT_BYTES] {
        let words = [self.hash, self.status.0, self.old.0, self.new.0, self.sequence];
        let mut bytes = [0; INTENT_BYTES];
        for (at, word) in words.into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The intent in the whole bytes of its object.
    pub(super) fn decode(bytes: &[u8]) -> Result<Intent> {
        let (header, _, value) = object::parse(bytes, INTENT_CLASS)?;
        let corrupt = |what: &str| PoolError::Corrupt(format!("intent: {what}"));
        if header.kind != Kind::Intent || value.len() != INTENT_BYTES {
            return Err(corrupt("not one"));
        }
        let at = |index: usize| word(value, index * 8);
        let intent = Intent {
            hash: at(0),
            status: PoolAddr(at(1)),
            old: Slot(at(2)),
            new: Slot(at(3)),
            sequence: at(4),
        };
        let inside = |addr: PoolAddr| addr.0 < PoolAddr::LIMIT && addr.0.is_multiple_of(8);
        if !inside(intent.status) || intent.new.log().is_none() {
            return Err(corrupt("its parts name nothing"));
        }
        Ok(intent)
    }

    /// What the slot holds once the transaction is aborted; `held` is the intent's slot value.
    pub(super) fn back(&self, held: Slot) -> Slot {
        self.old.restored_over(held)
    }
}

/// The object of class 0 in which the status word of the intent's transaction lies.
pub(crate) const fn status_object(intent: &Intent) -> PoolAddr {
    PoolAddr(intent.status.0.saturating_sub(STATUS_AT))
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not decided.
    Pending,
    /// All its writes hold.
    Committed,
    /// None of them does.
    Aborted,
}

impl Status {
    /// The status word at `at`, as a slot has it: pending is version 0, the others version 1.
    pub(super) const fn slot(self, at: PoolAddr) -> Slot {
        match self {
            Status::Pending => Slot::new(1, 0, tag::STATUS, at),
            Status::Committed => Slot::new(2, 1, tag::STATUS, at),
            Status::Aborted => Slot::new(3, 1, tag::STATUS, at),
        }
    }

    /// The status that the word at `at` tells.
    pub(super) fn of(slot: Slot, at: PoolAddr) -> Result<Status> {
        let all = [Status::Pending, Status::Committed, Status::Aborted];
        let found = all.into_iter().find(|status| status.slot(at) == slot);
        found.ok_or_else(|| PoolError::Corrupt(format!("status word {:#x} at {at:?}", slot.0)))
    }
}

/// The header of an intent or of a status word: `value_len` tells which.
pub(super) const fn header(namespace: u16, value_len: usize) -> Header {
    Header {
        kind: Kind::Intent,
        version: 0,
        namespace,
        key_len: 0,
        value_len: value_len as u32,
        expires_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::class::SizeClass;

    #[test]
    fn intents_and_status_words_come_back() {
        let intent = Intent {
            hash: 7,
            status: PoolAddr(0x1018),
            old: Slot::EMPTY,
            new: Slot::new(3, 9, 5, PoolAddr(0x4000)),
            sequence: 11,
        };
        let value = intent.encode();
        let mut bytes = header(1, value.len()).encode(&[], &value).to_vec();
        bytes.extend_from_slice(&value);
        bytes.resize(INTENT_CLASS.bytes(), 0);
        assert_eq!(Intent::decode(&bytes).unwrap(), intent);
        bytes[30] ^= 1;
        assert!(Intent::decode(&bytes).is_err());
        let at = PoolAddr(0x1018);
        for status in [Status::Pending, Status::Committed, Status::Aborted] {
            assert_eq!(Status::of(status.slot(at), at).unwrap(), status);
            assert!(status.slot(at).log().is_none() && status.slot(at).class().is_none());
        }
        assert!(Status::of(Slot::new(3, 0, tag::STATUS, at), at).is_err());
        assert_eq!(SizeClass::for_bytes(Intent::OBJECT_BYTES), Some(INTENT_CLASS));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(value: [u8; INTENT_BYTES], short in 0usize..128) {
            let mut bytes = header(1, value.len()).encode(&[], &value).to_vec();
            bytes.extend_from_slice(&value);
            bytes.resize(INTENT_CLASS.bytes(), 0);
            let _ = Intent::decode(&bytes);
            let _ = Intent::decode(&bytes[..short]);
        }
    }
}
