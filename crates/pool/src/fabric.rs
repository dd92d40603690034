//! A client's way to the pool's memory: verbs, the view, and the gate at which clients hold still
//! while the membership changes.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use artesian_bus::{BusError, GlobalAddr, NodeId, Verb, Verbs};
use smallvec::SmallVec;

use crate::address::{ClientId, PoolAddr};
use crate::config::{meta, record, NodeLayout, PoolConfig, CLIENT_AREA, META_REPLICAS, NUM_LOCKS};
use crate::error::{PoolError, Result};
use crate::membership::Watch;
use crate::view::{View, EPOCH_LIMIT};

/// Copies of one address, the primary first.
pub type Copies = SmallVec<[GlobalAddr; 4]>;

/// A view with what follows from it and every batch needs.
struct Routes {
    view: Arc<View>,
    /// Where the primary copy of every region starts, unless it is lost.
    primaries: Vec<Option<GlobalAddr>>,
    mailboxes: SmallVec<[GlobalAddr; META_REPLICAS]>,
}

impl Routes {
    fn new(config: &PoolConfig, layout: &NodeLayout, me: ClientId, view: View) -> Routes {
        let start = |region| PoolAddr((region as u64) << config.region_shift);
        let primary = |region| view.locate(config, layout, start(region), 0);
        let primaries = (0..view.regions.len()).map(primary).collect();
        let record = meta::CLIENT_TABLE + u64::from(me.index) * meta::CLIENT_RECORD;
        let mailbox = layout.meta + record + record::MAILBOX;
        let mailboxes = view.meta.iter().map(|&node| GlobalAddr::new(node, mailbox)).collect();
        Routes { view: Arc::new(view), primaries, mailboxes }
    }
}

/// One client's connection with everything that tells where things lie.
pub struct Fabric {
    verbs: Box<dyn Verbs>,
    config: PoolConfig,
    layout: NodeLayout,
    routes: RefCell<Routes>,
    me: ClientId,
    obeyed: Cell<u64>,
    governs: Cell<bool>,
    watch: Watch,
    batches: Cell<u32>,
}

/// Every so many batches the lease is looked at, so that who works on something long keeps it.
const RENEWAL_BATCHES: u32 = 8;

impl Fabric {
    /// The connection of client `me`, which has already been entered in the client table.
    pub fn new(verbs: Box<dyn Verbs>, config: PoolConfig, view: View, me: ClientId) -> Fabric {
        let obeyed = Cell::new(view.epoch * 2);
        let layout = NodeLayout::of(&config);
        let routes = RefCell::new(Routes::new(&config, &layout, me, view));
        let (governs, watch) = (Cell::new(false), Watch::default());
        let batches = Cell::new(0);
        Fabric { verbs, config, layout, routes, me, obeyed, governs, watch, batches }
    }

    /// The transport.
    pub fn verbs(&self) -> &dyn Verbs {
        &*self.verbs
    }

    /// The pool's numbers.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Where things lie on a node.
    pub fn layout(&self) -> &NodeLayout {
        &self.layout
    }

    /// The client.
    pub fn me(&self) -> ClientId {
        self.me
    }

    /// For a client that joins: its place, before anything is done in its name.
    pub(crate) fn set_me(&mut self, me: ClientId) {
        let view = View::clone(&self.view());
        self.me = me;
        *self.routes.get_mut() = Routes::new(&self.config, &self.layout, me, view);
    }

    /// The view that this client goes by.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.routes.borrow().view)
    }

    /// The epoch of that view.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.routes.borrow().view.epoch
    }

    /// Goes by another view from now on.
    pub fn adopt(&self, view: View) {
        self.obeyed.set(self.obeyed.get().max(view.epoch * 2));
        *self.routes.borrow_mut() = Routes::new(&self.config, &self.layout, self.me, view);
    }

    /// What this client remembers of the others.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether this client is the master and all others hold still.
    pub fn governs(&self) -> bool {
        self.governs.get()
    }

    /// While `governs`, batches pass the gate: the master works when all others hold still.
    pub fn set_governs(&self, governs: bool) {
        self.governs.set(governs);
    }

    /// The primary copy of `addr`.
    #[inline]
    pub fn primary(&self, addr: PoolAddr) -> Result<GlobalAddr> {
        let region = (addr.0 >> self.config.region_shift) as usize;
        match self.routes.borrow().primaries.get(region) {
            Some(&Some(start)) => Ok(start.add(addr.0 & (self.config.region_bytes() - 1))),
            _ => Err(lost(addr)),
        }
    }

    /// Copy `replica` of `addr`.
    #[inline]
    pub fn copy(&self, addr: PoolAddr, replica: usize) -> Result<GlobalAddr> {
        let view = &self.routes.borrow().view;
        view.locate(&self.config, &self.layout, addr, replica).ok_or_else(|| lost(addr))
    }

    /// All copies of `addr`, the primary first; empty if the region is lost. One that is being
    /// made counts as soon as it holds these bytes.
    #[inline]
    pub fn copies(&self, addr: PoolAddr) -> Copies {
        let routes = self.routes.borrow();
        let region = (addr.0 >> self.config.region_shift) as usize;
        let Some(&Some(start)) = routes.primaries.get(region) else { return Copies::new() };
        let mut copies = Copies::new();
        copies.push(start.add(addr.0 & (self.config.region_bytes() - 1)));
        let view = &routes.view;
        for replica in 1..view.placement(&self.config, addr).len() {
            copies.extend(view.locate(&self.config, &self.layout, addr, replica));
        }
        if view.filling.is_some() {
            copies.extend(view.filled(&self.config, addr));
        }
        copies
    }

    /// All copies of byte `offset` of the meta area, the primary first.
    pub fn meta(&self, offset: u64) -> SmallVec<[GlobalAddr; META_REPLICAS]> {
        let view = &self.routes.borrow().view;
        view.meta.iter().map(|&node| GlobalAddr::new(node, self.layout.meta + offset)).collect()
    }

    /// All copies of byte `offset` of the record of the client at `index`.
    pub fn client_record(&self, index: u16, offset: u64) -> SmallVec<[GlobalAddr; META_REPLICAS]> {
        self.meta(meta::CLIENT_TABLE + u64::from(index) * meta::CLIENT_RECORD + offset)
    }

    /// All copies of byte `offset` of the area of the client at `index`.
    pub fn client_area(&self, index: u16, offset: u64) -> SmallVec<[GlobalAddr; META_REPLICAS]> {
        debug_assert!(offset < CLIENT_AREA);
        let at = self.layout.clients + u64::from(index) * CLIENT_AREA + offset;
        self.routes.borrow().view.meta.iter().map(|&node| GlobalAddr::new(node, at)).collect()
    }

    /// The lock word that guards `addr`: on the node of its primary copy, so that taking it and
    /// reading what it guards go in one ordered batch.
    pub fn lock_of(&self, addr: PoolAddr) -> Result<GlobalAddr> {
        let node = self.primary(addr)?.node();
        let mixed = (addr.0 / 64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Ok(GlobalAddr::new(node, self.layout.locks + mixed % NUM_LOCKS * 8))
    }

    /// Posts the verbs in one round trip. [`PoolError::ViewChanged`] if the membership changed
    /// (then some verbs may not have taken effect): look at the pool again and decide anew.
    #[inline]
    pub fn batch(&self, verbs: &mut [Verb<'_>]) -> Result<()> {
        let batches = self.batches.get().wrapping_add(1);
        self.batches.set(batches);
        if batches.is_multiple_of(RENEWAL_BATCHES) {
            crate::membership::renew_lease(self)?;
        }
        match self.verbs.batch(verbs) {
            Ok(()) => self.pass_gate(),
            Err(BusError::NodeLost(node)) if !self.governs.get() => {
                crate::membership::report_loss(self, node)?;
                Err(PoolError::ViewChanged)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Holds still if the master asks for it. Called between any two batches and before every
    /// operation; costs no verb.
    #[inline]
    pub fn pass_gate(&self) -> Result<()> {
        if self.governs.get() || self.asked() <= self.obeyed.get() {
            return Ok(());
        }
        crate::membership::hold_still(self)?;
        Err(PoolError::ViewChanged)
    }

    /// What the mailbox asks for: see [`record::MAILBOX`]. The largest of all copies counts, as
    /// those of lost nodes stay behind.
    #[inline]
    pub fn asked(&self) -> u64 {
        let mailboxes = &self.routes.borrow().mailboxes;
        let asked = mailboxes.iter().map(|&at| self.verbs.mailbox(at));
        asked.filter(|&asked| asked < EPOCH_LIMIT * 2).max().unwrap_or(0)
    }

    /// Remembers what of the mailbox has been obeyed.
    pub fn set_obeyed(&self, asked: u64) {
        self.obeyed.set(asked);
    }

    /// Reads into `into` from the primary copy of `addr`.
    pub fn read(&self, addr: PoolAddr, into: &mut [u8]) -> Result<()> {
        self.batch(&mut [Verb::read(self.primary(addr)?, into)])
    }

    /// Reads the word at `addr` of a node.
    pub fn read_word(&self, addr: GlobalAddr) -> Result<u64> {
        let mut bytes = [0; 8];
        self.batch(&mut [Verb::read(addr, &mut bytes)])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Swaps the word at `addr` of a node; returns what it was.
    pub fn cas(&self, addr: GlobalAddr, expected: u64, desired: u64) -> Result<u64> {
        let mut verbs = [Verb::cas(addr, expected, desired)];
        self.batch(&mut verbs)?;
        Ok(verbs[0].found())
    }

    /// Writes `from` to all copies of `addr`.
    pub fn write_all(&self, addr: PoolAddr, from: &[u8]) -> Result<()> {
        let copies = self.copies(addr);
        let mut verbs: SmallVec<[Verb<'_>; 4]> =
            copies.iter().map(|&copy| Verb::write(copy, from)).collect();
        self.batch(&mut verbs)
    }

    /// Nodes of the view that this client's own meta words lie on.
    pub fn meta_nodes(&self) -> SmallVec<[NodeId; META_REPLICAS]> {
        self.routes.borrow().view.meta.clone()
    }
}

#[cold]
fn lost(addr: PoolAddr) -> PoolError {
    PoolError::Lost(format!("no copy of {addr:?} is left"))
}

/// How often work is begun anew because the membership changed.
const ATTEMPTS: u32 = 32;

/// Does `work` again while the membership changes: for work that holds no addresses.
pub(crate) fn steadily<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        match work() {
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Timeout { what: "a membership that stays".into(), waited_ms: 0 })
}
