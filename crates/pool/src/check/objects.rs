//! The objects that slots name.

use std::collections::HashMap;

use artesian_bus::Verb;

use super::people::People;
use super::pieces;
use super::report::{Finding, Place, What};
use super::slots::{Seen, Table};
use crate::address::PoolAddr;
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::index::layout::first_bucket;
use crate::index::KeyHash;
use crate::object::{self, Kind, LogEntry, HEADER_BYTES, LOG_BYTES};
use crate::slot::{tag, Slot};

/// Bytes of objects read in one batch, all copies together.
const AT_ONCE: usize = 1 << 20;

/// An object that a slot names.
#[derive(Clone, Copy)]
pub(super) struct Named {
    /// The slot's address and value.
    pub slot: PoolAddr,
    pub value: Slot,
    /// The number of its bucket.
    pub bucket: u64,
    /// The object's class.
    pub class: SizeClass,
}

/// Keys seen in a subtable, by hash.
type Keys = HashMap<u64, Vec<(PoolAddr, u16, Vec<u8>)>>;

/// Checks the objects that the slots of `table` name.
pub(super) fn check(
    fabric: &Fabric,
    people: &People,
    table: Table,
    geometry: &Geometry,
    named: &[Named],
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let mut keys = Keys::new();
    let mut from = 0;
    while from < named.len() {
        let mut reads = Vec::new();
        let mut bytes = 0;
        while from < named.len() && bytes < AT_ONCE {
            let name = named[from];
            from += 1;
            if let Err(error) = geometry.place(name.value.addr(), name.class) {
                found.push(Finding::error(
                    What::SlotValue,
                    Place::Slot(name.slot),
                    error.to_string(),
                ));
                continue;
            }
            let copies = fabric.copies(name.value.addr());
            if copies.is_empty() {
                let text = format!("{:?} lies in a lost region", name.value.addr());
                found.push(Finding::error(What::Object, Place::Slot(name.slot), text));
                continue;
            }
            bytes += copies.len() * name.class.bytes();
            let buffers = vec![vec![0; name.class.bytes()]; copies.len()];
            reads.push((name, copies, buffers));
        }
        let mut verbs = Vec::new();
        for (_, copies, buffers) in &mut reads {
            verbs.extend(copies.iter().zip(buffers).map(|(&at, into)| Verb::read(at, into)));
        }
        fabric.batch(&mut verbs)?;
        drop(verbs);
        for (name, _, buffers) in &reads {
            compare(name.value.addr(), name.class, buffers, found);
            // Readers take any copy that verifies.
            let whole = buffers.iter().find(|bytes| object::parse(bytes, name.class).is_ok());
            let bytes = whole.unwrap_or(&buffers[0]);
            examine(table, name, bytes, seen, &mut keys, found);
            let Ok((header, _, value)) = object::parse(bytes, name.class) else { continue };
            match header.kind {
                Kind::Manifest => {
                    let more = pieces::of_value(fabric, geometry, name, value, seen, found)?;
                    seen.keys.entry(header.namespace).or_default().bytes += more;
                }
                Kind::Intent => pieces::of_intent(fabric, people, name, bytes, seen, found)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Copies of an object: its body never changes, its log entry does before its slot does.
pub(super) fn compare(
    addr: PoolAddr,
    class: SizeClass,
    copies: &[Vec<u8>],
    found: &mut Vec<Finding>,
) {
    let log = class.bytes() - LOG_BYTES;
    let end = match object::parse(&copies[0], class) {
        Ok((_, key, value)) => HEADER_BYTES + key.len() + value.len(),
        Err(_) => log,
    };
    let place = Place::Object(addr);
    for (number, copy) in copies.iter().enumerate().skip(1) {
        if copy[..end] != copies[0][..end] {
            let text = format!("copy {number} differs from the first one");
            found.push(Finding::error(What::ObjectCopies, place, text));
        } else if !tell_the_same(&copy[log..], &copies[0][log..]) {
            let text = format!("the log entry of copy {number} differs from that of the first");
            found.push(Finding::warning(What::ObjectCopies, place, text));
        }
    }
}

/// Whether two copies of a log entry agree. What won may be told by one of them alone, or by none:
/// if the client died while it was written, and the slot's first copy was lost with it.
fn tell_the_same(entry: &[u8], other: &[u8]) -> bool {
    match (LogEntry::decode(entry), LogEntry::decode(other)) {
        (Some(entry), Some(other)) => {
            let decided = entry.decided.is_none() || other.decided.is_none();
            entry == LogEntry { decided: entry.decided, ..other }
                && (decided || entry.decided == other.decided)
        }
        _ => entry == other,
    }
}

/// One object: whole, of the right kind, of a key that belongs into this slot.
fn examine(
    table: Table,
    name: &Named,
    bytes: &[u8],
    seen: &mut Seen,
    keys: &mut Keys,
    found: &mut Vec<Finding>,
) {
    let (at, reference) = (Place::Slot(name.slot), (name.slot, name.value.addr(), name.class));
    let is_moved = name.value.thawed().is_some();
    let list = if is_moved { &mut seen.moved } else { &mut seen.refs };
    list.push(reference);
    let (header, key, _) = match object::parse(bytes, name.class) {
        Ok(parts) => parts,
        Err(error) => {
            let text = format!("{:?} names an object that does not verify: {error}", name.value);
            found.push(Finding::error(What::Object, at, text));
            return;
        }
    };
    let fits = match name.value.kind() {
        tag::TOMBSTONE => header.kind == Kind::Deletion,
        tag::INTENT => header.kind == Kind::Intent,
        _ => matches!(header.kind, Kind::Value | Kind::Manifest),
    };
    if !fits {
        let text = format!("{:?} names an object of kind {:?}", name.value, header.kind);
        found.push(Finding::error(What::Object, at, text));
        return;
    }
    if LogEntry::decode(&bytes[bytes.len() - LOG_BYTES..]).is_none() {
        let text = format!("{:?} has no log entry", name.value.addr());
        found.push(Finding::error(What::Object, at, text));
    }
    match header.kind {
        Kind::Deletion => seen.tombstones += 1,
        Kind::Value | Kind::Manifest => {
            let count = seen.keys.entry(header.namespace).or_default();
            count.keys += 1;
            count.bytes += name.class.bytes() as u64;
            belongs(table, name, header.namespace, key, keys, found);
        }
        _ => {}
    }
}

/// Whether readers of the key look into this slot, and into no other.
fn belongs(
    table: Table,
    name: &Named,
    namespace: u16,
    key: &[u8],
    keys: &mut Keys,
    found: &mut Vec<Finding>,
) {
    let at = Place::Slot(name.slot);
    let hash = KeyHash::of(namespace, key);
    let in_bucket = |combined| (0..2).contains(&name.bucket.wrapping_sub(first_bucket(combined)));
    let looked_at = hash.buckets().into_iter().any(in_bucket);
    if hash.fingerprint() != name.value.fingerprint()
        || hash.suffix(table.depth) != table.suffix && name.value.thawed().is_none()
        || !looked_at
    {
        let text = format!("the key of {:?} belongs elsewhere: {hash:x?}", name.value);
        found.push(Finding::error(What::Misplaced, at, text));
        return;
    }
    let same = keys.entry(hash.0).or_default();
    let twin = same.iter().find(|other| other.1 == namespace && other.2 == key);
    if let Some((other, ..)) = twin {
        let text = format!("its key is also in the slot {other:?}");
        found.push(Finding::error(What::KeyTwice, at, text));
    }
    same.push((name.slot, namespace, key.to_vec()));
}
