//! Keys and values of a leaf on their way to a scan's caller.

use std::ops::Range;

use artesian_bus::Verb;

use super::node::{Node, STORED};
use super::value::Reference;
use crate::error::Result;
use crate::fabric::Fabric;

/// A key and its value.
struct Row {
    key: Range<usize>,
    value: Range<usize>,
    /// Of a value that is to be read: where its object's head goes.
    stored: Option<(Reference, usize)>,
}

/// The rows of one leaf, in buffers that are used again and again.
#[derive(Default)]
pub(super) struct Rows {
    keys: Vec<u8>,
    values: Vec<u8>,
    rows: Vec<Row>,
}

impl Rows {
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.rows.clear();
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds record `index` of a leaf.
    pub fn push(&mut self, node: Node<'_>, index: usize) -> Result<()> {
        let record = node.record(index)?;
        let key = self.keys.len();
        self.keys.extend_from_slice(node.prefix());
        self.keys.extend_from_slice(record.rest);
        let key = key..self.keys.len();
        let start = self.values.len();
        if record.tag != STORED {
            self.values.extend_from_slice(record.payload);
            self.rows.push(Row { key, value: start..self.values.len(), stored: None });
            return Ok(());
        }
        let reference = Reference::decode(record.payload)?;
        let end = start + reference.head_bytes(key.len())?;
        self.values.resize(end, 0);
        let value = end - reference.bytes as usize..end;
        self.rows.push(Row { key, value, stored: Some((reference, start)) });
        Ok(())
    }

    /// Takes the last row back.
    pub fn pop(&mut self) {
        if let Some(row) = self.rows.pop() {
            self.keys.truncate(row.key.start);
            let start = row.stored.map_or(row.value.start, |(_, start)| start);
            self.values.truncate(start);
        }
    }

    /// The key of row `at`.
    pub fn key(&self, at: usize) -> &[u8] {
        &self.keys[self.rows[at].key.clone()]
    }

    /// Key and value of row `at`, once the values are read.
    pub fn row(&self, at: usize) -> (&[u8], &[u8]) {
        (self.key(at), &self.values[self.rows[at].value.clone()])
    }

    /// Reads all values that lie in objects of their own, in one batch.
    pub fn read_values(&mut self, fabric: &Fabric, namespace: u16) -> Result<()> {
        let mut verbs: Vec<Verb<'_>> = Vec::new();
        let (mut rest, mut at) = (&mut self.values[..], 0);
        for row in &self.rows {
            let Some((reference, start)) = row.stored else { continue };
            let (_, behind) = rest.split_at_mut(start - at);
            let (into, behind) = behind.split_at_mut(row.value.end - start);
            verbs.push(Verb::read(fabric.primary(reference.object()?.0)?, into));
            (rest, at) = (behind, row.value.end);
        }
        if verbs.is_empty() {
            return Ok(());
        }
        fabric.batch(&mut verbs)?;
        drop(verbs);
        for row in &self.rows {
            let Some((reference, start)) = row.stored else { continue };
            let key = &self.keys[row.key.clone()];
            let bytes = &mut self.values[start..row.value.end];
            if reference.value_in(namespace, key, bytes).is_none() {
                reference.read_other_copies(fabric, namespace, key, bytes)?;
            }
        }
        Ok(())
    }
}
