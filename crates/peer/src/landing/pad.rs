//! The owner's side of landings.

use artesian_bus::{BusError, GlobalAddr, Identity, Verb, Verbs};

use super::word::{read_words, words_of, Phase, Progress, Slot, State, NUM_GENERATIONS, WORDS};
use crate::PeerError;

/// Generations of one life of an owner, before those of the next begin.
const GENERATIONS_OF_A_LIFE: u64 = 1 << 24;

/// What the owner sees of a landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The slot is not in use.
    Free,
    /// Nobody has taken the landing up yet.
    Open,
    /// It has a writer, which writes now and then.
    Writing,
    /// All is written: the blocks hold the writer's bytes, and nobody writes there any more.
    Complete,
    /// The writer has given up; nobody writes any more.
    Failed,
    /// It was taken back, but its writer may still be writing.
    Quarantined,
    /// It was taken back, and nobody writes any more.
    Revoked,
}

/// A landing of this process.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    generation: u64,
    is_lent: bool,
    is_revoked: bool,
    /// What was seen of it last, and since when it is like that.
    seen: (u64, u64),
    since_ns: u64,
}

/// The slots of a region, for its owner.
pub struct Pad<V> {
    verbs: V,
    control: GlobalAddr,
    slots: Vec<Lent>,
    /// Those that are not lent, the one that was so for longest first.
    free: std::collections::VecDeque<u32>,
}

impl<V: Verbs> Pad<V> {
    /// The slots at `control`, all free. `life` is the generation of the owner: its tickets are
    /// told apart from those of a former one.
    pub fn new(verbs: V, control: GlobalAddr, num_slots: u32, life: u64) -> Pad<V> {
        let generation = life % (NUM_GENERATIONS / GENERATIONS_OF_A_LIFE) * GENERATIONS_OF_A_LIFE;
        let slot = Lent { generation, ..Lent::default() };
        let slots = vec![slot; num_slots as usize];
        Pad { verbs, control, slots, free: (0..num_slots).collect() }
    }

    /// A new landing's slot and generation; `None` when all slots are in use.
    ///
    /// # Errors
    /// [`PeerError::Bus`] when the own memory is gone.
    pub fn open(&mut self) -> Result<Option<(u32, u64)>, PeerError> {
        let Some(&number) = self.free.front() else { return Ok(None) };
        let generation = (self.slots[number as usize].generation + 1) % NUM_GENERATIONS;
        let slot = Slot::new(self.control, number);
        let nobody = words_of(Identity { pid: 0, started: 0 }, Progress::default());
        let state = State::new(generation, 0, Phase::Open);
        // No writer's compare-and-swap can meet a word of a landing that is over, and only within
        // a section it writes the others. So these are the owner's.
        self.verbs.batch(&mut [
            Verb::write(slot.started(), nobody.as_flattened()),
            Verb::write(slot.state(), &state.0.to_le_bytes()),
        ])?;
        self.free.pop_front();
        let seen = (state.0, 0);
        let since_ns = self.verbs.now_ns();
        self.slots[number as usize] =
            Lent { generation, is_lent: true, is_revoked: false, seen, since_ns };
        Ok(Some((number, generation)))
    }

    /// Takes a landing back, whatever its state. Whether nobody writes any more; if not, see
    /// [`Pad::standing`].
    ///
    /// # Errors
    /// As [`Pad::open`]; [`PeerError::Shape`] for a slot that is not lent.
    pub fn revoke(&mut self, number: u32) -> Result<bool, PeerError> {
        let lent = self.lent(number)?;
        if !lent.is_revoked {
            let state = Slot::new(self.control, number).state();
            self.verbs.batch(&mut [Verb::faa(state, State::REVOKE)])?;
            self.slots[number as usize].is_revoked = true;
        }
        Ok(self.is_quiet(number)?)
    }

    /// What has become of a landing.
    ///
    /// # Errors
    /// As [`Pad::open`].
    pub fn standing(&self, number: u32) -> Result<Standing, BusError> {
        let lent = self.slots.get(number as usize).filter(|lent| lent.is_lent);
        let Some(lent) = lent else { return Ok(Standing::Free) };
        let (state, writer, _) = self.read(number)?;
        debug_assert_eq!(state.generation(), lent.generation);
        Ok(match state.phase() {
            Some(Phase::Complete) => Standing::Complete,
            Some(Phase::Failed) => Standing::Failed,
            Some(Phase::Writing) if !state.is_revoked() => Standing::Writing,
            Some(Phase::Writing) if self.verbs.is_alive(writer) => Standing::Quarantined,
            Some(_) if state.is_revoked() => Standing::Revoked,
            Some(Phase::Open) => Standing::Open,
            Some(Phase::Idle) => Standing::Writing,
            // Nobody who keeps to the protocol has written this: trust nothing.
            _ => Standing::Quarantined,
        })
    }

    /// Whether nobody writes to a landing's blocks any more, which is for ever.
    ///
    /// # Errors
    /// As [`Pad::open`].
    pub fn is_quiet(&self, number: u32) -> Result<bool, BusError> {
        use Standing::{Complete, Failed, Free, Revoked};
        Ok(matches!(self.standing(number)?, Free | Complete | Failed | Revoked))
    }

    /// Whether the process that took the landing up is dead.
    ///
    /// # Errors
    /// As [`Pad::open`].
    pub fn writer_is_dead(&self, number: u32) -> Result<bool, BusError> {
        let (state, writer, _) = self.read(number)?;
        Ok(state.pid() != 0 && !self.verbs.is_alive(writer))
    }

    /// What the writer has told of its work.
    ///
    /// # Errors
    /// As [`Pad::open`].
    pub fn progress(&self, number: u32) -> Result<Progress, BusError> {
        Ok(self.read(number)?.2)
    }

    /// Nanoseconds for which this has seen nothing happen to a landing: its lease, for whoever
    /// sets a limit. To be asked now and then.
    ///
    /// # Errors
    /// As [`Pad::open`].
    pub fn idle_ns(&mut self, number: u32) -> Result<u64, PeerError> {
        self.lent(number)?;
        let (state, _, progress) = self.read(number)?;
        let (now, seen) = (self.verbs.now_ns(), (state.0, progress.num_sections));
        let lent = &mut self.slots[number as usize];
        if lent.seen != seen {
            (lent.seen, lent.since_ns) = (seen, now);
        }
        Ok(now.saturating_sub(lent.since_ns))
    }

    /// Gives back a slot to whose blocks nobody writes any more.
    ///
    /// # Errors
    /// [`PeerError::Shape`] for one that is not lent or where somebody may write.
    pub fn release(&mut self, number: u32) -> Result<(), PeerError> {
        self.lent(number)?;
        if !self.is_quiet(number)? {
            return Err(PeerError::Shape(format!(
                "landing {number} has a writer: revoke it, and wait until it is quiet"
            )));
        }
        self.slots[number as usize].is_lent = false;
        self.free.push_back(number);
        Ok(())
    }

    /// Landings that are not released.
    pub fn num_lent(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn lent(&self, number: u32) -> Result<&Lent, PeerError> {
        let lent = self.slots.get(number as usize).filter(|lent| lent.is_lent);
        lent.ok_or_else(|| PeerError::Shape(format!("landing {number} is not lent")))
    }

    fn read(&self, number: u32) -> Result<(State, Identity, Progress), BusError> {
        let mut words = [[0; 8]; WORDS];
        let at = Slot::new(self.control, number).state();
        self.verbs.batch(&mut [Verb::read(at, words.as_flattened_mut())])?;
        Ok(read_words(words))
    }
}
