//! Whether nodes and values are in use: asked for the blocks of dead clients, whose transactions
//! are finished by then.

use artesian_bus::Verb;

use super::edit::entries;
use super::node::{Bytes, Flaw, Node, TreeId, GENERATION, NODE_BYTES, STORED};
use super::root::look_up;
use super::seek::Seek;
use super::value::Reference;
use super::walk::{Trees, Walk};
use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Looks at a node that somebody may be writing.
const LOOKS: u32 = 64;

/// Whether the node object at `addr`, of `namespace` by its header, is part of a tree.
pub fn is_live_node(fabric: &Fabric, namespace: u16, addr: PoolAddr) -> Result<bool> {
    let Some((tree, _)) = tree_of(fabric, namespace)? else { return Ok(false) };
    for look in 0..LOOKS {
        let mut bytes = [0; NODE_BYTES];
        fabric.batch(&mut [Verb::read(fabric.primary(addr)?, &mut bytes)])?;
        let node = match Node::open(&bytes, addr, tree) {
            Ok(node) if node.is_dead() => return Ok(false),
            Ok(node) => node,
            Err(Flaw::Unlinked) => return Ok(false),
            Err(Flaw::Foreign)
                if super::node::half(&bytes, GENERATION) != tree.generation as usize =>
            {
                return Ok(false)
            }
            Err(_) => {
                fabric.verbs().relax(500 << look.min(10));
                continue;
            }
        };
        let (low, level) = (node.low().to_vec(), node.level());
        let mut trees = Trees::new(0);
        let Some(mut walk) = Walk::new(fabric, &mut trees, namespace)? else { return Ok(false) };
        return Ok(walk.find(Seek::At(&low), level)? == Some(addr));
    }
    // Nobody writes for that long: its writer died before it was whole. Then nothing tells where
    // in the tree it would be.
    is_named(fabric, tree, addr)
}

/// Whether the object at `addr` is the value of `key`.
pub fn is_live_value(fabric: &Fabric, namespace: u16, key: &[u8], addr: PoolAddr) -> Result<bool> {
    if tree_of(fabric, namespace)?.is_none() {
        return Ok(false);
    }
    let mut trees = Trees::new(0);
    let Some(mut walk) = Walk::new(fabric, &mut trees, namespace)? else { return Ok(false) };
    if walk.find(Seek::At(key), 0)?.is_none() {
        return Ok(false);
    }
    let node = Node::of(&trees.page);
    let Ok(index) = node.find(key)? else { return Ok(false) };
    let record = node.record(index)?;
    let is_it = || Ok(Reference::decode(record.payload)?.object()?.0 == addr);
    if record.tag == STORED {
        is_it()
    } else {
        Ok(false)
    }
}

/// The tree of a namespace that may not be there any more, or may not be ordered.
fn tree_of(fabric: &Fabric, namespace: u16) -> Result<Option<(TreeId, PoolAddr)>> {
    match look_up(fabric, namespace) {
        Ok((tree, root)) => Ok(root.map(|root| (tree, root))),
        Err(PoolError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether any node of the tree names `addr` as its child or right neighbour.
fn is_named(fabric: &Fabric, tree: TreeId, addr: PoolAddr) -> Result<bool> {
    let mut trees = Trees::new(0);
    let Some(mut walk) = Walk::new(fabric, &mut trees, tree.namespace)? else { return Ok(false) };
    if walk.known.root == addr {
        return Ok(true);
    }
    let mut level = 0;
    while walk.route(Seek::At(&[]), level)?.is_some() {
        let mut low = Some(Vec::new());
        while let Some(key) = low.take() {
            if walk.find(Seek::At(&key), level)?.is_none() {
                break;
            }
            let bytes: Box<Bytes> = walk.trees.page.clone();
            let node = Node::of(&bytes);
            let names = |index| Ok(node.child(index)? == addr);
            let count = if level > 0 { entries(node)?.len() } else { 0 };
            let named: Result<Vec<bool>> = (0..count).map(names).collect();
            if node.right() == addr || named?.contains(&true) {
                return Ok(true);
            }
            low = node.high_key();
        }
        level += 1;
    }
    Ok(false)
}
