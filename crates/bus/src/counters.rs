//! How many verbs and round trips a client has posted.

use std::cell::Cell;
use std::ops::Sub;

use crate::Verb;

/// Counts at one moment; subtract two to know what an operation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// READ verbs.
    pub reads: u64,
    /// WRITE verbs (a gathered write is one).
    pub writes: u64,
    /// CAS verbs.
    pub cas: u64,
    /// FAA verbs.
    pub faa: u64,
    /// Batches waited for: round trips.
    pub round_trips: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Tally {
    /// Counts one verb, not its round trip.
    #[inline]
    pub(crate) fn count(&mut self, verb: &Verb<'_>) {
        match verb {
            Verb::Read { .. } => self.reads += 1,
            Verb::Write { .. } | Verb::Gather { .. } => self.writes += 1,
            Verb::Cas { .. } => self.cas += 1,
            Verb::Faa { .. } => self.faa += 1,
        }
        self.bytes += verb.len();
    }

    /// All verbs together.
    pub fn verbs(&self) -> u64 {
        self.reads + self.writes + self.cas + self.faa
    }
}

impl Sub for Tally {
    type Output = Tally;

    fn sub(self, before: Tally) -> Tally {
        Tally {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            cas: self.cas - before.cas,
            faa: self.faa - before.faa,
            round_trips: self.round_trips - before.round_trips,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// A running [`Tally`] that its single owner bumps through a shared reference.
#[derive(Debug, Default)]
pub struct Counters(Cell<Tally>);

impl Counters {
    /// Counts one batch.
    pub fn count(&self, verbs: &[Verb<'_>]) {
        let mut tally = self.0.get();
        tally.round_trips += 1;
        for verb in verbs {
            tally.count(verb);
        }
        self.0.set(tally);
    }

    /// The counts are these now.
    pub(crate) fn set(&self, tally: Tally) {
        self.0.set(tally);
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        self.0.get()
    }
}
