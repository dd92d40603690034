//! The lock of the namespace table: a word that names its owner, so that nobody waits for the
//! dead.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::settle::settle;
use crate::address::ClientId;
use crate::config::{meta, META_REPLICAS};
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::membership::{standing, Standing};

/// Looks at a lock that is held. Changes take microseconds; this waits for seconds.
const PATIENCE: u32 = 4_000;
/// How often a change is begun anew because the membership changed.
const ATTEMPTS: u32 = 16;

/// Does `change` alone. It writes nothing before it knows all, and its one write makes the change:
/// what a dead owner left is whole on the primary or not there. Begun anew after a change of the
/// view, which may have lost the lock with its node.
pub(super) fn locked<T>(fabric: &Fabric, change: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let outcome = acquire(fabric).and_then(|()| {
            let outcome = change();
            release(fabric)?;
            outcome
        });
        match outcome {
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Timeout { what: "a membership that stays".into(), waited_ms: 0 })
}

fn acquire(fabric: &Fabric) -> Result<()> {
    let me = fabric.me().word();
    let started = fabric.verbs().now_ns();
    for wait in 0..PATIENCE {
        let at = fabric.meta(meta::NAMESPACE_LOCK)[0];
        let found = fabric.cas(at, 0, me)?;
        if found == 0 || found == me {
            return Ok(());
        }
        if wait % 16 == 15 && is_gone(fabric, found)? && fabric.cas(at, found, me)? == found {
            return steadily(|| settle(fabric));
        }
        fabric.verbs().relax(500 << wait.min(11));
    }
    let waited_ms = (fabric.verbs().now_ns() - started) / 1_000_000;
    Err(PoolError::Timeout { what: "the lock of the namespace table".into(), waited_ms })
}

fn release(fabric: &Fabric) -> Result<()> {
    unlock(fabric, fabric.me())
}

/// Frees the lock if `dead`, which has been declared so, holds it; what it has done to the first
/// copy is done to all before.
pub fn unlock_of_dead(fabric: &Fabric, dead: ClientId) -> Result<()> {
    if fabric.read_word(fabric.meta(meta::NAMESPACE_LOCK)[0])? == dead.word() {
        settle(fabric)?;
    }
    unlock(fabric, dead)
}

/// The first copy alone is the lock; but a change of the view copies it as it is.
fn unlock(fabric: &Fabric, owner: ClientId) -> Result<()> {
    let copies = fabric.meta(meta::NAMESPACE_LOCK);
    let mut verbs: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().rev().map(|&copy| Verb::cas(copy, owner.word(), 0)).collect();
    fabric.batch(&mut verbs)
}

/// Whether the owner in a lock word has left or is declared dead: no verb of it is under way.
fn is_gone(fabric: &Fabric, owner: u64) -> Result<bool> {
    let client = ClientId::from_word(owner);
    Ok(owner != client.word() || standing(fabric, client)? != Standing::Live)
}
