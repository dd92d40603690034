//! Saving.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Bound;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::blocks::{BlockWriter, Header};
use super::entries::{self, is_view_change, Entry};
use super::file::{self, NewFile};
use super::{record, Summary};
use crate::address::PoolAddr;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index;
use crate::membership;
use crate::namespace::{self, Kind};
use crate::store::now_ms;
use crate::tree;

/// How often a subtable is begun again because the membership changed.
const ATTEMPTS: usize = 16;
/// Leases for which clients are held still at most: they give up after six.
const PATIENCE_LEASES: u64 = 4;

/// How to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// All clients are held still meanwhile, so that the file holds the pool at one moment. Only
    /// for pools that are saved within a few leases. This client becomes the pool's master.
    pub frozen: bool,
}

/// How far a save is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveProgress {
    /// Subtables of the index done,
    pub tables: u64,
    /// of so many: the index may grow.
    pub total: u64,
    /// What was written so far.
    pub summary: Summary,
}

type Output = BlockWriter<BufWriter<File>>;

/// A save under way.
struct Save<'a> {
    path: &'a Path,
    output: Output,
    summary: Summary,
    done: HashSet<PoolAddr>,
    /// Namespaces whose keys are saved; number 0 always is.
    known: HashSet<u16>,
    /// Those of ordered keys.
    trees: Vec<u16>,
    now_ms: u64,
}

/// Saves all namespaces to the file at `path`, which is replaced when everything is written; until
/// then, and after an error, it stays as it was. Caches are left out and counted.
pub fn save(
    client: &mut Client,
    path: &Path,
    options: SaveOptions,
    progress: &mut dyn FnMut(SaveProgress),
) -> Result<Summary> {
    client.resume()?;
    let io = |error| file::error(path, &error);
    let (new, file) = NewFile::create(path).map_err(io)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        pool_id: client.fabric.config().pool_id,
        saved_unix_ms: since.as_millis() as u64,
        frozen: options.frozen,
    };
    let output = BlockWriter::new(BufWriter::new(file), header).map_err(io)?;
    let summary = Summary {
        saved_unix_ms: header.saved_unix_ms,
        frozen: header.frozen,
        ..Summary::default()
    };
    let (done, known) = (HashSet::new(), HashSet::from([0]));
    let mut save = Save { path, output, summary, done, known, trees: Vec::new(), now_ms: 0 };
    if options.frozen {
        let deadline = client.fabric.verbs().now_ns() + patience_ns(&client.fabric);
        membership::change_view(&client.fabric, &mut |fabric, _| {
            save.everything(fabric, &mut |fabric| in_time(fabric, deadline), progress)
        })?;
        client.alloc.settle(&client.fabric)?;
    } else {
        save.live(client, progress)?;
    }
    record::end(&mut save.output, &save.summary).map_err(io)?;
    let (buffered, bytes) = save.output.finish().map_err(io)?;
    save.summary.file_bytes = bytes;
    let file = buffered.into_inner().map_err(|error| io(error.into_error()))?;
    new.keep(&file).map_err(io)?;
    Ok(save.summary)
}

fn patience_ns(fabric: &Fabric) -> u64 {
    u64::from(fabric.config().lease_ms) * 1_000_000 * PATIENCE_LEASES
}

fn in_time(fabric: &Fabric, deadline: u64) -> Result<()> {
    membership::renew_lease(fabric)?;
    if fabric.verbs().now_ns() < deadline {
        return Ok(());
    }
    let waited_ms = patience_ns(fabric) / 1_000_000;
    let what = "a save of the whole pool with all clients held still: save without that".into();
    Err(PoolError::Timeout { what, waited_ms })
}

impl Save<'_> {
    /// Saves while others are at work, one subtable after the other.
    fn live(&mut self, client: &mut Client, progress: &mut dyn FnMut(SaveProgress)) -> Result<()> {
        self.namespaces(&client.fabric)?;
        while let Some(tables) = self.next_tables(&client.fabric)? {
            for &table in &tables {
                self.table(&client.fabric, table)?;
                self.tell(tables.len(), progress);
                membership::renew_lease(&client.fabric)?;
                match client.alloc.settle(&client.fabric) {
                    Ok(()) | Err(PoolError::ViewChanged) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for namespace in self.trees.clone() {
            let mut outcome = Ok(());
            let (from, to) = (Bound::Unbounded, Bound::Unbounded);
            let scanned = client.tree_scan(namespace, from, to, usize::MAX, |key, value| {
                outcome = self.write(namespace, key, value, None);
                outcome.is_ok()
            });
            match scanned {
                // It was dropped meanwhile.
                Err(PoolError::Invalid(_)) => {}
                scanned => drop(scanned?),
            }
            outcome?;
            self.tell(0, progress);
        }
        Ok(())
    }

    /// Saves while nobody else does anything.
    fn everything(
        &mut self,
        fabric: &Fabric,
        between: &mut dyn FnMut(&Fabric) -> Result<()>,
        progress: &mut dyn FnMut(SaveProgress),
    ) -> Result<()> {
        self.namespaces(fabric)?;
        while let Some(tables) = self.next_tables(fabric)? {
            for &table in &tables {
                between(fabric)?;
                self.table(fabric, table)?;
                self.tell(tables.len(), progress);
            }
        }
        for namespace in self.trees.clone() {
            tree::for_each_row(fabric, namespace, &mut |key, value| {
                if self.summary.values.is_multiple_of(1_024) {
                    between(fabric)?;
                }
                self.write(namespace, key, value, None)
            })?;
            self.tell(0, progress);
        }
        Ok(())
    }

    fn tell(&self, now: usize, progress: &mut dyn FnMut(SaveProgress)) {
        let tables = self.done.len() as u64;
        progress(SaveProgress { tables, total: tables.max(now as u64), summary: self.summary });
    }

    fn namespaces(&mut self, fabric: &Fabric) -> Result<()> {
        for known in namespace::list(fabric)? {
            match known.kind {
                Kind::Store => drop(self.known.insert(known.id)),
                Kind::Tree => self.trees.push(known.id),
                Kind::Cache => {
                    self.summary.namespaces_left_out += 1;
                    continue;
                }
            }
            record::namespace(&mut self.output, &known)
                .map_err(|error| file::error(self.path, &error))?;
            self.summary.namespaces += 1;
        }
        Ok(())
    }

    /// The subtables that were not saved yet. Those that splits made meanwhile hold keys that may
    /// have been moved there before their old subtable was read.
    fn next_tables(&self, fabric: &Fabric) -> Result<Option<Vec<PoolAddr>>> {
        let mut tables = steadily(|| index::tables(fabric))?;
        tables.retain(|table| !self.done.contains(table));
        Ok((!tables.is_empty()).then_some(tables))
    }

    fn table(&mut self, fabric: &Fabric, table: PoolAddr) -> Result<()> {
        self.now_ms = now_ms(fabric);
        let left_out =
            steadily(|| entries::of_table(fabric, table, &mut |entry| self.entry(&entry)))?;
        self.summary.left_out += left_out;
        self.done.insert(table);
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        let header = &entry.header;
        if header.is_expired(self.now_ms) || !self.known.contains(&header.namespace) {
            return Ok(());
        }
        let left = header.expires_ms.saturating_sub(self.now_ms);
        let ttl_ms = (header.expires_ms != 0).then_some(left);
        self.write(header.namespace, entry.key, entry.value, ttl_ms)
    }

    fn write(
        &mut self,
        namespace: u16,
        key: &[u8],
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<()> {
        record::value(&mut self.output, namespace, key, value, ttl_ms)
            .map_err(|error| file::error(self.path, &error))?;
        self.summary.values += 1;
        self.summary.bytes += (key.len() + value.len()) as u64;
        Ok(())
    }
}

/// Does `work` again while the membership changes.
fn steadily<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        let outcome = work();
        if !is_view_change(&outcome) {
            return outcome;
        }
    }
    work()
}
