//! A subtable of the hash index: headers, slots, and the objects they name.

use std::collections::BTreeMap;

use super::directory::Split;
use super::objects::{self, Named};
use super::people::{People, State};
use super::report::{Finding, Keys, Place, What};
use super::space::read_all;
use crate::address::PoolAddr;
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::index::layout::{bucket_addr, BucketHeader, BUCKET, BUCKETS, SLOTS};
use crate::index::lock_offsets;
use crate::object::word;
use crate::slot::{tag, Slot, INTENT_CLASS};

/// A subtable as the directory has it.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub at: PoolAddr,
    pub depth: u8,
    pub suffix: u32,
}

/// What a subtable refers to.
#[derive(Default)]
pub(super) struct Seen {
    /// The objects, with the slots.
    pub refs: Vec<(PoolAddr, PoolAddr, SizeClass)>,
    /// Those that a split is moving: another slot may name them as well.
    pub moved: Vec<(PoolAddr, PoolAddr, SizeClass)>,
    pub keys: BTreeMap<u16, Keys>,
    pub tombstones: u64,
}

/// Checks the subtable.
pub(super) fn table(
    fabric: &Fabric,
    table: Table,
    geometry: &Geometry,
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    *seen = Seen::default();
    let people = People::read(fabric)?;
    let copies = read_all(fabric, bucket_addr(table.at, 0), (BUCKETS * BUCKET) as usize)?;
    // Read behind the slots: who moves them holds the lock until the last one is moved.
    let split = Split::read(fabric, &people)?;
    let is_moving = split.is_at(table.at);
    headers(fabric, &people, table, &copies, is_moving, found);
    let mut named = Vec::new();
    for bucket in 0..BUCKETS {
        for number in 0..SLOTS {
            let within = bucket * BUCKET + 8 + number * 8;
            let at = bucket_addr(table.at, 0).add(within);
            let values: Vec<u64> = copies.iter().map(|copy| word(copy, within as usize)).collect();
            if values.iter().any(|&value| value != values[0]) {
                let text = format!("{values:x?}");
                found.push(Finding::warning(What::SlotCopies, Place::Slot(at), text));
            }
            let slot = Slot(values[0]);
            match meaning(slot) {
                Meaning::Nothing => {}
                Meaning::Names(class) => named.push(Named { slot: at, value: slot, bucket, class }),
                Meaning::Nonsense => {
                    let text = format!("{slot:?} means nothing in the hash index");
                    found.push(Finding::error(What::SlotValue, Place::Slot(at), text));
                }
            }
            if slot.thawed().is_some() && !is_moving {
                let text = format!("{slot:?} is frozen, and nobody moves it");
                found.push(Finding::warning(What::SplitLeft, Place::Slot(at), text));
            }
        }
    }
    objects::check(fabric, &people, table, geometry, &named, seen, found)
}

enum Meaning {
    Nothing,
    Names(SizeClass),
    Nonsense,
}

fn meaning(slot: Slot) -> Meaning {
    let object = slot.thawed().unwrap_or(slot);
    if let Some(class) = object.class() {
        return Meaning::Names(class);
    }
    match slot.kind() {
        _ if slot.0 == 0 => Meaning::Nothing,
        tag::TOMBSTONE => slot.logged_class().map_or(Meaning::Nothing, Meaning::Names),
        tag::INTENT => Meaning::Names(INTENT_CLASS),
        tag::EMPTIED => Meaning::Nothing,
        _ => Meaning::Nonsense,
    }
}

/// Depths, suffixes and insert locks. Locks lie on the primary alone.
fn headers(
    fabric: &Fabric,
    people: &People,
    table: Table,
    copies: &[Vec<u8>],
    is_moving: bool,
    found: &mut Vec<Finding>,
) {
    for offset in lock_offsets() {
        let at = Place::Slot(bucket_addr(table.at, 0).add(offset));
        let of = |copy: &Vec<u8>| BucketHeader::from_word(word(copy, offset as usize));
        let first = of(&copies[0]);
        if !is_moving && !first.is_of(table.depth, table.suffix) {
            let text = format!("{first:?} in a subtable of {}/{}", table.depth, table.suffix);
            found.push(Finding::error(What::BucketHeader, at, text));
        } else if let Some(other) =
            copies.iter().map(of).find(|other| !other.is_of(first.depth, first.suffix))
        {
            let text = format!("headers {first:?} and {other:?}");
            found.push(Finding::warning(What::IndexCopies, at, text));
        }
        let owner = first.owner;
        if first.word() as u32 != 0 && people.state(fabric, owner) == State::Gone {
            let text = format!("held by {owner:?}, who is not in the pool");
            found.push(Finding::warning(What::BucketLock, at, text));
        }
    }
}
