//! Quotas: what is tried before a change is refused, and counting a namespace's use anew.

use super::scan::object_of;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Candidate, Cursor};
use crate::namespace::{Kind as Space, Namespace, Recount};
use crate::object::{Header, Kind};
use crate::tree;

impl Client {
    /// The quota of `namespace` refuses a change: takes away what has expired, and counts anew if
    /// dead clients may have left the number wrong. Whether another try is worth it. Between
    /// operations.
    #[cold]
    pub(crate) fn search_quota(&mut self, namespace: u16) -> Result<bool> {
        let swept = self.sweep_for_room()?;
        let Some(space) = self.spaces.get(namespace).cloned() else { return Ok(false) };
        self.spaces.meter().flush(&self.fabric)?;
        let Some(recount) = Recount::begin_if_due(&self.fabric, &space)? else { return Ok(swept) };
        self.count_into(recount, &space)?;
        Ok(true)
    }

    /// Counts the bytes of the namespace's objects and puts its usage right. Dead clients may have
    /// left it wrong by what they kept back, at most a mebibyte each. What others change meanwhile
    /// may make it wrong by a part of that, and by what they have not told yet.
    pub fn recount(&mut self, namespace: u16) -> Result<u64> {
        let unknown = || PoolError::Invalid(format!("there is no namespace number {namespace}"));
        let space = self.spaces.get(namespace).cloned().ok_or_else(unknown)?;
        self.spaces.meter().flush(&self.fabric)?;
        let recount = Recount::begin(&self.fabric, &space)?;
        self.count_into(recount, &space)
    }

    fn count_into(&mut self, recount: Recount, space: &Namespace) -> Result<u64> {
        let bytes = match space.kind {
            Space::Tree => {
                let mut bytes = 0;
                tree::tree_check(&self.fabric, space.id, &mut |_, class| {
                    bytes += class.bytes() as u64;
                })?;
                bytes
            }
            Space::Store | Space::Cache => self.count_bytes(space.id)?,
        };
        self.settle_down()?;
        self.spaces.meter().flush(&self.fabric)?;
        recount.end(&self.fabric, space, bytes)?;
        Ok(bytes)
    }

    /// The bytes of the objects of the namespace's keys.
    pub(super) fn count_bytes(&mut self, namespace: u16) -> Result<u64> {
        let (mut bytes, mut cursor) = (0, Some(Cursor::START));
        while let Some(at) = cursor {
            let mut manifests = Vec::new();
            let count = |candidate: Candidate, header: &Header, _: &[u8]| {
                if header.namespace == namespace {
                    let object = object_of(candidate.slot);
                    bytes += object.class().map_or(0, |class| class.bytes() as u64);
                    manifests.extend((header.kind == Kind::Manifest).then_some(object));
                }
            };
            cursor = self.scan_piece(at, false, count)?.next;
            for object in manifests {
                let manifest = self.read_manifest(object)?;
                bytes += manifest.map_or(0, |manifest| manifest.parts_bytes());
            }
            self.settle_down()?;
        }
        Ok(bytes)
    }
}
