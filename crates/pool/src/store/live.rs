//! Which objects the store uses: asked for the blocks of dead clients.

use crate::address::PoolAddr;
use crate::alloc::Liveness;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{self, KeyHash};
use crate::object::{word, Header, Kind, HEADER_BYTES};
use crate::recover::{self, Places};
use crate::slot::Slot;
use crate::tree;

/// Objects that the hash index, its slots or their manifests refer to.
pub struct InUse;

impl recover::Index for InUse {
    fn places(&mut self, fabric: &Fabric, header: &Header, key: &[u8]) -> Result<Places> {
        let slots = index::candidates(fabric, KeyHash::of(header.namespace, key))?;
        let mut locks: Vec<PoolAddr> = slots.iter().map(|slot| index::header_of(*slot)).collect();
        locks.dedup();
        Ok(Places { slots, locks })
    }

    fn parts(&self, manifest: &[u8]) -> Vec<Slot> {
        manifest.chunks_exact(8).map(|bytes| Slot(word(bytes, 0))).collect()
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
            index::is_named(fabric, KeyHash::of(header.namespace, &key), addr)
        }
        Kind::Chunk if key.len() == 9 => {
            let (manifest, class) = (PoolAddr(word(&key, 0)), SizeClass(key[8]));
            let known = manifest.0 < PoolAddr::LIMIT && (class.0 as usize) < SizeClass::COUNT;
            if !known || fabric.copies(manifest).is_empty() {
                return Ok(false);
            }
            match read_key(fabric, manifest, class)? {
                Some((header, key)) if header.kind == Kind::Manifest => {
                    index::is_named(fabric, KeyHash::of(header.namespace, &key), manifest)
                }
                _ => Ok(false),
            }
        }
        Kind::Chunk => Ok(false),
        Kind::Table => index::is_index_memory(fabric, addr),
        Kind::Eviction => Ok(false),
        Kind::TreeNode => tree::is_live_node(fabric, header.namespace, addr),
        Kind::TreeValue => tree::is_live_value(fabric, header.namespace, &key, addr),
        // Blocks are searched after their owner's recovery, which ends its transactions.
        Kind::Intent => Ok(false),
    }
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
