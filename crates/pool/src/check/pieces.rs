//! What hangs on an object that a slot names: the pieces of large values, the parts of intents.

use super::objects::{compare, Named};
use super::people::{People, State};
use super::report::{Finding, Place, What};
use super::slots::Seen;
use super::space::read_all;
use crate::address::PoolAddr;
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::{self, Kind, LogEntry, LOG_BYTES};
use crate::slot::Slot;
use crate::store::large::{Manifest, Part};
use crate::txn;

/// Checks the pieces of a value that the slot names through its manifest; their bytes.
pub(super) fn of_value(
    fabric: &Fabric,
    geometry: &Geometry,
    name: &Named,
    manifest: &[u8],
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<u64> {
    let at = Place::Slot(name.slot);
    let manifest = match Manifest::decode(manifest) {
        Ok(manifest) => manifest,
        Err(error) => {
            found.push(Finding::error(What::Object, at, error.to_string()));
            return Ok(0);
        }
    };
    let mut bytes = 0;
    for (addr, class) in manifest.parts.iter().filter_map(Part::object) {
        if let Err(error) = geometry.place(addr, class) {
            found.push(Finding::error(What::Object, at, error.to_string()));
            continue;
        }
        bytes += class.bytes() as u64;
        let list = if name.value.thawed().is_some() { &mut seen.moved } else { &mut seen.refs };
        list.push((name.slot, addr, class));
        if fabric.copies(addr).is_empty() {
            let text = format!("the piece {addr:?} of its value lies in a lost region");
            found.push(Finding::error(What::Object, at, text));
            continue;
        }
        let copies = read_all(fabric, addr, class.bytes())?;
        compare(addr, class, &copies, found);
        let is_whole = |bytes: &Vec<u8>| {
            object::parse(bytes, class).is_ok_and(|(header, ..)| header.kind == Kind::Chunk)
        };
        if !copies.iter().any(is_whole) {
            let text = format!("no copy of the piece {addr:?} of its value verifies");
            found.push(Finding::error(What::Object, at, text));
        }
    }
    Ok(bytes)
}

/// Checks the intent that the slot names, in the bytes of its object.
pub(super) fn of_intent(
    fabric: &Fabric,
    people: &People,
    name: &Named,
    bytes: &[u8],
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let at = Place::Slot(name.slot);
    let intent = txn::read_intent(fabric, name.value)?;
    // Intents of one transaction share its status, and a value that is put back is its slot's.
    let mut note = |addr: PoolAddr, class: SizeClass| seen.moved.push((name.slot, addr, class));
    note(txn::status_object(&intent), SizeClass(0));
    for slot in [intent.old, intent.new] {
        let object: Option<(Slot, SizeClass)> = slot.logged_class().map(|class| (slot, class));
        if let Some((slot, class)) = object.filter(|(slot, _)| !slot.addr().is_null()) {
            note(slot.addr(), class);
        }
    }
    let entry = LogEntry::decode(&bytes[bytes.len() - LOG_BYTES..]);
    if let Some(entry) = entry {
        if people.state(fabric, entry.client) == State::Gone {
            let text = format!("held by a transaction of {:?}, who is gone", entry.client);
            found.push(Finding::warning(What::Transaction, at, text));
        }
    }
    Ok(())
}
