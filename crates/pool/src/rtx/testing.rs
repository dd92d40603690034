//! A pool of a few clients on the heap, whose clients die at a verb of the test's choice.

use std::cell::Cell;
use std::sync::Arc;

use artesian_bus::heap::{HeapNodes, HeapVerbs};
use artesian_bus::{pass_on, BusError, GlobalAddr, Verb, Verbs};

use crate::address::ClientId;
use crate::config::{record, PoolConfig};
use crate::fabric::Fabric;
use crate::view::View;

/// Dies after `left` verbs; the verb it dies in is half done if it is a write.
pub struct Dying {
    inner: HeapVerbs,
    left: Cell<u64>,
    tears: bool,
    /// Of the verbs of a batch, those on the last node come first.
    turned: bool,
}

impl Verbs for Dying {
    fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<(), BusError> {
        let mut outcome = Ok(());
        let mut order: Vec<usize> = (0..verbs.len()).collect();
        if self.turned {
            order.sort_by_key(|&at| std::cmp::Reverse(verbs[at].addr().node()));
        }
        for at in order {
            let verb = &mut verbs[at];
            if self.left.get() == 0 {
                if let (true, Verb::Write { addr, from }) = (self.tears, &*verb) {
                    let half = from.len() / 16 * 8;
                    self.inner.batch(&mut [Verb::write(*addr, &from[..half])])?;
                }
                return Err(BusError::Fenced);
            }
            self.left.set(self.left.get() - 1);
            outcome = outcome.and(self.inner.batch(std::slice::from_mut(verb)));
        }
        outcome
    }

    fn map(&self, _addr: GlobalAddr, _len: usize) -> Option<*const u8> {
        None
    }

    pass_on!(inner: memory, time);
}

/// The nodes of a test.
pub struct TestPool {
    /// The memory.
    pub nodes: Arc<HeapNodes>,
    /// Its shape.
    pub config: PoolConfig,
}

impl TestPool {
    /// Empty nodes.
    pub fn new(nodes: u16, replicas: u8) -> TestPool {
        let config = PoolConfig::for_size(8 << 20, nodes, replicas);
        let config = PoolConfig { region_shift: 20, block_shift: 16, lease_ms: 500, ..config };
        config.validate().unwrap();
        TestPool { nodes: HeapNodes::new(nodes, 8 << 20), config }
    }

    fn enter(&self, index: u16, verbs: Box<dyn Verbs>) -> Fabric {
        let me = ClientId { index, incarnation: 1 };
        let fabric = Fabric::new(verbs, self.config, View::first(&self.config), me);
        let admin = Box::new(self.nodes.connect(1000));
        let nobody = ClientId::NOBODY;
        let admin = Fabric::new(admin, self.config, View::first(&self.config), nobody);
        for copy in admin.client_record(index, record::PID) {
            let pid = u64::from(index).to_le_bytes();
            let lease = u64::MAX.to_le_bytes();
            let at = copy.add(record::LEASE - record::PID);
            admin.batch(&mut [Verb::write(copy, &pid), Verb::write(at, &lease)]).unwrap();
        }
        set_state(&admin, me, record::LIVE);
        fabric
    }

    /// A client that lives.
    pub fn client(&self, index: u16) -> Fabric {
        self.enter(index, Box::new(self.nodes.connect(u32::from(index))))
    }

    /// A client that dies after `verbs` verbs.
    pub fn dying(&self, index: u16, verbs: u64, tears: bool) -> Fabric {
        self.dying_turned(index, verbs, tears, false)
    }

    /// A client that dies after `verbs` verbs, those on the last node first if `turned`.
    pub fn dying_turned(&self, index: u16, verbs: u64, tears: bool, turned: bool) -> Fabric {
        let inner = self.nodes.connect(u32::from(index));
        self.enter(index, Box::new(Dying { inner, left: Cell::new(verbs), tears, turned }))
    }
}

/// Declares that `client` is in `state`.
pub fn set_state(fabric: &Fabric, client: ClientId, state: u8) {
    let word = record::state_word(state, client).to_le_bytes();
    for copy in fabric.client_record(client.index, record::STATE) {
        fabric.batch(&mut [Verb::write(copy, &word)]).unwrap();
    }
}

/// Declares `client` dead.
pub fn declare_dead(fabric: &Fabric, client: ClientId) {
    set_state(fabric, client, record::DEAD);
}
