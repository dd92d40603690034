//! What copy is to be made next, read from the view.

use artesian_bus::NodeId;

use super::room;
use crate::config::PoolConfig;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::view::{rendezvous, Filling, NodeState, View};

/// What a resize is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Every region has as many copies as the pool wants, as far as there are nodes.
    Restore,
    /// The node carries its share.
    Spread(NodeId),
    /// The node carries nothing.
    Drain(NodeId),
}

impl Goal {
    /// The next copy to be made; `None`: there is none. [`PoolError::Invalid`] if there is no
    /// room for it. May retire regions that hold nothing, to make room.
    pub fn next(self, fabric: &Fabric, view: &mut View) -> Result<Option<Filling>> {
        match self {
            Goal::Restore => restore(fabric, view),
            Goal::Spread(node) => Ok(spread(fabric.config(), view, node)),
            Goal::Drain(node) => drain(fabric, view, node),
        }
    }

    /// Copies that are still to be made.
    pub fn left(self, config: &PoolConfig, view: &View) -> u64 {
        let count = match self {
            Goal::Restore => lacking(config, view).map(|(_, missing)| missing as u64).sum(),
            Goal::Spread(node) => spare(config, view, node),
            Goal::Drain(node) => used(view, node),
        };
        count.max(u64::from(view.filling.is_some()))
    }
}

/// Copies on a node.
pub(super) fn used(view: &View, node: NodeId) -> u64 {
    view.regions.iter().flatten().filter(|(other, _)| *other == node).count() as u64
}

fn live(view: &View) -> impl Iterator<Item = NodeId> + '_ {
    let nodes = (0..view.nodes.len()).map(|node| NodeId(node as u16));
    nodes.filter(|node| view.nodes[node.0 as usize] == NodeState::Live)
}

/// Copies that every region should have, as far as there are nodes.
pub(super) fn wanted(config: &PoolConfig, view: &View) -> usize {
    usize::from(config.replicas).min(live(view).count())
}

/// Regions that have some copies, but too few, and how many are missing. Those on nodes that drain
/// do not count, as they are to go.
fn lacking<'a>(config: &PoolConfig, view: &'a View) -> impl Iterator<Item = (usize, usize)> + 'a {
    let wanted = wanted(config, view);
    view.regions.iter().enumerate().filter_map(move |(region, placement)| {
        let missing = wanted.saturating_sub(placement.len());
        (!placement.is_empty() && missing > 0).then_some((region, missing))
    })
}

/// A copy of `region` on another node, if one has a place.
fn elsewhere(config: &PoolConfig, view: &View, region: usize) -> Option<Filling> {
    let mut free = view.free_places(config);
    for (node, _) in &view.regions[region] {
        free[node.0 as usize] = 0;
    }
    let node = *view.choose(region, 1, &free).first()?;
    let place = view.free_place(config, node)?;
    Some(Filling { region: region as u32, node, place, upto: 0 })
}

/// [`elsewhere`], if need be after regions that hold nothing were given up.
fn somewhere(fabric: &Fabric, view: &mut View, region: usize) -> Result<Filling> {
    loop {
        if let Some(filling) = elsewhere(fabric.config(), view, region) {
            return Ok(filling);
        }
        let holders: Vec<NodeId> = view.regions[region].iter().map(|(node, _)| *node).collect();
        let suits = |node: NodeId| {
            view.nodes[node.0 as usize] == NodeState::Live && !holders.contains(&node)
        };
        let Some(unused) = room::find_unused(fabric, view, region, suits)? else {
            return Err(PoolError::Invalid(format!(
                "no node has room for another copy of region {region}: add a memory node, or \
                 delete data"
            )));
        };
        room::retire(view, unused);
    }
}

fn restore(fabric: &Fabric, view: &mut View) -> Result<Option<Filling>> {
    let next = lacking(fabric.config(), view).next();
    match next {
        Some((region, _)) => somewhere(fabric, view, region).map(Some),
        None => Ok(None),
    }
}

fn drain(fabric: &Fabric, view: &mut View, node: NodeId) -> Result<Option<Filling>> {
    let holds = |region: &usize| view.regions[*region].iter().any(|(other, _)| *other == node);
    let Some(region) = (0..view.regions.len()).find(holds) else { return Ok(None) };
    if room::is_unused(fabric, region)? {
        room::retire(view, region);
        return drain(fabric, view, node);
    }
    somewhere(fabric, view, region).map(Some)
}

/// How many copies the node lacks to its share.
fn spare(config: &PoolConfig, view: &View, node: NodeId) -> u64 {
    let all: u64 = live(view).map(|node| used(view, node)).sum();
    let share = all / live(view).count().max(1) as u64;
    let room = view.free_places(config).get(node.0 as usize).copied().unwrap_or(0);
    share.saturating_sub(used(view, node)).min(u64::from(room))
}

/// The region that hashes highest for the node among those of the fullest other node.
fn spread(config: &PoolConfig, view: &View, node: NodeId) -> Option<Filling> {
    if spare(config, view, node) == 0 {
        return None;
    }
    let fullest = live(view).filter(|other| *other != node).max_by_key(|&other| used(view, other));
    let fullest = fullest.filter(|&other| used(view, other) > used(view, node) + 1)?;
    let on =
        |region: usize, node: NodeId| view.regions[region].iter().any(|(other, _)| *other == node);
    let movable = (0..view.regions.len()).filter(|&at| on(at, fullest) && !on(at, node));
    let region = movable.max_by_key(|&region| rendezvous(region, node))?;
    let place = view.free_place(config, node)?;
    Some(Filling { region: region as u32, node, place, upto: 0 })
}

/// Which copy of a region the new one replaces; `None`: it comes to them. A copy on a node that
/// drains goes first, else, if there are enough, the one on the fullest node.
pub(super) fn replaced(config: &PoolConfig, view: &View, region: usize) -> Option<NodeId> {
    let nodes = || view.regions[region].iter().map(|(node, _)| *node);
    let drains = |node: &NodeId| view.nodes[node.0 as usize] == NodeState::Draining;
    if nodes().count() < wanted(config, view) {
        return None;
    }
    nodes().find(drains).or_else(|| nodes().max_by_key(|&node| used(view, node)))
}
