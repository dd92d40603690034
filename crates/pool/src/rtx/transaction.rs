//! A transaction from its first lock to its end.

use std::cell::{Cell, RefCell, RefMut};

use artesian_bus::{GlobalAddr, NodeId, Verb};
use smallvec::SmallVec;

use crate::address::PoolAddr;
use crate::alloc::{undo_doubles, Allocator};
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::rtx::log::{place_offset, Draft, Log, Name, Object, DONE, MARKS};
use crate::rtx::log::{MAX_FREES, MAX_LOCKS, NUM_PLACES, PLACE_BYTES};
use crate::rtx::owner::{is_dead, Wait};
use crate::rtx::repair::release_dead;
use crate::rtx::target::Target;
use crate::view::NodeState;

type Batch<'a> = SmallVec<[Verb<'a>; 24]>;

/// Pauses for a lock that is out of order; then the transaction gives way, as it might wait for
/// one that waits for it.
const UNORDERED_PAUSES: u32 = 6;
/// Changes of the view that one end of a transaction survives.
const MOST_VIEWS: usize = 16;

/// A client's log places.
pub struct Logs {
    numbers: [Cell<u32>; NUM_PLACES],
    drafts: [RefCell<Draft>; NUM_PLACES],
    open: Cell<u8>,
    bytes: Cell<u64>,
    off: Cell<bool>,
}

impl Default for Logs {
    fn default() -> Self {
        Logs {
            numbers: std::array::from_fn(|_| Cell::new(0)),
            drafts: std::array::from_fn(|_| RefCell::default()),
            open: Cell::new(0),
            bytes: Cell::new(0),
            off: Cell::new(false),
        }
    }
}

impl Logs {
    /// With `off`, transactions write no logs and do not survive their client or a lost node: only
    /// to measure what logs cost.
    pub fn set_off(&self, off: bool) {
        self.off.set(off);
    }

    /// Bytes of logs written so far, on one copy.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn open(&self) -> Result<usize> {
        let place = self.open.get().trailing_ones() as usize;
        if place >= NUM_PLACES {
            return Err(PoolError::Invalid(format!("{NUM_PLACES} transactions are open already")));
        }
        self.open.set(self.open.get() | 1 << place);
        self.numbers[place].set(self.numbers[place].get() + 1);
        Ok(place)
    }

    fn close(&self, place: usize) {
        self.open.set(self.open.get() & !(1 << place));
    }
}

/// An open transaction. Dropping it rolls it back.
pub struct Rtx<'a> {
    fabric: &'a Fabric,
    logs: &'a Logs,
    draft: RefMut<'a, Draft>,
    name: Name,
    place: usize,
    epoch: u64,
    locks: SmallVec<[GlobalAddr; MAX_LOCKS]>,
    frees: SmallVec<[Object; MAX_FREES]>,
    /// Where the free bits lie.
    bits: SmallVec<[(PoolAddr, u64); MAX_FREES]>,
    /// They have been set.
    freed: Cell<bool>,
    /// All data is written, and no mark in the log is needed to say so.
    written: Cell<bool>,
    reported: u64,
}

/// An object to be written to all copies.
pub type Image<'a> = (PoolAddr, &'a [u8]);

impl<'a> Rtx<'a> {
    /// Opens a transaction.
    pub fn begin(fabric: &'a Fabric, logs: &'a Logs) -> Result<Rtx<'a>> {
        fabric.pass_gate()?;
        let place = logs.open()?;
        let mut draft = logs.drafts[place].borrow_mut();
        draft.clear();
        let name = Name::new(fabric.me(), logs.numbers[place].get(), place);
        Ok(Rtx {
            fabric,
            logs,
            draft,
            name,
            place,
            epoch: fabric.epoch(),
            locks: SmallVec::new(),
            frees: SmallVec::new(),
            bits: SmallVec::new(),
            freed: Cell::new(false),
            written: Cell::new(false),
            reported: 0,
        })
    }

    /// Takes the lock of `target` and reads `into.len()` bytes there in the same round trip.
    ///
    /// Locks may be taken in any order: one that is out of order is only tried for a while, then
    /// the answer is [`PoolError::Conflict`] and the caller rolls back and begins again.
    pub fn lock(&mut self, target: Target, into: &mut [u8]) -> Result<()> {
        self.lock_beside(target, into, None)
    }

    /// [`Rtx::lock`], and a new object, which nobody knows yet, is written on the way. It is there
    /// after any return but an error.
    pub fn lock_beside(
        &mut self,
        target: Target,
        into: &mut [u8],
        mut new: Option<Image<'_>>,
    ) -> Result<()> {
        let lock = target.lock_word(self.fabric)?;
        let ordered = self.locks.iter().all(|&held| held < lock);
        let mut wait = Wait::new();
        loop {
            let found = self.attempt(lock, target, into, new.take())?;
            if found == 0 {
                return Ok(());
            }
            let found = Name(found);
            if wait.is_check_due() && is_dead(self.fabric, found.owner())? {
                release_dead(self.fabric, lock, found)?;
            } else if !ordered && wait.rounds() >= UNORDERED_PAUSES {
                return Err(PoolError::Conflict);
            } else {
                wait.pause(self.fabric, "a lock")?;
            }
        }
    }

    /// One try; returns what the lock word held, 0 if the lock is ours now.
    fn attempt(
        &mut self,
        lock: GlobalAddr,
        target: Target,
        into: &mut [u8],
        new: Option<Image<'_>>,
    ) -> Result<u64> {
        self.check_view()?;
        // Two targets may share a lock word.
        let held = self.locks.contains(&lock);
        if self.locks.len() == MAX_LOCKS && !held {
            return Err(PoolError::Invalid(format!("more than {MAX_LOCKS} locks")));
        }
        let expected = if held { self.name.0 } else { 0 };
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        verbs.push(Verb::cas(lock, expected, self.name.0));
        verbs.push(Verb::read(target.primary(self.fabric)?, into));
        if let Some((addr, image)) = new {
            let copies = self.fabric.copies(addr);
            verbs.extend(copies.iter().map(|&copy| Verb::write(copy, image)));
        }
        let outcome = self.fabric.batch(&mut verbs);
        if held {
            return outcome.map(|()| 0);
        }
        let found = verbs[0].found();
        // When the batch failed the lock may be ours: the roll back tries to give it back.
        if found == 0 {
            self.locks.push(lock);
        }
        outcome.map(|()| found)
    }

    fn check_view(&self) -> Result<()> {
        if self.fabric.epoch() == self.epoch {
            Ok(())
        } else {
            Err(PoolError::ViewChanged)
        }
    }

    /// Notes that `target` becomes `image` when the transaction commits.
    pub fn write(&mut self, target: Target, image: &[u8]) -> Result<()> {
        self.draft.push(target, image)
    }

    /// Notes that the object at `addr`, which these writes unlink, is given up when the
    /// transaction commits: exactly once, whoever finishes it.
    pub fn free(&mut self, alloc: &mut Allocator, addr: PoolAddr, class: SizeClass) -> Result<()> {
        if self.frees.len() == MAX_FREES {
            return Err(PoolError::Invalid(format!("more than {MAX_FREES} objects given up")));
        }
        self.bits.push(alloc.free_bit(addr, class)?);
        self.frees.push((addr, class));
        self.reported = alloc.reported();
        Ok(())
    }

    /// Makes all writes visible, or none. After an error nothing was or will be written, except
    /// when the bus failed for good ([`PoolError::Bus`]).
    pub fn commit(mut self) -> Result<()> {
        self.check_view()?;
        self.draft.seal(self.name, &self.locks, &self.frees, self.reported);
        let one_word = self.frees.is_empty() && self.is_one_word();
        let needs_log = !self.logs.off.get() && !one_word;
        if needs_log {
            self.logs.bytes.set(self.logs.bytes.get() + self.draft.sealed().len() as u64);
        }
        let outcome = self.post(needs_log);
        // Done, or left to the repairers; but a change of the view before the commit point is
        // rolled back.
        if outcome != Err(PoolError::ViewChanged) {
            self.locks.clear();
        }
        outcome
    }

    fn post(&mut self, needs_log: bool) -> Result<()> {
        let data_node = self.data_node();
        let log_there = !needs_log || data_node.is_some_and(|node| self.logs_on(node));
        if needs_log && !log_there {
            let logged = {
                let mut batch = Batch::new();
                self.log_verbs(&mut batch);
                self.fabric.batch(&mut batch)
            };
            match logged {
                Err(PoolError::ViewChanged) => return self.resume(),
                outcome => outcome?,
            }
        }
        if data_node.is_none() {
            return match self.finish(needs_log) {
                Err(PoolError::ViewChanged) if needs_log => self.resume(),
                outcome => outcome,
            };
        }
        // All data and locks on one node, one copy each: the order of one batch is enough. The log
        // is not marked: a lock that is free tells that all is done, and should the node be
        // lost, the log restores nothing but lost data. (A mark on another node might be there
        // before the data.)
        let outcome = {
            let mut batch = Batch::new();
            if needs_log && log_there {
                self.log_verbs(&mut batch);
            }
            self.data_verbs(&mut batch);
            self.end(batch)
        };
        match outcome {
            Err(PoolError::ViewChanged) => self.confirm(),
            outcome => outcome,
        }
    }

    /// Whether the log's only copy lies on `node`, and so do all free bits.
    fn logs_on(&self, node: NodeId) -> bool {
        let on_node = |word: PoolAddr| self.fabric.copies(word).iter().all(|at| at.node() == node);
        self.fabric.meta_nodes()[..] == [node] && self.bits.iter().all(|&(word, _)| on_node(word))
    }

    /// All that follows the commit point, step by step.
    fn finish(&self, needs_log: bool) -> Result<()> {
        let mut batch = Batch::new();
        self.data_verbs(&mut batch);
        self.fabric.batch(&mut batch)?;
        batch.clear();
        if needs_log && self.locks_go_with_data() {
            self.written.set(true);
        } else if needs_log {
            self.done_verbs(&mut batch);
            self.fabric.batch(&mut batch)?;
            batch.clear();
        }
        self.end(batch)
    }

    /// Whether all that is written lies in one copy beside a lock that is held. A lost node takes
    /// both then: a free lock on one that is left tells that all is done, and while none is free,
    /// nobody else has changed what is left. With more copies a lock may have been freed, taken
    /// again and lost, and only a mark in the log tells repairers to keep off the other copies.
    fn locks_go_with_data(&self) -> bool {
        self.draft.writes().all(|(target, _)| {
            let Ok(lock) = target.lock_word(self.fabric) else { return false };
            let copies = target.copies(self.fabric);
            self.locks.contains(&lock) && copies.len() == 1 && copies[0].node() == lock.node()
        })
    }

    /// Sets the free bits and gives the locks back, behind what the batch holds already. Bits take
    /// effect on all nodes that are left, whatever the batch says of the view.
    fn end<'b>(&'b self, mut batch: Batch<'b>) -> Result<()> {
        if !self.freed.get() {
            for &(word, bit) in &self.bits {
                let copies = self.fabric.copies(word);
                batch.extend(copies.into_iter().map(|copy| Verb::faa(copy, bit)));
            }
        }
        self.unlock_verbs(&mut batch);
        let outcome = self.fabric.batch(&mut batch);
        if matches!(outcome, Err(PoolError::Bus(_))) || self.freed.replace(true) {
            return outcome;
        }
        undo_doubles(self.fabric, &batch)?;
        outcome
    }

    /// The view changed while the transaction committed: the log tells what became of it.
    fn resume(&mut self) -> Result<()> {
        for _ in 0..MOST_VIEWS {
            let is_written = if self.written.get() { Ok(Some(true)) } else { self.look_up() };
            let outcome = match is_written {
                Ok(Some(true)) => self.end(Batch::new()),
                Ok(Some(false)) => self.finish(true),
                Ok(None) => return Err(PoolError::ViewChanged),
                Err(error) => Err(error),
            };
            if outcome != Err(PoolError::ViewChanged) {
                return outcome;
            }
        }
        Err(PoolError::Lost("the view changes without end".into()))
    }

    /// The view changed with the one batch that did everything: it has taken effect unless its node
    /// is lost, and then the data is lost as well.
    fn confirm(&mut self) -> Result<()> {
        let written = self.draft.writes().all(|(target, _)| !target.copies(self.fabric).is_empty());
        if written {
            self.release()
        } else {
            Err(PoolError::ViewChanged)
        }
    }

    /// Whether the log is on the nodes, and then whether it is done.
    fn look_up(&self) -> Result<Option<bool>> {
        let copies = self.fabric.client_area(self.fabric.me().index, place_offset(self.place));
        let Some(&first) = copies.first() else { return Ok(None) };
        let mut place = vec![0; PLACE_BYTES];
        self.fabric.batch(&mut [Verb::read(first, &mut place)])?;
        let is_done = crate::object::word(&place, DONE as usize) == self.name.0;
        let is_there = Log::parse(&place).is_some_and(|log| log.name == self.name);
        Ok(if is_done { Some(true) } else { is_there.then_some(false) })
    }

    /// Rolls back: nothing was written.
    pub fn abort(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        for _ in 0..MOST_VIEWS {
            if self.locks.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            self.unlock_verbs(&mut batch);
            match self.fabric.batch(&mut batch) {
                Err(PoolError::ViewChanged) => {
                    let left = self.fabric.verbs().nodes();
                    self.locks.retain(|lock| left.iter().any(|&(node, _)| node == lock.node()));
                }
                outcome => {
                    self.locks.clear();
                    return outcome;
                }
            }
        }
        Err(PoolError::Lost("the view changes without end".into()))
    }

    /// A single word with a single copy changes at once: there is nothing to repair.
    fn is_one_word(&self) -> bool {
        let mut writes = self.draft.writes();
        let one = writes.next().is_none_or(|(target, image)| {
            let aligned = target.word().is_multiple_of(8);
            image.len() == 8 && aligned && target.copies(self.fabric).len() == 1
        });
        one && writes.next().is_none()
    }

    /// The node on which all data and all locks lie, if it is one.
    fn data_node(&self) -> Option<NodeId> {
        let node = self.locks.first()?.node();
        let on_node = |at: &GlobalAddr| at.node() == node;
        let mut written = self.draft.writes().map(|(target, _)| target.copies(self.fabric));
        let all =
            self.locks.iter().all(on_node) && written.all(|copies| copies.iter().all(on_node));
        all.then_some(node)
    }

    fn log_verbs<'b>(&'b self, batch: &mut Batch<'b>) {
        let at = place_offset(self.place) + MARKS as u64;
        let copies = self.fabric.client_area(self.fabric.me().index, at);
        batch.extend(copies.iter().map(|&copy| Verb::write(copy, self.draft.sealed())));
    }

    fn data_verbs<'b>(&'b self, batch: &mut Batch<'b>) {
        for (target, image) in self.draft.writes() {
            batch.extend(target.copies(self.fabric).iter().map(|&copy| Verb::write(copy, image)));
        }
    }

    fn done_verbs<'b>(&'b self, batch: &mut Batch<'b>) {
        let at = place_offset(self.place) + DONE;
        let copies = self.fabric.client_area(self.fabric.me().index, at);
        // The name stands at the start of the sealed log, behind its checksum.
        let name = &self.draft.sealed()[8..16];
        batch.extend(copies.iter().map(|&copy| Verb::write(copy, name)));
    }

    /// Locks on nodes that are not in the view any more went with them.
    fn unlock_verbs<'b>(&self, batch: &mut Batch<'b>) {
        let view = self.fabric.view();
        let is_dead = |node: NodeId| view.nodes.get(node.0 as usize) == Some(&NodeState::Dead);
        let left = self.locks.iter().filter(|lock| !is_dead(lock.node()));
        batch.extend(left.map(|&lock| Verb::cas(lock, self.name.0, 0)));
    }
}

impl Drop for Rtx<'_> {
    fn drop(&mut self) {
        // A client that is fenced or a pool that is lost leaves its locks to the repairers.
        let _: Result<()> = self.release();
        self.logs.close(self.place);
    }
}
