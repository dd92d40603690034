//! Taking a place in the client table.

use crate::address::ClientId;
use crate::config::{meta, record};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::{table, words};
use crate::object::word;

/// Takes the first free place: the client, and the word that says that it is joining. `None` if
/// others were quicker and a look again may help.
pub(super) fn claim(fabric: &Fabric) -> Result<Option<(ClientId, u64)>> {
    let places = u64::from(fabric.config().max_clients);
    let mut bytes = vec![0; (places * meta::CLIENT_RECORD) as usize];
    words::read(fabric, meta::CLIENT_TABLE, &mut bytes)?;
    let (mut live, mut dead, mut lost_race) = (0, 0, false);
    for index in 1..places {
        let found = word(&bytes, (index * meta::CLIENT_RECORD + record::STATE) as usize);
        let (state, last) = record::split(found);
        match state {
            record::FREE => {}
            record::JOINING | record::LIVE => {
                live += 1;
                continue;
            }
            _ => {
                dead += 1;
                continue;
            }
        }
        // Incarnation 0 is skipped: an all-zero owner word always means nobody.
        let incarnation = last.incarnation.wrapping_add(1).max(1);
        let me = ClientId { index: index as u16, incarnation };
        let pid = u64::from(fabric.verbs().identity().pid & 0xff_ffff) << 32;
        let mine = record::state_word(record::JOINING, me) | pid;
        if words::swap(fabric, table::offset(me.index, record::STATE), found, mine)? == found {
            return Ok(Some((me, mine)));
        }
        lost_race = true;
    }
    if lost_race {
        return Ok(None);
    }
    Err(PoolError::Invalid(format!(
        "all {} client places of the pool are taken ({live} by live clients, {dead} by dead ones \
         that are not recovered yet): close a client, wait for the recovery, or create the pool \
         with more places",
        places - 1
    )))
}
