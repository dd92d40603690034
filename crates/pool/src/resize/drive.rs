//! Driving a resize from its begin to its end, step by step.

use artesian_bus::NodeId;

use super::fill::{self, Step};
use super::goal::{self, Goal};
use super::{room, tables};
use crate::client::Client;
use crate::config::MAX_NODES;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::lifecycle;
use crate::membership;
use crate::view::{NodeState, View};

/// Most bytes copied in one step: a few milliseconds for which clients hold still. In pools of
/// small regions, half a region.
const STEP_BYTES: u64 = 8 << 20;
/// Longest pause between two steps.
const LONGEST_PAUSE_NS: u64 = 20_000_000;
/// How long clients have to vacate regions that a draining node's must take the places of, and the
/// pause between two looks.
const VACATING_NS: u64 = 2_000_000_000;
const VACATING_PAUSE_NS: u64 = 40_000_000;
/// Leases that pinned objects may keep a copy from going.
const PATIENCE_LEASES: u64 = 6;

/// How far a resize is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied by this call.
    pub bytes: u64,
    /// Copies of regions completed by this call.
    pub copies: u64,
    /// Copies still to be made.
    pub left: u64,
    /// Regions that the pool has got in addition.
    pub regions_added: u64,
}

/// Lets a node that can be reached and is not in the pool come to it: regions are moved there until
/// it carries its share, then the free places become new regions. To be called again if the caller
/// died in the middle: by anyone, with the same node.
pub fn add_node(
    client: &mut Client,
    node: NodeId,
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress> {
    let known = client.fabric.view().nodes.get(node.0 as usize).copied();
    match known {
        Some(NodeState::Live) => {}
        Some(NodeState::Draining) => change_state(client, node, NodeState::Live)?,
        Some(NodeState::Dead) => {
            return Err(PoolError::Invalid(format!(
                "memory node {} was in the pool before: numbers are used once",
                node.0
            )));
        }
        None => enter(client, node)?,
    }
    let mut done = drive(client, Goal::Restore, progress)?;
    let spread = drive(client, Goal::Spread(node), progress)?;
    (done.bytes, done.copies) = (done.bytes + spread.bytes, done.copies + spread.copies);
    change(client, &mut |fabric, view| {
        let copies = usize::from(fabric.config().replicas);
        done.regions_added = room::grow(fabric, view, copies)?;
        Ok(())
    })?;
    progress(done);
    Ok(done)
}

/// Moves everything off a node, then takes it out of the pool: its process may end.
pub fn drain_node(
    client: &mut Client,
    node: NodeId,
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress> {
    match client.fabric.view().nodes.get(node.0 as usize) {
        Some(NodeState::Live | NodeState::Draining) => {}
        Some(NodeState::Dead) => return Ok(Progress::default()),
        None => return Err(not_there(node)),
    }
    change_state(client, node, NodeState::Draining)?;
    let done = drive(client, Goal::Drain(node), progress)?;
    change(client, &mut |fabric, view| {
        tables::place(fabric, view)?;
        let is_empty = goal::used(view, node) == 0 && !view.meta.contains(&node);
        if is_empty && view.filling.is_none_or(|filling| filling.node != node) {
            view.nodes[node.0 as usize] = NodeState::Dead;
        }
        Ok(())
    })?;
    Ok(done)
}

/// Makes up for copies that were lost with their nodes, or that somebody began to make.
pub fn restore_replicas(
    client: &mut Client,
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress> {
    drive(client, Goal::Restore, progress)
}

fn not_there(node: NodeId) -> PoolError {
    PoolError::Invalid(format!("there is no memory node {} in the pool", node.0))
}

/// Bytes of a node that is to come.
fn reach(fabric: &Fabric, node: NodeId) -> Result<u64> {
    let found = fabric.verbs().nodes().into_iter().find(|(known, _)| *known == node);
    let none = || PoolError::Invalid(format!("memory node {} cannot be reached", node.0));
    found.map(|(_, bytes)| bytes).ok_or_else(none)
}

/// Formats the node and enters it in the view.
fn enter(client: &mut Client, node: NodeId) -> Result<()> {
    let (verbs, config) = (client.fabric.verbs(), *client.fabric.config());
    let next = client.fabric.view().nodes.len();
    if usize::from(node.0) != next || next >= MAX_NODES {
        return Err(PoolError::Invalid(format!(
            "the next memory node is number {next} of at most {MAX_NODES}, not {}",
            node.0
        )));
    }
    let bytes = reach(&client.fabric, node)?;
    if bytes < config.node_bytes {
        return Err(PoolError::Invalid(format!(
            "memory node {} has {bytes} bytes; the pool needs {} on each node",
            node.0, config.node_bytes
        )));
    }
    match lifecycle::format_node(verbs, &config, node) {
        // It was lost meanwhile.
        Err(PoolError::Bus(error)) => {
            reach(&client.fabric, node)?;
            return Err(error.into());
        }
        outcome => outcome?,
    }
    change(client, &mut |fabric, view| {
        reach(fabric, node)?;
        // Somebody else may have been quicker.
        if view.nodes.len() == next {
            view.nodes.push(NodeState::Live);
        }
        tables::place(fabric, view)
    })
}

fn change_state(client: &mut Client, node: NodeId, state: NodeState) -> Result<()> {
    change(client, &mut |fabric, view| {
        let Some(known) = view.nodes.get_mut(node.0 as usize) else { return Err(not_there(node)) };
        if *known == NodeState::Dead {
            return Err(PoolError::Lost(format!("memory node {} was lost", node.0)));
        }
        *known = state;
        let is_left = view.nodes.contains(&NodeState::Live);
        if !is_left {
            let text = format!("memory node {} is the last one: it cannot be drained", node.0);
            return Err(PoolError::Invalid(text));
        }
        fill::drop_useless(fabric, view)
    })
}

type Work<'a> = dyn FnMut(&Fabric, &mut View) -> Result<()> + 'a;

fn change(client: &mut Client, work: &mut Work<'_>) -> Result<()> {
    client.resume()?;
    membership::change_view(&client.fabric, work)
}

/// Steps until the goal is reached.
fn drive(client: &mut Client, goal: Goal, progress: &mut dyn FnMut(Progress)) -> Result<Progress> {
    let mut done = Progress::default();
    let (mut pinned_since, mut vacating_since) = (None, None);
    let budget = STEP_BYTES.min(client.fabric.config().region_bytes() / 2);
    loop {
        let (mut step, started) = (Step::default(), client.fabric.verbs().now_ns());
        let outcome = change(client, &mut |fabric, view| {
            tables::place(fabric, view)?;
            step = fill::advance(fabric, view, goal, budget)?;
            Ok(())
        });
        match outcome {
            // Perhaps clients give up enough of what they have, now that they take no more there.
            Err(PoolError::Invalid(_)) if matches!(goal, Goal::Drain(_)) => {
                let since = *vacating_since.get_or_insert(started);
                if started.saturating_sub(since) > VACATING_NS {
                    return outcome.map(|()| done);
                }
                rest(client, VACATING_PAUSE_NS)?;
                continue;
            }
            outcome => outcome?,
        }
        vacating_since = None;
        done.bytes += step.bytes;
        done.copies += step.copies;
        done.left = step.left;
        progress(done);
        if step.is_done {
            return Ok(done);
        }
        let now = client.fabric.verbs().now_ns();
        let since = *pinned_since.get_or_insert(now);
        if !step.is_pinned {
            pinned_since = None;
        } else if now.saturating_sub(since) > patience_ns(&client.fabric) {
            return Err(PoolError::Timeout {
                what: "views of pool memory that clients hold: they keep a copy from moving".into(),
                waited_ms: now.saturating_sub(since) / 1_000_000,
            });
        }
        // Clients get as much time as the step took away.
        let pause = now.saturating_sub(started).clamp(10_000, LONGEST_PAUSE_NS);
        rest(client, pause)?;
    }
}

/// Leaves the others some time. Nobody is to wait for this client to reuse what it has freed.
fn rest(client: &mut Client, pause_ns: u64) -> Result<()> {
    client.tick()?;
    client.alloc.idle(&client.fabric)?;
    client.fabric.verbs().relax(pause_ns);
    client.resume()?;
    client.tick()
}

fn patience_ns(fabric: &Fabric) -> u64 {
    u64::from(fabric.config().lease_ms) * 1_000_000 * PATIENCE_LEASES
}
