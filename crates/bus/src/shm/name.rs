//! Names of pools, and of the files that their nodes are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{BusError, NodeId};

/// Where the host keeps POSIX shared memory.
pub(super) const DIRECTORY: &str = "/dev/shm";
/// Nodes with a higher number do not exist.
pub(super) const MAX_NODES: u16 = 256;
const MAX_NAME: usize = 64;

/// Refuses names that could not be told apart from the rest of a file's name.
pub(super) fn check(name: &str) -> Result<(), BusError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        return Err(BusError::System(format!(
            "pool name {name:?}: use 1 to {MAX_NAME} letters, digits, - or _"
        )));
    }
    Ok(())
}

/// The file of a node. The user's id is part of it, so that users do not meet each other's pools.
pub(super) fn path(name: &str, node: NodeId) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}{name}.node{}", prefix(), node.0))
}

fn prefix() -> String {
    format!("artesian.{}.", rustix::process::geteuid().as_raw())
}

/// Pool and node of every node file of this user, in no order.
pub(super) fn all() -> Result<Vec<(String, NodeId)>, BusError> {
    let listing = std::fs::read_dir(DIRECTORY)
        .map_err(|error| BusError::System(format!("cannot list {DIRECTORY}: {error}")))?;
    let prefix = prefix();
    let files = listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(files.filter_map(|file| parse(file.strip_prefix(&prefix)?)).collect())
}

fn parse(rest: &str) -> Option<(String, NodeId)> {
    let (name, number) = rest.split_once(".node")?;
    check(name).ok()?;
    let node: u16 = number.parse().ok()?;
    // `+1` and `01` parse as well, but are nobody's node.
    (node < MAX_NODES && node.to_string() == number).then(|| (name.to_owned(), NodeId(node)))
}

/// Names of this user's pools on this host, sorted.
pub fn pools() -> Result<Vec<String>, BusError> {
    let names: BTreeSet<String> = all()?.into_iter().map(|(name, _)| name).collect();
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_ambiguous_are_refused() {
        for bad in ["", "a/b", "a.b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        check("Models_2-x").unwrap();
    }

    #[test]
    fn only_whole_numbers_are_nodes() {
        assert_eq!(parse("a.node7"), Some(("a".to_owned(), NodeId(7))));
        for other in ["a.node", "a.node+7", "a.node07", "a.node256", "a.b.node1", "a"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
