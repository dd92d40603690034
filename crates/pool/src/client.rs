//! A client of the pool: everything it needs for operations, in one place.

use std::sync::Arc;

use artesian_bus::Verbs;

use crate::alloc::Allocator;
use crate::cache::Caches;
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::index::{self, Directory, IndexCache};
use crate::lifecycle;
use crate::membership;
use crate::namespace::Spaces;
use crate::pin::Pins;
use crate::rtx::Logs;
use crate::store::{Releases, Stats, Sweeper};
use crate::tree::{Trees, TREE_CACHE_BYTES};

/// Bytes of a client's index cache unless it says otherwise.
pub const INDEX_CACHE_BYTES: usize = 16 << 20;

/// One client. Not shared between threads; operations take `&mut self`.
pub struct Client {
    pub(crate) fabric: Fabric,
    pub(crate) alloc: Allocator,
    pub(crate) directory: Directory,
    pub(crate) cache: IndexCache,
    /// Of all transactions of this client.
    pub(crate) logs: Logs,
    pub(crate) spaces: Spaces,
    pub(crate) stats: Stats,
    pub(crate) trees: Trees,
    pub(crate) caches: Caches,
    pub(crate) sweeper: Sweeper,
    pub(crate) pins: Pins,
    /// What views of this client let go of.
    pub(crate) releases: Arc<Releases>,
    /// The object that was read last.
    pub(crate) object: Vec<u8>,
    /// The objects that are written.
    pub(crate) image: Vec<u8>,
}

impl Client {
    /// Joins the pool that `verbs` reaches; makes its index if it has none.
    pub fn join(verbs: Box<dyn Verbs>) -> Result<Client> {
        Client::with_cache(verbs, INDEX_CACHE_BYTES)
    }

    /// [`Client::join`] with another bound of the index cache; 0 turns it off.
    pub fn with_cache(verbs: Box<dyn Verbs>, cache_bytes: usize) -> Result<Client> {
        let fabric = lifecycle::join(verbs)?;
        let mut alloc = Allocator::new(&fabric)?;
        steadily(|| index::format(&fabric, &mut alloc))?;
        let none = || PoolError::Corrupt("the pool's index is gone".into());
        let directory = steadily(|| Directory::load(&fabric))?.ok_or_else(none)?;
        let cache = IndexCache::new(cache_bytes);
        let spaces = steadily(|| Spaces::new(&fabric))?;
        let (logs, stats) = (Logs::default(), Stats::default());
        let (trees, caches) = (Trees::new(TREE_CACHE_BYTES), Caches::default());
        let (pins, releases) = (Pins::default(), Arc::default());
        let (object, image) = (Vec::new(), Vec::new());
        Ok(Client {
            fabric,
            alloc,
            directory,
            cache,
            logs,
            spaces,
            stats,
            trees,
            caches,
            sweeper: Sweeper::default(),
            pins,
            releases,
            object,
            image,
        })
    }

    /// What this client has done since it joined.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The client's way to the pool.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// To be called in idle times, at least every quarter of a lease: renews the lease, looks
    /// after the others, reports a quiescent state.
    pub fn tick(&mut self) -> Result<()> {
        match membership::tick(&self.fabric) {
            Ok(()) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        let told = self.caches.tick(&self.fabric);
        match told.and_then(|()| self.spaces.tick(&self.fabric)) {
            Ok(()) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        if !self.is_idle() {
            self.sweep_if_due()?;
            self.inspect_if_due()?;
        }
        self.settle_down()?;
        match self.alloc.pulse(&self.fabric) {
            Err(PoolError::ViewChanged) => Ok(()),
            outcome => outcome,
        }
    }

    /// Says that this client will do nothing for a while, so that nobody waits for it.
    /// [`Client::resume`] comes before its next operation.
    pub fn idle(&mut self) -> Result<()> {
        self.caches.flush(&self.fabric)?;
        self.spaces.meter().flush(&self.fabric)?;
        self.release_pins()?;
        self.alloc.idle(&self.fabric)
    }

    /// Whether the client said that it does nothing.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.alloc.is_idle()
    }

    /// Ends [`Client::idle`].
    pub fn resume(&mut self) -> Result<()> {
        self.alloc.resume(&self.fabric)
    }

    /// The end of an operation: a moment at which no address is held.
    #[inline]
    pub(crate) fn settle_down(&mut self) -> Result<()> {
        if self.releases.any() {
            self.release_pins()?;
        }
        let counted = self.spaces.meter().settle(&self.fabric);
        match counted.and_then(|()| self.alloc.quiesce(&self.fabric)) {
            Err(PoolError::ViewChanged) => Ok(()),
            outcome => outcome,
        }
    }

    /// Tells the pool all that this client alone knows: how much namespaces use, what is free in
    /// its blocks, which it gives away. Between operations.
    pub(crate) fn disclose(&mut self) -> Result<()> {
        self.caches.flush(&self.fabric)?;
        self.spaces.meter().flush(&self.fabric)?;
        self.alloc.give_back(&self.fabric)
    }

    /// Leaves the pool. Refused while views of its memory are held: nobody would know of them any
    /// more.
    pub fn leave(mut self) -> Result<()> {
        let held = self.num_pins()?;
        if held > 0 {
            let text = format!("{held} views of pool memory are held: release them before leaving");
            return Err(PoolError::Invalid(text));
        }
        self.disclose()?;
        lifecycle::leave(self.fabric)
    }
}
