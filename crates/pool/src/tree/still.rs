//! Reading a whole tree while everybody holds still.
//!
//! Committed transactions have been replayed then and the others rolled back, so the leaves are a
//! chain that stands.

use artesian_bus::Verb;

use super::edit::entries;
use super::node::{Bytes, Node, TreeId, MAX_LEVELS, NODE_BYTES, STORED};
use super::root::look_up;
use super::value::Reference;
use crate::address::PoolAddr;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// What is done with a key and its value.
pub(crate) type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// Shows `f` all keys of the tree of `namespace` in their order, with their values. For who
/// governs while nobody else does anything.
pub(crate) fn for_each_row(fabric: &Fabric, namespace: u16, f: &mut Each<'_>) -> Result<()> {
    let (tree, root) = look_up(fabric, namespace)?;
    let Some(root) = root else { return Ok(()) };
    let (mut page, mut value) = ([0; NODE_BYTES], Vec::new());
    let mut at = root;
    for _ in 0..MAX_LEVELS {
        let node = read(fabric, tree, at, &mut page)?;
        if node.level() == 0 {
            break;
        }
        at = node.child(0)?;
    }
    // Nobody can make a chain longer than the pool.
    let bytes = (fabric.view().regions.len() as u64) << fabric.config().region_shift;
    for _ in 0..bytes / NODE_BYTES as u64 {
        let node = read(fabric, tree, at, &mut page)?;
        for entry in entries(node)? {
            let key = entry.key();
            if entry.tag != STORED {
                f(&key, entry.payload)?;
                continue;
            }
            let reference = Reference::decode(entry.payload)?;
            value.resize(reference.head_bytes(key.len())?, 0);
            fabric.read(reference.object()?.0, &mut value)?;
            if reference.value_in(namespace, &key, &value).is_none() {
                reference.read_other_copies(fabric, namespace, &key, &mut value)?;
            }
            f(&key, reference.value_in(namespace, &key, &value).unwrap_or_default())?;
        }
        at = node.right();
        if at.is_null() {
            return Ok(());
        }
    }
    Err(PoolError::Corrupt("an ordered index without end".into()))
}

/// The living node at `at`: the first copy that verifies.
fn read<'p>(fabric: &Fabric, tree: TreeId, at: PoolAddr, page: &'p mut Bytes) -> Result<Node<'p>> {
    for copy in fabric.copies(at) {
        fabric.batch(&mut [Verb::read(copy, &mut page[..])])?;
        if Node::open(page, at, tree).is_ok_and(|node| !node.is_dead()) {
            return Ok(Node::of(page));
        }
    }
    Err(PoolError::Corrupt(format!("the node at {at:?} of an ordered index does not verify")))
}
