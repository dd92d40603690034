//! Moving the pool's tables off a node, or to more nodes.

use artesian_bus::NodeId;

use crate::config::META_REPLICAS;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership;
use crate::view::{NodeState, View};

/// Lets live nodes carry the tables, as many as there should be; those that drain no more. The
/// first copy of now is copied to all. Only while everybody holds still.
pub(super) fn place(fabric: &Fabric, view: &mut View) -> Result<()> {
    let from = view.meta[0];
    let mut meta = view.meta.clone();
    meta.retain(|node| view.nodes[node.0 as usize] == NodeState::Live);
    for node in (0..view.nodes.len()).map(|node| NodeId(node as u16)) {
        let fit = view.nodes[node.0 as usize] == NodeState::Live && !meta.contains(&node);
        if fit && meta.len() < META_REPLICAS {
            meta.push(node);
        }
    }
    if meta.is_empty() {
        let text = "no live memory node is left that could carry the pool's tables";
        return Err(PoolError::Invalid(text.into()));
    }
    if meta != view.meta {
        membership::copy_tables(fabric, from, &meta)?;
        view.meta = meta;
        fabric.adopt(view.clone());
    }
    Ok(())
}
