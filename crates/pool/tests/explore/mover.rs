//! Clients that add nodes, drain them, and make up for lost copies.

use artesian_bus::sim::{Rng, SimVerbs};
use artesian_bus::{NodeId, Verbs};
use artesian_pool::client::Client;
use artesian_pool::resize::{add_node, drain_node, restore_replicas, Progress};
use artesian_pool::view::NodeState;
use artesian_pool::PoolError;

use super::worker::End;

/// One who changes the pool's nodes.
pub struct Mover {
    pub verbs: SimVerbs,
    pub rng: Rng,
    /// The node that is not in the pool yet.
    pub spare: NodeId,
    /// Virtual nanoseconds before it begins.
    pub late_ns: u64,
}

impl Mover {
    /// Adds the spare node, then drains one of those that were there.
    pub fn work(mut self) -> Result<(), End> {
        self.verbs.relax(self.late_ns);
        let victim = NodeId(self.rng.below(u64::from(self.spare.0)) as u16);
        let mut client = Client::with_cache(Box::new(self.verbs), 0)?;
        allowed(add_node(&mut client, self.spare, &mut |_| {}))?;
        allowed(drain_node(&mut client, victim, &mut |_| {}))?;
        Ok(client.leave()?)
    }
}

/// Ends what movers that died have begun: a node that was entered gets its share, one that drains
/// is emptied.
pub fn finish(client: &mut Client) -> Result<(), End> {
    allowed(restore_replicas(client, &mut |_| {}))?;
    let nodes = client.fabric().view().nodes.clone();
    for (number, state) in nodes.into_iter().enumerate() {
        if state == NodeState::Draining {
            allowed(drain_node(client, NodeId(number as u16), &mut |_| {}))?;
        }
    }
    Ok(())
}

/// A pool that has no room, or nodes that are lost meanwhile, are no faults.
fn allowed(outcome: Result<Progress, PoolError>) -> Result<(), End> {
    match outcome {
        Ok(_) | Err(PoolError::Invalid(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
