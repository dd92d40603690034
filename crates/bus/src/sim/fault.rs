//! What can be made to go wrong, and when.

use crate::NodeId;

/// A process of the simulation: the number that [`crate::Identity::pid`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// A planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends for good. Of its batches in flight, a random prefix per node happens.
    Kill {
        /// Which.
        process: Pid,
        /// After this many of its verbs.
        after: u64,
        /// In the middle of the next verb (a write leaves only some of its words), instead of
        /// right behind the last one.
        torn: bool,
    },
    /// The process stops as by SIGSTOP, wherever it is, and goes on later.
    Freeze {
        /// Which.
        process: Pid,
        /// After this many of its verbs.
        after: u64,
        /// For how many virtual nanoseconds.
        ns: u64,
    },
    /// The node is lost with its memory.
    LoseNode {
        /// Which.
        node: NodeId,
        /// After this many verbs of all processes together.
        after: u64,
    },
}

/// How many faults have struck so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Processes killed between two verbs.
    pub kills: u64,
    /// Processes killed in the middle of a verb.
    pub torn_kills: u64,
    /// Processes frozen.
    pub freezes: u64,
    /// Nodes lost.
    pub nodes_lost: u64,
    /// Processes fenced by others while they were alive.
    pub fences: u64,
}

impl std::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, more: FaultCounts) {
        self.kills += more.kills;
        self.torn_kills += more.torn_kills;
        self.freezes += more.freezes;
        self.nodes_lost += more.nodes_lost;
        self.fences += more.fences;
    }
}
