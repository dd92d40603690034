//! The steps of a round: what each phase posts, and what follows from its results.

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use super::round::{Outcome, Phase, Rider, Round, POLLS};
use super::rules::{self, Help, Rule, Verdict};
use crate::error::{PoolError, Result};
use crate::fabric::{Copies, Fabric};
use crate::object::{decided_bytes, proposal, proposed_bytes, LogEntry};
use crate::slot::Slot;

const NOTHING: [u8; 16] = [0; 16];

/// The write of the words beside the slot whose primary copy is at `slot`.
fn ride(slot: GlobalAddr, rider: &Rider) -> Verb<'_> {
    let at = GlobalAddr::new(slot.node(), slot.offset() + u64::from(rider.offset));
    Verb::write(at, &rider.bytes[..usize::from(rider.len)])
}

impl Round {
    /// Looks up where the next batch goes.
    pub(super) fn prepare(&mut self, fabric: &Fabric) -> Result<()> {
        if self.phase == Phase::Done {
            return Ok(());
        }
        if self.copies.is_empty() {
            self.copies = fabric.copies(self.slot);
            if self.copies.is_empty() && !self.helper {
                self.phase = Phase::Done;
                self.outcome.get_or_insert(Outcome::Gone);
                return Ok(());
            }
            if self.copies.is_empty() {
                return Err(PoolError::Lost(format!("no copy of slot {:?} is left", self.slot)));
            }
            self.unlock_at = match self.unlock {
                Some(unlock) => Some(fabric.primary(unlock.word)?),
                None => None,
            };
        }
        if self.phase == Phase::Start {
            self.start(fabric);
        }
        let log = match self.phase {
            Phase::Check if self.helping => Slot(self.winner).log(),
            Phase::Own | Phase::Again => (!self.log.is_null()).then_some(self.log),
            Phase::Walk => self.cursor.trail(),
            _ => None,
        };
        self.entry_at = match (log, self.phase) {
            // The own object, if lost with its node, says nothing.
            (Some(log), Phase::Own | Phase::Again) => fabric.primary(log).ok(),
            (Some(log), _) => Some(fabric.primary(log)?),
            (None, _) => None,
        };
        match self.phase {
            Phase::Log => self.prepare_log(fabric),
            Phase::Erase => self.logs = fabric.copies(self.log),
            _ => {}
        }
        Ok(())
    }

    /// The whole round, if it is nothing but one CAS: a slot without copies, whose log entry is
    /// there. False: there is more to do.
    #[inline]
    pub(super) fn swap_at_once(&mut self, fabric: &Fabric) -> Result<bool> {
        let begun = self.phase != Phase::Start || self.helper || !self.proposed;
        if begun || self.unlock.is_some() || self.rider.is_some() {
            return Ok(false);
        }
        let copies = fabric.copies(self.slot);
        if copies.len() != 1 {
            return Ok(false);
        }
        let mut swap = [Verb::cas(copies[0], self.old.0, self.new.0)];
        (self.copies, self.winner) = (copies, self.new.0);
        match fabric.batch(&mut swap) {
            Ok(()) => self.swapped(swap[0].found()),
            Err(PoolError::ViewChanged) => self.view_changed(),
            Err(error) => return Err(error),
        }
        Ok(self.phase == Phase::Done)
    }

    fn start(&mut self, fabric: &Fabric) {
        self.polls = 0;
        (self.helping, self.lost, self.filling) = (self.helper, false, false);
        self.seen_new = false;
        (self.known, self.rule, self.cursor) = (0, Rule::Single, Slot::EMPTY);
        self.winner = if self.helper { 0 } else { self.new.0 };
        if self.helper {
            self.phase = Phase::Survey;
        } else if self.copies.len() > 1 {
            self.phase = Phase::Propose;
        } else if self.proposed || self.log.is_null() {
            self.phase = Phase::Swap;
        } else {
            self.prepare_log(fabric);
            // The log entry must be there before the slot changes; one node keeps the order.
            let together = self.logs.iter().all(|log| log.node() == self.copies[0].node());
            self.phase = if together { Phase::LogSwap } else { Phase::Log };
        }
    }

    fn prepare_log(&mut self, fabric: &Fabric) {
        let (log, sequence) = if self.winner == self.new.0 {
            (self.log, self.sequence)
        } else {
            let entry = LogEntry::decode(&self.entry);
            (Slot(self.winner).log().unwrap_or(self.log), entry.map_or(0, |entry| entry.sequence))
        };
        self.logs = fabric.copies(log);
        self.decided = if self.copies.len() > 1 {
            decided_bytes(self.slot, self.old, sequence)
        } else {
            proposed_bytes(self.slot, self.old, sequence)
        };
    }

    /// Adds the phase's verbs to the batch.
    pub(super) fn post<'a>(&'a mut self, verbs: &mut SmallVec<[Verb<'a>; 8]>) {
        let (old, new, winner) = (self.old.0, self.new.0, self.winner);
        let (primary, backups) = (self.copies[0], &self.copies[1..]);
        let held = backups.iter().zip(self.held);
        let unlock = self.unlock.zip(self.unlock_at);
        let unlock = unlock.map(|(word, at)| Verb::cas(at, word.held, word.free));
        match self.phase {
            Phase::Propose => verbs.extend(backups.iter().map(|&at| Verb::cas(at, old, new))),
            Phase::Look | Phase::Survey => {
                let looked = self.looked.iter_mut();
                verbs.extend(backups.iter().zip(looked).map(|(&at, into)| Verb::read(at, into)));
                if self.phase == Phase::Survey {
                    verbs.push(Verb::read(primary, &mut self.seen));
                }
            }
            Phase::Check | Phase::Again | Phase::Wait => {
                verbs.push(Verb::read(primary, &mut self.seen));
                verbs.extend(self.entry_at.map(|at| Verb::read(at, &mut self.entry)));
            }
            Phase::Own | Phase::Walk => {
                verbs.extend(self.entry_at.map(|at| Verb::read(at, &mut self.entry)));
            }
            Phase::Fill => {
                let unfilled = held.filter(|&(_, value)| value == old);
                verbs.extend(unfilled.map(|(&at, _)| Verb::cas(at, old, winner)));
            }
            Phase::Fix => {
                let others = held.filter(|&(_, value)| value != winner);
                verbs.extend(others.map(|(&at, value)| Verb::cas(at, value, winner)));
            }
            Phase::Log => verbs.extend(self.logs.iter().map(|&at| Verb::write(at, &self.decided))),
            Phase::Erase => verbs.extend(self.logs.iter().map(|&at| Verb::write(at, &NOTHING))),
            Phase::LogSwap => {
                verbs.extend(self.logs.iter().map(|&at| Verb::write(at, &self.decided)));
                verbs.push(Verb::cas(primary, old, new));
                verbs.extend(self.rider.as_ref().map(|rider| ride(primary, rider)));
                verbs.extend(unlock);
            }
            Phase::Swap => {
                verbs.push(Verb::cas(primary, old, winner));
                let own = winner == new && !self.helper;
                let rider = self.rider.as_ref().filter(|_| own);
                verbs.extend(rider.map(|rider| ride(primary, rider)));
                verbs.extend(unlock.filter(|_| own));
            }
            Phase::Unlock => verbs.extend(unlock),
            Phase::Start | Phase::Done => {}
        }
    }

    /// Goes on with what the batch has found.
    pub(super) fn advance(&mut self, found: &[u64]) -> Result<()> {
        let seen = Slot(u64::from_le_bytes(self.seen));
        match self.phase {
            Phase::Propose => self.proposed_all(found),
            Phase::Survey => {
                (self.old, self.current) = (seen, seen);
                let same =
                    self.looked[..self.copies.len() - 1].iter().all(|held| *held == self.seen);
                // What the backups hold counts only if read after the primary's value is known.
                self.phase = if same { Phase::Done } else { Phase::Look };
            }
            Phase::Look => self.looked_at(),
            Phase::Check => self.checked(seen)?,
            Phase::Fill => self.filled(found),
            Phase::Fix => self.go_log(),
            Phase::Log => self.go_swap(),
            Phase::LogSwap => self.swapped(found[self.logs.len()]),
            Phase::Swap => self.swapped(found[0]),
            Phase::Wait => self.waited(seen),
            Phase::Own => self.end(self.decided_here().then_some(Rule::Helped), self.current),
            Phase::Again => self.look_again(seen)?,
            Phase::Erase => self.begin_again(),
            Phase::Walk => {
                let link = proposal(&self.entry).filter(|link| link.0 == self.slot);
                self.walk_to(link.map(|(_, before)| before))?;
            }
            Phase::Unlock => self.phase = Phase::Done,
            Phase::Start | Phase::Done => {}
        }
        Ok(())
    }

    fn proposed_all(&mut self, found: &[u64]) {
        for (held, &found) in self.held.iter_mut().zip(found) {
            *held = if found == self.old.0 { self.new.0 } else { found };
        }
        match rules::verdict(self.held(), self.new.0) {
            Verdict::Won => {
                self.rule = Rule::One;
                self.go_log();
            }
            Verdict::Lost => (self.lost, self.phase) = (true, Phase::Wait),
            Verdict::IfOpen => {
                self.winner = rules::winner(self.held());
                self.phase = Phase::Check;
            }
        }
    }

    fn go_fix(&mut self) {
        if self.held().iter().all(|&held| held == self.winner) {
            self.go_log();
        } else {
            self.phase = Phase::Fix;
        }
    }

    fn go_log(&mut self) {
        let none = if self.winner == self.new.0 && !self.helper {
            self.log.is_null()
        } else {
            Slot(self.winner).log().is_none()
        };
        if none {
            self.go_swap();
        } else {
            self.phase = Phase::Log;
        }
    }

    fn go_swap(&mut self) {
        if self.seen_new {
            self.end(Some(self.rule), self.current);
        } else {
            self.phase = Phase::Swap;
        }
    }

    fn looked_at(&mut self) {
        for (held, looked) in self.held.iter_mut().zip(&self.looked) {
            *held = u64::from_le_bytes(*looked);
        }
        if self.doubted {
            self.phase = Phase::Check;
        } else {
            self.go_help();
        }
    }

    fn go_help(&mut self) {
        match rules::help(self.held(), self.old.0) {
            Help::Nothing if self.helper => self.phase = Phase::Done,
            Help::Nothing if self.finishing => self.end(None, self.old),
            Help::Nothing => self.phase = Phase::Wait,
            Help::Fill(value) => {
                (self.filling, self.winner, self.phase) = (true, value, Phase::Check);
            }
            Help::Finish(value) => {
                (self.filling, self.winner, self.phase) = (false, value, Phase::Check);
            }
        }
    }

    fn checked(&mut self, seen: Slot) -> Result<()> {
        if seen != self.old {
            self.over(seen);
        } else if self.doubted {
            self.judge_decision();
        } else if self.helping {
            if self.entry_at.is_some() && LogEntry::decode(&self.entry).is_none() {
                let (slot, value) = (self.slot, Slot(self.winner));
                let text = format!("slot {slot:?}: no log entry behind the proposal {value:?}");
                return Err(PoolError::Corrupt(text));
            }
            if self.filling {
                self.phase = Phase::Fill;
            } else {
                self.known = self.winner;
                self.go_fix();
            }
        } else if self.winner == self.new.0 {
            self.rule = rules::rule(self.held(), self.new.0);
            self.go_fix();
        } else {
            (self.lost, self.known, self.phase) = (true, self.winner, Phase::Wait);
        }
        Ok(())
    }

    /// The round is over; whose was it?
    fn over(&mut self, seen: Slot) {
        if self.helper {
            (self.current, self.phase) = (seen, Phase::Done);
        } else if self.lost || (self.log.is_null() && seen != self.new) {
            self.end(None, seen);
        } else if seen == self.new {
            self.end(Some(Rule::Helped), seen);
        } else {
            (self.current, self.phase) = (seen, Phase::Own);
        }
    }

    fn filled(&mut self, found: &[u64]) {
        let (old, winner) = (self.old.0, self.winner);
        let num = self.copies.len() - 1;
        let unfilled = self.held[..num].iter_mut().filter(|held| **held == old);
        for (held, &found) in unfilled.zip(found) {
            *held = if found == old { winner } else { found };
        }
        self.go_help();
    }

    fn swapped(&mut self, found: u64) {
        let swapped = found == self.old.0;
        let current = if swapped { Slot(self.winner) } else { Slot(found) };
        if self.helper || self.lost || self.winner != self.new.0 {
            self.helps += u32::from(swapped);
            if self.helper {
                (self.current, self.phase) = (current, Phase::Done);
            } else {
                self.end(None, current);
            }
        } else if self.copies.len() > 1 || swapped || found == self.new.0 {
            self.end(Some(self.rule), current);
        } else {
            self.known = found;
            self.end(None, current);
        }
    }

    fn waited(&mut self, seen: Slot) {
        self.polls += 1;
        if seen != self.old {
            self.over(seen);
            return;
        }
        self.known = rules::winner(self.held());
        if self.polls >= POLLS {
            (self.polls, self.helping, self.phase) = (0, true, Phase::Look);
        }
    }

    fn end(&mut self, won: Option<Rule>, current: Slot) {
        self.current = current;
        self.phase = Phase::Done;
        self.outcome = Some(match won {
            Some(rule) => Outcome::Won(rule),
            None if self.known == 0 => Outcome::Lost { winner: current, current },
            None => Outcome::Lost { winner: Slot(self.known), current },
        });
        if self.again > 0 && self.unlock.is_some() {
            self.phase = Phase::Unlock;
        }
    }

    /// The batch may have run in part or whole, in a view that is no more.
    pub(super) fn view_changed(&mut self) {
        if self.phase == Phase::Done {
            return;
        }
        self.copies = Copies::new();
        if self.phase == Phase::Unlock {
            return;
        }
        self.again += u32::from(!self.helper);
        self.phase = if self.helper { Phase::Start } else { Phase::Again };
    }

    /// What is true in the new view: the slot is not in the middle of anything.
    fn look_again(&mut self, seen: Slot) -> Result<()> {
        (self.lost, self.known, self.rule) = (false, 0, Rule::Helped);
        (self.helping, self.doubted, self.current) = (false, false, seen);
        self.cursor = Slot::EMPTY;
        self.entered = self.entry_at.is_some() && self.entry[..16] != NOTHING;
        if seen == self.new || self.seen_new {
            self.go_record();
        } else if seen == self.old && self.decided_here() {
            self.winner = self.new.0;
            (self.doubted, self.phase) = (true, Phase::Look);
            if self.copies.len() == 1 {
                self.judge_decision();
            }
        } else if seen == self.old {
            self.begin_again();
        } else if self.log.is_null() {
            self.end(None, seen);
        } else {
            // Even with a clear log entry: if the primary is lost while all backups hold the new
            // value, that has won, and others may have replaced it since.
            self.walk_to(Some(seen))?;
        }
        Ok(())
    }

    /// The new value has won, but its log entry may be clear: others walk over it. The slot may
    /// change again before that is written.
    fn go_record(&mut self) {
        (self.winner, self.seen_new) = (self.new.0, true);
        self.go_log();
    }

    /// The primary has not changed. A lock may be somebody else's by now, so that under one nothing
    /// may be proposed again; but what stands on the backups may still win, through any helper.
    fn begin_again(&mut self) {
        if self.unlock.is_some() {
            (self.finishing, self.helping, self.phase) = (true, true, Phase::Look);
        } else {
            self.phase = Phase::Start;
        }
    }

    /// The round is open, the own log entry says decided. If a backup still holds the new value,
    /// that stands, and anybody may finish it. Otherwise it died with lost nodes.
    fn judge_decision(&mut self) {
        self.doubted = false;
        if self.held().contains(&self.new.0) {
            self.rule = rules::rule(self.held(), self.new.0);
            self.go_fix();
        } else {
            (self.proposed, self.phase) = (false, Phase::Erase);
        }
    }

    fn decided_here(&self) -> bool {
        let entry = self.entry_at.and_then(|_| LogEntry::decode(&self.entry));
        entry.is_some_and(|entry| entry.decided == Some((self.slot, self.old)))
    }

    /// Goes back over the values that the slot had: whether the own one or the old one comes first
    /// tells if the own one was among them.
    fn walk_to(&mut self, before: Option<Slot>) -> Result<()> {
        match before {
            Some(value) if is_from(value, self.new) => self.go_record(),
            Some(value) if is_from(value, self.old) => self.end(None, self.current),
            Some(value) if value.trail().is_some() && value != self.cursor => {
                (self.cursor, self.phase) = (value, Phase::Walk);
            }
            // Some other value came through a change of the view without a log entry: it cannot
            // have come after the own one, which would be decided.
            _ if !self.entered => self.end(None, self.current),
            _ => {
                let (slot, new) = (self.slot, self.new);
                return Err(PoolError::Lost(format!(
                    "slot {slot:?} has changed so much with the membership that nobody can tell \
                     whether it held {new:?}"
                )));
            }
        }
        Ok(())
    }
}

/// Whether `value` is `origin` or what a split has made of it: that keeps its address.
pub(super) fn is_from(value: Slot, origin: Slot) -> bool {
    value == origin || (!origin.addr().is_null() && value.addr() == origin.addr())
}
