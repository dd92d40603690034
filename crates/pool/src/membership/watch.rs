//! What a client remembers of the others between two looks at them.

use std::cell::Cell;

use crate::fabric::Fabric;
use crate::recover::Recovered;

/// A client's memory of the others. Nothing in it is needed by anybody else.
#[derive(Debug, Default)]
pub struct Watch {
    last_look: Cell<u64>,
    grace_until: Cell<u64>,
    renewed: Cell<u64>,
    looked_around: Cell<u64>,
    out_of_reach: Cell<u64>,
    deaths: Cell<u64>,
    recoveries: Cell<u64>,
    last_recovery: Cell<Recovered>,
    repaired_transactions: Cell<u64>,
    changes: Cell<u64>,
    longest_stop_ns: Cell<u64>,
}

pub(super) fn lease_ns(fabric: &Fabric) -> u64 {
    u64::from(fabric.config().lease_ms) * 1_000_000
}

impl Watch {
    /// Notes the time of a look at the others. Who looks for the first time, or has itself been
    /// suspended since the last look, cannot tell whether the others had a chance to renew their
    /// leases: everybody gets a new grace period.
    pub(super) fn look(&self, fabric: &Fabric) -> u64 {
        let (now, lease) = (fabric.verbs().now_ns(), lease_ns(fabric));
        let last = self.last_look.replace(now);
        if last == 0 || now.saturating_sub(last) > lease / 2 {
            self.grace_until.set(now + lease);
        }
        now
    }

    /// Whether a lease until `lease` has run out, as far as this client may judge now.
    pub(super) fn has_expired(&self, fabric: &Fabric, lease: u64) -> bool {
        let now = self.look(fabric);
        lease < now && now >= self.grace_until.get()
    }

    /// Whether the own lease is due for renewal; asks once.
    pub(super) fn renewal_due(&self, fabric: &Fabric) -> bool {
        due(&self.renewed, fabric, lease_ns(fabric) / 4)
    }

    /// Whether it is time to look at all the others; asks once.
    pub(super) fn round_due(&self, fabric: &Fabric) -> bool {
        due(&self.looked_around, fabric, lease_ns(fabric) / 8)
    }

    pub(super) fn count_out_of_reach(&self) {
        self.out_of_reach.set(self.out_of_reach.get() + 1);
    }

    pub(super) fn count_death(&self) {
        self.deaths.set(self.deaths.get() + 1);
    }

    pub(super) fn count_recovery(&self) {
        self.recoveries.set(self.recoveries.get() + 1);
    }

    pub(super) fn note_recovery(&self, transactions: usize, recovered: Recovered) {
        self.repaired_transactions.set(self.repaired_transactions.get() + transactions as u64);
        self.last_recovery.set(recovered);
    }

    pub(super) fn count_change(&self, stopped_ns: u64) {
        self.changes.set(self.changes.get() + 1);
        self.longest_stop_ns.set(self.longest_stop_ns.get().max(stopped_ns));
    }

    /// How often a silent client could not be fenced and was therefore not declared dead.
    pub fn out_of_reach(&self) -> u64 {
        self.out_of_reach.get()
    }

    /// Clients that this one has declared dead.
    pub fn deaths(&self) -> u64 {
        self.deaths.get()
    }

    /// Dead clients that this one has recovered.
    pub fn recoveries(&self) -> u64 {
        self.recoveries.get()
    }

    /// What the last of these recoveries found and did.
    pub fn last_recovery(&self) -> Recovered {
        self.last_recovery.get()
    }

    /// Transactions of dead clients that this one has finished.
    pub fn repaired_transactions(&self) -> u64 {
        self.repaired_transactions.get()
    }

    /// Changes of the view that this client has made as master.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// The longest of them: from asking all clients to hold still to letting them go.
    pub fn longest_stop_ns(&self) -> u64 {
        self.longest_stop_ns.get()
    }
}

fn due(last: &Cell<u64>, fabric: &Fabric, every: u64) -> bool {
    let now = fabric.verbs().now_ns();
    let is_due = last.get() == 0 || now.saturating_sub(last.get()) >= every;
    if is_due {
        last.set(now.max(1));
    }
    is_due
}
