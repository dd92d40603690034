//! One round of one slot, as one client takes part in it.

use artesian_bus::GlobalAddr;

use super::rules::Rule;
use crate::address::PoolAddr;
use crate::config::MAX_COPIES;
use crate::fabric::Copies;
use crate::object::LOG_BYTES;
use crate::slot::Slot;

/// Polls of a loser before it helps the winner.
pub(super) const POLLS: u32 = 8;
/// First pause of a loser; each is twice the one before.
const FIRST_PAUSE_NS: u64 = 250;

/// How a round ended for its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `new` was in the primary; the rule says how it came there. The writer frees the old object.
    Won(Rule),
    /// Another value replaced `old`; nobody has read `new` or ever will. The writer frees its own
    /// object.
    Lost {
        /// What replaced `old`, unless the slot has changed twice: only if this value's log entry
        /// says "decided over `old`" it is that.
        winner: Slot,
        /// What the primary held last.
        current: Slot,
    },
    /// All copies of the slot went with their nodes, and with them whatever was in it.
    Gone,
}

/// A lock word that is given back in the same batch as the primary slot changes. It must lie on
/// the node of the slot's primary copy, so that it is free only after the slot has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unlock {
    /// The word; its primary copy counts.
    pub word: PoolAddr,
    /// What the holder wrote into it.
    pub held: u64,
    /// What it becomes.
    pub free: u64,
}

/// Words beside a slot that say something of the value it gets: they are written to the primary
/// copy behind the swap, by the writer's own last batch only. Whoever needs them right cannot use
/// this: a helper does not write them, and a loser may write over the winner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rider {
    /// Where they go, in bytes from the slot.
    pub offset: u8,
    /// How many bytes of `bytes` there are.
    pub len: u8,
    /// The words.
    pub bytes: [u8; RIDER_BYTES],
}

/// Most bytes of a [`Rider`].
pub const RIDER_BYTES: usize = 40;

/// What the next batch does for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Nothing yet: where the copies lie decides what comes.
    Start,
    /// Helper: read all copies.
    Survey,
    /// CAS the backups from old to new.
    Propose,
    /// Helper: read the backups.
    Look,
    /// Read the primary: is the round still open?
    Check,
    /// Helper: complete the proposals of somebody who died on the way.
    Fill,
    /// Change all backups to the winner.
    Fix,
    /// Write the winner's log entry.
    Log,
    /// Without copies, log entry and slot on one node: both in one ordered batch.
    LogSwap,
    /// CAS the primary.
    Swap,
    /// Loser: read the primary until it has changed.
    Wait,
    /// Read the own log entry: did a helper make me win?
    Own,
    /// After a change of the view: read the primary and the own log entry.
    Again,
    /// The old view's decision was undone: clear the log entry, then start again.
    Erase,
    /// After a change of the view: follow the log entries back from `cursor`.
    Walk,
    /// Won before the view changed: make sure that the lock is free.
    Unlock,
    /// Over.
    Done,
}

/// A slot's change from `old` to `new`, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    /// The slot.
    pub slot: PoolAddr,
    /// What the primary held when this operation read it.
    pub old: Slot,
    /// What it shall hold: never held by this slot before.
    pub new: Slot,
    /// The log entry of the object that `new` names, which is written already;
    /// [`PoolAddr::NULL`] for changes that another log covers (splits).
    pub log: PoolAddr,
    /// The sequence number in that log entry.
    pub sequence: u64,
    /// The log entry was written as [`crate::object::proposed_bytes`] of this slot and old value:
    /// saves the round trip for it when the slot has no copies.
    pub proposed: bool,
    /// A lock to give back. What it guards can have changed if the view did: then nothing is
    /// proposed again.
    pub unlock: Option<Unlock>,
    /// Hints to leave beside the slot.
    pub rider: Option<Rider>,

    pub(super) helper: bool,
    pub(super) phase: Phase,
    pub(super) copies: Copies,
    pub(super) logs: Copies,
    pub(super) entry_at: Option<GlobalAddr>,
    pub(super) unlock_at: Option<GlobalAddr>,
    pub(super) held: [u64; MAX_COPIES - 1],
    pub(super) looked: [[u8; 8]; MAX_COPIES - 1],
    pub(super) seen: [u8; 8],
    pub(super) entry: [u8; LOG_BYTES],
    pub(super) decided: [u8; 16],
    /// Who the next steps make the winner.
    pub(super) winner: u64,
    /// Who certainly replaces `old`; 0 while unknown.
    pub(super) known: u64,
    pub(super) rule: Rule,
    pub(super) filling: bool,
    pub(super) helping: bool,
    pub(super) lost: bool,
    /// The view changed under this client's lock: nothing is proposed again, but what was proposed
    /// already is brought to its end.
    pub(super) finishing: bool,
    /// After a change of the view: the own log entry says decided, although the primary has not
    /// changed; the backups tell whether that still holds.
    pub(super) doubted: bool,
    /// After a change of the view: the own log entry was not clear.
    pub(super) entered: bool,
    /// The primary has been seen to hold `new`: only the log entry may be missing.
    pub(super) seen_new: bool,
    pub(super) polls: u32,
    pub(super) cursor: Slot,
    pub(super) helps: u32,
    pub(super) again: u32,
    pub(super) outcome: Option<Outcome>,
    pub(super) current: Slot,
}

impl Round {
    /// A writer's round; see the fields.
    pub fn new(slot: PoolAddr, old: Slot, new: Slot, log: PoolAddr, sequence: u64) -> Round {
        Round {
            slot,
            old,
            new,
            log,
            sequence,
            proposed: false,
            unlock: None,
            rider: None,
            helper: false,
            phase: Phase::Start,
            copies: Copies::new(),
            logs: Copies::new(),
            entry_at: None,
            unlock_at: None,
            held: [0; MAX_COPIES - 1],
            looked: [[0; 8]; MAX_COPIES - 1],
            seen: [0; 8],
            entry: [0; LOG_BYTES],
            decided: [0; 16],
            winner: 0,
            known: 0,
            rule: Rule::Single,
            filling: false,
            helping: false,
            lost: false,
            finishing: false,
            doubted: false,
            entered: false,
            seen_new: false,
            polls: 0,
            cursor: Slot::EMPTY,
            helps: 0,
            again: 0,
            outcome: None,
            current: old,
        }
    }

    /// Takes no part but finishes what is open.
    pub(super) fn helper(slot: PoolAddr) -> Round {
        let mut round = Round::new(slot, Slot::EMPTY, Slot::EMPTY, PoolAddr::NULL, 0);
        round.helper = true;
        round
    }

    /// How it ended; `None` before that.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether this writer's value was in the primary.
    pub fn won(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Won(_)))
    }

    /// Whether a loser certainly still holds the lock of `unlock`. Slots without copies give it
    /// back even when they lose; after a change of the view, lock words may have moved.
    pub fn holds_lock(&self) -> bool {
        let lost = matches!(self.outcome, Some(Outcome::Lost { .. }));
        self.unlock.is_some() && lost && self.copies.len() > 1 && self.again == 0
    }

    /// What the primary held last, as far as this client knows.
    pub fn current(&self) -> Slot {
        self.current
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase != Phase::Done
    }

    /// How long to pause before the next batch: only losers that wait do.
    pub(super) fn wait_ns(&self) -> u64 {
        if self.phase == Phase::Wait {
            FIRST_PAUSE_NS << self.polls
        } else {
            0
        }
    }

    /// What the backups hold, as far as known.
    pub(super) fn held(&self) -> &[u64] {
        &self.held[..self.copies.len().saturating_sub(1)]
    }
}
