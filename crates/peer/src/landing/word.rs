//! The control words of a landing's slot.
//!
//! All that decides who may write is one word: which landing it is, whose, how far, and whether the
//! owner has taken it back. So every step of either side is one atomic instruction.
//!
//! | bits | |
//! |---|---|
//! | 0 to 2 | phase |
//! | 3 | revoked; only the owner sets it, once a landing, by adding it |
//! | 4 to 25 | process id of the writer, 0 before there is one |
//! | 26 to 63 | generation: each landing of a slot has its own |

use artesian_bus::{GlobalAddr, Identity};

/// Bytes of a slot: two cache lines.
pub const SLOT_BYTES: u64 = 128;
/// Words of a slot that are used.
pub(super) const WORDS: usize = 5;

const REVOKED: u64 = 8;
const PID_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 26;
/// Process ids of Linux are smaller.
const MAX_PID: u64 = (1 << (GENERATION_SHIFT - PID_SHIFT)) - 1;
/// Generations are smaller.
pub(super) const NUM_GENERATIONS: u64 = 1 << (64 - GENERATION_SHIFT);

/// How far a landing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Free = 0,
    /// Nobody has taken it up yet.
    Open = 1,
    /// Its writer is not writing just now.
    Idle = 2,
    /// Its writer may be writing.
    Writing = 3,
    /// All is written.
    Complete = 4,
    /// Its writer has given up.
    Failed = 5,
    /// Its writer has seen, while it wrote, that the landing was revoked, and stopped.
    Stopped = 6,
}

/// A slot's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub u64);

impl State {
    pub fn new(generation: u64, pid: u32, phase: Phase) -> State {
        let pid = u64::from(pid).min(MAX_PID);
        State(generation << GENERATION_SHIFT | pid << PID_SHIFT | phase as u64)
    }

    pub fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    pub fn pid(self) -> u32 {
        (self.0 >> PID_SHIFT & MAX_PID) as u32
    }

    pub fn is_revoked(self) -> bool {
        self.0 & REVOKED != 0
    }

    /// What the owner adds to revoke.
    pub const REVOKE: u64 = REVOKED;

    pub fn revoked(self) -> State {
        State(self.0 | REVOKED)
    }

    pub fn with(self, phase: Phase) -> State {
        State(self.0 & !7 | phase as u64)
    }

    /// `None` for a number that no version wrote.
    pub fn phase(self) -> Option<Phase> {
        use Phase::*;
        let all = [Free, Open, Idle, Writing, Complete, Failed, Stopped];
        all.into_iter().find(|&phase| phase as u64 == self.0 & 7)
    }
}

/// What a landing's writer tells, beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sections of writing so far: while this changes, the writer lives.
    pub num_sections: u64,
    /// Layer of the last section that a program wrote.
    pub layer: u32,
    /// Bytes written.
    pub num_bytes: u64,
}

/// Where a slot's words are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(pub GlobalAddr);

impl Slot {
    pub fn new(control: GlobalAddr, number: u32) -> Slot {
        Slot(control.add(u64::from(number) * SLOT_BYTES))
    }

    pub fn state(self) -> GlobalAddr {
        self.0
    }

    /// When the writer's process began, which it says while it writes: so the word is that of the
    /// process in the state, or 0 if it has not come to say it.
    pub fn started(self) -> GlobalAddr {
        self.0.add(8)
    }

    /// Of `Progress`: sections, layer, bytes.
    pub fn progress(self) -> GlobalAddr {
        self.0.add(16)
    }
}

/// The slot's words behind its state.
pub(super) fn words_of(identity: Identity, progress: Progress) -> [[u8; 8]; WORDS - 1] {
    let layer = u64::from(progress.layer);
    [identity.started, progress.num_sections, layer, progress.num_bytes].map(u64::to_le_bytes)
}

/// What a slot's words say: state, writer, progress.
pub(super) fn read_words(words: [[u8; 8]; WORDS]) -> (State, Identity, Progress) {
    let [state, started, num_sections, layer, num_bytes] = words.map(u64::from_le_bytes);
    let state = State(state);
    let progress = Progress { num_sections, layer: layer as u32, num_bytes };
    (state, Identity { pid: state.pid(), started }, progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_state_do_not_touch_each_other() {
        for generation in [0, 1, NUM_GENERATIONS - 1] {
            for pid in [0, 1, MAX_PID as u32] {
                for phase in [Phase::Free, Phase::Writing, Phase::Stopped] {
                    let state = State::new(generation, pid, phase);
                    let revoked = State(state.0 + State::REVOKE);
                    assert_eq!(state.revoked(), revoked);
                    assert!(!state.is_revoked() && revoked.is_revoked());
                    for state in [state, revoked] {
                        assert_eq!((state.generation(), state.pid()), (generation, pid));
                        assert_eq!(state.phase(), Some(phase));
                    }
                    let stopped = revoked.with(Phase::Stopped);
                    assert_eq!(stopped, State::new(generation, pid, Phase::Stopped).revoked());
                }
            }
        }
        assert_eq!(State(7).phase(), None);
    }
}
