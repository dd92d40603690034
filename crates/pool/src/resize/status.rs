//! What of the pool lies where.

use artesian_bus::NodeId;

use super::goal;
use crate::config::NodeLayout;
use crate::fabric::Fabric;
use crate::view::{Filling, NodeState};

/// What a node carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeUse {
    /// The node.
    pub node: NodeId,
    /// Its state.
    pub state: NodeState,
    /// Places for copies of regions.
    pub places: u64,
    /// Those in use.
    pub used: u64,
    /// It carries the pool's tables.
    pub has_tables: bool,
}

/// What there is, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The epoch of the view that this tells of.
    pub epoch: u64,
    /// All nodes by number, those that are gone included.
    pub nodes: Vec<NodeUse>,
    /// Regions in use.
    pub regions: u64,
    /// Regions that were given up for want of room while they held nothing.
    pub retired: u64,
    /// Regions that are lost with all their copies.
    pub lost: u64,
    /// Regions with fewer copies than the pool wants.
    pub lacking: u64,
    /// The copy that is being made.
    pub filling: Option<Filling>,
}

/// What the client's view says; costs no verb.
pub fn status(fabric: &Fabric) -> Status {
    let (config, view) = (fabric.config(), fabric.view());
    let places = NodeLayout::of(config).num_regions;
    let node = |(number, &state): (usize, &NodeState)| {
        let node = NodeId(number as u16);
        let places = if state == NodeState::Dead { 0 } else { places };
        let (used, has_tables) = (goal::used(&view, node), view.meta.contains(&node));
        NodeUse { node, state, places, used, has_tables }
    };
    let count = |fits: &dyn Fn(usize) -> bool| {
        view.regions.iter().filter(|placement| fits(placement.len())).count() as u64
    };
    let wanted = usize::from(config.replicas);
    let retired = view.retired.len() as u64;
    Status {
        epoch: view.epoch,
        nodes: view.nodes.iter().enumerate().map(node).collect(),
        regions: count(&|copies| copies > 0),
        retired,
        lost: count(&|copies| copies == 0).saturating_sub(retired),
        lacking: count(&|copies| copies > 0 && copies < wanted),
        filling: view.filling,
    }
}
