//! What every client does now and then.

use super::death::{judge, Standing};
use super::master::{self, Seat};
use super::{change, recovery, table, watch, words};
use crate::config::record;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Renews the lease, obeys the mailbox, and now and then looks after the others: declares the dead,
/// recovers them, and as master changes the view when nodes are lost. To be called between
/// operations, at least every quarter of a lease.
pub fn tick(fabric: &Fabric) -> Result<()> {
    fabric.watch().look(fabric);
    renew_lease(fabric)?;
    match fabric.pass_gate() {
        Ok(()) | Err(PoolError::ViewChanged) => {}
        Err(error) => return Err(error),
    }
    if !fabric.watch().round_due(fabric) {
        return Ok(());
    }
    look_after(fabric)
}

/// Looks after the others now: recovers the dead, and as master takes lost nodes out of the view.
pub(crate) fn look_after(fabric: &Fabric) -> Result<()> {
    for client in table::read_all(fabric)? {
        if judge(fabric, &client)? == Standing::Dead {
            recovery::recover(fabric, &client)?;
        }
    }
    if master::seat(fabric)? == Seat::Mine && change::is_due(fabric)? {
        change::run(fabric, &mut change::nothing)?;
    }
    Ok(())
}

/// Renews the own lease if a quarter of it has passed.
pub(crate) fn renew_lease(fabric: &Fabric) -> Result<()> {
    if fabric.me().is_nobody() || !fabric.watch().renewal_due(fabric) {
        return Ok(());
    }
    let until = fabric.verbs().now_ns() + watch::lease_ns(fabric);
    words::write(fabric, table::offset(fabric.me().index, record::LEASE), until)
}
