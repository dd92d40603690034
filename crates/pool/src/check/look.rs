//! Looking at the pool in units, more than once where others are at work.
//!
//! A unit (a subtable, a block table, the client table) is looked at; what seems wrong is looked
//! at again after growing pauses, and only what looks the same every time is a finding. Within
//! one unit the checker reports no quiescent state: no object is reused and no slot value comes
//! back meanwhile, so what changed between two looks was somebody's work.

use artesian_bus::BusError;

use super::people::People;
use super::repair;
use super::report::{Finding, Options, Place, Progress, Report, Step, What};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership;

/// Pauses between looks, in nanoseconds: a tenth of a second in all.
const PAUSES: [u64; 6] = [20_000, 200_000, 1_000_000, 4_000_000, 20_000_000, 75_000_000];
/// How often a look is begun again because the membership changed.
const ATTEMPTS: usize = 16;

/// A check under way.
pub(super) struct Checker<'a> {
    pub client: &'a mut Client,
    pub options: Options,
    pub report: Report,
    pub progress: &'a mut dyn FnMut(Progress),
    /// Who was there at the beginning.
    people: Option<People>,
}

impl<'a> Checker<'a> {
    pub fn new(
        client: &'a mut Client,
        options: Options,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Checker<'a> {
        Checker { client, options, report: Report::default(), progress, people: None }
    }

    pub fn tell(&mut self, step: Step, done: u64, total: u64) {
        (self.progress)(Progress { step, done, total });
    }

    /// A moment at which the checker holds no address: its lease goes on, and so does the epoch.
    pub fn breathe(&mut self) -> Result<()> {
        let fabric = &self.client.fabric;
        if self.options.repair {
            match membership::tick(fabric) {
                Ok(()) | Err(PoolError::ViewChanged) => {}
                // Memory that cannot be read is told with the unit that it belongs to.
                Err(error) if is_about_memory(&error) => {}
                Err(error) => return Err(error),
            }
        } else {
            membership::renew_lease(fabric)?;
            match fabric.pass_gate() {
                Ok(()) | Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        }
        match self.client.alloc.settle(&self.client.fabric) {
            Err(PoolError::ViewChanged) => Ok(()),
            Err(error) if is_about_memory(&error) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether nobody else was there from the beginning until now.
    pub fn is_alone(&mut self) -> Result<bool> {
        let now = People::read(&self.client.fabric)?;
        let first = self.people.get_or_insert_with(|| now.clone());
        Ok(first.is_same(&now) && now.others() == 0)
    }

    /// Forgets who was there: the dead have been recovered.
    pub fn look_around(&mut self) {
        self.people = None;
    }

    /// What `outcome` says, or a finding at `place` that it could not be read.
    pub fn doubt<T>(&mut self, place: Place, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(PoolError::ViewChanged) => Ok(None),
            Err(error) if is_about_memory(&error) => {
                self.add(Finding::error(What::Unreadable, place, error.to_string()))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds what `look` finds, and finds again. `place` is told if it cannot read something.
    pub fn unit(
        &mut self,
        place: Place,
        mut look: impl FnMut(&Fabric, &mut Vec<Finding>) -> Result<()>,
    ) -> Result<()> {
        let mut kept = self.look_once(place, &mut look)?;
        if !kept.is_empty() && !self.is_alone()? {
            for pause in PAUSES {
                self.client.fabric.verbs().relax(pause);
                membership::renew_lease(&self.client.fabric)?;
                let again = self.look_once(place, &mut look)?;
                kept.retain(|finding| again.contains(finding));
                if kept.is_empty() {
                    break;
                }
            }
        }
        for finding in kept {
            self.add(finding)?;
        }
        Ok(())
    }

    /// Adds a finding of which there is no doubt.
    pub fn add(&mut self, mut finding: Finding) -> Result<()> {
        if self.options.repair && finding.repaired.is_none() {
            let alone = self.is_alone()?;
            finding.repaired = repair::mend(self.client, &finding, alone)?;
        }
        self.report.add(finding);
        Ok(())
    }

    fn look_once(
        &mut self,
        place: Place,
        look: &mut impl FnMut(&Fabric, &mut Vec<Finding>) -> Result<()>,
    ) -> Result<Vec<Finding>> {
        for _ in 0..ATTEMPTS {
            let mut seen = Vec::new();
            match look(&self.client.fabric, &mut seen) {
                Ok(()) => return Ok(seen),
                Err(PoolError::ViewChanged) => {}
                Err(error) if is_about_memory(&error) => {
                    seen.push(Finding::error(What::Unreadable, place, error.to_string()));
                    return Ok(seen);
                }
                Err(error) => return Err(error),
            }
        }
        Err(PoolError::Timeout { what: "a membership that stays".into(), waited_ms: 0 })
    }
}

/// Whether an error says something about the pool's memory rather than about this client.
pub(super) fn is_about_memory(error: &PoolError) -> bool {
    match error {
        PoolError::Corrupt(_) | PoolError::Lost(_) | PoolError::Timeout { .. } => true,
        PoolError::Bus(bus) => matches!(bus, BusError::BadAddress { .. } | BusError::NodeLost(_)),
        _ => false,
    }
}
