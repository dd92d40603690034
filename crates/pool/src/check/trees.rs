//! The trees of ordered namespaces.

use super::report::{Finding, Keys, Place, What};
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::namespace::{self, Kind};
use crate::tree::tree_check;

/// What a tree consists of.
#[derive(Default)]
pub(super) struct Seen {
    pub refs: Vec<(PoolAddr, SizeClass)>,
    pub keys: Keys,
}

/// The ordered namespaces.
pub(super) fn namespaces(fabric: &Fabric) -> Result<Vec<u16>> {
    let known = namespace::list(fabric)?.into_iter();
    Ok(known.filter(|known| known.kind == Kind::Tree).map(|known| known.id).collect())
}

/// Checks one tree.
pub(super) fn tree(
    fabric: &Fabric,
    namespace: u16,
    seen: &mut Seen,
    found: &mut Vec<Finding>,
) -> Result<()> {
    *seen = Seen::default();
    let Seen { refs, keys } = seen;
    let report = tree_check(fabric, namespace, &mut |addr, class| {
        refs.push((addr, class));
        keys.bytes += class.bytes() as u64;
    })?;
    keys.keys = report.keys;
    for fault in report.faults {
        let place = match fault.at {
            PoolAddr::NULL => Place::Namespace(namespace),
            at => Place::Object(at),
        };
        found.push(Finding::error(What::Tree, place, fault.text));
    }
    Ok(())
}
