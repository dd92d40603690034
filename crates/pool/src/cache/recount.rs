//! Counting the use anew: clients that died may not have told of their last changes.

use artesian_bus::Verb;

use super::evict::footprint;
use super::layout::{COUNTED, USED};
use super::usage::Amount;
use super::walk::for_each_entry;
use super::Cache;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

impl Cache {
    /// Counts the objects and sets the shared word right, unless that has been done since the last
    /// death of a client and the last change of the view. Others go on meanwhile: what they change
    /// and have not told yet makes the number wrong by as much.
    pub(super) fn recount_if_due(&mut self, fabric: &Fabric) -> Result<()> {
        let (root, view) = (self.table.root, fabric.epoch());
        let (mut deaths, mut counted) = ([0; 8], [0; 8]);
        let counted_at = fabric.primary(root.add(COUNTED))?;
        let mut verbs = [
            Verb::read(fabric.meta(meta::DEATHS)[0], &mut deaths),
            Verb::read(counted_at, &mut counted),
        ];
        fabric.batch(&mut verbs)?;
        let due = u64::from_le_bytes(deaths).wrapping_add(view << 32);
        let counted = u64::from_le_bytes(counted);
        if counted == due || fabric.cas(counted_at, counted, due)? != counted {
            return Ok(());
        }
        let at = fabric.primary(root.add(USED))?;
        let before = Amount::of_word(fabric.read_word(at)?);
        let mut sum = Amount::default();
        for_each_entry(fabric, &self.table, |entry| {
            sum = sum.plus(footprint(entry.slot));
            Ok(())
        })?;
        let wrong = sum.minus(self.usage.untold()).minus(before);
        let mut verbs: Vec<Verb<'_>> = Vec::new();
        for copy in fabric.copies(root.add(USED)) {
            verbs.push(Verb::faa(copy, wrong.word()));
        }
        let outcome = fabric.batch(&mut verbs);
        let found = verbs.first().map(Verb::found).filter(|_| outcome.is_ok());
        self.usage.told(Amount::default(), found.map(|found| found.wrapping_add(wrong.word())));
        match outcome {
            Err(PoolError::ViewChanged) => Ok(()),
            outcome => outcome,
        }
    }
}
