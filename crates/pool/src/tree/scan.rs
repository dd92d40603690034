//! Scans: leaf by leaf, each of them read whole at one moment.
//!
//! A scan goes on where the fence of the last leaf says, not where a pointer leads: nodes may split
//! and merge under it, and no key that was there throughout is missed or shown twice. Leaves that
//! the parent names next are read ahead in one batch, and used as far as their fences join.

use std::ops::Bound;

use artesian_bus::Verb;

use super::node::{Bytes, Node, Side, NODE_BYTES};
use super::rows::Rows;
use super::seek::Seek;
use super::walk::{Route, Trees, Walk};
use crate::address::PoolAddr;
use crate::client::Client;
use crate::error::{PoolError, Result};

/// Leaves read ahead at most.
const MOST_AHEAD: usize = 16;

/// A scan that is under way.
struct Scan<'b> {
    namespace: u16,
    /// The next key to show is at or after this one; in a scan back, before it, or any if none.
    cursor: Option<Vec<u8>>,
    end: Bound<&'b [u8]>,
    left: usize,
    /// Leaves to be read in the next batch.
    ahead: usize,
    /// An empty leaf that was met: its low fence.
    empty: Option<Vec<u8>>,
}

/// Whether a scan goes on.
type GoesOn = bool;

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn ends_before(end: Bound<&[u8]>, key: &[u8]) -> bool {
    match end {
        Bound::Included(end) => key > end,
        Bound::Excluded(end) => key >= end,
        Bound::Unbounded => false,
    }
}

fn begins_after(start: Bound<&[u8]>, key: &[u8]) -> bool {
    match start {
        Bound::Included(start) => key < start,
        Bound::Excluded(start) => key <= start,
        Bound::Unbounded => false,
    }
}

impl Client {
    /// Shows `f` the keys between `from` and `to` in their order, with their values, at most
    /// `limit` of them and until it returns false. Returns how many it was shown.
    ///
    /// Each key is shown as it was at some moment of the scan, different keys at different ones.
    pub fn tree_scan(
        &mut self,
        namespace: u16,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<usize> {
        let cursor = match from {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => after(key),
            Bound::Unbounded => Vec::new(),
        };
        self.scan(Scan::new(namespace, Some(cursor), to, limit), limit, f, Client::scan_some)
    }

    /// [`Client::tree_scan`] from the last key down to the first.
    pub fn tree_scan_back(
        &mut self,
        namespace: u16,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
        f: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<usize> {
        let cursor = match to {
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        self.scan(Scan::new(namespace, cursor, from, limit), limit, f, Client::scan_back_some)
    }

    fn scan<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        mut scan: Scan<'_>,
        limit: usize,
        mut f: F,
        some: fn(&mut Client, &mut Scan<'_>, &mut F) -> Result<GoesOn>,
    ) -> Result<usize> {
        while scan.left > 0 {
            self.trees.begin();
            let goes_on = match some(self, &mut scan, &mut f) {
                Err(PoolError::ViewChanged) => true,
                outcome => outcome?,
            };
            let empty = scan.empty.take();
            self.mend(scan.namespace, empty.as_deref())?;
            // No address is held from here to the next leaf.
            self.settle_down()?;
            if !goes_on {
                break;
            }
        }
        Ok(limit - scan.left)
    }

    /// Shows the keys of some leaves.
    fn scan_some<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        scan: &mut Scan<'_>,
        f: &mut F,
    ) -> Result<GoesOn> {
        let mut leaves = std::mem::take(&mut self.trees.leaves);
        let outcome = self.scan_leaves(scan, &mut leaves, f);
        self.trees.leaves = leaves;
        outcome
    }

    fn scan_leaves<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        scan: &mut Scan<'_>,
        leaves: &mut Vec<Bytes>,
        f: &mut F,
    ) -> Result<GoesOn> {
        let Client { fabric, trees, .. } = self;
        let Some(mut walk) = Walk::new(fabric, trees, scan.namespace)? else { return Ok(false) };
        let mut count = walk.read_leaves(scan, leaves)?;
        if count == 0 {
            // The parent did not know better: the usual way.
            let seek = Seek::At(scan.cursor.as_deref().unwrap_or_default());
            let Some(addr) = walk.find(seek, 0)? else { return Ok(false) };
            leaves.resize(leaves.len().max(1), [0; NODE_BYTES]);
            leaves[0] = *walk.trees.page;
            count = 1;
            if walk.known.root == addr {
                scan.ahead = 1;
            }
        }
        scan.ahead = (scan.ahead * 2).min(MOST_AHEAD);
        for leaf in &leaves[..count] {
            if !self.show(scan, Node::of(leaf), f)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Shows the keys of one leaf from the cursor on, and moves the cursor behind it.
    fn show<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        scan: &mut Scan<'_>,
        leaf: Node<'_>,
        f: &mut F,
    ) -> Result<GoesOn> {
        let cursor = scan.cursor.clone().unwrap_or_default();
        let (Ok(first) | Err(first)) = leaf.find(&cursor)?;
        let mut ended = false;
        self.trees.rows.clear();
        for index in first..leaf.len() {
            self.trees.rows.push(leaf, index)?;
            let rows = &self.trees.rows;
            if rows.len() > scan.left || ends_before(scan.end, rows.key(rows.len() - 1)) {
                self.trees.rows.pop();
                ended = true;
                break;
            }
        }
        scan.note_empty(leaf);
        self.trees.rows.read_values(&self.fabric, scan.namespace)?;
        if !scan.show_rows(&self.trees.rows, f) || ended {
            return Ok(false);
        }
        scan.cursor = leaf.high_key();
        let goes_on = scan.cursor.as_ref().is_some_and(|high| !ends_before(scan.end, high));
        Ok(goes_on && scan.left > 0)
    }

    /// Shows the keys of the leaf before the cursor, the last first.
    fn scan_back_some<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        scan: &mut Scan<'_>,
        f: &mut F,
    ) -> Result<GoesOn> {
        let Client { fabric, trees, .. } = self;
        let seek = match scan.cursor.as_deref() {
            Some([]) => return Ok(false),
            Some(key) => Seek::Below(key),
            None => Seek::Last,
        };
        let Some(mut walk) = Walk::new(fabric, trees, scan.namespace)? else { return Ok(false) };
        if walk.find(seek, 0)?.is_none() {
            return Ok(false);
        }
        let Trees { page, rows, .. } = trees;
        let leaf = Node::of(page);
        let below = match scan.cursor.as_deref() {
            Some(key) => leaf.find(key)?.unwrap_or_else(|behind| behind),
            None => leaf.len(),
        };
        let mut ended = false;
        rows.clear();
        for index in (0..below).rev() {
            rows.push(leaf, index)?;
            if rows.len() > scan.left || begins_after(scan.end, rows.key(rows.len() - 1)) {
                rows.pop();
                ended = true;
                break;
            }
        }
        scan.note_empty(leaf);
        rows.read_values(fabric, scan.namespace)?;
        if !scan.show_rows(rows, f) || ended {
            return Ok(false);
        }
        let low = leaf.low();
        scan.cursor = Some(low.to_vec());
        Ok(!low.is_empty() && !begins_after(scan.end, low))
    }
}

impl<'b> Scan<'b> {
    fn new(namespace: u16, cursor: Option<Vec<u8>>, end: Bound<&'b [u8]>, left: usize) -> Scan<'b> {
        Scan { namespace, cursor, end, left, ahead: 1, empty: None }
    }

    /// An empty leaf is left over from somebody who died, or who could not merge it.
    fn note_empty(&mut self, leaf: Node<'_>) {
        let only = leaf.low().is_empty() && leaf.high().is_none();
        if leaf.is_empty() && !only {
            self.empty = Some(leaf.low().to_vec());
        }
    }

    /// Shows all rows.
    fn show_rows<F: FnMut(&[u8], &[u8]) -> bool>(&mut self, rows: &Rows, f: &mut F) -> GoesOn {
        for at in 0..rows.len() {
            let (key, value) = rows.row(at);
            self.left -= 1;
            if !f(key, value) {
                return false;
            }
        }
        true
    }
}

impl Walk<'_> {
    /// Reads the leaf at the cursor and those that its parent names next, in one batch. Returns
    /// how many of them follow each other; 0 if the first one is not what it should be.
    fn read_leaves(&mut self, scan: &Scan<'_>, leaves: &mut Vec<Bytes>) -> Result<usize> {
        let seek = Seek::At(scan.cursor.as_deref().unwrap_or_default());
        let Some(route) = self.route(seek, 0)? else { return Ok(0) };
        let addrs = self.leaves_ahead(route, seek, scan.ahead)?;
        leaves.resize(leaves.len().max(addrs.len()), [0; NODE_BYTES]);
        let mut verbs: Vec<Verb<'_>> = Vec::with_capacity(addrs.len());
        for (&addr, into) in addrs.iter().zip(leaves.iter_mut()) {
            verbs.push(Verb::read(self.fabric.primary(addr)?, into));
        }
        self.fabric.batch(&mut verbs)?;
        drop(verbs);
        let mut fence: Option<Vec<u8>> = None;
        for (at, &addr) in addrs.iter().enumerate() {
            let Ok(node) = Node::open(&leaves[at], addr, self.known.tree) else { return Ok(at) };
            let joins = match (&fence, at) {
                (_, 0) => seek.side(node) == Side::Here,
                (Some(fence), _) => *fence == node.low(),
                (None, _) => false,
            };
            if !joins || node.is_dead() || node.level() != 0 {
                return Ok(at);
            }
            fence = node.high_key();
        }
        Ok(addrs.len())
    }

    /// The leaf of `route` and up to `count` in all that follow it in the copy of their parent.
    fn leaves_ahead(
        &mut self,
        route: Route,
        seek: Seek<'_>,
        count: usize,
    ) -> Result<Vec<PoolAddr>> {
        let parent = route.parent.and_then(|parent| self.trees.cache.get(parent));
        let Some(parent) = parent.filter(|parent| seek.side(*parent) == Side::Here) else {
            return Ok(vec![route.addr]);
        };
        let first = seek.child(parent)?;
        (first..parent.len().min(first + count)).map(|index| parent.child(index)).collect()
    }
}
