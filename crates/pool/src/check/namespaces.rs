//! The namespace table and usage.

use std::collections::BTreeMap;

use super::clients::read_copies;
use super::report::{Finding, Keys, Place, What};
use crate::config::meta;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::namespace::{self, Namespace};

const RECORD: usize = meta::NAMESPACE_RECORD as usize;

/// Checks the records, and that all copies of them are the same.
pub(super) fn table(fabric: &Fabric, found: &mut Vec<Finding>) -> Result<()> {
    let len = meta::NUM_NAMESPACES as usize * RECORD;
    let copies = read_copies(fabric, meta::NAMESPACE_TABLE, len)?;
    for id in 0..meta::NUM_NAMESPACES as u16 {
        let place = Place::Namespace(id);
        let range = usize::from(id) * RECORD..(usize::from(id) + 1) * RECORD;
        if let Err(error) = namespace::decode(id, &copies[0][range.clone()]) {
            found.push(Finding::error(What::NamespaceRecord, place, error.to_string()));
        }
        for (number, copy) in copies.iter().enumerate().skip(1) {
            if copy[range.clone()] != copies[0][range.clone()] {
                let text = format!("copy {number} of its record differs from the first");
                found.push(Finding::warning(What::MetaCopies, place, text));
            }
        }
    }
    Ok(())
}

/// Compares what was counted with what the namespaces' records and counters say. Returns what is
/// wrong with the number that would be right; only if nobody else is there.
pub(super) fn usage(
    fabric: &Fabric,
    keys: &BTreeMap<u16, Keys>,
    is_alone: bool,
    found: &mut Vec<Finding>,
) -> Result<Vec<(Finding, Namespace, u64)>> {
    let known = namespace::list(fabric)?;
    for (&id, counted) in keys {
        if !known.iter().any(|namespace| namespace.id == id) {
            let text = format!("{} keys with {} bytes", counted.keys, counted.bytes);
            found.push(Finding::warning(What::NamespaceUnknown, Place::Namespace(id), text));
        }
    }
    let mut wrong = Vec::new();
    if !is_alone {
        return Ok(wrong);
    }
    let is_counted = |known: &&Namespace| known.kind != namespace::Kind::Cache;
    for namespace in known.iter().filter(is_counted) {
        let counted = keys.get(&namespace.id).map_or(0, |keys| keys.bytes);
        let used = namespace::used(fabric, namespace)?;
        if used != counted {
            let text = format!("{used} bytes are accounted for; its objects have {counted}");
            let finding = Finding::warning(What::Usage, Place::Namespace(namespace.id), text);
            wrong.push((finding, namespace.clone(), counted));
        }
    }
    Ok(wrong)
}
