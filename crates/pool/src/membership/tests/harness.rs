//! A pool without its store: views, records, and clients that write words.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, NodeId, Verb, Verbs};

use crate::config::record;
use crate::error::PoolError;
use crate::membership::{newest_view, store_view, table, tick, words};
use crate::{ClientId, Fabric, PoolAddr, PoolConfig, View};

pub struct TestPool {
    pub nodes: Arc<HeapNodes>,
    pub config: PoolConfig,
}

impl TestPool {
    pub fn new(nodes: u16, replicas: u8, lease_ms: u32) -> TestPool {
        TestPool::with_spare(nodes, 0, replicas, lease_ms)
    }

    /// A pool of `nodes` nodes, and `spare` ones that exist but are not in it.
    pub fn with_spare(nodes: u16, spare: u16, replicas: u8, lease_ms: u32) -> TestPool {
        let config = PoolConfig::for_size(8 << 20, nodes, replicas);
        let config = PoolConfig { region_shift: 20, block_shift: 16, lease_ms, ..config };
        config.validate().unwrap();
        let pool = TestPool { nodes: HeapNodes::new(nodes + spare, 8 << 20), config };
        store_view(&pool.nodes.connect(9999), &config, &View::first(&config)).unwrap();
        pool
    }

    /// A client at place `index` whose pid is the same number.
    pub fn join(&self, index: u16) -> Fabric {
        let verbs = Box::new(self.nodes.connect(u32::from(index)));
        let view = newest_view(&*verbs, &self.config).unwrap();
        let me = ClientId { index, incarnation: 1 };
        let (now, epoch) = (verbs.now_ns(), view.epoch);
        let fabric = Fabric::new(verbs, self.config, view, me);
        let at = |of| table::offset(index, of);
        words::write(&fabric, at(record::PID), u64::from(index)).unwrap();
        words::write(&fabric, at(record::MAILBOX), epoch * 2).unwrap();
        let lease = now + u64::from(self.config.lease_ms) * 1_000_000;
        words::write(&fabric, at(record::LEASE), lease).unwrap();
        let live = record::state_word(record::LIVE, me);
        words::write(&fabric, at(record::STATE), live).unwrap();
        fabric
    }

    /// Ends the process of the client at `index`.
    pub fn kill(&self, index: u16) {
        self.nodes.connect(9999).fence(Identity { pid: u32::from(index), started: 0 });
    }

    pub fn state(&self, fabric: &Fabric, index: u16) -> u8 {
        table::read_one(fabric, index).unwrap().state
    }

    pub fn view(&self) -> View {
        newest_view(&self.nodes.connect(9999), &self.config).unwrap()
    }
}

/// A client's thread that counts up one word in every region until told to stop.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Fabric, u64)>,
}

/// The word of the writer at `index` in `region`.
pub fn word_of(config: &PoolConfig, region: usize, index: u16) -> PoolAddr {
    let region = (region as u64) << config.region_shift;
    PoolAddr(region + config.block_bytes() + u64::from(index) * 8)
}

impl Writer {
    pub fn start(fabric: Fabric) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut round = 0;
            while !told.load(Ordering::Relaxed) {
                if write_round(&fabric, round + 1).is_err() {
                    break;
                }
                round += 1;
                let _ = tick(&fabric);
            }
            (fabric, round)
        });
        Writer { stop, thread }
    }

    /// The client and the last round that it wrote everywhere.
    pub fn stop(self) -> (Fabric, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn write_round(fabric: &Fabric, round: u64) -> Result<(), PoolError> {
    for region in 0..fabric.view().regions.len() {
        let addr = word_of(fabric.config(), region, fabric.me().index);
        loop {
            if fabric.copies(addr).is_empty() {
                break;
            }
            match fabric.write_all(addr, &round.to_le_bytes()) {
                Ok(()) => break,
                Err(PoolError::ViewChanged) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// All copies of everything that the writer at `index` wrote hold `round`.
pub fn assert_written(fabric: &Fabric, index: u16, round: u64) {
    let view = fabric.view();
    let mut checked = 0;
    for region in 0..view.regions.len() {
        for at in fabric.copies(word_of(fabric.config(), region, index)) {
            let mut bytes = [0; 8];
            fabric.verbs().batch(&mut [Verb::read(at, &mut bytes)]).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), round, "region {region} at {at:?}");
            checked += 1;
        }
    }
    assert!(checked > 0);
}

pub fn node(number: u16) -> NodeId {
    NodeId(number)
}
