//! Many keys in one call: all go through the steps of an operation together, each step one batch.
//!
//! Keys are taken in groups of [`GROUP`]; a group is one operation. Whatever does not go smoothly
//! in common (locks of others, splits, lost rounds after some tries, values in pieces) is done key
//! by key at the end of the group. No lock is held while another key is waited for.

mod lookup;
mod read;
mod sweep;

use super::change::{Change, Done, Rule};
use super::find::Key;
use super::ops::Expiry;
use super::{GROUP, MAX_INLINE_BYTES};
use crate::client::Client;
use crate::error::Result;
use crate::object::{Kind, Op};
pub(super) use sweep::Task;

/// Bytes of objects in one batch, about.
const BATCH_BYTES: usize = 1 << 20;

impl Client {
    /// Gives each key its value; the results are in the order of the items. If a key comes more
    /// than once, its last value stays.
    pub fn put_many(
        &mut self,
        namespace: u16,
        items: &[(&[u8], &[u8])],
        expiry: Expiry,
    ) -> Vec<Result<()>> {
        let done = self.store_many(namespace, items, expiry, Rule::Any, Op::Put, true);
        done.into_iter().map(|done| done.map(drop)).collect()
    }

    /// Gives each key its value unless it has one: then false. If a key comes more than once, its
    /// first value counts.
    pub fn insert_many(
        &mut self,
        namespace: u16,
        items: &[(&[u8], &[u8])],
        expiry: Expiry,
    ) -> Vec<Result<bool>> {
        let done = self.store_many(namespace, items, expiry, Rule::Absent, Op::Insert, false);
        done.into_iter().map(|done| done.map(Done::happened)).collect()
    }

    /// Takes the values of the keys away; false for those that have none.
    pub fn delete_many(&mut self, namespace: u16, keys: &[&[u8]]) -> Vec<Result<bool>> {
        self.stats.deletes += keys.len() as u64;
        let items: Vec<(&[u8], &[u8])> = keys.iter().map(|&key| (key, &[][..])).collect();
        let (rule, op, kind) = (Rule::Present, Op::Delete, Kind::Deletion);
        let change = Change { rule, op, kind, value: &[], expires_ms: 0 };
        let done = self.change_many(namespace, &items, &change, false);
        done.into_iter().map(|done| done.map(Done::happened)).collect()
    }

    fn store_many(
        &mut self,
        namespace: u16,
        items: &[(&[u8], &[u8])],
        expiry: Expiry,
        rule: Rule,
        op: Op,
        last_counts: bool,
    ) -> Vec<Result<Done>> {
        self.stats.writes += items.len() as u64;
        match self.expires_ms(namespace, expiry) {
            Ok(expires_ms) => {
                let change = Change { rule, op, kind: Kind::Value, value: &[], expires_ms };
                self.change_many(namespace, items, &change, last_counts)
            }
            Err(error) => items.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Carries `change` out with each item's key and value.
    fn change_many(
        &mut self,
        namespace: u16,
        items: &[(&[u8], &[u8])],
        change: &Change<'_>,
        last_counts: bool,
    ) -> Vec<Result<Done>> {
        let mut results = Vec::with_capacity(items.len());
        for group in items.chunks(GROUP) {
            let task = |&(key, value): &(_, _)| {
                Task::new(Key::new(namespace, key), Change { value, ..*change })
            };
            let mut tasks: Vec<Task<'_>> = group.iter().map(task).collect();
            let acts = find_twins(&tasks, last_counts);
            for (task, act) in tasks.iter_mut().zip(&acts) {
                task.is_twin |= act.is_some();
            }
            self.change_group(&mut tasks);
            for (number, act) in acts.iter().enumerate() {
                results.push(match act {
                    // An earlier put of the same key was overwritten at once.
                    Some(twin) if last_counts => tasks[*twin].outcome(),
                    Some(twin) => tasks[*twin].outcome().map(|_| Done::Refused),
                    None => tasks[number].outcome(),
                });
            }
        }
        results
    }

    fn change_group(&mut self, tasks: &mut [Task<'_>]) {
        self.change_together(tasks);
        if let Err(error) = self.settle_down() {
            // Whatever happened has happened; but the caller must hear of it.
            tasks.iter_mut().for_each(|task| task.spoil(&error));
        }
    }

    /// Carries the changes out, of different keys, at most [`GROUP`]; the operation goes on.
    pub(super) fn change_together(&mut self, tasks: &mut [Task<'_>]) {
        self.sweep_all(tasks);
        for task in tasks.iter_mut().filter(|task| task.is_open()) {
            task.attempt.written = false;
            let (Some(key), change) = (task.key, task.change) else { continue };
            let outcome = if change.value.len() > MAX_INLINE_BYTES {
                self.store_large(&key, change.value, change.expires_ms, change.rule, change.op)
            } else {
                self.change_alone(&key, &change, &mut task.attempt)
            };
            task.end(outcome);
        }
        // Those that were answered just before the view changed still have their rooms.
        tasks.iter_mut().for_each(|task| self.give_up(&mut task.attempt));
    }
}

/// For each task the one that acts in its stead, if its key comes more than once: the last or the
/// first of them.
fn find_twins(tasks: &[Task<'_>], last_counts: bool) -> Vec<Option<usize>> {
    let mut order: Vec<(u64, usize)> = Vec::with_capacity(tasks.len());
    for (number, task) in tasks.iter().enumerate() {
        order.extend(task.key.map(|key| (key.hash.0, number)));
    }
    order.sort_unstable();
    let mut acts = vec![None; tasks.len()];
    let same = |a: usize, b: usize| match (tasks[a].key, tasks[b].key) {
        (Some(a), Some(b)) => a.bytes == b.bytes,
        _ => false,
    };
    for run in order.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        for (at, &(_, number)) in run.iter().enumerate() {
            let twin = match last_counts {
                true => run[at + 1..].iter().rev().find(|other| same(number, other.1)),
                false => run[..at].iter().find(|other| same(number, other.1)),
            };
            acts[number] = twin.map(|twin| twin.1);
        }
    }
    acts
}
