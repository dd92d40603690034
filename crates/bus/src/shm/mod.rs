//! Shared memory of this host: verbs are loads, stores and atomics of the caller's CPU.
//!
//! Node n of a pool is a sparse file in `/dev/shm`, mapped by whoever uses it. A node number is
//! used once in a pool's life: who has seen a node lost sees it lost for ever.

mod bulk;
mod copy;
mod memory;
mod name;
mod node;
mod process;
mod verbs;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::{BusError, NodeId};
use name::MAX_NODES;
use node::Node;

pub use memory::ShmMemory;
pub use name::pools;
pub use verbs::ShmVerbs;

/// How long it is believed that a node does not exist, so that verbs to it cost no system call.
const ABSENT_NS: u64 = 2_000_000;

struct Place {
    node: OnceLock<Node>,
    absent_until: AtomicU64,
}

/// The memory nodes of one pool, as this process has them mapped. Clients of one process share it.
pub struct ShmNodes {
    name: String,
    places: Box<[Place]>,
}

impl ShmNodes {
    /// The nodes of the pool called `name`, however many there are by now. Each is mapped when it
    /// is first used.
    pub fn open(name: &str) -> Result<Arc<ShmNodes>, BusError> {
        name::check(name)?;
        let place = |_| Place { node: OnceLock::new(), absent_until: AtomicU64::new(0) };
        let places = (0..MAX_NODES).map(place).collect();
        Ok(Arc::new(ShmNodes { name: name.to_owned(), places }))
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a node of `bytes` zeroed bytes, rounded up to whole pages, that all processes of this
    /// user find.
    pub fn create_node(&self, node: NodeId, bytes: u64) -> Result<(), BusError> {
        node::create(&self.name, node, bytes)?;
        self.places[node.0 as usize].absent_until.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Declares a node dead: verbs on it fail in every process from now on, and its memory is
    /// given back. Its file stays, as the mark of the number's use.
    pub fn kill_node(&self, node: NodeId) -> Result<(), BusError> {
        node::kill(&self.name, node)
    }

    /// Declares a node dead and removes its file.
    pub fn remove_node(&self, node: NodeId) -> Result<(), BusError> {
        node::kill(&self.name, node)?;
        node::unlink(&self.name, node)
    }

    /// Removes all nodes of the pool; says how many there were.
    pub fn remove(&self) -> Result<usize, BusError> {
        let numbers = self.numbers()?;
        for &node in &numbers {
            self.remove_node(node)?;
        }
        Ok(numbers.len())
    }

    /// The living nodes and their bytes, in order.
    pub fn nodes(&self) -> Result<Vec<(NodeId, u64)>, BusError> {
        let numbers = self.numbers()?.into_iter();
        let living = numbers.filter_map(|node| {
            let mapped = self.find(node).ok().filter(|mapped| !mapped.is_dead())?;
            Some((node, mapped.bytes()))
        });
        Ok(living.collect())
    }

    /// A client's connection.
    pub fn connect(self: &Arc<Self>) -> ShmVerbs {
        ShmVerbs::new(Arc::clone(self))
    }

    /// A node's bytes as they are mapped here.
    pub fn memory(self: &Arc<Self>, node: NodeId) -> Result<ShmMemory, BusError> {
        ShmMemory::new(Arc::clone(self), node)
    }

    fn numbers(&self) -> Result<Vec<NodeId>, BusError> {
        let all = name::all()?.into_iter();
        let mut nodes: Vec<NodeId> =
            all.filter(|(name, _)| *name == self.name).map(|(_, node)| node).collect();
        nodes.sort_unstable();
        Ok(nodes)
    }

    /// The mapped node.
    #[inline]
    fn find(&self, node: NodeId) -> Result<&Node, BusError> {
        let place = self.places.get(node.0 as usize).ok_or(BusError::NodeLost(node))?;
        match place.node.get() {
            Some(mapped) => Ok(mapped),
            None => self.map(place, node),
        }
    }

    #[cold]
    fn map<'a>(&self, place: &'a Place, node: NodeId) -> Result<&'a Node, BusError> {
        let now = process::now_ns();
        if now < place.absent_until.load(Ordering::Relaxed) {
            return Err(BusError::NodeLost(node));
        }
        match Node::open(&self.name, node)? {
            Some(mapped) => Ok(place.node.get_or_init(|| mapped)),
            None => {
                place.absent_until.store(now + ABSENT_NS, Ordering::Relaxed);
                Err(BusError::NodeLost(node))
            }
        }
    }
}
