//! Where a tree begins. Its root stays where it is as long as the tree is there: it grows by moving
//! what it holds into new nodes, and shrinks by taking over what its last child holds.

use super::node::TreeId;
use crate::address::{PoolAddr, GRANULE};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::namespace::{self, Kind};

/// The spare word of the namespace that holds the root's place.
pub(super) const ROOT_WORD: u64 = 0;
const MARK: u64 = 0xb7 << 56;

/// What a client knows of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub tree: TreeId,
    pub root: PoolAddr,
    /// The root was a leaf when it was seen last.
    pub flat: bool,
}

/// The root's word for a node at `addr`.
pub(super) fn root_word(addr: PoolAddr) -> u64 {
    MARK | (addr.0 / GRANULE)
}

fn root_of(word: u64) -> Result<PoolAddr> {
    let addr = PoolAddr((word & !MARK) * GRANULE);
    if word & MARK != MARK || addr.0 >= PoolAddr::LIMIT {
        return Err(PoolError::Corrupt(format!("the root of an ordered index is {word:#x}")));
    }
    Ok(addr)
}

/// The tree of a namespace: its name, and its root if it has one yet.
pub(super) fn look_up(fabric: &Fabric, namespace: u16) -> Result<(TreeId, Option<PoolAddr>)> {
    let Some((known, spares)) = namespace::with_spares(fabric, namespace)? else {
        let text = format!("there is no namespace with the number {namespace}");
        return Err(PoolError::Invalid(text));
    };
    if known.kind != Kind::Tree {
        let text = format!("namespace {:?} is not ordered: it has no tree", known.name);
        return Err(PoolError::Invalid(text));
    }
    let tree = TreeId { namespace, generation: known.generation };
    match spares[ROOT_WORD as usize] {
        0 => Ok((tree, None)),
        word => Ok((tree, Some(root_of(word)?))),
    }
}
