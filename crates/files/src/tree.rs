//! The tree: from the mount over folders to files and their blocks.

use std::collections::HashMap;

use crate::error::Result;
use crate::judge::{Rule, Verdict};
use crate::listing::Listing;
use crate::node::{Kind, Node, NodeId, NO_NODE};
use crate::options::Options;
use crate::recency::Recency;
use crate::report::{Level, Remembered, UnitChange, UnitReport};
use crate::units::Units;

/// Somebody read some bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read<'a> {
    /// The origin's URL, or a path.
    pub path: &'a str,
    /// First byte.
    pub offset: u64,
    /// How many; what lies behind the end of the file does not count.
    pub length: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Which open file.
    pub stream: u64,
    /// Who reads one file after another, such as a thread; 0 if that is not known.
    pub reader: u64,
    /// Seconds of any clock.
    pub time_s: f64,
}

/// What a read belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Serial number of the nearest unit above, 0 if there is none.
    pub unit: u32,
    /// Whether `take_changes` has something to tell.
    pub has_changes: bool,
}

/// Blocks that one read is taken to touch at most.
const MOST_BLOCKS: u64 = 1024;
/// Leaves that are looked at to find one that is no unit.
const MOST_SPARED: usize = 64;

/// Recent accesses at every level of the name space, and how each level is read.
#[derive(Debug)]
pub struct AccessStreamTree {
    pub(crate) options: Options,
    pub(crate) nodes: Vec<Node>,
    pub(crate) units: Units,
    free: Vec<NodeId>,
    recency: Recency,
    num_listed: usize,
    begin_s: Option<f64>,
    remembered: HashMap<Box<str>, (Verdict, bool)>,
}

/// Mount of a path, and the rest: `s3://`, `file:///`, `/` or nothing.
pub(crate) fn split_mount(path: &str) -> (&str, &str) {
    let scheme = path.find("://").map_or(0, |place| place + 3);
    let slashes = path[scheme..].len() - path[scheme..].trim_start_matches('/').len();
    path.split_at(scheme + slashes)
}

fn parts(rest: &str) -> impl Iterator<Item = &str> {
    rest.split('/').filter(|part| !part.is_empty())
}

fn fold(stream: u64) -> u32 {
    (stream ^ (stream >> 32)) as u32
}

impl AccessStreamTree {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// An option is out of its range.
    pub fn new(options: Options) -> Result<AccessStreamTree> {
        options.check()?;
        let mut root = Node::new("", NO_NODE, Kind::Folder);
        root.is_provisional = true;
        Ok(AccessStreamTree {
            options,
            nodes: vec![root],
            units: Units::default(),
            free: Vec::new(),
            recency: Recency::default(),
            num_listed: 0,
            begin_s: None,
            remembered: HashMap::new(),
        })
    }

    /// Somebody read.
    pub fn access(&mut self, read: &Read<'_>) -> Touched {
        let begin_s = *self.begin_s.get_or_insert(read.time_s);
        let time = (read.time_s - begin_s).max(0.0) as f32;
        let (mount, rest) = split_mount(read.path);
        let (stream, reader) = (fold(read.stream), fold(read.reader));
        let block = self.options.block_bytes;
        let mut node = self.child(0, mount, Kind::Folder);
        let mut deepest = node;
        let mut left = parts(rest).peekable();
        while let Some(name) = left.next() {
            let is_file = left.peek().is_none();
            let current = &mut self.nodes[node as usize];
            let is_new = current.push_name(name, reader, time, &self.options);
            if is_file && is_new {
                current.learn_size(read.file_bytes as f64);
            }
            if is_new && current.is_due(&self.options) {
                self.test(node);
            }
            // A file of one block is its block.
            if is_file && read.file_bytes <= block {
                break;
            }
            node = self.child(node, name, if is_file { Kind::File } else { Kind::Folder });
            deepest = node;
        }
        if self.nodes[deepest as usize].kind == Kind::File {
            self.push_blocks(deepest, read, stream, time);
        }
        self.touch(deepest);
        Touched { unit: self.unit_above(deepest), has_changes: self.units.has_changes() }
    }

    fn push_blocks(&mut self, file: NodeId, read: &Read<'_>, stream: u32, time: f32) {
        let block = self.options.block_bytes;
        self.nodes[file as usize].resize(read.file_bytes, block);
        let end = read.offset.saturating_add(read.length).min(read.file_bytes);
        if read.offset >= end {
            return;
        }
        let first = read.offset / block;
        let last = ((end - 1) / block).min(first + MOST_BLOCKS);
        for index in first..=last.min(u64::from(u32::MAX)) {
            let node = &mut self.nodes[file as usize];
            if node.push(index as u32, stream, time, &self.options) && node.is_due(&self.options) {
                self.test(file);
            }
        }
    }

    /// A folder's children in the origin's order. The folder is remembered for that, unless it has
    /// too many.
    pub fn list<'a>(&mut self, folder: &str, names: impl ExactSizeIterator<Item = &'a str>) {
        let (mount, rest) = split_mount(folder);
        let mut node = self.child(0, mount, Kind::Folder);
        for name in parts(rest) {
            node = self.child(node, name, Kind::Folder);
        }
        let before = self.nodes[node as usize].num_listed();
        let fits = self.num_listed - before + names.len() <= self.options.max_listed;
        let listing = fits.then(|| Listing::new(names));
        self.nodes[node as usize].kind = Kind::Folder;
        self.nodes[node as usize].list(listing, &self.options);
        self.num_listed = self.num_listed - before + self.nodes[node as usize].num_listed();
        self.touch(node);
    }

    /// Serial number of the nearest unit at a path or above, 0 if there is none.
    pub fn unit_of(&self, path: &str) -> u32 {
        let chain = self.find(path);
        chain.last().map_or(0, |&node| self.unit_above(node))
    }

    /// Units that began, changed or ended since the last time.
    pub fn take_changes(&mut self) -> Vec<UnitChange> {
        self.units.take_changes()
    }

    /// What policies want to know of a unit; None if it is gone.
    pub fn unit(&self, unit: u32) -> Option<UnitReport> {
        let id = self.units.node(unit)?;
        let node = &self.nodes[id as usize];
        Some(UnitReport {
            reuse: node.watch.reuse(),
            rate: node.rate(),
            num_children: node.finding.num_children.max(node.num_children()),
            data_bytes: self.data_bytes(id),
            stride: if node.finding.rule == Rule::Stride { node.finding.stride } else { 1 },
            is_provisional: node.is_provisional,
        })
    }

    /// All levels from the mount to a path, as far as they are known.
    pub fn explain(&self, path: &str) -> Vec<Level> {
        let level = |&id: &NodeId| {
            let node = &self.nodes[id as usize];
            let looked = node.look(&self.options);
            let is_judged = node.finding.rule != Rule::TooFew;
            Level {
                path: self.path(id),
                finding: if is_judged { node.finding } else { looked },
                is_provisional: node.is_provisional,
                is_unit: node.unit != 0,
                reuse: node.watch.reuse(),
                rate: node.rate(),
                data_bytes: self.data_bytes(id),
            }
        };
        self.find(path).iter().map(level).collect()
    }

    /// Verdicts that hold, for another run.
    pub fn remember(&self) -> Vec<Remembered> {
        let mut found: Vec<Remembered> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.unit != 0)
            .map(|(id, node)| Remembered {
                path: self.path(id as NodeId),
                verdict: node.verdict(),
                is_reread: node.watch.reuse().num_reused > 1,
            })
            .collect();
        let known: Vec<String> = found.iter().map(|one| one.path.clone()).collect();
        let others =
            self.remembered.iter().filter(|(path, _)| !known.iter().any(|k| **k == ***path));
        found.extend(others.take(self.options.max_nodes).map(|(path, &(verdict, is_reread))| {
            Remembered { path: path.to_string(), verdict, is_reread }
        }));
        found
    }

    /// Takes up verdicts of another run: they hold until two tests in a row say otherwise.
    pub fn recall(&mut self, verdicts: impl IntoIterator<Item = Remembered>) {
        for one in verdicts.into_iter().take(self.options.max_nodes) {
            self.remembered.insert(one.path.into(), (one.verdict, one.is_reread));
        }
    }

    /// Whether children of a unit were wanted again in an earlier run.
    pub fn was_reread(&self, path: &str) -> bool {
        self.remembered.get(path).is_some_and(|found| found.1)
    }

    /// How many nodes there are, and their memory with and without listings.
    pub fn size(&self) -> (usize, usize, usize) {
        let count = self.nodes.len() - self.free.len();
        let bytes: usize = self.nodes.iter().map(Node::num_bytes).sum();
        (count, bytes, bytes + self.num_listed * 12)
    }

    fn child(&mut self, parent: NodeId, name: &str, kind: Kind) -> NodeId {
        if let Some(&found) = self.nodes[parent as usize].children.get(name) {
            if self.nodes[found as usize].kind == kind || kind == Kind::File {
                return found;
            }
            self.nodes[found as usize].kind = kind;
            return found;
        }
        if self.nodes.len() - self.free.len() >= self.options.max_nodes {
            self.drop_leaf(parent);
        }
        let node = Node::new(name, parent, kind);
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as NodeId - 1
            }
        };
        self.nodes[parent as usize].children.insert(name.into(), id);
        self.recency.add(&mut self.nodes, id);
        self.recall_node(id);
        id
    }

    fn recall_node(&mut self, id: NodeId) {
        if self.remembered.is_empty() {
            return;
        }
        let Some(&(verdict, _)) = self.remembered.get(self.path(id).as_str()) else { return };
        let node = &mut self.nodes[id as usize];
        (node.finding.verdict, node.finding.rule) = (verdict, Rule::Remembered);
        self.settle(id);
    }

    /// The leaf used longest ago goes, units last. Parents are used whenever their children are, so
    /// what is last in the list has no children.
    fn drop_leaf(&mut self, spared: NodeId) {
        let (mut id, mut found) = (self.recency.oldest(), NO_NODE);
        for _ in 0..MOST_SPARED {
            if id == NO_NODE {
                break;
            }
            let node = &self.nodes[id as usize];
            let is_leaf = node.children.is_empty() && id != spared;
            if is_leaf && (node.unit == 0 || found == NO_NODE) {
                found = id;
                if node.unit == 0 {
                    break;
                }
            }
            id = node.links.newer;
        }
        if found == NO_NODE {
            return;
        }
        let path = self.path(found);
        let (verdict, unit) =
            (self.nodes[found as usize].verdict(), self.nodes[found as usize].unit);
        if unit != 0 {
            let is_reread = self.nodes[found as usize].watch.reuse().num_reused > 1;
            if self.remembered.len() < self.options.max_nodes {
                self.remembered.insert(path.as_str().into(), (verdict, is_reread));
            }
            self.end_unit(found, path);
        }
        self.recency.remove(&mut self.nodes, found);
        let node = &mut self.nodes[found as usize];
        self.num_listed -= node.num_listed();
        let (parent, name) = (node.parent, std::mem::take(&mut node.name));
        *node = Node::new("", NO_NODE, Kind::Folder);
        self.nodes[parent as usize].children.remove(&name);
        self.free.push(found);
    }

    fn test(&mut self, id: NodeId) {
        if self.nodes[id as usize].test(&self.options) {
            self.settle(id);
        }
    }

    /// From the leaf to the mount, so that the mount is the one used last.
    fn touch(&mut self, mut id: NodeId) {
        while id != 0 && id != NO_NODE {
            self.recency.touch(&mut self.nodes, id);
            id = self.nodes[id as usize].parent;
        }
    }

    /// Nodes on the way to a path, as far as there are any.
    fn find(&self, path: &str) -> Vec<NodeId> {
        let (mount, rest) = split_mount(path);
        let mut chain: Vec<NodeId> = Vec::new();
        let mut node = 0;
        for name in std::iter::once(mount).chain(parts(rest)) {
            let Some(&next) = self.nodes[node as usize].children.get(name) else { break };
            chain.push(next);
            node = next;
        }
        chain
    }

    pub(crate) fn path(&self, mut id: NodeId) -> String {
        let mut names: Vec<&str> = Vec::new();
        let mut mount = "";
        while id != 0 && id != NO_NODE {
            let node = &self.nodes[id as usize];
            if node.parent == 0 {
                mount = &node.name;
            } else {
                names.push(&node.name);
            }
            id = node.parent;
        }
        names.reverse();
        format!("{mount}{}", names.join("/"))
    }

    /// Of a file its size. Of a folder its children times their mean size, as far as that is known.
    fn data_bytes(&self, id: NodeId) -> f64 {
        let node = &self.nodes[id as usize];
        if node.kind == Kind::File {
            return node.bytes;
        }
        let count = node.num_children().max(node.finding.num_children) as f64;
        let below: Vec<f64> = node
            .children
            .values()
            .filter(|&&child| self.nodes[child as usize].kind == Kind::Folder)
            .map(|&child| self.data_bytes(child))
            .collect();
        if below.is_empty() {
            return count * node.bytes;
        }
        let mean = below.iter().sum::<f64>() / below.len() as f64;
        let folders = count.max(below.len() as f64);
        if node.num_sizes == 0 {
            folders * mean
        } else {
            // Files beside folders: how many of each is not known.
            below.iter().sum::<f64>() + (folders - below.len() as f64) * node.bytes
        }
    }
}
