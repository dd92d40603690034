//! Reading one key: its leaf, and the value's object if the value is not in the leaf.

use std::ops::Range;

use artesian_bus::Verb;

use super::change::check_key;
use super::node::{Node, STORED};
use super::seek::Seek;
use super::value::Reference;
use super::walk::Walk;
use crate::client::Client;
use crate::error::{PoolError, Result};

/// Where the value of a key lies now.
enum Found {
    /// In the page.
    Page(Range<usize>),
    /// In the client's object buffer.
    Object(Range<usize>),
}

impl Client {
    /// Calls `f` with the value of `key`; `None` if there is none.
    pub fn tree_get_with<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        check_key(key)?;
        self.trees.begin();
        let found = loop {
            match self.tree_read(namespace, key) {
                Err(PoolError::ViewChanged) => {}
                found => break found?,
            }
        };
        self.stats.reads += 1;
        self.stats.reads_found += u64::from(found.is_some());
        let result = found.map(|found| match found {
            Found::Page(range) => f(&self.trees.page[range]),
            Found::Object(range) => f(&self.object[range]),
        });
        self.mend(namespace, None)?;
        self.settle_down()?;
        Ok(result)
    }

    fn tree_read(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Found>> {
        let Some(mut walk) = Walk::new(&self.fabric, &mut self.trees, namespace)? else {
            return Ok(None);
        };
        if walk.find(Seek::At(key), 0)?.is_none() {
            return Ok(None);
        }
        let page = &self.trees.page;
        let node = Node::of(page);
        let Ok(index) = node.find(key)? else { return Ok(None) };
        let record = node.record(index)?;
        if record.tag != STORED {
            let start = record.payload.as_ptr() as usize - page.as_ptr() as usize;
            return Ok(Some(Found::Page(start..start + record.payload.len())));
        }
        let reference = Reference::decode(record.payload)?;
        let bytes = reference.head_bytes(key.len())?;
        self.reserve(bytes);
        let at = self.fabric.primary(reference.object()?.0)?;
        let into = &mut self.object[..bytes];
        self.fabric.batch(&mut [Verb::read(at, into)])?;
        if reference.value_in(namespace, key, into).is_none() {
            reference.read_other_copies(&self.fabric, namespace, key, into)?;
        }
        Ok(Some(Found::Object(bytes - reference.bytes as usize..bytes)))
    }
}
