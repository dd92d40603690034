//! Freeing what a dead client's operations replaced, each object once.

use std::collections::{BTreeMap, HashSet};

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use super::evidence::{read_many, AT_ONCE};
use super::Index;
use crate::address::{ClientId, PoolAddr};
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::config::{area, record, META_REPLICAS};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::{self, Header, Kind, HEADER_BYTES};

type Object = (PoolAddr, SizeClass);

/// Frees what was replaced, given with what replaced it, and the pieces of manifests, unless their
/// bits are set: then the client had done so itself. Returns how many had not been freed.
pub(super) fn free(
    fabric: &Fabric,
    index: &mut dyn Index,
    replaced: impl Iterator<Item = (Object, Object)>,
) -> Result<usize> {
    let replaced: Vec<(Object, Object)> = replaced.collect();
    let mut objects = pieces(fabric, index, &replaced)?;
    objects.extend(replaced.iter().map(|(_, old)| *old));
    let geometry = Geometry::of(fabric.config());
    let mut words: BTreeMap<PoolAddr, u64> = BTreeMap::new();
    for (addr, class) in objects {
        // What cannot be an object is nobody's to free.
        let Ok(place) = geometry.place(addr, class) else { continue };
        *words.entry(place.word()).or_default() |= place.bit();
    }
    let copies = words.iter().flat_map(|(&word, &bits)| {
        let copies = fabric.copies(word).into_iter().enumerate();
        copies.map(move |(number, at)| (number, at, bits))
    });
    let copies: Vec<(usize, GlobalAddr, u64)> = copies.collect();
    let mut found = vec![[0; 8]; copies.len()];
    let reads = copies.iter().zip(&mut found).map(|(copy, into)| Verb::read(copy.1, into));
    read_many(fabric, reads.collect())?;
    let (mut adds, mut freed) = (Vec::new(), 0);
    for (&(number, at, bits), found) in copies.iter().zip(&found) {
        let missing = bits & !u64::from_le_bytes(*found);
        if missing != 0 {
            adds.push(Verb::faa(at, missing));
            freed += if number == 0 { missing.count_ones() as usize } else { 0 };
        }
    }
    for some in adds.chunks_mut(AT_ONCE) {
        fabric.batch(some)?;
    }
    Ok(freed)
}

/// The pieces of replaced manifests, except those that the manifests in their places go on with.
fn pieces(
    fabric: &Fabric,
    index: &dyn Index,
    replaced: &[(Object, Object)],
) -> Result<Vec<Object>> {
    let mut heads = vec![[0; HEADER_BYTES]; replaced.len()];
    let reads = replaced.iter().zip(&mut heads);
    let reads =
        reads.filter_map(|((_, old), into)| Some(Verb::read(fabric.copy(old.0, 0).ok()?, into)));
    read_many(fabric, reads.collect())?;
    let mut pieces = Vec::new();
    for (&(new, old), head) in replaced.iter().zip(&heads) {
        if Header::decode(head, old.1).is_ok_and(|head| head.kind == Kind::Manifest) {
            let kept = parts(fabric, index, new)?;
            let parts = parts(fabric, index, old)?.into_iter();
            pieces.extend(parts.filter(|part| !kept.contains(part)));
        }
    }
    Ok(pieces)
}

/// The pieces of an object, if it is a manifest.
fn parts(fabric: &Fabric, index: &dyn Index, (addr, class): Object) -> Result<HashSet<Object>> {
    let mut bytes = vec![0; class.bytes()];
    fabric.read(addr, &mut bytes)?;
    Ok(match object::parse(&bytes, class) {
        Ok((header, _, value)) if header.kind == Kind::Manifest => {
            let parts = index.parts(value).into_iter();
            parts.filter_map(|slot| Some((slot.addr(), slot.class()?))).collect()
        }
        _ => HashSet::new(),
    })
}

/// Nobody is kept from reusing what the dead client had pinned.
pub(super) fn clear_pins(fabric: &Fabric, dead: ClientId) -> Result<()> {
    let zeros = [0; area::NUM_PINS as usize * 8];
    let pins = fabric.client_area(dead.index, area::PINS);
    let counts = fabric.client_record(dead.index, record::PINNED);
    let mut verbs: SmallVec<[Verb<'_>; 2 * META_REPLICAS]> = SmallVec::new();
    verbs.extend(pins.iter().map(|&copy| Verb::write(copy, &zeros)));
    verbs.extend(counts.iter().map(|&copy| Verb::write(copy, &zeros[..8])));
    fabric.batch(&mut verbs)
}
