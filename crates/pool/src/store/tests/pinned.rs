//! Views of values in the pool's memory.

use std::sync::Arc;

use artesian_bus::shm::ShmNodes;
use artesian_bus::NodeId;

use super::TestPool;
use crate::client::Client;
use crate::lifecycle;
use crate::store::Expiry::{self, Never};
use crate::PoolConfig;

const BYTES: u64 = 16 << 20;

/// A pool in shared memory, which goes with the test.
struct ShmPool(Arc<ShmNodes>);

impl ShmPool {
    fn new(name: &str, nodes: u16, replicas: u8) -> ShmPool {
        let shm = ShmNodes::open(&format!("pinned-{name}-{}", std::process::id())).unwrap();
        shm.remove().unwrap();
        (0..nodes).for_each(|node| shm.create_node(NodeId(node), BYTES).unwrap());
        let config = PoolConfig::for_size(BYTES, nodes, replicas);
        lifecycle::format(&shm.connect(), &config).unwrap();
        ShmPool(shm)
    }

    fn client(&self) -> Client {
        Client::with_cache(Box::new(self.0.connect()), 1 << 18).unwrap()
    }
}

impl Drop for ShmPool {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

#[test]
fn a_view_shows_the_value_as_it_was() {
    let pool = ShmPool::new("shows", 2, 2);
    let (mut one, mut two) = (pool.client(), pool.client());
    one.put(0, b"key", &[7; 9_000], Never).unwrap();
    one.put(0, b"large", &[8; 100_000], Never).unwrap();
    let view = two.get_pinned(0, b"key").unwrap().unwrap();
    let large = two.get_pinned(0, b"large").unwrap().unwrap();
    assert!(view.is_mapped() && view.as_slice().unwrap() == [7; 9_000]);
    assert!(large.is_mapped() && large.as_slice().is_none() && large.segments().count() > 10);
    assert_eq!((view.len(), large.len()), (9_000, 100_000));
    // Many times what fits, so that all that is free is used again.
    for round in 0..600u32 {
        one.put(0, b"key", &vec![round as u8; 9_000], Never).unwrap();
        one.put(0, b"large", &vec![round as u8; 100_000], Never).unwrap();
        two.put(0, b"other", &vec![round as u8; 9_000], Never).unwrap();
    }
    one.delete(0, b"key").unwrap();
    assert!(view.as_slice().unwrap() == [7; 9_000] && large.to_vec() == [8; 100_000]);
    let held = two.num_pins().unwrap();
    std::thread::spawn(move || {
        assert!(view.as_slice().unwrap() == [7; 9_000]);
        drop((view, large));
    })
    .join()
    .unwrap();
    assert!(held > 10 && two.num_pins().unwrap() == 0);
    assert!(two.get_pinned(0, b"key").unwrap().is_none());
    two.put(0, b"brief", b"value", Expiry::In(0)).unwrap();
    assert!(two.get_pinned(0, b"brief").unwrap().is_none());
    two.leave().unwrap();
}

#[test]
fn memory_comes_back_once_views_are_gone() {
    let pool = ShmPool::new("back", 1, 1);
    let mut client = pool.client();
    let mut views = Vec::new();
    for round in 0..2_000u32 {
        client.put(0, b"key", &[round as u8; 9_000], Never).unwrap();
        views.push((round as u8, client.get_pinned(0, b"key").unwrap().unwrap()));
        if views.len() > 40 {
            let (byte, view) = views.remove(round as usize * 7 % 40);
            assert!(view.as_slice().unwrap().iter().all(|found| *found == byte), "{byte}");
        }
    }
    assert!(views.iter().all(|(byte, view)| view.to_vec() == vec![*byte; 9_000]));
    let error = client.leave().unwrap_err().to_string();
    assert!(error.contains("views of pool memory are held"), "{error}");
    // The memory is there although the client is not.
    assert!(views.iter().all(|(byte, view)| view.to_vec() == vec![*byte; 9_000]));
}

#[test]
fn without_pins_or_a_transport_that_shows_them_values_are_copied() {
    let pool = ShmPool::new("copies", 1, 1);
    let mut client = pool.client();
    client.put(0, b"key", b"value", Never).unwrap();
    client.put(0, b"large", &[3; 100_000], Never).unwrap();
    let views: Vec<_> = (0..520).map(|_| client.get_pinned(0, b"key").unwrap().unwrap()).collect();
    assert_eq!(views.iter().filter(|view| view.is_mapped()).count(), 512);
    assert!(views.iter().all(|view| view.as_slice() == Some(b"value")));
    assert!(client.get_pinned(0, b"large").unwrap().unwrap().to_vec() == [3; 100_000]);
    drop(views);
    assert!(client.get_pinned(0, b"large").unwrap().unwrap().is_mapped());
    let heap = TestPool::new(BYTES, 1, 1);
    let mut client = heap.client(1);
    client.put(0, b"key", b"value", Never).unwrap();
    let view = client.get_pinned(0, b"key").unwrap().unwrap();
    assert!(!view.is_mapped() && view.as_slice() == Some(b"value"));
    client.put(0, b"none", b"", Never).unwrap();
    assert!(client.get_pinned(0, b"none").unwrap().unwrap().is_empty());
    client.leave().unwrap();
}
