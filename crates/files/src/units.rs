//! Which nodes are cared for by themselves: the topmost ones with a verdict, and of those below
//! them the ones that are read in another way.

use std::collections::HashMap;

use crate::judge::Verdict;
use crate::node::{Kind, NodeId, NO_NODE};
use crate::report::UnitChange;
use crate::tree::AccessStreamTree;

/// Units by their serial numbers.
#[derive(Debug, Default)]
pub struct Units {
    nodes: HashMap<u32, NodeId>,
    changes: Vec<UnitChange>,
    last: u32,
}

impl Units {
    /// The node that is a unit.
    pub fn node(&self, unit: u32) -> Option<NodeId> {
        self.nodes.get(&unit).copied()
    }

    /// Whether there is something to tell.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What changed since the last time.
    pub fn take_changes(&mut self) -> Vec<UnitChange> {
        std::mem::take(&mut self.changes)
    }
}

impl AccessStreamTree {
    /// The verdict of a node is another one: it may become a unit, or be one no more, and so may
    /// those below it.
    pub(crate) fn settle(&mut self, id: NodeId) {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            self.settle_one(id);
            let below = self.nodes[id as usize].children.values();
            open.extend(below.filter(|&&child| {
                self.nodes[child as usize].verdict() != Verdict::Unknown
                    || !self.nodes[child as usize].children.is_empty()
            }));
        }
    }

    fn settle_one(&mut self, id: NodeId) {
        let verdict = self.nodes[id as usize].verdict();
        let (unit, path) = (self.nodes[id as usize].unit, self.path(id));
        if !self.is_unit(id) {
            if unit != 0 {
                self.end_unit(id, path);
            }
            return;
        }
        let unit = if unit != 0 {
            unit
        } else {
            self.units.last = self.units.last.wrapping_add(1).max(1);
            self.units.nodes.insert(self.units.last, id);
            self.nodes[id as usize].unit = self.units.last;
            self.units.last
        };
        self.units.changes.push(UnitChange { unit, path, verdict });
    }

    pub(crate) fn end_unit(&mut self, id: NodeId, path: String) {
        let unit = std::mem::take(&mut self.nodes[id as usize].unit);
        self.units.nodes.remove(&unit);
        self.units.changes.push(UnitChange { unit, path, verdict: Verdict::Unknown });
    }

    /// A verdict holds for one level: that files of a shuffled folder are read from their beginning
    /// to their end does not make units of them.
    fn is_unit(&self, id: NodeId) -> bool {
        let node = &self.nodes[id as usize];
        if node.verdict() == Verdict::Unknown || node.parent == 0 && node.num_children() == 0 {
            return false;
        }
        let above = self.unit_node_above(node.parent);
        if above == NO_NODE {
            return true;
        }
        let differs = node.verdict() != self.nodes[above as usize].verdict();
        let is_sure = node.kind == Kind::Folder || !node.is_provisional;
        let has_room = node.unit != 0 || self.units.nodes.len() < self.options.max_units;
        differs && is_sure && has_room && node.verdict() != Verdict::Sequential
    }

    fn unit_node_above(&self, mut id: NodeId) -> NodeId {
        while id != NO_NODE && id != 0 && self.nodes[id as usize].unit == 0 {
            id = self.nodes[id as usize].parent;
        }
        if id == 0 {
            NO_NODE
        } else {
            id
        }
    }

    /// Serial number of the nearest unit at a node or above it, 0 if there is none.
    pub(crate) fn unit_above(&self, id: NodeId) -> u32 {
        match self.unit_node_above(id) {
            NO_NODE => 0,
            found => self.nodes[found as usize].unit,
        }
    }
}
