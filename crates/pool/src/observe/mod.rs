//! Looking at a pool from outside: without joining it, and without a verb that changes anything.
//!
//! What is read may change meanwhile. Numbers are those of one moment each, not of the same one.

mod people;
mod space;
#[cfg(test)]
mod tests;

pub use people::{publish, ClientInfo};
pub use space::{Blocks, NodeInfo};

use artesian_bus::Verbs;

use crate::address::ClientId;
use crate::config::{meta, PoolConfig};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::lifecycle;
use crate::membership;
use crate::namespace::{self, Namespace};

/// What can be seen of a pool.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Its numbers.
    pub config: PoolConfig,
    /// The view's epoch: goes up with every change of the membership.
    pub view_epoch: u64,
    /// The reclamation epoch.
    pub epoch: u64,
    /// Regions in all, and those of which every copy is lost.
    pub regions: (u64, u64),
    /// All nodes that ever were, by number.
    pub nodes: Vec<NodeInfo>,
    /// Everybody who holds a place in the client table.
    pub clients: Vec<ClientInfo>,
    /// What the blocks of all regions are.
    pub blocks: Blocks,
    /// Namespaces and the bytes that they use, as far as the clients have told.
    pub namespaces: Vec<(Namespace, u64)>,
}

impl Overview {
    /// Bytes that objects can have, in one copy.
    pub fn capacity_bytes(&self) -> u64 {
        self.blocks.total() << self.config.block_shift
    }

    /// Bytes of the blocks that are nobody's, in one copy.
    pub fn free_bytes(&self) -> u64 {
        self.blocks.free << self.config.block_shift
    }
}

/// Looks at the pool that `verbs` reaches.
pub fn look(verbs: Box<dyn Verbs>) -> Result<Overview> {
    let fabric = outsider(verbs)?;
    let clients = people::clients(&fabric)?;
    let mut epoch = fabric.read_word(fabric.meta(meta::EPOCH)[0])?;
    // A word of a pool may be anything; this one is only shown.
    epoch &= (1 << 62) - 1;
    let mut namespaces = Vec::new();
    for known in namespace::list(&fabric)? {
        let used = namespace::used(&fabric, &known)?;
        namespaces.push((known, used));
    }
    let view = fabric.view();
    let empty = view.regions.iter().filter(|copies| copies.is_empty()).count();
    let lost = empty - view.retired.len();
    Ok(Overview {
        config: *fabric.config(),
        view_epoch: view.epoch,
        epoch,
        regions: ((view.regions.len() - view.retired.len()) as u64, lost as u64),
        nodes: space::nodes(&fabric),
        clients,
        blocks: space::blocks(&fabric)?,
        namespaces,
    })
}

/// Who holds a place in the pool that `verbs` reaches: cheaper than all of [`look`].
pub fn clients(verbs: Box<dyn Verbs>) -> Result<Vec<ClientInfo>> {
    people::clients(&outsider(verbs)?)
}

/// A way to the pool's memory of somebody who is no client: a lost node is an error for him, and
/// nobody asks him to hold still.
fn outsider(verbs: Box<dyn Verbs>) -> Result<Fabric> {
    let config = lifecycle::agreed_config(&*verbs)?;
    let view = membership::newest_view(&*verbs, &config)?;
    let fabric = Fabric::new(verbs, config, view, ClientId::NOBODY);
    fabric.set_governs(true);
    Ok(fabric)
}
