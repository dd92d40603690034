//! Where a pool's memory is, and how much of it is in use.

use artesian_bus::NodeId;

use crate::alloc::table::{self, BlockState};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::view::NodeState;

/// One memory node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub node: NodeId,
    /// What the view says of it.
    pub state: NodeState,
    /// Its bytes; 0 if it cannot be reached.
    pub bytes: u64,
    /// Copies of regions on it.
    pub regions: u64,
    /// Places for more.
    pub free_places: u64,
}

/// What blocks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Nobody's and empty.
    pub free: u64,
    /// Of clients that are there.
    pub owned: u64,
    /// With objects, and nobody's: anybody may go on with them.
    pub orphan: u64,
    /// Of dead clients, to be looked through.
    pub wreck: u64,
}

impl Blocks {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.free + self.owned + self.orphan + self.wreck
    }
}

/// All nodes of the view.
pub(super) fn nodes(fabric: &Fabric) -> Vec<NodeInfo> {
    let view = fabric.view();
    let reached = fabric.verbs().nodes();
    let free = view.free_places(fabric.config());
    let info = |number: usize| {
        let node = NodeId(number as u16);
        let bytes = reached.iter().find(|(known, _)| *known == node).map_or(0, |(_, bytes)| *bytes);
        let copies = view.regions.iter().flatten().filter(|(known, _)| *known == node);
        NodeInfo {
            node,
            state: view.nodes[number],
            bytes,
            regions: copies.count() as u64,
            free_places: u64::from(free[number]),
        }
    };
    (0..view.nodes.len()).map(info).collect()
}

/// The blocks of all regions that are left.
pub(super) fn blocks(fabric: &Fabric) -> Result<Blocks> {
    let mut blocks = Blocks::default();
    for region in 0..fabric.view().regions.len() {
        let words = match table::read_region(fabric, region) {
            Err(PoolError::Lost(_)) => continue,
            words => words?,
        };
        for (_, word) in words {
            match word.state {
                BlockState::Free => blocks.free += 1,
                BlockState::Owned => blocks.owned += 1,
                BlockState::Orphan => blocks.orphan += 1,
                BlockState::Wreck => blocks.wreck += 1,
            }
        }
    }
    Ok(blocks)
}
