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

fn heap() -> Box<dyn Rig> {
    Box::new(Heap(HeapNodes::new(2, NODE_BYTES as usize)))
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

fn shm() -> Box<dyn Rig> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nodes = ShmNodes::open(&format!("conform-{}-{number}", std::process::id())).unwrap();
    let rig = Shm(nodes);
    for node in [NodeId(0), NodeId(1)] {
        rig.0.create_node(node, NODE_BYTES).unwrap();
    }
    Box::new(rig)
}

#[test]
fn heap_alone() {
    sequential(&heap);
}

#[test]
fn heap_in_threads() {
    concurrent(&heap);
}

#[test]
fn shm_alone() {
    sequential(&shm);
}

#[test]
fn shm_in_threads() {
    concurrent(&shm);
}
