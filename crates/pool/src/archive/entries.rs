//! Going through the keys of the hash store as the pool's memory has them.

use artesian_bus::Verb;

use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{read_table, slots_of};
use crate::object::{self, Header, Kind};
use crate::recover::Index;
use crate::slot::{tag, Slot};
use crate::store::InUse;
use crate::txn;

/// Bytes of objects read in one batch.
const AT_ONCE: usize = 1 << 20;

/// A key with its value.
pub(super) struct Entry<'a> {
    pub header: Header,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Tells `f` the keys of the subtable at `table` in batches of some objects; returns how many were
/// left out since no copy of their objects verifies. Within one operation: what the slots name
/// stays as it is, so every key is read at one moment.
pub(super) fn of_table(
    fabric: &Fabric,
    table: PoolAddr,
    f: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<u64> {
    let bytes = read_table(fabric, table)?;
    let mut named = Vec::new();
    for (_, slot) in slots_of(table, &bytes) {
        let slot = if slot.kind() == tag::INTENT { txn::as_read(fabric, slot)? } else { slot };
        let object = slot.thawed().unwrap_or(slot);
        named.extend(object.class().map(|class| (object.addr(), class)));
    }
    let (mut left_out, mut from) = (0, 0);
    while from < named.len() {
        let mut bytes = 0;
        let fits = |(_, class): &&(PoolAddr, SizeClass)| {
            bytes += class.bytes();
            bytes <= AT_ONCE
        };
        let count = named[from..].iter().take_while(fits).count().max(1);
        for object in read_objects(fabric, &named[from..from + count])? {
            let Some((class, bytes)) = object else {
                left_out += 1;
                continue;
            };
            left_out += u64::from(!tell(fabric, &bytes, class, f)?);
        }
        from += count;
    }
    Ok(left_out)
}

/// Tells `f` one key; false if its value cannot be had.
fn tell(
    fabric: &Fabric,
    bytes: &[u8],
    class: SizeClass,
    f: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<bool> {
    let (header, key, value) = object::parse(bytes, class)?;
    match header.kind {
        Kind::Value => f(Entry { header, key, value })?,
        Kind::Manifest => {
            let Some(value) = assemble(fabric, value)? else { return Ok(false) };
            f(Entry { header, key, value: &value })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A value in pieces, put together.
fn assemble(fabric: &Fabric, manifest: &[u8]) -> Result<Option<Vec<u8>>> {
    let parts = InUse.parts(manifest);
    let parts: Vec<(PoolAddr, SizeClass)> =
        parts.into_iter().filter_map(|slot: Slot| Some((slot.addr(), slot.class()?))).collect();
    let mut whole = Vec::new();
    for part in parts {
        let Some((class, bytes)) = read_objects(fabric, &[part])?.pop().flatten() else {
            return Ok(None);
        };
        whole.extend_from_slice(object::parse(&bytes, class)?.2);
    }
    Ok(Some(whole))
}

type Object = Option<(SizeClass, Vec<u8>)>;

/// Reads objects: the first copy of each that verifies.
fn read_objects(fabric: &Fabric, objects: &[(PoolAddr, SizeClass)]) -> Result<Vec<Object>> {
    let mut buffers: Vec<Vec<u8>> =
        objects.iter().map(|(_, class)| vec![0; class.bytes()]).collect();
    let mut verbs = Vec::new();
    for (&(addr, _), into) in objects.iter().zip(&mut buffers) {
        // A lost region's objects fail to verify.
        verbs.extend(fabric.primary(addr).ok().map(|at| Verb::read(at, into)));
    }
    fabric.batch(&mut verbs)?;
    drop(verbs);
    let mut read = Vec::with_capacity(objects.len());
    for (&(addr, class), mut bytes) in objects.iter().zip(buffers) {
        let mut whole = object::parse(&bytes, class).is_ok();
        for copy in fabric.copies(addr).into_iter().skip(1) {
            if whole {
                break;
            }
            fabric.batch(&mut [Verb::read(copy, &mut bytes)])?;
            whole = object::parse(&bytes, class).is_ok();
        }
        read.push(whole.then_some((class, bytes)));
    }
    Ok(read)
}

/// Whether `outcome` says to begin anew.
pub(super) fn is_view_change<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(PoolError::ViewChanged))
}
