//! Views in the nodes' view areas.

use artesian_bus::{BusError, GlobalAddr, NodeId, Verb, Verbs};

use crate::config::{NodeLayout, PoolConfig};
use crate::error::{PoolError, Result};
use crate::view::{NodeState, View};

/// The view with the highest epoch that any reachable node carries whole.
pub fn newest_view(verbs: &dyn Verbs, config: &PoolConfig) -> Result<View> {
    let mut newest: Option<View> = None;
    let mut problem = PoolError::Lost("no memory node of the pool can be reached".into());
    for (node, _) in verbs.nodes() {
        for epoch in [1, 2] {
            match read_half(verbs, config, node, epoch) {
                Ok(view) if newest.as_ref().is_none_or(|best| best.epoch < view.epoch) => {
                    newest = Some(view);
                }
                Ok(_) | Err(PoolError::Bus(BusError::NodeLost(_))) => {}
                Err(error @ PoolError::Bus(_)) => return Err(error),
                Err(error) => problem = error,
            }
        }
    }
    newest.ok_or(problem)
}

/// The views that `node` carries whole: of odd and of even epochs.
pub(crate) fn read_views(
    verbs: &dyn Verbs,
    config: &PoolConfig,
    node: NodeId,
) -> [Option<View>; 2] {
    [1, 2].map(|epoch| read_half(verbs, config, node, epoch).ok())
}

/// The view in one half of a node's view area: that of odd or of even epochs.
fn read_half(verbs: &dyn Verbs, config: &PoolConfig, node: NodeId, epoch: u64) -> Result<View> {
    let at = GlobalAddr::new(node, View::place_of(&NodeLayout::of(config), epoch));
    let mut head = [0; View::HEAD];
    verbs.batch(&mut [Verb::read(at, &mut head)])?;
    let mut bytes = vec![0; View::encoded_bytes(&head)?];
    verbs.batch(&mut [Verb::read(at, &mut bytes)])?;
    View::decode(&bytes, config)
}

/// Writes `view` to all its nodes that answer; one that is just being lost is left to the next
/// change.
pub fn store_view(verbs: &dyn Verbs, config: &PoolConfig, view: &View) -> Result<()> {
    let (layout, bytes) = (NodeLayout::of(config), view.encode());
    let mut stored = 0;
    for (node, _) in view.nodes.iter().enumerate().filter(|(_, &state)| state != NodeState::Dead) {
        let at = GlobalAddr::new(NodeId(node as u16), View::place_of(&layout, view.epoch));
        match verbs.batch(&mut [Verb::write(at, &bytes)]) {
            Ok(()) => stored += 1,
            Err(BusError::NodeLost(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if stored == 0 {
        return Err(PoolError::Lost("no memory node of the pool can be reached".into()));
    }
    Ok(())
}
