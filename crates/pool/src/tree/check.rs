//! Looking a whole tree over: for the pool's check, and for tests.
//!
//! A level is a chain of nodes that share out all keys; the level above names them in the same
//! order, all or nearly all. While others work the tree changes under the check: what it finds
//! then is to be looked at again.

use std::collections::HashSet;

use artesian_bus::Verb;

use super::edit::entries;
use super::node::{Bytes, Flaw, Node, TreeId, CHECK, CHILD_BYTES, NODE_BYTES, NODE_CLASS, STORED};
use super::root::look_up;
use super::value::Reference;
use crate::address::PoolAddr;
use crate::alloc::Geometry;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Faults that are told; there may be more.
const MOST_FAULTS: usize = 100;

/// Something in a tree that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFault {
    /// The node or value, or the null address.
    pub at: PoolAddr,
    /// What is wrong.
    pub text: String,
}

/// What a check of a tree found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Levels; 0 if the tree has no root yet.
    pub levels: u8,
    /// Nodes.
    pub nodes: u64,
    /// Keys.
    pub keys: u64,
    /// Values in objects of their own.
    pub stored: u64,
    /// Nodes that their parents do not name yet: allowed, as whoever passes them sees to it.
    pub unposted: u64,
    /// Leaves without keys, the only leaf of an empty tree not counted: allowed as well.
    pub empty_leaves: u64,
    /// What is wrong.
    pub faults: Vec<TreeFault>,
}

/// A child: where it begins, and where it lies.
type Child = (Vec<u8>, PoolAddr);

struct Check<'a> {
    fabric: &'a Fabric,
    tree: TreeId,
    geometry: Geometry,
    report: TreeReport,
    seen: HashSet<PoolAddr>,
    in_use: &'a mut dyn FnMut(PoolAddr, SizeClass),
}

/// Checks the tree of `namespace` and shows `in_use` every object that belongs to it.
pub fn tree_check(
    fabric: &Fabric,
    namespace: u16,
    in_use: &mut dyn FnMut(PoolAddr, SizeClass),
) -> Result<TreeReport> {
    let (tree, root) = look_up(fabric, namespace)?;
    let geometry = Geometry::of(fabric.config());
    let (report, seen) = (TreeReport::default(), HashSet::new());
    let mut check = Check { fabric, tree, geometry, report, seen, in_use };
    let Some(root) = root else { return Ok(check.report) };
    let mut above: Vec<Child> = vec![(Vec::new(), root)];
    let Some(bytes) = check.read(root)? else { return Ok(check.report) };
    let top = Node::of(&bytes);
    check.report.levels = top.level() + 1;
    if top.right() != PoolAddr::NULL || top.high().is_some() || !top.low().is_empty() {
        check.fault(root, "the root does not hold all keys".into());
    }
    for level in (0..=top.level()).rev() {
        above = check.level(level, &above)?;
    }
    Ok(check.report)
}

impl Check<'_> {
    fn fault(&mut self, at: PoolAddr, text: String) {
        if self.report.faults.len() < MOST_FAULTS {
            self.report.faults.push(TreeFault { at, text });
        }
    }

    /// Reads the node at `addr`, all copies of it; none if it is no node.
    fn read(&mut self, addr: PoolAddr) -> Result<Option<Box<Bytes>>> {
        if self.geometry.place(addr, NODE_CLASS).is_err() {
            self.fault(addr, "no node can lie there".into());
            return Ok(None);
        }
        let mut first: Option<Box<Bytes>> = None;
        for copy in self.fabric.copies(addr) {
            let mut bytes = Box::new([0; NODE_BYTES]);
            self.fabric.batch(&mut [Verb::read(copy, &mut bytes[..])])?;
            match &first {
                None => first = Some(bytes),
                Some(one) if one[..CHECK + 8] != bytes[..CHECK + 8] => {
                    self.fault(addr, "its copies differ".into());
                }
                Some(_) => {}
            }
        }
        let Some(bytes) = first else {
            return Err(PoolError::Lost(format!("no copy of the node at {addr:?} is left")));
        };
        let flaw = match Node::open(&bytes, addr, self.tree) {
            Ok(node) if node.is_dead() => "it is dead",
            Ok(_) => return Ok(Some(bytes)),
            Err(Flaw::Foreign) => "it is no node of this tree",
            Err(Flaw::Torn) => "its check differs",
            Err(Flaw::Unlinked) => "it was never linked",
            Err(Flaw::Corrupt) => "its numbers cannot be",
        };
        self.fault(addr, flaw.into());
        Ok(None)
    }

    /// Follows the chain of a level, of which the level above names `above`. Returns what it names.
    fn level(&mut self, level: u8, above: &[Child]) -> Result<Vec<Child>> {
        let (mut addr, mut below) = (above[0].1, Vec::new());
        let (mut low, mut named) = (Vec::new(), above.iter().peekable());
        loop {
            if !self.seen.insert(addr) {
                self.fault(addr, "it comes twice".into());
                break;
            }
            let Some(bytes) = self.read(addr)? else { break };
            let node = Node::of(&bytes);
            (self.in_use)(addr, NODE_CLASS);
            self.report.nodes += 1;
            if node.level() != level {
                self.fault(addr, format!("level {} on level {level}", node.level()));
                break;
            }
            if node.low() != low {
                self.fault(addr, "it does not begin where the node before it ends".into());
            }
            match named.peek() {
                Some((key, child)) if *child == addr => {
                    if *key != node.low() {
                        self.fault(addr, "its parent says that it begins elsewhere".into());
                    }
                    named.next();
                }
                _ => self.report.unposted += 1,
            }
            self.records(addr, node, &mut below)?;
            match node.high_key() {
                Some(high) if high > node.low().to_vec() => low = high,
                Some(_) => self.fault(addr, "it ends before it begins".into()),
                None => break,
            }
            addr = node.right();
        }
        if let Some((_, child)) = named.next() {
            self.fault(*child, format!("named, but not in the chain of level {level}"));
        }
        Ok(below)
    }

    /// Checks the records of a node.
    fn records(&mut self, addr: PoolAddr, node: Node<'_>, below: &mut Vec<Child>) -> Result<()> {
        let records = match entries(node) {
            Ok(records) => records,
            Err(error) => {
                self.fault(addr, error.to_string());
                return Ok(());
            }
        };
        if node.level() == 0 && records.is_empty() && node.high().is_some() | !node.low().is_empty()
        {
            self.report.empty_leaves += 1;
        }
        let high = node.high_key();
        let mut last: Option<Vec<u8>> = None;
        for (index, record) in records.iter().enumerate() {
            let key = record.key();
            if last.as_ref().is_some_and(|last| *last >= key) {
                self.fault(addr, format!("keys {} and {index} are out of order", index - 1));
            }
            if key[..] < *node.low() || high.as_ref().is_some_and(|high| key >= *high) {
                self.fault(addr, format!("key {index} does not belong there"));
            }
            if node.level() == 0 {
                self.report.keys += 1;
                if record.tag == STORED {
                    self.value(addr, &key, record.payload)?;
                }
            } else if record.tag as usize == CHILD_BYTES {
                below.push((key.clone(), node.child(index)?));
            } else {
                self.fault(addr, format!("record {index} names no child"));
            }
            last = Some(key);
        }
        Ok(())
    }

    /// Checks a value in an object of its own, all copies of it.
    fn value(&mut self, leaf: PoolAddr, key: &[u8], payload: &[u8]) -> Result<()> {
        self.report.stored += 1;
        let known = Reference::decode(payload).and_then(|reference| {
            let (addr, class) = reference.object()?;
            self.geometry.place(addr, class)?;
            Ok((reference, addr, class, reference.head_bytes(key.len())?))
        });
        let (reference, addr, class, bytes) = match known {
            Ok(known) => known,
            Err(error) => {
                self.fault(leaf, error.to_string());
                return Ok(());
            }
        };
        (self.in_use)(addr, class);
        if !self.seen.insert(addr) {
            self.fault(addr, "two keys have it as their value".into());
        }
        let mut head = vec![0; bytes];
        for copy in self.fabric.copies(addr) {
            self.fabric.batch(&mut [Verb::read(copy, &mut head)])?;
            if reference.value_in(self.tree.namespace, key, &head).is_none() {
                self.fault(addr, "a copy of it is not the value of its key".into());
            }
        }
        Ok(())
    }
}
