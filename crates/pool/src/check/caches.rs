//! The tables of caches: slots, the objects they name, locks.

use artesian_bus::Verb;

use super::people::{People, State};
use super::report::{Finding, Keys, Place, What};
use crate::address::{ClientId, PoolAddr};
use crate::cache::TableParts;
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::index::KeyHash;
use crate::object::{self, word, Header, Kind};
use crate::slot::Slot;
use crate::store::large::{Manifest, Part};

/// What a piece of a table refers to.
#[derive(Default)]
pub(super) struct Seen {
    /// The objects, with the slots.
    pub refs: Vec<(PoolAddr, PoolAddr, SizeClass)>,
    pub keys: Keys,
    /// Log objects of evictions and deletions.
    pub tombstones: u64,
}

/// Checks one piece of a table.
pub(super) fn piece(
    fabric: &Fabric,
    table: &TableParts,
    number: usize,
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    *seen = Seen::default();
    let (start, len) = table.piece(number);
    let mut copies = Vec::new();
    for at in fabric.copies(start) {
        let mut bytes = vec![0; len];
        fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
        copies.push(bytes);
    }
    let Some(first) = copies.first() else { return Ok(()) };
    let people = People::read(fabric)?;
    for bucket in table.buckets(number) {
        let owner = ClientId::from_word(word(first, (bucket.0 - start.0) as usize));
        if !owner.is_nobody() && people.state(fabric, owner) == State::Gone {
            let text = format!("held by {owner:?}, who is gone; whoever inserts next takes it");
            found.push(Finding::note(What::BucketLock, Place::Object(bucket), text));
        }
    }
    for at in table.buckets(number).flat_map(TableParts::slots) {
        let within = (at.0 - start.0) as usize;
        let values: Vec<u64> = copies.iter().map(|copy| word(copy, within)).collect();
        if values.iter().any(|&value| value != values[0]) {
            let text = format!("{values:x?}");
            found.push(Finding::warning(What::SlotCopies, Place::Slot(at), text));
        }
        slot(fabric, table, (at, Slot(values[0])), seen, found)?;
    }
    Ok(())
}

/// One slot and its object.
fn slot(
    fabric: &Fabric,
    table: &TableParts,
    (at, slot): (PoolAddr, Slot),
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let vacant = slot.is_vacant();
    let Some(class) = slot.logged_class() else {
        if !vacant {
            let text = format!("{slot:?} means nothing in a cache");
            found.push(Finding::error(What::SlotValue, Place::Slot(at), text));
        }
        return Ok(());
    };
    if fabric.copies(slot.addr()).is_empty() {
        // It went with its node: a miss, until the slot is used again.
        return Ok(());
    }
    seen.refs.push((at, slot.addr(), class));
    if slot.class().is_none() {
        seen.tombstones += 1;
        return Ok(());
    }
    seen.keys.keys += 1;
    seen.keys.bytes += class.bytes() as u64;
    let mut bytes = vec![0; class.bytes()];
    let mut wrong = None;
    for copy in fabric.copies(slot.addr()) {
        fabric.batch(&mut [Verb::read(copy, &mut bytes)])?;
        wrong = match object::parse(&bytes, class) {
            Ok((header, key, _)) => misplaced(table, at, &header, key),
            Err(error) => Some(error.to_string()),
        };
        if wrong.is_none() {
            wrong = pieces(at, &bytes, class, seen).err().map(|error| error.to_string());
            break;
        }
    }
    if let Some(text) = wrong {
        found.push(Finding::error(What::Object, Place::Object(slot.addr()), text));
    }
    Ok(())
}

/// The pieces that the object names, if it is a manifest.
fn pieces(at: PoolAddr, bytes: &[u8], class: SizeClass, seen: &mut Seen) -> Result<()> {
    let (header, _, value) = object::parse(bytes, class)?;
    if header.kind == Kind::Manifest {
        let manifest = Manifest::decode(value)?;
        seen.keys.bytes += manifest.parts_bytes();
        let parts = manifest.parts.iter().filter_map(Part::object);
        seen.refs.extend(parts.map(|(addr, class)| (at, addr, class)));
    }
    Ok(())
}

/// Why the object does not belong into the slot at `at`, if so.
fn misplaced(table: &TableParts, at: PoolAddr, header: &Header, key: &[u8]) -> Option<String> {
    let bucket = table.bucket_of(KeyHash::of(header.namespace, key));
    let belongs = header.namespace == table.namespace
        && matches!(header.kind, Kind::Value | Kind::Manifest)
        && TableParts::slots(bucket).any(|slot| slot == at);
    (!belongs).then(|| format!("{header:?} in a slot of the cache {}", table.namespace))
}
