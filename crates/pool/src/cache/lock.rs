//! The lock of a bucket: held by whoever inserts into it, so that no key gets two slots.

use super::layout::slots_of;
use crate::address::{ClientId, PoolAddr};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::{standing, Standing};
use crate::rtx::Wait;
use crate::snapshot::{settle_many, Unlock};

/// Whose the lock is, going by what a CAS from free to `me` found. One's own name stays there when
/// the view changed just after it was taken.
#[inline]
pub(super) fn holder(found: u64, me: ClientId) -> Option<ClientId> {
    (found != 0 && found != me.word()).then(|| ClientId::from_word(found))
}

/// The give-back of the lock of `bucket` in a round of one of its slots.
#[inline]
pub(super) fn unlock_of(bucket: PoolAddr, me: ClientId) -> Unlock {
    Unlock { word: bucket, held: me.word(), free: 0 }
}

/// Gives the lock back, if it is held. One that was lost with its node need not be.
pub(super) fn unlock(fabric: &Fabric, bucket: PoolAddr) -> Result<()> {
    loop {
        let swap = |at| fabric.cas(at, fabric.me().word(), 0);
        match fabric.primary(bucket).and_then(swap) {
            Err(PoolError::ViewChanged) => {}
            Err(PoolError::Lost(_)) => return Ok(()),
            outcome => return outcome.map(drop),
        }
    }
}

/// Pauses before the next try for a lock that `owner` holds; frees it if the owner is dead.
#[cold]
pub(super) fn wait(
    fabric: &Fabric,
    bucket: PoolAddr,
    owner: ClientId,
    wait: &mut Wait,
) -> Result<()> {
    if wait.is_check_due() && standing(fabric, owner)? != Standing::Live {
        // Its round may be half done.
        let slots: Vec<PoolAddr> = slots_of(bucket).collect();
        settle_many(fabric, &slots)?;
        fabric.cas(fabric.primary(bucket)?, owner.word(), 0)?;
        return Ok(());
    }
    wait.pause(fabric, "the lock of a bucket of a cache")
}
