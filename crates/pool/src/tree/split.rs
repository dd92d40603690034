//! Splitting a node that is full.
//!
//! The new node is written first, and nobody can reach it. The transaction makes it valid and the
//! old one end where it begins. The parent learns of it in a second transaction
//! ([`Tree::post`]): until then the new node is reached from its left neighbour.

use super::edit::{entries, separator, Entry, Frame};
use super::locked::{fresh, link, settle, stamp, write_changes, Fresh, Tree};
use super::node::{child_payload, Bytes, Node, CHILD_BYTES, MAX_LEVELS, NODE_BYTES};
use super::walk::Missing;
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::rtx::Rtx;

/// A record that does not fit into its node any more.
pub(super) struct Arrival<'e> {
    /// Its place.
    pub index: usize,
    /// It takes the place of the record that is there.
    pub replaces: bool,
    pub entry: Entry<'e>,
    /// An object that is given up with that one.
    pub gives_up: Option<(PoolAddr, SizeClass)>,
}

/// Where to cut.
struct Cut {
    index: usize,
    separator: Vec<u8>,
}

impl<'a> Tree<'a> {
    /// Splits the node in `old`, which `rtx` has locked, and commits. True if the arrival is in
    /// its place; otherwise there is more room now.
    pub fn split(
        &mut self,
        mut rtx: Rtx<'a>,
        addr: PoolAddr,
        old: &Bytes,
        arrival: &Arrival<'_>,
    ) -> Result<bool> {
        let node = Node::of(old);
        let plain = entries(node)?;
        let mut all = plain.clone();
        if arrival.replaces {
            all[arrival.index] = arrival.entry;
        } else {
            all.insert(arrival.index, arrival.entry);
        }
        let (cut, records, arrives) = match cut(node, &all, arrival) {
            Some(cut) => (cut, &all, true),
            None => {
                let full = || PoolError::Corrupt("tree node: full without records".into());
                (cut_anyhow(node, &plain).ok_or_else(full)?, &plain, false)
            }
        };
        if let (Some((addr, class)), true) = (arrival.gives_up, arrives) {
            rtx.free(self.alloc, addr, class)?;
        }
        if self.is_root(addr) {
            self.split_root(rtx, old, records, &cut)?;
        } else {
            self.split_off(rtx, addr, old, records, cut)?;
        }
        Ok(arrives)
    }

    /// Moves the upper records to a new right neighbour.
    fn split_off(
        &mut self,
        mut rtx: Rtx<'a>,
        addr: PoolAddr,
        old: &Bytes,
        records: &[Entry<'_>],
        cut: Cut,
    ) -> Result<()> {
        let (node, high, fabric) = (Node::of(old), Node::of(old).high_key(), self.walk.fabric);
        let [new] = self.rooms()?;
        let right = Frame {
            tree: self.walk.known.tree,
            level: node.level(),
            version: 0,
            right: node.right(),
            low: &cut.separator,
            high: high.as_deref(),
        };
        let left = Frame {
            version: node.version().wrapping_add(1),
            right: new.addr,
            low: node.low(),
            high: Some(&cut.separator),
            ..right
        };
        let mut image = *old;
        let prepared = (|| {
            let mut nodes = [fresh(fabric, new, &right, &records[cut.index..])?];
            left.build(&records[..cut.index], &mut image)?;
            stamp(&mut image, addr);
            link(&mut rtx, &mut nodes[0])?;
            write_changes(&mut rtx, addr, old, &image)?;
            Ok(nodes)
        })();
        self.commit_new(rtx, prepared, &[new], addr, &image)?;
        let (level, key) = (node.level() + 1, cut.separator);
        self.walk.trees.missing.push(Missing { level, key, child: new.addr });
        Ok(())
    }

    /// Moves all records of the root to two new nodes below it.
    fn split_root(
        &mut self,
        mut rtx: Rtx<'a>,
        old: &Bytes,
        records: &[Entry<'_>],
        cut: &Cut,
    ) -> Result<()> {
        let (node, addr, fabric) = (Node::of(old), self.walk.known.root, self.walk.fabric);
        let level = node.level();
        if level + 1 >= MAX_LEVELS {
            return Err(PoolError::Invalid("the ordered index is too deep".into()));
        }
        let [one, two] = self.rooms()?;
        let right = Frame {
            tree: self.walk.known.tree,
            level,
            version: 0,
            right: PoolAddr::NULL,
            low: &cut.separator,
            high: None,
        };
        let left = Frame { right: two.addr, low: &[], high: Some(&cut.separator), ..right };
        let version = node.version().wrapping_add(1);
        let root = Frame { level: level + 1, version, low: &[], ..right };
        let children = [one, two].map(|room| child_payload(room.addr));
        let tag = CHILD_BYTES as u8;
        let pointers =
            [Entry::new(&[], tag, &children[0]), Entry::new(&cut.separator, tag, &children[1])];
        let mut image = *old;
        let prepared = (|| {
            let mut nodes = [
                fresh(fabric, one, &left, &records[..cut.index])?,
                fresh(fabric, two, &right, &records[cut.index..])?,
            ];
            root.build(&pointers, &mut image)?;
            stamp(&mut image, addr);
            for node in &mut nodes {
                link(&mut rtx, node)?;
            }
            write_changes(&mut rtx, addr, old, &image)?;
            Ok(nodes)
        })();
        self.commit_new(rtx, prepared, &[one, two], addr, &image)
    }

    /// Commits a split for which all is prepared, and settles what becomes of the new nodes.
    fn commit_new<const N: usize>(
        &mut self,
        rtx: Rtx<'a>,
        prepared: Result<[Fresh; N]>,
        rooms: &[crate::alloc::Allocation; N],
        addr: PoolAddr,
        image: &Bytes,
    ) -> Result<()> {
        let nodes = match prepared {
            Ok(nodes) => nodes,
            Err(error) => {
                drop(rtx);
                rooms.iter().for_each(|&room| self.alloc.recycle(room));
                return Err(error);
            }
        };
        let outcome = rtx.commit();
        settle(self.alloc, rooms.iter().copied(), &outcome);
        outcome?;
        self.count((N * NODE_BYTES) as i64);
        self.remember(addr, image);
        for node in &nodes {
            self.remember(node.room.addr, &node.bytes);
        }
        Ok(())
    }
}

/// The separator of the two halves.
fn separator_at(level: u8, records: &[Entry<'_>], index: usize) -> Vec<u8> {
    let right = records[index].key();
    if level > 0 {
        return right;
    }
    separator(&records[index - 1].key(), &right)
}

/// Whether both halves are nodes.
fn suits(node: Node<'_>, records: &[Entry<'_>], index: usize) -> Option<Cut> {
    let separator = separator_at(node.level(), records, index);
    let (high, level) = (node.high_key(), node.level());
    let (tree, version, right) = (super::node::TreeId::NONE, 0, PoolAddr::NULL);
    let low = node.low();
    let left = Frame { tree, level, version, right, low, high: Some(&separator) };
    let other = Frame { low: &separator, high: high.as_deref(), ..left };
    let fits = left.fits(&records[..index]) && other.fits(&records[index..]);
    fits.then_some(Cut { index, separator })
}

/// The best place to cut with the arrival. Keys that come in order fill the nodes they leave.
fn cut(node: Node<'_>, records: &[Entry<'_>], arrival: &Arrival<'_>) -> Option<Cut> {
    let last = records.len() - 1;
    if arrival.index == last && last > 0 && node.right().is_null() {
        if let Some(cut) = suits(node, records, last) {
            return Some(cut);
        }
    }
    cut_anyhow(node, records)
}

/// The place nearest to the middle where both halves are nodes.
fn cut_anyhow(node: Node<'_>, records: &[Entry<'_>]) -> Option<Cut> {
    let bytes = |entry: &Entry<'_>| entry.prefix.len() + entry.rest.len() + entry.payload.len();
    let total: usize = records.iter().map(bytes).sum();
    let mut sum = 0;
    let middle = records.iter().take_while(|entry| {
        sum += bytes(entry);
        sum * 2 <= total
    });
    let middle = middle.count().max(1);
    let count = records.len();
    let around = (0..count).flat_map(|away| [middle.checked_sub(away), Some(middle + away)]);
    let inside = around.flatten().filter(|index| (1..count).contains(index));
    inside.into_iter().find_map(|index| suits(node, records, index))
}
