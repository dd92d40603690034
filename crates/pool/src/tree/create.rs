//! The first node of a tree.

use super::edit::Frame;
use super::locked::{fresh, link, room, settle};
use super::node::NODE_BYTES;
use super::root::{look_up, root_word, ROOT_WORD};
use crate::address::PoolAddr;
use crate::alloc::Allocator;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::namespace::{spare_offset, Spaces};
use crate::object::word;
use crate::rtx::{Logs, Rtx, Target};

/// Gives the tree of `namespace` a root, unless it has got one meanwhile.
pub(super) fn create(
    fabric: &Fabric,
    alloc: &mut Allocator,
    logs: &Logs,
    spaces: &mut Spaces,
    namespace: u16,
) -> Result<()> {
    let (tree, root) = look_up(fabric, namespace)?;
    if root.is_some() {
        return Ok(());
    }
    spaces.admit(fabric, namespace, NODE_BYTES as u64)?;
    let room = room(fabric, alloc)?;
    let right = PoolAddr::NULL;
    let frame = Frame { tree, level: 0, version: 0, right, low: &[], high: None };
    let committing = (|| {
        let mut node = fresh(fabric, room, &frame, &[])?;
        let mut rtx = Rtx::begin(fabric, logs)?;
        let target = Target::Meta(spare_offset(namespace, ROOT_WORD));
        let mut held = [0; 8];
        rtx.lock(target, &mut held)?;
        if word(&held, 0) != 0 {
            return rtx.abort().map(|()| None);
        }
        link(&mut rtx, &mut node)?;
        rtx.write(target, &root_word(room.addr).to_le_bytes())?;
        Ok(Some(rtx))
    })();
    match committing {
        Ok(Some(rtx)) => {
            let outcome = rtx.commit();
            settle(alloc, std::iter::once(room), &outcome);
            outcome?;
            spaces.count(namespace, NODE_BYTES as i64);
            Ok(())
        }
        Ok(None) => {
            alloc.recycle(room);
            Ok(())
        }
        Err(error) => {
            alloc.recycle(room);
            Err(error)
        }
    }
}
