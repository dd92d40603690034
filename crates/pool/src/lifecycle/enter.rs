//! From a claimed place to a live client.
//!
//! Nothing here passes the gate: the client is nobody yet that a master could ask to hold still.
//! Copies on nodes that were just lost are left out; the next view brings others.

use artesian_bus::{GlobalAddr, Verb};

use super::join::{steady_view, ATTEMPTS};
use crate::config::{area, meta, record, CLIENT_AREA};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::{table, words};

/// Fills in the record and the area, then goes live. A change of the view that began before this
/// client could be asked to hold still is noticed at the end: one that is over, by the view; one
/// that is under way, by `meta::CHANGE`, and the client holds still. Its master may have copied a
/// record that was not whole: so it is written once more.
pub(super) fn enter(fabric: &Fabric, joining: u64) -> Result<()> {
    introduce(fabric)?;
    clear_area(fabric)?;
    for _ in 0..ATTEMPTS {
        let epoch = fabric.epoch();
        write_record(fabric)?;
        go_live(fabric, joining)?;
        heed_change(fabric)?;
        match fabric.pass_gate() {
            Ok(()) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        let view = steady_view(fabric.verbs(), fabric.config())?;
        if view.epoch > fabric.epoch() {
            fabric.adopt(view);
        }
        if fabric.epoch() == epoch {
            return Ok(());
        }
    }
    Err(PoolError::Timeout { what: "a view that stays".into(), waited_ms: 0 })
}

fn write_copies(fabric: &Fabric, copies: &[GlobalAddr], bytes: &[u8]) -> Result<()> {
    let mut verbs: Vec<Verb<'_>> = copies.iter().map(|&copy| Verb::write(copy, bytes)).collect();
    words::post(fabric, &mut verbs).map(drop)
}

/// Writes who this is, so that the place can be taken back should this client die while it joins.
fn introduce(fabric: &Fabric) -> Result<()> {
    let identity = fabric.verbs().identity();
    let mut words = [0; 16];
    words[..8].copy_from_slice(&u64::from(identity.pid).to_le_bytes());
    words[8..].copy_from_slice(&identity.started.to_le_bytes());
    const { assert!(record::STARTED == record::PID + 8) };
    write_copies(fabric, &fabric.client_record(fabric.me().index, record::PID), &words)
}

/// Zeroes the area except for the usage counters, which go on over all clients of the place.
fn clear_area(fabric: &Fabric) -> Result<()> {
    let zeros = [0; area::LOG_BYTES as usize];
    for (start, end) in [(0, area::USAGE), (area::LOGS, CLIENT_AREA)] {
        let copies = fabric.client_area(fabric.me().index, start);
        write_copies(fabric, &copies, &zeros[..(end - start) as usize])?;
    }
    Ok(())
}

/// Writes all words but the state to all copies of the record.
fn write_record(fabric: &Fabric) -> Result<()> {
    let (verbs, identity) = (fabric.verbs(), fabric.verbs().identity());
    let mut epoch = [0; 8];
    words::read(fabric, meta::EPOCH, &mut epoch)?;
    let lease = verbs.now_ns() + u64::from(fabric.config().lease_ms) * 1_000_000;
    let mut head = [0; 40];
    head[..8].copy_from_slice(&u64::from(identity.pid).to_le_bytes());
    head[8..16].copy_from_slice(&identity.started.to_le_bytes());
    head[16..24].copy_from_slice(&lease.to_le_bytes());
    head[24..32].copy_from_slice(&epoch);
    const { assert!(record::PINNED == record::REPAIRER + 8) };
    const { assert!(record::WINDOW == record::REPAIRER + 32) };
    const { assert!(record::PID == 8 && record::FLUSHED == 40 && record::REPORTED == 32) };
    let index = fabric.me().index;
    write_copies(fabric, &fabric.client_record(index, record::PID), &head)?;
    write_copies(fabric, &fabric.client_record(index, record::REPAIRER), &[0; 40])?;
    // A master may be asking already: only an older view's mailbox is overwritten.
    raise_mailbox(fabric, fabric.view().epoch * 2)
}

/// Raises the own mailbox to `asked`, where it is lower.
fn raise_mailbox(fabric: &Fabric, asked: u64) -> Result<()> {
    for (copy, old) in words::values(fabric, table::offset(fabric.me().index, record::MAILBOX))? {
        if old < asked {
            words::post(fabric, &mut [Verb::cas(copy, old, asked)])?;
        }
    }
    Ok(())
}

fn go_live(fabric: &Fabric, joining: u64) -> Result<()> {
    let live = record::state_word(record::LIVE, fabric.me());
    let at = table::offset(fabric.me().index, record::STATE);
    let found = words::swap(fabric, at, joining, live)?;
    if found == live {
        let copies = words::values(fabric, at)?.into_iter().map(|(copy, _)| copy);
        words::swap_each(fabric, &copies.collect::<Vec<_>>(), joining, live)?;
    }
    if found != joining && found != live {
        let text = "joining took so long that the place was taken back: join again";
        return Err(PoolError::Invalid(text.into()));
    }
    Ok(())
}

/// Lets the own mailbox ask for a change that is under way. The master announces the change before
/// it reads the client table, and this client reads the announcement after it went live: one of
/// the two sees the other.
fn heed_change(fabric: &Fabric) -> Result<()> {
    let announced = words::values(fabric, meta::CHANGE)?.into_iter().map(|(_, value)| value);
    match announced.max() {
        Some(asked) if !asked.is_multiple_of(2) => raise_mailbox(fabric, asked),
        _ => Ok(()),
    }
}
