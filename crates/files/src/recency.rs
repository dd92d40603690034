//! Nodes in the order of their last use, as a list inside of the nodes.

use crate::node::{Node, NodeId, NO_NODE};

/// Ends of the list.
#[derive(Debug)]
pub struct Recency {
    first: NodeId, // used last
    last: NodeId,
}

impl Default for Recency {
    fn default() -> Recency {
        Recency { first: NO_NODE, last: NO_NODE }
    }
}

/// Neighbours of a node.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    pub newer: NodeId,
    pub older: NodeId,
}

impl Default for Links {
    fn default() -> Links {
        Links { newer: NO_NODE, older: NO_NODE }
    }
}

impl Recency {
    /// The node that was used longest ago.
    pub fn oldest(&self) -> NodeId {
        self.last
    }

    /// Puts a node that is not in the list before all others.
    pub fn add(&mut self, nodes: &mut [Node], id: NodeId) {
        nodes[id as usize].links = Links { newer: NO_NODE, older: self.first };
        match self.first {
            NO_NODE => self.last = id,
            first => nodes[first as usize].links.newer = id,
        }
        self.first = id;
    }

    /// Takes a node out.
    pub fn remove(&mut self, nodes: &mut [Node], id: NodeId) {
        let Links { newer, older } = nodes[id as usize].links;
        match newer {
            NO_NODE => self.first = older,
            newer => nodes[newer as usize].links.older = older,
        }
        match older {
            NO_NODE => self.last = newer,
            older => nodes[older as usize].links.newer = newer,
        }
    }

    /// The node is used.
    pub fn touch(&mut self, nodes: &mut [Node], id: NodeId) {
        if self.first != id {
            self.remove(nodes, id);
            self.add(nodes, id);
        }
    }
}
