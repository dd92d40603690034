//! The directory of the hash index.

use std::collections::BTreeMap;

use super::clients::read_copies;
use super::people::{People, State};
use super::report::{Finding, Place, What};
use super::space::{differing, read_all};
use crate::address::{ClientId, PoolAddr};
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::config::meta;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::index::layout::{Entry, Root, SUBTABLE_BYTES};
use crate::index::{directory_bytes, plan, Plan};
use crate::object::word;

/// The subtables that the directory names.
#[derive(Default)]
pub(super) struct Tables {
    /// The directory's object.
    pub directory: Option<(PoolAddr, SizeClass)>,
    /// Its depth.
    pub depth: u8,
    /// Depth and suffix of every subtable.
    pub tables: BTreeMap<PoolAddr, (u8, u32)>,
}

/// The class of subtables.
pub(super) fn table_class() -> SizeClass {
    SizeClass::for_bytes(SUBTABLE_BYTES).unwrap_or(SizeClass(0))
}

/// Reads and checks the directory.
pub(super) fn read(
    fabric: &Fabric,
    geometry: &Geometry,
    found: &mut Vec<Finding>,
) -> Result<Tables> {
    let mut tables = Tables::default();
    let copies = read_copies(fabric, meta::INDEX_ROOT, 8)?;
    let Some(root) = Root::from_word(word(&copies[0], 0))? else { return Ok(tables) };
    let place = Place::Meta(meta::INDEX_ROOT);
    let class = SizeClass::for_bytes(directory_bytes(root.max_depth));
    let Some(class) = class.filter(|&class| geometry.place(root.directory, class).is_ok()) else {
        let text = format!("no directory can lie at {:?}", root.directory);
        found.push(Finding::error(What::Directory, place, text));
        return Ok(tables);
    };
    (tables.directory, tables.depth) = (Some((root.directory, class)), root.depth);
    let copies = read_all(fabric, root.entry(0), 8 << root.depth)?;
    let mut entries = Vec::with_capacity(1 << root.depth);
    for number in 0..1_u32 << root.depth {
        let at = Place::Slot(root.entry(number));
        let first = word(&copies[0], number as usize * 8);
        if let Some(other) = differing(&copies, number as usize * 8) {
            let text = format!("directory entry {number} is {first:#x} and {other:#x}");
            found.push(Finding::warning(What::IndexCopies, at, text));
        }
        let entry = Entry::from_word(first, root).ok().flatten();
        let entry = entry.filter(|entry| geometry.place(entry.table, table_class()).is_ok());
        if entry.is_none() {
            let text = format!("entry {number} is {first:#x}, which names no subtable");
            found.push(Finding::error(What::Directory, at, text));
        }
        entries.push(entry);
    }
    tables.sort_in(root, &entries, found);
    Ok(tables)
}

impl Tables {
    /// Every entry of a subtable's suffix names it, and no other does.
    fn sort_in(&mut self, root: Root, entries: &[Option<Entry>], found: &mut Vec<Finding>) {
        for (number, entry) in entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let suffix = number as u32 & ((1_u32 << entry.depth) - 1);
            let at = Place::Slot(root.entry(number as u32));
            let first = entries.get(suffix as usize).copied().flatten();
            if first.is_some_and(|first| first != *entry) {
                let text = format!("entry {number} is {entry:?}, entry {suffix} is {first:?}");
                found.push(Finding::error(What::Directory, at, text));
            }
            let named = *self.tables.entry(entry.table).or_insert((entry.depth, suffix));
            if named != (entry.depth, suffix) {
                let text = format!("entry {number} names {:?}, as others do", entry.table);
                found.push(Finding::error(What::Directory, at, text));
            }
        }
    }
}

/// The split that is recorded.
#[derive(Clone, Copy)]
pub(super) struct Split {
    pub plan: Option<Plan>,
    /// Somebody who lives holds the structural lock.
    pub is_attended: bool,
}

impl Split {
    pub fn read(fabric: &Fabric, people: &People) -> Result<Split> {
        let held = word(&read_copies(fabric, meta::INDEX_LOCK, 8)?[0], 0);
        let owner = ClientId::from_word(held);
        let is_attended = held != 0 && people.state(fabric, owner) == State::Live;
        Ok(Split { plan: plan(fabric)?, is_attended })
    }

    /// Whether a live client may be changing the subtable at `table` now.
    pub fn is_at(&self, table: PoolAddr) -> bool {
        let named = self.plan.is_none_or(|plan| plan.old == table || plan.new == table);
        self.is_attended && named
    }
}

/// A plan that nobody carries out.
pub(super) fn left_split(fabric: &Fabric, found: &mut Vec<Finding>) -> Result<()> {
    let split = Split::read(fabric, &People::read(fabric)?)?;
    if let (Some(plan), false) = (split.plan, split.is_attended) {
        let text = format!("{plan:?} is recorded, and nobody carries it out");
        found.push(Finding::warning(What::SplitLeft, Place::Meta(meta::INDEX_SPLIT), text));
    }
    Ok(())
}
