//! Every transport of this crate passes the same checks.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use artesian_bus::conformance::{concurrent, sequential, Rig, NODE_BYTES};
use artesian_bus::heap::HeapNodes;
use artesian_bus::shm::ShmNodes;
use artesian_bus::{NodeId, Verbs};

/// Numbers that no other test of this process uses.
static NEXT: AtomicU32 = AtomicU32::new(1);

struct Heap(Arc<HeapNodes>);

impl Rig for Heap {
    fn connect(&self) -> Box<dyn Verbs> {
        Box::new(self.0.connect(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn kill_node(&self, node: NodeId) {
        self.0.kill_node(node);
    }
}

fn heap() -> Heap {
    Heap(HeapNodes::new(2, NODE_BYTES as usize))
}

struct Shm(Arc<ShmNodes>);

impl Rig for Shm {
    fn connect(&self) -> Box<dyn Verbs> {
        Box::new(self.0.connect())
    }

    fn kill_node(&self, node: NodeId) {
        self.0.kill_node(node).unwrap();
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

fn shm() -> Shm {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nodes = ShmNodes::open(&format!("conform-{}-{number}", std::process::id())).unwrap();
    let rig = Shm(nodes);
    for node in [NodeId(0), NodeId(1)] {
        rig.0.create_node(node, NODE_BYTES).unwrap();
    }
    rig
}

#[test]
fn heap_alone() {
    sequential(heap);
}

#[test]
fn heap_in_threads() {
    concurrent(heap);
}

#[test]
fn shm_alone() {
    sequential(shm);
}

#[test]
fn shm_in_threads() {
    concurrent(shm);
}

#[cfg(feature = "sim")]
mod sim {
    use std::cell::RefCell;

    use artesian_bus::sim::{seeds, Config, World};

    use super::*;

    /// Verbs outside of the world's run act at once.
    struct Sim(RefCell<World>);

    impl Rig for Sim {
        fn connect(&self) -> Box<dyn Verbs> {
            let mut world = self.0.borrow_mut();
            let process = world.process();
            Box::new(world.verbs(process))
        }

        fn kill_node(&self, node: NodeId) {
            self.0.borrow_mut().lose_node(node);
        }
    }

    #[test]
    fn sim_alone() {
        for seed in seeds(0..3) {
            let config = Config::new(seed, 2, NODE_BYTES as usize);
            sequential(|| Sim(RefCell::new(World::new(&config))));
        }
    }
}
