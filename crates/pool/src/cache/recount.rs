//! Counting the use anew: clients that died may not have told of their last changes.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::evict::footprint;
use super::layout::{COUNTED, USED};
use super::usage::Amount;
use super::walk::for_each_entry;
use super::Cache;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Tries to count while nobody tells of changes.
const ATTEMPTS: u32 = 4;

/// What the word at [`COUNTED`] is to say now.
pub(super) fn due(fabric: &Fabric) -> Result<u64> {
    let deaths = fabric.read_word(fabric.meta(meta::DEATHS)[0])?;
    Ok(deaths.wrapping_add(fabric.epoch() << 32))
}

impl Cache {
    /// Counts the objects and sets the shared word right, unless that has been done since the last
    /// death of a client and the last change of the view. Others go on meanwhile: what they have
    /// changed and not told yet makes the number wrong by as much.
    pub(super) fn recount_if_due(&mut self, fabric: &Fabric) -> Result<()> {
        let root = self.table.root;
        let due = due(fabric)?;
        let at = fabric.primary(root.add(COUNTED))?;
        let counted = fabric.read_word(at)?;
        if counted == due || fabric.cas(at, counted, due)? != counted {
            return Ok(());
        }
        let at = fabric.primary(root.add(USED))?;
        let mut before = fabric.read_word(at)?;
        let mut sum = Amount::default();
        for _ in 0..ATTEMPTS {
            sum = Amount::default();
            for_each_entry(fabric, &self.table, |entry| {
                sum = sum.plus(footprint(&entry));
                Ok(())
            })?;
            let after = fabric.read_word(at)?;
            if std::mem::replace(&mut before, after) == after {
                break;
            }
        }
        let wrong = sum.minus(self.usage.untold()).minus(Amount::of_word(before));
        let copies = fabric.copies(root.add(USED));
        let mut verbs: SmallVec<[Verb<'_>; 4]> =
            copies.iter().map(|&copy| Verb::faa(copy, wrong.word())).collect();
        let outcome = fabric.batch(&mut verbs);
        let found = verbs.first().map(Verb::found).filter(|_| outcome.is_ok());
        self.usage.told(Amount::default(), found.map(|found| found.wrapping_add(wrong.word())));
        match outcome {
            Err(PoolError::ViewChanged) => Ok(()),
            outcome => outcome,
        }
    }
}
