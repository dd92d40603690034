//! Which objects the store uses: asked for the blocks of dead clients.

use crate::address::PoolAddr;
use crate::alloc::Liveness;
use crate::cache;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{self, KeyHash};
use crate::object::{self, Header, Kind, HEADER_BYTES};
use crate::recover::{self, Places};
use crate::slot::Slot;
use crate::tree;

use super::large::{Manifest, Piece};

/// Objects that the hash index, its slots or their manifests refer to.
pub struct InUse;

impl recover::Index for InUse {
    fn places(&mut self, fabric: &Fabric, header: &Header, key: &[u8]) -> Result<Places> {
        if header.kind == Kind::Eviction {
            let slots = evicted_from(fabric, key).into_iter().collect();
            return Ok(Places { slots, locks: Vec::new() });
        }
        let places = cache::candidates(fabric, header.namespace, key)?;
        if !places.slots.is_empty() {
            return Ok(places);
        }
        let slots = index::candidates(fabric, KeyHash::of(header.namespace, key))?;
        let mut locks: Vec<PoolAddr> = slots.iter().map(|slot| index::header_of(*slot)).collect();
        locks.dedup();
        Ok(Places { slots, locks })
    }

    fn parts(&self, manifest: &[u8]) -> Vec<Slot> {
        let parts = Manifest::decode(manifest).map(|manifest| manifest.parts);
        parts.unwrap_or_default().into_iter().map(|part| part.slot).collect()
    }
}

impl Liveness for InUse {
    fn is_live(&self, fabric: &Fabric, addr: PoolAddr, class: SizeClass) -> Result<bool> {
        loop {
            match look(fabric, addr, class) {
                Err(PoolError::ViewChanged) => {}
                outcome => return outcome,
            }
        }
    }
}

fn look(fabric: &Fabric, addr: PoolAddr, class: SizeClass) -> Result<bool> {
    let Some((header, key)) = read_key(fabric, addr, class)? else { return Ok(false) };
    match header.kind {
        Kind::Value | Kind::Manifest | Kind::Deletion => {
            is_named(fabric, header.namespace, &key, addr)
        }
        Kind::Chunk => match Piece::hash_in(&key) {
            Some(hash) => is_part(fabric, header.namespace, hash, addr),
            None => Ok(false),
        },
        Kind::Table => {
            Ok(index::is_index_memory(fabric, addr)? || cache::is_table_memory(fabric, addr)?)
        }
        Kind::Eviction => {
            let slots: Vec<PoolAddr> = evicted_from(fabric, &key).into_iter().collect();
            is_in(fabric, &slots, addr)
        }
        Kind::TreeNode => tree::is_live_node(fabric, header.namespace, addr),
        Kind::TreeValue => tree::is_live_value(fabric, header.namespace, &key, addr),
        // Blocks are searched after their owner's recovery, which ends its transactions.
        Kind::Intent => Ok(false),
    }
}

/// Whether the value of a key of `hash` has the piece at `addr`.
fn is_part(fabric: &Fabric, namespace: u16, hash: KeyHash, addr: PoolAddr) -> Result<bool> {
    let mut slots = index::candidates(fabric, hash)?;
    slots.extend(cache::slots_of_hash(fabric, namespace, hash)?.slots);
    for at in slots {
        let Ok(at) = fabric.primary(at) else { continue };
        let slot = Slot(fabric.read_word(at)?);
        let slot = slot.thawed().unwrap_or(slot);
        let Some(class) = slot.class().filter(|_| slot.fingerprint() == hash.fingerprint()) else {
            continue;
        };
        let mut bytes = vec![0; class.bytes()];
        fabric.read(slot.addr(), &mut bytes)?;
        let manifest = match object::parse(&bytes, class) {
            Ok((header, _, value)) if header.kind == Kind::Manifest => Manifest::decode(value),
            _ => continue,
        };
        if manifest.is_ok_and(|manifest| manifest.parts.iter().any(|p| p.slot.addr() == addr)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Header and key of the object; `None` if there is none.
fn read_key(
    fabric: &Fabric,
    addr: PoolAddr,
    class: SizeClass,
) -> Result<Option<(Header, Vec<u8>)>> {
    let mut head = [0; HEADER_BYTES];
    fabric.read(addr, &mut head)?;
    let Ok(header) = Header::decode(&head, class) else { return Ok(None) };
    let mut key = vec![0; header.key_len as usize];
    if !key.is_empty() {
        fabric.read(addr.add(HEADER_BYTES as u64), &mut key)?;
    }
    Ok(Some((header, key)))
}

/// Whether a slot in which the key can be names the object at `addr`.
fn is_named(fabric: &Fabric, namespace: u16, key: &[u8], addr: PoolAddr) -> Result<bool> {
    if index::is_named(fabric, KeyHash::of(namespace, key), addr)? {
        return Ok(true);
    }
    is_in(fabric, &cache::candidates(fabric, namespace, key)?.slots, addr)
}

/// Whether one of the slots names the object at `addr`.
fn is_in(fabric: &Fabric, slots: &[PoolAddr], addr: PoolAddr) -> Result<bool> {
    for &at in slots {
        let Ok(at) = fabric.primary(at) else { continue };
        if Slot(fabric.read_word(at)?).names() == Some(addr) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The slot that the log object of an eviction is for, if its key can be one's address.
fn evicted_from(fabric: &Fabric, key: &[u8]) -> Option<PoolAddr> {
    let slot = PoolAddr(u64::from_le_bytes(key.try_into().ok()?));
    let sane = slot.0 < PoolAddr::LIMIT && slot.0.is_multiple_of(8);
    (sane && !fabric.copies(slot).is_empty()).then_some(slot)
}
