//! SNAPSHOT: replicated slots that change by rounds (FUSEE section 4.3), with helping.
//!
//! A round replaces `old` by one of the values that writers propose. All proposals are CASes from
//! `old` on the backups, so each backup takes exactly one of them; what the backups hold then names
//! the winner ([`rules`]), and anybody can work it out and finish the round for a writer that died.
//! The primary changes last: readers read it alone. `README.md` of this crate has the rules.

#[cfg(test)]
mod model;
mod reconcile;
mod round;
pub mod rules;
mod stats;
mod step;
mod walk;

#[cfg(test)]
mod tests;

pub use reconcile::reconcile;
pub use round::{Outcome, Rider, Round, Unlock, RIDER_BYTES};
pub use rules::Rule;
pub use stats::Stats;
pub use walk::{walk, Fate};

use artesian_bus::Verb;
use smallvec::SmallVec;

use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::slot::Slot;

/// Steps of one call, counted over all its rounds, after which it gives up: others kept changing
/// the slots or the view all the while.
const MAX_STEPS: u32 = 1 << 20;

/// Drives the rounds to their ends, each step one batch over all of them; afterwards every round
/// has an [`Outcome`]. Values must differ from all that the slot ever held (version, own object).
pub fn write(fabric: &Fabric, rounds: &mut [Round]) -> Result<()> {
    if let [round] = rounds {
        if round.swap_at_once(fabric)? {
            return Ok(());
        }
    }
    let mut started = 0;
    for step in 0..MAX_STEPS {
        if !step_all(fabric, rounds)? {
            return Ok(());
        }
        // Hardly any round takes more steps, and looking at the clock costs as much as a step.
        if step == 8 {
            started = fabric.verbs().now_ns();
        }
    }
    let waited_ms = (fabric.verbs().now_ns() - started) / 1_000_000;
    Err(PoolError::Timeout { what: "rounds on contended slots".into(), waited_ms })
}

/// Helps whatever round is open on `slot` to its end; returns what the primary holds then. Of a
/// dead writer nothing is left to happen on the slot afterwards.
pub fn settle(fabric: &Fabric, slot: PoolAddr) -> Result<Slot> {
    let mut rounds = [Round::helper(slot)];
    write(fabric, &mut rounds)?;
    Ok(rounds[0].current())
}

/// [`settle`] for many slots in common batches; the results are in the order of `slots`.
pub fn settle_many(fabric: &Fabric, slots: &[PoolAddr]) -> Result<Vec<Slot>> {
    let mut rounds: Vec<Round> = slots.iter().map(|&slot| Round::helper(slot)).collect();
    write(fabric, &mut rounds)?;
    Ok(rounds.iter().map(Round::current).collect())
}

/// One batch over all open rounds; false once none is open.
fn step_all(fabric: &Fabric, rounds: &mut [Round]) -> Result<bool> {
    for round in rounds.iter_mut() {
        round.prepare(fabric)?;
    }
    let mut waits = None;
    for round in rounds.iter().filter(|round| round.is_open()) {
        waits = Some(waits.unwrap_or(u64::MAX).min(round.wait_ns()));
    }
    let Some(wait) = waits else { return Ok(false) };
    if wait > 0 {
        fabric.verbs().relax(wait);
    }
    let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
    let mut counts: SmallVec<[usize; 4]> = SmallVec::new();
    for round in rounds.iter_mut().filter(|round| round.is_open()) {
        let before = verbs.len();
        round.post(&mut verbs);
        counts.push(verbs.len() - before);
    }
    let outcome = fabric.batch(&mut verbs);
    let found: SmallVec<[u64; 8]> = verbs.iter().map(Verb::found).collect();
    drop(verbs);
    match outcome {
        Ok(()) => {}
        Err(PoolError::ViewChanged) => {
            rounds.iter_mut().for_each(Round::view_changed);
            return Ok(true);
        }
        Err(error) => return Err(error),
    }
    let mut found = found.as_slice();
    for (round, count) in rounds.iter_mut().filter(|round| round.is_open()).zip(counts) {
        let (mine, rest) = found.split_at(count);
        found = rest;
        round.advance(mine)?;
    }
    Ok(true)
}
