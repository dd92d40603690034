//! Joining a pool.

use artesian_bus::{BusError, NodeId, Verbs};

use super::claim::claim;
use super::enter::enter;
use super::header::read_header;
use crate::address::ClientId;
use crate::config::{record, PoolConfig};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::{newest_view, table, words};
use crate::view::{NodeState, View};

/// How often a view or a place that others are changing is looked at again.
pub(super) const ATTEMPTS: u32 = 64;

/// Joins the pool that `verbs` reaches, as a new client. Begun again when nodes are lost or the
/// view changes on the way.
pub fn join(verbs: Box<dyn Verbs>) -> Result<Fabric> {
    let config = agreed_config(&*verbs)?;
    let view = steady_view(&*verbs, &config)?;
    let mut fabric = Fabric::new(verbs, config, view, ClientId::NOBODY);
    let mut problem = PoolError::Timeout { what: "a place in the pool".into(), waited_ms: 50 };
    for attempt in 0..ATTEMPTS {
        refuse_unformatted(fabric.verbs(), &fabric.view())?;
        if let Some((me, joining)) = claim(&fabric)? {
            fabric.set_me(me);
            match enter(&fabric, joining) {
                Ok(()) => return Ok(fabric),
                Err(error @ PoolError::Bus(BusError::Fenced)) => return Err(error),
                Err(error) => problem = error,
            }
            let free = record::state_word(record::FREE, me);
            let at = table::offset(me.index, record::STATE);
            words::swap(&fabric, at, joining, free)?;
            fabric.set_me(ClientId::NOBODY);
        }
        fabric.verbs().relax(1_000 << attempt.min(10));
        fabric.adopt(steady_view(fabric.verbs(), fabric.config())?);
    }
    Err(problem)
}

/// The numbers that all reachable headers agree on.
pub fn agreed_config(verbs: &dyn Verbs) -> Result<PoolConfig> {
    let mut agreed: Option<(NodeId, PoolConfig)> = None;
    let mut first_error = None;
    for (node, _) in verbs.nodes() {
        match (read_header(verbs, node), agreed) {
            (Err(PoolError::Bus(BusError::NodeLost(_))), _) => {}
            (Err(error), _) => first_error = first_error.or(Some(error)),
            (Ok(config), None) => agreed = Some((node, config)),
            (Ok(config), Some((other, known))) if config.pool_id != known.pool_id => {
                return Err(PoolError::Invalid(format!(
                    "memory node {} belongs to pool {:#x}, node {} to pool {:#x}: do not mix them",
                    node.0, config.pool_id, other.0, known.pool_id
                )));
            }
            (Ok(_), Some(_)) => {}
        }
    }
    let none = || PoolError::Invalid("no memory node of the pool can be reached".into());
    agreed.map(|(_, config)| config).ok_or_else(|| first_error.unwrap_or_else(none))
}

/// The newest view. One that is just being written is looked at again.
pub(super) fn steady_view(verbs: &dyn Verbs, config: &PoolConfig) -> Result<View> {
    for attempt in 0..ATTEMPTS {
        match newest_view(verbs, config) {
            Err(error @ PoolError::Bus(_)) => return Err(error),
            Err(_) => verbs.relax(1_000 << attempt.min(12)),
            view => return view,
        }
    }
    newest_view(verbs, config)
}

/// A node that the view counts on must carry a header, or the pool's creation was cut short.
fn refuse_unformatted(verbs: &dyn Verbs, view: &View) -> Result<()> {
    for (node, _) in verbs.nodes() {
        if view.nodes.get(node.0 as usize) == Some(&NodeState::Live) {
            match read_header(verbs, node) {
                Ok(_) | Err(PoolError::Bus(BusError::NodeLost(_))) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
