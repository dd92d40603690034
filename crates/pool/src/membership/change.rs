//! Changing the view.
//!
//! 1. `meta::CHANGE` announces the epoch, odd: clients that join now see it and hold still too.
//! 2. All mailboxes ask for it; every live client acknowledges, or is declared dead, or has left.
//! 3. Alone with the pool, the master takes lost nodes out, settles what they leave ([`settle`]),
//!    does what the change is for, and writes the view to all nodes.
//! 4. `meta::CHANGE` and the mailboxes, even, let everybody go.
//!
//! A master that dies anywhere in between leaves clients that hold still. The next master runs a
//! whole new change, of a higher epoch, on top of the newest view that is stored: every step can be
//! done again. A view that was stored counts, since the master settles before it stores.

use artesian_bus::{BusError, NodeId, Verb};
use smallvec::SmallVec;

use super::death::{judge, Standing};
use super::master::{self, Seat};
use super::{recovery, settle, table, tick, views, watch, words};
use crate::config::{meta, record};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::view::{NodeState, View, EPOCH_LIMIT};

/// What a change is for: run while everybody else holds still, on the view that is to come, which
/// the fabric already goes by.
pub(crate) type Work<'a> = dyn FnMut(&Fabric, &mut View) -> Result<()> + 'a;

/// Only takes lost nodes out, or finishes what a dead master began.
pub(super) fn nothing(_fabric: &Fabric, _view: &mut View) -> Result<()> {
    Ok(())
}

/// Nodes may be lost while a change is under way; each time it starts again.
const ATTEMPTS: usize = 8;
/// Leases that the master waits for acknowledgements.
const PATIENCE_LEASES: u64 = 4;

/// Whether nodes of the view are lost, or a change was left unfinished.
pub(super) fn is_due(fabric: &Fabric) -> Result<bool> {
    if !lost_nodes(fabric, &fabric.view()).is_empty() {
        return Ok(true);
    }
    let change = words::values(fabric, meta::CHANGE)?;
    if change.iter().any(|(_, value)| !value.is_multiple_of(2) || value / 2 > fabric.epoch()) {
        return Ok(true);
    }
    // Somebody holds still whom a dead master did not let go, although all else was done; or was
    // nudged while it was the master: that costs a change too many.
    let clients = table::read_all(fabric)?;
    let others = clients.iter().filter(|client| client.client != fabric.me());
    let mut asked = others.filter(|client| client.mailbox > fabric.epoch() * 2);
    Ok(asked.any(|client| client.state == record::LIVE))
}

/// Nodes of `view` that do not answer any more.
pub(super) fn lost_nodes(fabric: &Fabric, view: &View) -> SmallVec<[NodeId; 4]> {
    let reached = fabric.verbs().nodes();
    let numbered = view.nodes.iter().enumerate().filter(|(_, &state)| state != NodeState::Dead);
    let nodes = numbered.map(|(node, _)| NodeId(node as u16));
    nodes.filter(|node| !reached.iter().any(|(known, _)| known == node)).collect()
}

/// Stores the view anew on all nodes.
pub(crate) fn refresh_view(fabric: &Fabric) -> Result<()> {
    change_view(fabric, &mut nothing)
}

/// Changes the view, with `work` done while everybody else holds still. The client becomes the
/// master for that.
pub(crate) fn change_view(fabric: &Fabric, work: &mut Work<'_>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        master::claim(fabric)?;
        match run(fabric, work) {
            // Somebody else wanted the seat, too.
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Timeout { what: "others, who want to be master".into(), waited_ms: 0 })
}

/// Changes the view as the master, with `work` done on the way.
pub(super) fn run(fabric: &Fabric, work: &mut Work<'_>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if master::seat(fabric)? != Seat::Mine {
            return Err(PoolError::ViewChanged);
        }
        match run_once(fabric, work) {
            Err(PoolError::Bus(BusError::NodeLost(_))) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Lost("memory nodes are lost faster than the pool can change".into()))
}

fn run_once(fabric: &Fabric, work: &mut Work<'_>) -> Result<()> {
    let started = fabric.verbs().now_ns();
    let base = views::newest_view(fabric.verbs(), fabric.config())?;
    let epoch = next_epoch(fabric, &base)?;
    words::write(fabric, meta::CHANGE, epoch * 2 + 1)?;
    tell(fabric, epoch * 2 + 1)?;
    if let Err(error) = wait_for_all(fabric, epoch * 2 + 1) {
        // Somebody neither answers nor can be declared dead: let the others go on as they were.
        let same = View { epoch, ..base };
        finish(fabric, &fabric.view(), same)?;
        return Err(error);
    }
    let before = fabric.view();
    fabric.set_governs(true);
    let outcome = rebuild(fabric, base, epoch, work);
    fabric.set_governs(false);
    match outcome {
        Ok((next, done)) => {
            finish(fabric, &before, next)?;
            done?;
        }
        Err(error) => {
            fabric.adopt(View::clone(&before));
            return Err(error);
        }
    }
    fabric.watch().count_change(fabric.verbs().now_ns().saturating_sub(started));
    Ok(())
}

/// An epoch above all that anybody has been asked for.
fn next_epoch(fabric: &Fabric, base: &View) -> Result<u64> {
    let asked = words::values(fabric, meta::CHANGE)?.into_iter().map(|(_, value)| value);
    let clients = table::read_all(fabric)?;
    let mailboxes = clients.iter().filter(|c| c.state != record::FREE).map(|c| c.mailbox);
    let sane = asked.chain(mailboxes).filter(|&asked| asked < EPOCH_LIMIT * 2);
    let highest = sane.max().unwrap_or(0) / 2;
    Ok(highest.max(base.epoch) + 1)
}

/// Writes `value` to the mailboxes of all clients but the own and wakes them.
fn tell(fabric: &Fabric, value: u64) -> Result<()> {
    let bytes = value.to_le_bytes();
    for client in table::read_all(fabric)? {
        if client.client == fabric.me() || !matches!(client.state, record::LIVE | record::JOINING) {
            continue;
        }
        let copies = fabric.client_record(client.client.index, record::MAILBOX);
        let mut verbs: SmallVec<[Verb<'_>; 4]> =
            copies.iter().map(|&copy| Verb::write(copy, &bytes)).collect();
        words::post(fabric, &mut verbs)?;
        copies.into_iter().for_each(|copy| fabric.verbs().wake_mailbox(copy));
    }
    Ok(())
}

/// Waits until every live client has acknowledged `asked`.
fn wait_for_all(fabric: &Fabric, asked: u64) -> Result<()> {
    let started = fabric.verbs().now_ns();
    let mut pause = 2_000;
    loop {
        let mut waiting = None;
        for client in table::read_all(fabric)? {
            let busy = client.state == record::LIVE && client.ack < asked;
            if busy && client.client != fabric.me() && judge(fabric, &client)? == Standing::Live {
                waiting = Some(client.client);
            }
        }
        let Some(client) = waiting else { return Ok(()) };
        let waited = fabric.verbs().now_ns().saturating_sub(started);
        if waited > watch::lease_ns(fabric) * PATIENCE_LEASES {
            let what = format!("{client:?}, which neither holds still nor can be declared dead");
            return Err(PoolError::Timeout { what, waited_ms: waited / 1_000_000 });
        }
        tick::renew_lease(fabric)?;
        fabric.verbs().relax(pause);
        pause = (pause * 2).min(500_000);
    }
}

/// Makes the next view, and the pool's memory fit for it. If the work fails, the others go on in a
/// view that is as if it had not been tried.
fn rebuild(
    fabric: &Fabric,
    base: View,
    epoch: u64,
    work: &mut Work<'_>,
) -> Result<(View, Result<()>)> {
    let lost = lost_nodes(fabric, &base);
    let mut next = View { epoch, ..base.clone() };
    settle::leave_out(&mut next, &lost)?;
    fabric.adopt(next.clone());
    settle::copies(fabric, &base, &next)?;
    settle::transactions(fabric)?;
    if !lost.is_empty() {
        settle::slots(fabric, &base)?;
    }
    recovery::settle_dead(fabric)?;
    let settled = next.clone();
    match work(fabric, &mut next) {
        Ok(()) => Ok((next, Ok(()))),
        Err(error @ PoolError::Bus(BusError::NodeLost(_))) => Err(error),
        Err(error) => Ok((settled, Err(error))),
    }
}

/// Stores the view and lets everybody go. `before` is the view that they still go by: their
/// mailboxes lie on its meta nodes.
fn finish(fabric: &Fabric, before: &View, next: View) -> Result<()> {
    views::store_view(fabric.verbs(), fabric.config(), &next)?;
    let mut both = next.clone();
    both.meta.extend(before.meta.iter().copied().filter(|node| !next.meta.contains(node)));
    let epoch = next.epoch;
    fabric.adopt(both);
    let told = words::write(fabric, meta::CHANGE, epoch * 2).and_then(|()| tell(fabric, epoch * 2));
    fabric.adopt(next);
    told
}
