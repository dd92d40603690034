//! The reads and updates of a workload, many in one call.

use artesian_pool::store::Expiry;
use serde_json::{json, Value};

use crate::run::Runner;
use crate::workload::{key, Kind};
use crate::Error;

impl Runner {
    /// Counts from `start` on for `ns`: of every `batch` operations the reads are one call and the
    /// updates another.
    pub fn count_batches(&mut self, start: u64, ns: u64, batch: usize) -> Result<Value, Error> {
        let (mut done, mut now) = (0_u64, start);
        let before = self.client.fabric().verbs().tally();
        let (mut reads, mut updates) = (Vec::new(), Vec::new());
        while now < start + ns {
            reads.clear();
            updates.clear();
            for _ in 0..batch {
                match self.workload.next() {
                    (Kind::Read, number) => reads.push(key(number)),
                    (_, number) => updates.push(key(number)),
                }
            }
            self.read_together(&reads)?;
            self.update_together(&updates)?;
            done += batch as u64;
            self.client.tick()?;
            now = self.now();
        }
        let tally = self.client.fabric().verbs().tally() - before;
        let seconds = (now - start) as f64 / 1e9;
        Ok(json!({
            "operations": done,
            "seconds": seconds,
            "ops_per_s": done as f64 / seconds,
            "round_trips": tally.round_trips as f64 / done as f64,
        }))
    }

    fn read_together(&mut self, keys: &[[u8; 16]]) -> Result<(), Error> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let (mut bytes, mut failed) = (0, None);
        self.client.get_many_with(0, &keys, |_, told| match told {
            Ok(value) => bytes += value.map_or(0, <[u8]>::len),
            Err(error) => failed = Some(error),
        });
        match failed {
            Some(error) => Err(error.into()),
            None if bytes < keys.len() * self.value.len() => Err("a key without a value".into()),
            None => Ok(()),
        }
    }

    fn update_together(&mut self, keys: &[[u8; 16]]) -> Result<(), Error> {
        let items: Vec<(&[u8], &[u8])> =
            keys.iter().map(|key| (&key[..], &self.value[..])).collect();
        for done in self.client.put_many(0, &items, Expiry::Never) {
            done?;
        }
        Ok(())
    }
}
