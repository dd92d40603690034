//! Where a descent goes to.

use super::node::{Node, Side};
use crate::error::Result;

/// A place in the order of keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seek<'a> {
    /// The node to which the key belongs.
    At(&'a [u8]),
    /// The node with the largest keys below this one, which is not the empty key.
    Below(&'a [u8]),
    /// The last node.
    Last,
}

impl Seek<'_> {
    /// Where that is, seen from `node`.
    pub fn side(self, node: Node<'_>) -> Side {
        match self {
            Seek::At(key) => node.side(key),
            Seek::Below(key) if key <= node.low() => Side::Before,
            Seek::Below(key) => match node.high() {
                Some((prefix, rest)) if is_above(key, prefix, rest) => Side::Behind,
                _ => Side::Here,
            },
            Seek::Last if node.high().is_some() => Side::Behind,
            Seek::Last => Side::Here,
        }
    }

    /// The number of the child of `node` under which it is, if it is [`Side::Here`].
    pub fn child(self, node: Node<'_>) -> Result<usize> {
        match self {
            Seek::At(key) => node.find_child(key),
            Seek::Below(key) => match node.find(key)? {
                Ok(place) | Err(place) => Ok(place.saturating_sub(1)),
            },
            Seek::Last => Ok(node.len().saturating_sub(1)),
        }
    }
}

/// Whether `key` is above the key that consists of `prefix` and `rest`.
fn is_above(key: &[u8], prefix: &[u8], rest: &[u8]) -> bool {
    let (start, end) = key.split_at(prefix.len().min(key.len()));
    start.cmp(prefix).then(end.cmp(rest)).is_gt()
}
