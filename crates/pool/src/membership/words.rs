//! Words of the meta area, which lie on several nodes of which some may just have been lost.
//! These go past the gate: they are how clients agree while it is closed.

use artesian_bus::{BusError, GlobalAddr, Verb};
use smallvec::SmallVec;

use crate::config::META_REPLICAS;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Posts the verbs; `false` if some of them met a lost node (the others took effect).
pub(crate) fn post(fabric: &Fabric, verbs: &mut [Verb<'_>]) -> Result<bool> {
    match fabric.verbs().batch(verbs) {
        Ok(()) => Ok(true),
        Err(BusError::NodeLost(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Swaps a word on all its copies, each for itself. For locks that only the first copy gives out:
/// a change of the view may have copied the holder's name to others.
pub(crate) fn swap_each(
    fabric: &Fabric,
    copies: &[GlobalAddr],
    expected: u64,
    desired: u64,
) -> Result<()> {
    let mut verbs: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().map(|&copy| Verb::cas(copy, expected, desired)).collect();
    post(fabric, &mut verbs).map(drop)
}

fn none_left() -> PoolError {
    PoolError::Lost("all memory nodes that carry the pool's tables are lost".into())
}

/// Reads bytes of the meta area from the first meta node that answers.
pub(crate) fn read(fabric: &Fabric, offset: u64, into: &mut [u8]) -> Result<()> {
    for at in fabric.meta(offset) {
        if post(fabric, &mut [Verb::read(at, into)])? {
            return Ok(());
        }
    }
    Err(none_left())
}

/// The copies of a word that can be reached, with their values; at least one. The first one is
/// read last: what the others held was so while that one decided.
pub(crate) fn values(
    fabric: &Fabric,
    offset: u64,
) -> Result<SmallVec<[(GlobalAddr, u64); META_REPLICAS]>> {
    let mut found = SmallVec::new();
    for at in fabric.meta(offset).into_iter().rev() {
        let mut bytes = [0; 8];
        if post(fabric, &mut [Verb::read(at, &mut bytes)])? {
            found.push((at, u64::from_le_bytes(bytes)));
        }
    }
    if found.is_empty() {
        return Err(none_left());
    }
    found.reverse();
    Ok(found)
}

/// Writes a word that only this client writes to all copies.
pub(crate) fn write(fabric: &Fabric, offset: u64, value: u64) -> Result<()> {
    let bytes = value.to_le_bytes();
    let copies = fabric.meta(offset);
    let mut verbs: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().map(|&copy| Verb::write(copy, &bytes)).collect();
    post(fabric, &mut verbs).map(drop)
}

/// Swaps a word of which the first reachable copy decides; returns what that one was. The others
/// are brought to `expected` first, so that they are never more than one change behind.
pub(crate) fn swap(fabric: &Fabric, offset: u64, expected: u64, desired: u64) -> Result<u64> {
    for _ in 0..=META_REPLICAS {
        let copies = values(fabric, offset)?;
        if copies[0].1 != expected {
            return Ok(copies[0].1);
        }
        for &(at, value) in &copies[1..] {
            if value != expected {
                post(fabric, &mut [Verb::cas(at, value, expected)])?;
            }
        }
        let mut first = [Verb::cas(copies[0].0, expected, desired)];
        if !post(fabric, &mut first)? {
            continue; // lost just now: the next copy decides
        }
        let found = first[0].found();
        if found != expected || follow(fabric, &copies[1..], expected, desired)? {
            return Ok(found);
        }
        // Others have gone on without the copy that was swapped: it must be lost.
        match values(fabric, offset)?[0].1 {
            now if now == desired => return Ok(expected),
            now if now == expected => {}
            now => return Ok(now),
        }
    }
    Err(none_left())
}

/// Swaps the other copies after the first; false if somebody else has changed them meanwhile.
fn follow(
    fabric: &Fabric,
    others: &[(GlobalAddr, u64)],
    expected: u64,
    desired: u64,
) -> Result<bool> {
    if others.is_empty() {
        return Ok(true);
    }
    let swap = |other: &(GlobalAddr, u64)| Verb::cas(other.0, expected, desired);
    let mut verbs: SmallVec<[Verb<'_>; META_REPLICAS]> = others.iter().map(swap).collect();
    let all = post(fabric, &mut verbs)?;
    Ok(all && verbs.iter().all(|verb| verb.found() == expected || verb.found() == desired))
}
