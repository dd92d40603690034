//! Dropping a cache.
//!
//! A mark in the namespace's record comes first, then a change of the view: from there on whoever
//! uses the cache looks it up again, and finds the mark. When all operations are over that were
//! under way, nobody touches the table any more. Then the namespace goes, and in the same operation
//! all that the table names and the table itself: as long as that lasts, nobody who goes through
//! a dead client's block hands out again what he takes for unused there.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::layout;
use super::open::read_place;
use super::table::Table;
use super::walk::for_each_entry;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::membership;
use crate::namespace::{self, Namespace};
use crate::object::Kind;
use crate::slot::Slot;

/// The spare word of the namespace that says that it is being dropped, if it is not 0.
const CLOSING: u64 = 1;

/// Refuses a cache that was dropped or is about to be.
pub(super) fn refuse_closing(fabric: &Fabric, known: &Namespace) -> Result<()> {
    let alive = namespace::with_spares(fabric, known.id)?.is_some_and(|(now, spares)| {
        now.generation == known.generation && spares[CLOSING as usize] == 0
    });
    match alive {
        true => Ok(()),
        false => Err(PoolError::Invalid(format!("the cache {:?} was dropped", known.name))),
    }
}

impl Client {
    /// Drops a cache and gives all its memory back. It waits for the operations that are under way
    /// in the pool; [`PoolError::Timeout`] if they do not end: then nobody can use the cache, and
    /// the next call goes on.
    pub(crate) fn drop_cache(&mut self, known: &Namespace) -> Result<()> {
        steadily(|| {
            let copies = namespace::spare(&self.fabric, known, CLOSING);
            let mark = 1_u64.to_le_bytes();
            let mut verbs: SmallVec<[Verb<'_>; 3]> =
                copies.iter().map(|&copy| Verb::write(copy, &mark)).collect();
            self.fabric.batch(&mut verbs)
        })?;
        drop(self.caches.take(known.id));
        membership::refresh_view(&self.fabric)?;
        self.settle_down()?;
        self.alloc.wait_for_grace(&self.fabric)?;
        let place = steadily(|| read_place(&self.fabric, known))?;
        let doomed = match place {
            0 => None,
            place => match steadily(|| Table::load(&self.fabric, place)) {
                Err(PoolError::Lost(_)) => None,
                table => Some(table?),
            },
        };
        let mut named = Vec::new();
        if let Some(table) = &doomed {
            steadily(|| {
                named.clear();
                for_each_entry(&self.fabric, table, |entry| {
                    let named_one = entry.slot.logged_class().filter(|_| entry.slot != Slot::EMPTY);
                    named.extend(named_one.map(|class| (entry.slot, class)));
                    Ok(())
                })
            })?;
        }
        namespace::drop(&self.fabric, &known.name)?;
        self.spaces.refresh(&self.fabric)?;
        for (slot, class) in named.into_iter().filter(|(slot, _)| !slot.addr().is_null()) {
            if slot.class().is_some() && self.kind_of(slot)? == Some(Kind::Manifest) {
                self.free_pieces(slot, &[])?;
            }
            self.alloc.free(slot.addr(), class);
        }
        if let Some(table) = doomed {
            let root = layout::place_of(place)?;
            let pieces = table.pieces.iter().map(|&piece| (piece, table.class()));
            for (addr, class) in pieces.chain(root) {
                self.alloc.free(addr, class);
            }
        }
        self.settle_down()
    }
}
