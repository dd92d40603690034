//! Counts of how rounds ended.

use super::round::{Outcome, Round};
use super::rules::Rule;

/// How a client's rounds ended, since it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Won on slots without copies.
    pub single: u64,
    /// Won because all backups took the value.
    pub rule1: u64,
    /// Won by majority.
    pub rule2: u64,
    /// Won as the least value.
    pub rule3: u64,
    /// Won, but finished by somebody else.
    pub helped: u64,
    /// Lost to another writer.
    pub lost: u64,
    /// Rounds of others that this client finished.
    pub helps: u64,
    /// Rounds begun again because the membership changed.
    pub again: u64,
}

impl Stats {
    /// Counts finished rounds.
    pub fn count(&mut self, rounds: &[Round]) {
        for round in rounds {
            self.helps += u64::from(round.helps);
            self.again += u64::from(round.again);
            match round.outcome() {
                Some(Outcome::Won(Rule::Single)) => self.single += 1,
                Some(Outcome::Won(Rule::One)) => self.rule1 += 1,
                Some(Outcome::Won(Rule::Two)) => self.rule2 += 1,
                Some(Outcome::Won(Rule::Three)) => self.rule3 += 1,
                Some(Outcome::Won(Rule::Helped)) => self.helped += 1,
                Some(Outcome::Lost { .. } | Outcome::Gone) => self.lost += 1,
                None => {}
            }
        }
    }
}
