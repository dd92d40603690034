//! A process that watches the pool's memory and kills whoever does something that is worth it.

use std::rc::{Rc, Weak};

use artesian_bus::sim::{Fault, Pid, Rng, SimVerbs};
use artesian_bus::{GlobalAddr, NodeId, Verbs};
use artesian_pool::config::{meta, record};
use artesian_pool::{ClientId, NodeLayout, PoolConfig};

/// In the middle of what a client is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Recovering a dead client.
    Recovery,
    /// Changing the view, as the master.
    Change,
    /// Splitting a subtable.
    Split,
}

/// Virtual nanoseconds between two looks.
const EVERY_NS: u64 = 3_000;

/// The one who watches.
pub struct Saboteur {
    pub verbs: SimVerbs,
    pub config: PoolConfig,
    pub rng: Rng,
    pub moment: Moment,
    /// How many are to die.
    pub strikes: u32,
}

impl Saboteur {
    /// Watches as long as anybody but the world holds `others`.
    pub fn watch(mut self, others: Weak<()>) {
        let mut last = 0;
        let anybody = || others.upgrade().is_some_and(|held| Rc::strong_count(&held) > 2);
        while self.strikes > 0 && anybody() {
            if let Some((occasion, pid)) = self.occasion().filter(|found| found.0 != last) {
                last = occasion;
                let after = self.verbs.verbs_of(pid) + self.patience();
                let torn = self.rng.once_in(2);
                self.verbs.plan(Fault::Kill { process: pid, after, torn });
                self.strikes -= 1;
            }
            self.verbs.relax(EVERY_NS);
        }
    }

    /// After how many more verbs the blow falls.
    fn patience(&mut self) -> u64 {
        let most = match self.moment {
            Moment::Recovery => 150,
            Moment::Change => 400,
            Moment::Split => 500,
        };
        self.rng.below(most)
    }

    /// A word of the meta area, from the first node that is left.
    fn word(&self, offset: u64) -> u64 {
        let left = self.verbs.nodes();
        let node = left.first().map_or(NodeId(0), |node| node.0);
        self.verbs.mailbox(GlobalAddr::new(node, NodeLayout::of(&self.config).meta + offset))
    }

    fn record(&self, index: u16, offset: u64) -> u64 {
        self.word(meta::CLIENT_TABLE + u64::from(index) * meta::CLIENT_RECORD + offset)
    }

    fn pid_of(&self, client: u64) -> Option<Pid> {
        let client = ClientId::from_word(client);
        let known = !client.is_nobody() && client.index < self.config.max_clients;
        known.then(|| Pid(self.record(client.index, record::PID) as u32)).filter(|pid| pid.0 > 0)
    }

    /// What is going on now: something that tells it from what was before, and who does it.
    fn occasion(&self) -> Option<(u64, Pid)> {
        match self.moment {
            Moment::Change => {
                let change = self.word(meta::CHANGE);
                let pid = self.pid_of(self.word(meta::MASTER))?;
                (change % 2 == 1).then_some((change, pid))
            }
            Moment::Split => {
                let holder = self.word(meta::INDEX_LOCK);
                Some((holder, self.pid_of(holder)?))
            }
            Moment::Recovery => (1..self.config.max_clients).find_map(|index| {
                let state = self.record(index, record::STATE);
                let repairer = self.record(index, record::REPAIRER);
                let pid = self.pid_of(repairer)?;
                let under_way = record::split(state).0 == record::RECOVERING;
                under_way.then_some((state ^ repairer << 32, pid))
            }),
        }
    }
}
