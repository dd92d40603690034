//! Who is in the pool: leases, deaths, changes of the view.

use artesian_bus::NodeId;

use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Tells the master that `node` does not answer and waits for the view without it.
pub fn report_loss(_fabric: &Fabric, node: NodeId) -> Result<()> {
    Err(PoolError::Lost(format!("memory node {} is lost", node.0)))
}

/// Holds still until the master has changed the view, then adopts the new one.
pub fn hold_still(_fabric: &Fabric) -> Result<()> {
    Err(PoolError::ViewChanged)
}
