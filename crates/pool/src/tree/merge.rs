//! Merging nodes that have become nearly empty, and taking levels off.
//!
//! One transaction locks the parent and two neighbours below it: the left one takes over what the
//! right one has, the right one is marked as dead, and its record in the parent goes. Nodes keep
//! their low fence for life. Whoever still comes to the dead node sees the mark and descends again.

use super::edit::{entries, used, Draft, Frame};
use super::locked::{stamp, write_changes, Tree};
use super::node::{Bytes, Node, CHECK, MAX_LEVELS, NODE_BYTES, NODE_CLASS};
use super::post::{is_over, ATTEMPTS};
use super::seek::Seek;
use super::walk::Missing;
use super::SPARSE;
use crate::address::PoolAddr;
use crate::error::Result;
use crate::rtx::{Rtx, Target};

/// A merged node has at most this many bytes, so that it does not split again at once.
const MOST_MERGED: usize = CHECK * 3 / 4;

/// How one merge ended.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// There is nothing more to do here.
    Nothing,
    /// Somebody was quicker, or something is to be set right first: look again.
    Again,
    /// The parent is nearly empty: its low fence.
    Up(Vec<u8>),
}

/// Two neighbours, locked and read.
struct Pair {
    left_addr: PoolAddr,
    right_addr: PoolAddr,
    left: Bytes,
    right: Bytes,
}

impl<'a> Tree<'a> {
    /// Merges the leaf that begins at `low` with a neighbour if both fit into one, and so on up.
    pub fn merge(&mut self, low: &[u8]) -> Result<()> {
        let (mut low, mut level) = (low.to_vec(), 0);
        'levels: while level < MAX_LEVELS {
            // With its left neighbour, or with its right one.
            for side in 0..2 {
                match self.merge_with(&low, level, side)? {
                    Next::Up(parent) => {
                        (low, level) = (parent, level + 1);
                        continue 'levels;
                    }
                    Next::Again => return Ok(()),
                    Next::Nothing => {}
                }
            }
            break;
        }
        Ok(())
    }

    fn merge_with(&mut self, low: &[u8], level: u8, side: usize) -> Result<Next> {
        let mut next = Next::Again;
        for _ in 0..ATTEMPTS {
            let outcome = self.merge_once(low, level, side).map(|found| {
                next = found;
                next != Next::Again
            });
            if is_over(outcome)? {
                break;
            }
            self.post_all()?;
        }
        Ok(next)
    }

    fn merge_once(&mut self, low: &[u8], level: u8, side: usize) -> Result<Next> {
        let seek = Seek::At(low);
        let Some(route) = self.walk.route(seek, level + 1)? else { return Ok(Next::Nothing) };
        let Some((mut rtx, addr)) = self.lock(route, seek, level + 1, None)? else {
            return Ok(Next::Again);
        };
        let old = *self.walk.trees.page;
        let parent = Node::of(&old);
        if parent.len() == 1 {
            if self.is_root(addr) {
                return self.shrink(rtx, &old);
            }
            let up = parent.low().to_vec();
            return rtx.abort().map(|()| Next::Up(up));
        }
        let index = parent.find_child(low)?.max(1) + side;
        if index >= parent.len() || parent.child(index)? == parent.child(index - 1)? {
            return rtx.abort().map(|()| Next::Nothing);
        }
        let addrs = (parent.child(index - 1)?, parent.child(index)?);
        let Some(pair) = self.lock_pair(&mut rtx, level, &parent.key(index)?, addrs)? else {
            return rtx.abort().map(|()| Next::Again);
        };
        let Some(merged) = self.join(&pair)? else {
            return rtx.abort().map(|()| Next::Nothing);
        };
        let mut new = old;
        let mut draft = Draft(&mut new);
        draft.remove(index)?;
        draft.seal(addr);
        write_changes(&mut rtx, pair.left_addr, &pair.left, &merged)?;
        self.bury(&mut rtx, pair.right_addr, &pair.right)?;
        write_changes(&mut rtx, addr, &old, &new)?;
        rtx.commit()?;
        self.count(-(NODE_BYTES as i64));
        self.walk.trees.cache.forget(pair.right_addr);
        self.remember(pair.left_addr, &merged);
        self.remember(addr, &new);
        let after = Node::of(&new);
        if self.is_root(addr) {
            return Ok(if after.len() == 1 { Next::Again } else { Next::Nothing });
        }
        let crossed = used(parent) >= SPARSE && used(after) < SPARSE;
        let up = after.len() == 1 || crossed;
        Ok(if up { Next::Up(after.low().to_vec()) } else { Next::Nothing })
    }

    /// Locks and reads two children, of which the right one begins at `fence`. None if they are
    /// not neighbours, or not what the parent says.
    fn lock_pair(
        &mut self,
        rtx: &mut Rtx<'a>,
        level: u8,
        fence: &[u8],
        (left_addr, right_addr): (PoolAddr, PoolAddr),
    ) -> Result<Option<Pair>> {
        let (mut left, mut right) = ([0; NODE_BYTES], [0; NODE_BYTES]);
        rtx.lock(Target::Pool(left_addr), &mut left)?;
        rtx.lock(Target::Pool(right_addr), &mut right)?;
        let tree = self.walk.known.tree;
        let opened = (Node::open(&left, left_addr, tree), Node::open(&right, right_addr, tree));
        let (Ok(one), Ok(two)) = opened else { return Ok(None) };
        let alive = |node: Node<'_>| !node.is_dead() && node.level() == level;
        if !alive(one) || !alive(two) || two.low() != fence {
            return Ok(None);
        }
        if one.right() != right_addr || one.high_key().as_deref() != Some(fence) {
            // There is a node between them that the parent does not know.
            self.note(one);
            return Ok(None);
        }
        Ok(Some(Pair { left_addr, right_addr, left, right }))
    }

    /// Notes that the right neighbour of `node` is missing in its parent.
    fn note(&mut self, node: Node<'_>) {
        if let Some(key) = node.high_key() {
            let (level, child) = (node.level() + 1, node.right());
            self.walk.trees.missing.push(Missing { level, key, child });
        }
    }

    /// The left node with the records of both; none if that is too much.
    fn join(&self, pair: &Pair) -> Result<Option<Bytes>> {
        let (left, right) = (Node::of(&pair.left), Node::of(&pair.right));
        let mut records = entries(left)?;
        records.extend(entries(right)?);
        let high = right.high_key();
        let frame = Frame {
            tree: self.walk.known.tree,
            level: left.level(),
            version: left.version().wrapping_add(1),
            right: right.right(),
            low: left.low(),
            high: high.as_deref(),
        };
        let most = if left.is_empty() || right.is_empty() { CHECK } else { MOST_MERGED };
        if frame.size(&records) > most {
            return Ok(None);
        }
        let mut merged = pair.left;
        frame.build(&records, &mut merged)?;
        stamp(&mut merged, pair.left_addr);
        Ok(Some(merged))
    }

    /// Marks a node as dead and gives it up.
    fn bury(&mut self, rtx: &mut Rtx<'a>, addr: PoolAddr, old: &Bytes) -> Result<()> {
        let mut dead = *old;
        let mut draft = Draft(&mut dead);
        draft.bury();
        draft.seal(addr);
        write_changes(rtx, addr, old, &dead)?;
        rtx.free(self.alloc, addr, NODE_CLASS)
    }

    /// The root, which has one child, becomes what that child is.
    fn shrink(&mut self, mut rtx: Rtx<'a>, old: &Bytes) -> Result<Next> {
        let (root, addr, tree) = (Node::of(old), self.walk.known.root, self.walk.known.tree);
        let child_addr = root.child(0)?;
        let mut bytes = [0; NODE_BYTES];
        rtx.lock(Target::Pool(child_addr), &mut bytes)?;
        let Ok(child) = Node::open(&bytes, child_addr, tree) else {
            return rtx.abort().map(|()| Next::Again);
        };
        if child.is_dead() || child.level() + 1 != root.level() {
            return rtx.abort().map(|()| Next::Again);
        }
        if child.high().is_some() {
            self.note(child);
            return rtx.abort().map(|()| Next::Again);
        }
        let frame = Frame {
            tree,
            level: child.level(),
            version: root.version().wrapping_add(1),
            right: PoolAddr::NULL,
            low: &[],
            high: None,
        };
        let mut new = *old;
        frame.build(&entries(child)?, &mut new)?;
        stamp(&mut new, addr);
        write_changes(&mut rtx, addr, old, &new)?;
        self.bury(&mut rtx, child_addr, &bytes)?;
        rtx.commit()?;
        self.count(-(NODE_BYTES as i64));
        self.walk.trees.cache.forget(child_addr);
        self.remember(addr, &new);
        let again = Node::of(&new).level() > 0 && Node::of(&new).len() == 1;
        Ok(if again { Next::Again } else { Next::Nothing })
    }
}
