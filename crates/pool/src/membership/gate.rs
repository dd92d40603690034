//! What a client does at the gate: report a lost node, or hold still while the view changes.

use artesian_bus::{GlobalAddr, NodeId};

use super::master::{self, Seat};
use super::{change, table, tick, views, watch, words};
use crate::config::record;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::rtx::Patience;
use crate::view::NodeState;

/// How long a client waits for a change before it gives up, in leases: the time to find that the
/// master is dead, and that clients are, several times.
const PATIENCE_LEASES: u64 = 16;
const FIRST_PAUSE_NS: u64 = 20_000;
const LONGEST_PAUSE_NS: u64 = 5_000_000;

/// A bounded wait for the master, who is replaced if he dies.
struct Wait {
    patience: Patience,
    pause: u64,
}

impl Wait {
    fn new() -> Wait {
        Wait { patience: Patience::default(), pause: FIRST_PAUSE_NS }
    }

    /// The next pause's length, while the own lease is kept up.
    fn next(&mut self, fabric: &Fabric, what: &str) -> Result<u64> {
        tick::renew_lease(fabric)?;
        let waited = self.patience.waited_ns(fabric);
        if waited > watch::lease_ns(fabric) * PATIENCE_LEASES {
            return Err(PoolError::Timeout { what: what.into(), waited_ms: waited / 1_000_000 });
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE_NS);
        Ok(pause)
    }

    /// Whether the pauses have grown so far that the master is worth a look.
    fn is_long(&self) -> bool {
        self.pause >= LONGEST_PAUSE_NS
    }
}

/// Tells the master that `node` does not answer and waits for the view without it.
pub fn report_loss(fabric: &Fabric, node: NodeId) -> Result<()> {
    let view = fabric.view();
    match view.nodes.get(node.0 as usize) {
        None => {
            return Err(PoolError::Lost(format!("memory node {} is not in the pool", node.0)));
        }
        // The address was of a view before this one.
        Some(NodeState::Dead) => return Ok(()),
        Some(_) => {}
    }
    let mut wait = Wait::new();
    let mut told = false;
    while fabric.epoch() == view.epoch {
        if fabric.asked() > view.epoch * 2 + 1 {
            return hold_still(fabric);
        }
        if fabric.verbs().nodes().iter().any(|(known, _)| *known == node) {
            return Ok(());
        }
        if !told || wait.is_long() {
            match master::seat(fabric)? {
                Seat::Mine => return change::run(fabric, &mut change::nothing),
                Seat::Theirs(other) => master::nudge(fabric, other)?,
            }
            told = true;
        }
        if wait.is_long() && has_left(fabric)? {
            return Ok(());
        }
        let pause = wait.next(fabric, "the master to take a lost memory node out of the pool")?;
        fabric.verbs().relax(pause);
    }
    Ok(())
}

/// Obeys the mailbox: holds still until the master has changed the view, then adopts the new one.
/// If the master dies meanwhile, this client may become the next and finish the change.
pub fn hold_still(fabric: &Fabric) -> Result<()> {
    let mut wait = Wait::new();
    let mut acknowledged = 0;
    loop {
        let asked = fabric.asked();
        if asked / 2 <= fabric.epoch() {
            return obey_nudge(fabric, asked);
        }
        if asked.is_multiple_of(2) {
            let view = views::newest_view(fabric.verbs(), fabric.config())?;
            if view.epoch >= asked / 2 {
                fabric.adopt(view);
                return Ok(());
            }
        } else if asked > acknowledged {
            if asked / 2 > fabric.epoch() + 1 {
                catch_up(fabric, asked / 2)?;
            }
            let at = table::offset(fabric.me().index, record::ACK);
            words::write(fabric, at, asked)?;
            acknowledged = asked;
        }
        if wait.is_long() && has_left(fabric)? {
            return Ok(());
        }
        if wait.is_long() && master::seat(fabric)? == Seat::Mine {
            return change::run(fabric, &mut change::nothing);
        }
        let pause = wait.next(fabric, "the master to finish a change of the membership")?;
        sleep(fabric, pause);
    }
}

/// Goes by the newest view before the one of epoch `next`: a master that changes the view several
/// times in a row may have done so before this client woke up, and the tables, its record with
/// them, may lie on other nodes now.
#[cold]
fn catch_up(fabric: &Fabric, next: u64) -> Result<()> {
    let view = views::newest_view(fabric.verbs(), fabric.config())?;
    if view.epoch > fabric.epoch() && view.epoch < next {
        fabric.adopt(view);
    }
    Ok(())
}

/// A client that leaves frees its place on the first copy last. Was that lost, the place is free
/// already: nobody tells the client of the next view, nor waits for it.
fn has_left(fabric: &Fabric) -> Result<bool> {
    let own = table::read_one(fabric, fabric.me().index)?;
    if own.client == fabric.me() && own.state != record::FREE {
        return Ok(false);
    }
    let view = views::newest_view(fabric.verbs(), fabric.config())?;
    let is_newer = view.epoch > fabric.epoch();
    if is_newer {
        fabric.adopt(view);
    }
    Ok(is_newer)
}

/// Asked for the epoch that it already has, the master looks at the nodes, and whether somebody
/// else wants to be master; others need not.
fn obey_nudge(fabric: &Fabric, asked: u64) -> Result<()> {
    fabric.set_obeyed(asked.max(fabric.epoch() * 2));
    if master::seat(fabric)? != Seat::Mine {
        return Ok(());
    }
    if change::is_due(fabric)? {
        change::run(fabric, &mut change::nothing)?;
    }
    master::hand_over(fabric)
}

/// Sleeps until the mailbox changes, at most `pause`.
fn sleep(fabric: &Fabric, pause: u64) {
    let reached = fabric.verbs().nodes();
    let copies = fabric.client_record(fabric.me().index, record::MAILBOX);
    let here = |at: &&GlobalAddr| reached.iter().any(|(node, _)| *node == at.node());
    match copies.iter().find(here) {
        Some(&at) => fabric.verbs().wait_mailbox(at, fabric.verbs().mailbox(at), pause),
        None => fabric.verbs().relax(pause),
    }
}
