//! Splitting a subtable in two.
//!
//! Under the structural lock, a plan is written to `meta::INDEX_SPLIT`; whoever takes the lock
//! after its holder's death finishes the plan first. The steps, each of which can be repeated:
//!
//! 1. The directory is doubled if it does not tell the halves apart yet.
//! 2. All insert locks of the old subtable are taken; the moving slots are frozen.
//! 3. The new subtable is written, with every slot at the same place as in the old one.
//! 4. The old headers get the new depth, still locked: from now on, nobody concludes from an absent
//!    key in the old subtable that it is absent in the pool, unless the directory still names the
//!    old one.
//! 5. The directory's entries are published. From here on, nothing needs the locks.
//! 6. The frozen slots are emptied and the locks given back.

use crate::xxh3::xxh3_64;
use artesian_bus::Verb;

use super::directory::{meta_word, read_root, Place};
use super::format::{lock_offsets, lock_words, new_object, write_headers};
use super::freeze::freeze;
use super::hash::KeyHash;
use super::layout::{self, BucketHeader, Entry, Root, BUCKET, BUCKETS, SLOTS, SUBTABLE_BYTES};
use super::lock::{holds_structure, lock_structure, try_structure, unlock_structure, write_meta};
use super::walk::{read_table, slots_of};
use crate::address::{ClientId, PoolAddr};
use crate::alloc::Allocator;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::membership::{standing, Standing};
use crate::object::word;
use crate::rtx::Wait;
use crate::slot::Slot;
use crate::snapshot;

const BATCH: usize = 64;
const PLAN_BYTES: usize = 32;

/// A split that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The subtable that is full.
    pub old: PoolAddr,
    /// The one that gets half of its keys.
    pub new: PoolAddr,
    /// Depth and suffix of the old one before.
    pub depth: u8,
    pub suffix: u32,
}

impl Plan {
    /// The suffix of the new subtable.
    pub fn moving_suffix(&self) -> u32 {
        self.suffix | 1 << self.depth
    }

    fn encode(&self) -> [u8; PLAN_BYTES] {
        let mut bytes = [0; PLAN_BYTES];
        let shape = u64::from(self.depth) << 32 | u64::from(self.suffix);
        for (at, number) in [self.old.0, self.new.0, shape].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// A plan that was cut short while it was written had no effects yet: none.
    fn decode(bytes: &[u8; PLAN_BYTES]) -> Option<Plan> {
        let (old, new, shape) = (word(bytes, 0), word(bytes, 8), word(bytes, 16));
        let (depth, suffix) = ((shape >> 32) as u8, shape as u32);
        let sane = word(bytes, 24) == xxh3_64(&bytes[..24])
            && old.max(new) < PoolAddr::LIMIT
            && depth < layout::MAX_DEPTH
            && suffix < 1 << depth;
        sane.then_some(Plan { old: PoolAddr(old), new: PoolAddr(new), depth, suffix })
    }

    fn read(fabric: &Fabric) -> Result<Option<Plan>> {
        Ok(Plan::decode(&read_plan(fabric)?))
    }
}

fn read_plan(fabric: &Fabric) -> Result<[u8; PLAN_BYTES]> {
    let mut bytes = [0; PLAN_BYTES];
    let at = meta_word(fabric, meta::INDEX_SPLIT)?;
    fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
    Ok(bytes)
}

/// The split that is recorded.
pub(crate) fn plan(fabric: &Fabric) -> Result<Option<Plan>> {
    Plan::read(fabric)
}

/// The subtable that a split under way is filling.
pub(super) fn planned(fabric: &Fabric) -> Result<Option<PoolAddr>> {
    Ok(plan(fabric)?.map(|plan| plan.new))
}

/// Splits the subtable at `place`, where there is no room for the key of `hash`, unless somebody
/// has done that meanwhile.
#[cold]
pub fn split(fabric: &Fabric, alloc: &mut Allocator, place: Place, hash: KeyHash) -> Result<()> {
    lock_structure(fabric)?;
    let outcome = split_locked(fabric, alloc, place, hash);
    unlock_structure(fabric)?;
    outcome
}

fn split_locked(fabric: &Fabric, alloc: &mut Allocator, place: Place, hash: KeyHash) -> Result<()> {
    finish(fabric)?;
    let root = root(fabric)?;
    let entry = fabric.primary(root.entry(hash.suffix(root.depth)))?;
    let too_deep = || PoolError::Corrupt(format!("an entry is deeper than {root:?}"));
    let entry = Entry::from_word(fabric.read_word(entry)?, root)?.ok_or_else(too_deep)?;
    if entry.table != place.table || entry.depth != place.depth {
        return Ok(());
    }
    if entry.depth == root.max_depth {
        return Err(PoolError::Full { bytes: SUBTABLE_BYTES });
    }
    let room = new_object(fabric, alloc, SUBTABLE_BYTES)?;
    let (depth, suffix) = (entry.depth, hash.suffix(entry.depth));
    let plan = Plan { old: entry.table, new: room.addr, depth, suffix };
    let view = fabric.epoch();
    let outcome = record(fabric, &plan).and_then(|()| finish(fabric));
    // The room is the plan's, whoever finishes it; unless that was lost with its first copy.
    if fabric.epoch() != view && steadily(|| is_dropped(fabric, &plan))? {
        alloc.free(room.addr, room.class);
    }
    alloc.complete(room.sequence);
    outcome
}

/// The first copy decides whether there is a plan. It comes before the others, so that none is left
/// on them of which nobody knows.
fn record(fabric: &Fabric, plan: &Plan) -> Result<()> {
    let at = meta_word(fabric, meta::INDEX_SPLIT)?;
    fabric.batch(&mut [Verb::write(at, &plan.encode())])
}

/// Whether nobody will carry the plan out, nor has done so.
fn is_dropped(fabric: &Fabric, plan: &Plan) -> Result<bool> {
    if Plan::read(fabric)? == Some(*plan) {
        return Ok(false);
    }
    Ok(!is_published(fabric, plan, root(fabric)?)?)
}

/// Finishes the split of a client that died in it; returns at once while a live one is at it.
#[cold]
pub fn finish_of_dead(fabric: &Fabric) -> Result<()> {
    let holder = fabric.read_word(meta_word(fabric, meta::INDEX_LOCK)?)?;
    if holder == 0 && Plan::read(fabric)?.is_none() {
        return Ok(());
    }
    if !try_structure(fabric)? {
        return Ok(());
    }
    let outcome = finish(fabric);
    unlock_structure(fabric)?;
    outcome
}

/// Carries out the plan that is recorded, if any. The caller holds the structural lock.
fn finish(fabric: &Fabric) -> Result<()> {
    let mut wait = Wait::new();
    loop {
        let outcome = read_plan(fabric).and_then(|bytes| match Plan::decode(&bytes) {
            Some(plan) => carry_out(fabric, &plan),
            None if bytes == [0; PLAN_BYTES] => Ok(()),
            None => write_meta(fabric, meta::INDEX_SPLIT, &[0; PLAN_BYTES]),
        });
        if outcome != Err(PoolError::ViewChanged) {
            return outcome;
        }
        // The lock may have been lost with its node; then its next holder finishes the plan.
        match holds_structure(fabric) {
            Ok(false) => return Err(PoolError::ViewChanged),
            Ok(true) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
        match wait.pause(fabric, "a membership that stays for a split") {
            Ok(()) | Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
    }
}

fn root(fabric: &Fabric) -> Result<Root> {
    read_root(fabric)?.ok_or_else(|| PoolError::Corrupt("the index's root is gone".into()))
}

fn carry_out(fabric: &Fabric, plan: &Plan) -> Result<()> {
    // The plan must outlive its first copy before it has effects.
    write_meta(fabric, meta::INDEX_SPLIT, &plan.encode())?;
    let mut root = root(fabric)?;
    if root.depth == plan.depth {
        root = double(fabric, root)?;
    }
    if root.depth <= plan.depth {
        return Err(PoolError::Corrupt(format!("{plan:?} in a directory of depth {}", root.depth)));
    }
    if !is_published(fabric, plan, root)? {
        let view = fabric.epoch();
        take_locks(fabric, plan)?;
        let moved = freeze(fabric, plan)?;
        // Rounds go on over a change of the view; a split looks whether it is still to be done.
        if fabric.epoch() != view {
            return Err(PoolError::ViewChanged);
        }
        fill(fabric, plan, &moved)?;
        set_headers(fabric, plan, fabric.me())?;
        publish(fabric, plan, root)?;
    } else {
        publish(fabric, plan, root)?;
    }
    clear(fabric, plan)?;
    release(fabric, plan)?;
    write_meta(fabric, meta::INDEX_SPLIT, &[0; PLAN_BYTES])
}

/// Copies the lower half of the directory to the upper one, then moves the depth on.
fn double(fabric: &Fabric, root: Root) -> Result<Root> {
    let mut bytes = vec![0; 8 << root.depth];
    fabric.read(root.entry(0), &mut bytes)?;
    fabric.write_all(root.entry(1 << root.depth), &bytes)?;
    let doubled = Root { depth: root.depth + 1, ..root };
    write_meta(fabric, meta::INDEX_ROOT, &doubled.word().to_le_bytes())?;
    Ok(doubled)
}

/// Numbers of the directory entries of `suffix` of `depth` bits.
fn entries_of(suffix: u32, depth: u8, root: Root) -> impl Iterator<Item = u32> {
    (0..1u32 << (root.depth - depth)).map(move |upper| upper << depth | suffix)
}

/// Whether any entry names the new subtable: then all that precedes has been done.
fn is_published(fabric: &Fabric, plan: &Plan, root: Root) -> Result<bool> {
    let entries = super::directory::read_entries(fabric, root)?;
    Ok(entries.iter().flatten().any(|entry| entry.table == plan.new))
}

fn publish(fabric: &Fabric, plan: &Plan, root: Root) -> Result<()> {
    let depth = plan.depth + 1;
    let halves = [(plan.new, plan.moving_suffix()), (plan.old, plan.suffix)];
    for (table, suffix) in halves {
        let word = Entry { table, depth }.word().to_le_bytes();
        let numbers: Vec<u32> = entries_of(suffix, depth, root).collect();
        for some in numbers.chunks(BATCH) {
            let mut verbs: Vec<Verb<'_>> = Vec::new();
            for &number in some {
                let copies = fabric.copies(root.entry(number));
                verbs.extend(copies.into_iter().map(|copy| Verb::write(copy, &word)));
            }
            fabric.batch(&mut verbs)?;
        }
    }
    Ok(())
}

/// Takes all insert locks of the old subtable.
fn take_locks(fabric: &Fabric, plan: &Plan) -> Result<()> {
    let me = fabric.me();
    let header = |depth, owner| BucketHeader { depth, suffix: plan.suffix, owner }.word();
    let mut wait = Wait::new();
    let mut wanted: Vec<(PoolAddr, u64)> =
        lock_words(plan.old).map(|at| (at, header(plan.depth, ClientId::NOBODY))).collect();
    let mut settled = false;
    loop {
        let mut verbs = Vec::with_capacity(wanted.len());
        for &(at, expected) in &wanted {
            let depth = BucketHeader::from_word(expected).depth;
            verbs.push(Verb::cas(fabric.primary(at)?, expected, header(depth, me)));
        }
        fabric.batch(&mut verbs)?;
        let mut left = Vec::new();
        for (&(at, expected), verb) in wanted.iter().zip(&verbs) {
            let found = BucketHeader::from_word(verb.found());
            let known =
                found.is_of(plan.depth, plan.suffix) || found.is_of(plan.depth + 1, plan.suffix);
            if !known {
                let text = format!("header {found:?} at {at:?} in the midst of {plan:?}");
                return Err(PoolError::Corrupt(text));
            }
            if verb.found() != expected && found.owner != me {
                let seldom = wait.is_check_due() || found.owner.is_nobody();
                left.push((at, found, seldom));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        wanted.clear();
        for (at, found, ask) in left {
            let free = ask && !found.owner.is_nobody();
            let dead = free && standing(fabric, found.owner)? != Standing::Live;
            if dead && !settled {
                settle_table(fabric, plan)?;
                settled = true;
            }
            let owner = if dead { found.owner } else { ClientId::NOBODY };
            wanted.push((at, header(found.depth, owner)));
        }
        wait.pause(fabric, "inserts into a subtable that is to be split")?;
    }
}

/// Finishes whatever the dead began on the slots of the old subtable.
fn settle_table(fabric: &Fabric, plan: &Plan) -> Result<()> {
    let bytes = read_table(fabric, plan.old)?;
    let slots: Vec<PoolAddr> = slots_of(plan.old, &bytes).map(|(at, _)| at).collect();
    for some in slots.chunks(BATCH) {
        snapshot::settle_many(fabric, some)?;
    }
    Ok(())
}

/// Writes the new subtable.
fn fill(fabric: &Fabric, plan: &Plan, moved: &[(usize, Slot)]) -> Result<()> {
    let mut image = vec![0; (BUCKETS * BUCKET) as usize];
    write_headers(&mut image, plan.depth + 1, plan.moving_suffix());
    for &(number, slot) in moved {
        let (bucket, within) = (number / SLOTS as usize, number % SLOTS as usize);
        let at = bucket * BUCKET as usize + 8 + within * 8;
        image[at..at + 8].copy_from_slice(&slot.0.to_le_bytes());
    }
    fabric.write_all(layout::bucket_addr(plan.new, 0), &image)
}

/// Gives the old headers the new depth, still held by `owner` on the primary.
fn set_headers(fabric: &Fabric, plan: &Plan, owner: ClientId) -> Result<()> {
    let (depth, suffix) = (plan.depth + 1, plan.suffix);
    let held = BucketHeader { depth, suffix, owner }.word().to_le_bytes();
    let free = BucketHeader { depth, suffix, owner: ClientId::NOBODY }.word().to_le_bytes();
    let mut verbs: Vec<Verb<'_>> = Vec::new();
    for at in lock_words(plan.old) {
        for (replica, copy) in fabric.copies(at).into_iter().enumerate() {
            verbs.push(Verb::write(copy, if replica == 0 { &held } else { &free }));
        }
    }
    fabric.batch(&mut verbs)
}

/// Makes the frozen slots that moved vacant. Not empty again: somebody who still helps in a round
/// over the empty slot would put an old winner there.
fn clear(fabric: &Fabric, plan: &Plan) -> Result<()> {
    let bytes = read_table(fabric, plan.old)?;
    // The backups first: an insert proposes there over what the primary says.
    for primaries in [false, true] {
        let mut verbs = Vec::new();
        for (at, slot) in slots_of(plan.old, &bytes) {
            if slot.thawed().is_some() {
                for (replica, copy) in fabric.copies(at).into_iter().enumerate() {
                    if (replica == 0) == primaries {
                        verbs.push(Verb::cas(copy, slot.0, slot.cleared().0));
                    }
                }
            }
        }
        if !verbs.is_empty() {
            fabric.batch(&mut verbs)?;
        }
    }
    Ok(())
}

/// Gives back the insert locks that this client, or the dead one before it, holds.
fn release(fabric: &Fabric, plan: &Plan) -> Result<()> {
    let bytes = read_table(fabric, plan.old)?;
    let mut verbs = Vec::new();
    for (at, offset) in lock_words(plan.old).zip(lock_offsets()) {
        let found = BucketHeader::from_word(word(&bytes, offset as usize));
        if found.owner.is_nobody() {
            continue;
        }
        if found.owner == fabric.me() || standing(fabric, found.owner)? != Standing::Live {
            let free = BucketHeader { owner: ClientId::NOBODY, ..found };
            verbs.push(Verb::cas(fabric.primary(at)?, found.word(), free.word()));
        }
    }
    if verbs.is_empty() {
        return Ok(());
    }
    fabric.batch(&mut verbs)
}
