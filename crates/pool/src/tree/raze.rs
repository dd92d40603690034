//! Taking a whole tree away, after its namespace was dropped.
//!
//! Level by level from the root, along the level, each node in a transaction of its own: it is
//! marked as dead and given up with the values that it refers to. Whoever still comes with an old
//! pointer finds the mark, or memory that is no node of this tree. Once a level is dead, nobody
//! merges nodes of the one below, so the way along that stands; a node that splits meanwhile names
//! its new neighbour.

use super::edit::Draft;
use super::locked::write_changes;
use super::node::{Node, TreeId, MAX_LEVELS, NODE_BYTES, NODE_CLASS, STORED};
use super::root::look_up;
use super::value::Reference;
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::rtx::{Rtx, Target, Wait, MAX_FREES};

/// A tree that is to be taken away.
pub(crate) struct Doomed {
    tree: TreeId,
    root: PoolAddr,
}

/// What a node tells of the way.
#[derive(Clone, Copy)]
struct Way {
    right: PoolAddr,
    /// The leftmost node below it, if it is an inner node.
    below: Option<PoolAddr>,
}

impl Client {
    /// The tree of a namespace that is about to be dropped, if it has one.
    pub(crate) fn doomed_tree(&self, namespace: u16) -> Result<Option<Doomed>> {
        let (tree, root) = crate::fabric::steadily(|| look_up(&self.fabric, namespace))?;
        Ok(root.map(|root| Doomed { tree, root }))
    }

    /// Gives all memory of the tree back. Its namespace is gone, by the same operation: as long as
    /// that lasts, nobody who goes through a dead client's block hands out again what he takes for
    /// unused there. If this client dies on the way, a check takes the rest back.
    pub(crate) fn raze_tree(&mut self, doomed: &Doomed) -> Result<()> {
        let mut first = Some(doomed.root);
        for _ in 0..MAX_LEVELS {
            let Some(mut at) = first.take() else { break };
            // Nobody can make a level longer than the pool.
            let most =
                (self.fabric.view().regions.len() as u64) << self.fabric.config().region_shift;
            for _ in 0..most / NODE_BYTES as u64 {
                let Some(way) = self.raze_node(doomed.tree, at)? else { break };
                first = first.or(way.below);
                if way.right.is_null() {
                    break;
                }
                at = way.right;
            }
        }
        self.settle_down()
    }

    /// Takes one node away; the way it showed, or none if it is no node of the tree any more.
    fn raze_node(&mut self, tree: TreeId, at: PoolAddr) -> Result<Option<Way>> {
        let (mut wait, mut way) = (Wait::new(), None);
        loop {
            match self.raze_once(tree, at, &mut way) {
                Ok(true) => return Ok(way),
                Ok(false) | Err(PoolError::ViewChanged) => {}
                Err(PoolError::Lost(_)) => return Ok(None),
                Err(PoolError::Conflict) => wait.pause(&self.fabric, "a node of a dropped tree")?,
                Err(error) => return Err(error),
            }
        }
    }

    /// One transaction: gives up some values, or the last ones and the node; true if that is over.
    fn raze_once(&mut self, tree: TreeId, at: PoolAddr, way: &mut Option<Way>) -> Result<bool> {
        let Client { fabric, alloc, logs, .. } = self;
        let (mut old, mut rtx) = ([0; NODE_BYTES], Rtx::begin(fabric, logs)?);
        rtx.lock(Target::Pool(at), &mut old)?;
        let node = match Node::open(&old, at, tree) {
            Ok(node) if !node.is_dead() => node,
            // This very client may have done it, before a change of the view.
            _ => return rtx.abort().map(|()| true),
        };
        let below = (node.level() > 0).then(|| node.child(0)).transpose()?;
        *way = Some(Way { right: node.right(), below });
        let stored = stored_values(node)?;
        let mut new = old;
        let mut draft = Draft(&mut new);
        let is_last = stored.len() < MAX_FREES;
        for &(index, addr, class) in stored.iter().rev().take(MAX_FREES - usize::from(is_last)) {
            draft.remove(index)?;
            rtx.free(alloc, addr, class)?;
        }
        if is_last {
            draft.bury();
            rtx.free(alloc, at, NODE_CLASS)?;
        }
        draft.seal(at);
        write_changes(&mut rtx, at, &old, &new)?;
        rtx.commit()?;
        self.trees.cache.forget(at);
        Ok(is_last)
    }
}

/// The records of a leaf whose values are objects of their own, and these.
fn stored_values(node: Node<'_>) -> Result<Vec<(usize, PoolAddr, SizeClass)>> {
    let mut stored = Vec::new();
    for index in 0..if node.level() == 0 { node.len() } else { 0 } {
        let record = node.record(index)?;
        if record.tag == STORED {
            let (addr, class) = Reference::decode(record.payload)?.object()?;
            stored.push((index, addr, class));
        }
    }
    Ok(stored)
}
