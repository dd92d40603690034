//! Finishing what the dead began.

use super::death::{standing, Standing};
use super::table::{self, Record};
use super::words;
use crate::address::ClientId;
use crate::cache;
use crate::config::record;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::index;
use crate::namespace;
use crate::recover;
use crate::rtx;
use crate::store::InUse;

/// Recovers a client that was declared dead and frees its place, unless a live client is at it
/// already. Returns whether that was done.
pub(super) fn recover(fabric: &Fabric, dead: &Record) -> Result<bool> {
    if !claim(fabric, dead.client)? {
        return Ok(false);
    }
    let at = table::offset(dead.client.index, record::STATE);
    let state = |state| record::state_word(state, dead.client);
    words::swap(fabric, at, state(record::DEAD), state(record::RECOVERING))?;
    finish(fabric, dead.client)?;
    index::finish_of_dead(fabric)?;
    let freed = words::swap(fabric, at, state(record::RECOVERING), state(record::FREE))?;
    if freed == state(record::RECOVERING) {
        fabric.watch().count_recovery();
    }
    Ok(true)
}

/// Whether this client is the one to recover `dead`. The word names the repairer and the dead
/// client's incarnation, so that it need not be cleared for the next client of the place.
fn claim(fabric: &Fabric, dead: ClientId) -> Result<bool> {
    let at = table::offset(dead.index, record::REPAIRER);
    let tag = u64::from(dead.incarnation) << 32;
    let mine = fabric.me().word() | tag;
    let found = words::values(fabric, at)?[0].1;
    let other = ClientId::from_word(found);
    let stale = found >> 32 != tag >> 32 || found as u32 == 0;
    if found == mine {
        return Ok(true);
    }
    if !stale && standing(fabric, other)? == Standing::Live {
        return Ok(false);
    }
    Ok(words::swap(fabric, at, found, mine)? == found)
}

/// Everything that a dead client may have left undone, but for a split: that may have to wait for
/// others, who may be holding still. Can be done again.
fn finish(fabric: &Fabric, dead: ClientId) -> Result<()> {
    let (transactions, _) = rtx::repair_all(fabric, dead)?;
    let recovered = recover::recover(fabric, &mut InUse, dead)?;
    namespace::unlock_of_dead(fabric, dead)?;
    cache::note_death(fabric)?;
    fabric.watch().note_recovery(transactions, recovered);
    Ok(())
}

/// For the master, while all others hold still and before they go on in a view without lost nodes:
/// what every dead client had decided. A decision whose round was lost with its node can only be
/// told from one that held as long as its slot has not changed again. Whoever recovers the client
/// once more finds nothing left: the reclamation epoch may have jumped, and what the client had
/// given up be reused.
pub(super) fn settle_dead(fabric: &Fabric) -> Result<()> {
    for client in table::read_all(fabric)? {
        if matches!(client.state, record::DEAD | record::RECOVERING) {
            finish(fabric, client.client)?;
            let flushed = table::offset(client.client.index, record::FLUSHED);
            words::write(fabric, flushed, record::ALL_FLUSHED)?;
        }
    }
    Ok(())
}
