//! A level of the name space: a folder, or a file of several blocks.

use std::collections::{HashMap, VecDeque};

use crate::judge::{judge, step_that_tells, Finding, Rule, Sample, Verdict};
use crate::listing::{hash, Listing};
use crate::options::Options;
use crate::recency::Links;
use crate::ring::{Entry, Ring};
use crate::streams::{Frontiers, Streams};
use crate::watch::Watch;

/// Place of a node in the tree.
pub type NodeId = u32;
/// Instead of a node.
pub const NO_NODE: NodeId = u32::MAX;

/// What children are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files and folders.
    Folder,
    /// Blocks.
    File,
}

/// A folder or a file, and how its children were read lately.
#[derive(Debug)]
pub struct Node {
    pub name: Box<str>,
    pub parent: NodeId,
    pub kind: Kind,
    pub children: HashMap<Box<str>, NodeId>,
    pub links: Links,
    /// Serial number of the unit that this node is, 0 if none.
    pub unit: u32,
    pub finding: Finding,
    pub is_provisional: bool,
    pub watch: Watch,
    /// Of a file: its size; of a folder: mean size of its children, weighed by their use.
    pub bytes: f64,
    pub num_sizes: u32,
    num_blocks: u64,
    listing: Option<Box<Listing>>,
    names: VecDeque<Box<str>>, // of the ring's entries, where there is no listing
    ring: Ring,
    streams: Streams,
    frontiers: Frontiers,
    num_pushed: u32, // since the last reset
    next_test: u32,
    candidate: Verdict,
    num_strange: u32, // names that the listing lacks, lately
}

impl Node {
    /// One that nothing is known of.
    pub fn new(name: &str, parent: NodeId, kind: Kind) -> Node {
        Node {
            name: name.into(),
            parent,
            kind,
            children: HashMap::new(),
            links: Links::default(),
            unit: 0,
            finding: Finding::default(),
            is_provisional: true,
            watch: Watch::default(),
            bytes: 0.0,
            num_sizes: 0,
            num_blocks: 0,
            listing: None,
            names: VecDeque::new(),
            ring: Ring::default(),
            streams: Streams::default(),
            frontiers: Frontiers::default(),
            num_pushed: 0,
            next_test: 0,
            candidate: Verdict::Unknown,
            num_strange: 0,
        }
    }

    /// How the node is read.
    pub fn verdict(&self) -> Verdict {
        self.finding.verdict
    }

    /// Children, as far as known; 0 for a folder that was not listed.
    pub fn num_children(&self) -> u64 {
        match self.kind {
            Kind::File => self.num_blocks,
            Kind::Folder => self.listing.as_ref().map_or(0, |listing| listing.len() as u64),
        }
    }

    /// Names that the listing holds in memory.
    pub fn num_listed(&self) -> usize {
        self.listing.as_ref().map_or(0, |listing| listing.len())
    }

    /// Accesses a second, lately.
    pub fn rate(&self) -> f64 {
        self.ring.rate()
    }

    /// A file has this size now.
    pub fn resize(&mut self, bytes: u64, block_bytes: u64) {
        let num_blocks = bytes.div_ceil(block_bytes);
        if num_blocks != self.num_blocks && self.num_blocks != 0 {
            self.reset();
        }
        (self.num_blocks, self.bytes) = (num_blocks, bytes as f64);
    }

    /// A file below a folder was read: for the mean of sizes.
    pub fn learn_size(&mut self, bytes: f64) {
        self.num_sizes = (self.num_sizes + 1).min(1024);
        self.bytes += (bytes - self.bytes) / f64::from(self.num_sizes);
    }

    /// The folder was listed. Ranks of another listing mean something else, so the node starts
    /// anew.
    pub fn list(&mut self, listing: Option<Listing>, options: &Options) {
        if let (Some(old), Some(new)) = (&self.listing, &listing) {
            if old.is_same(new) {
                return;
            }
        }
        let names = std::mem::take(&mut self.names);
        let mut recent = Vec::new();
        self.ring.copy(&mut recent);
        self.listing = listing.map(Box::new);
        self.reset();
        for (name, entry) in names.iter().zip(recent) {
            if let Some(rank) = self.rank_of(name) {
                self.push(rank, 0, entry.time, options);
            }
        }
        self.next_test = self.num_pushed;
    }

    /// A child of a folder is wanted; false if the stream is still there.
    pub fn push_name(&mut self, name: &str, stream: u32, time: f32, options: &Options) -> bool {
        let Some(rank) = self.rank_of(name) else {
            self.num_strange += 1;
            // The listing is of another time: better none than this.
            if self.num_strange > options.provisional_after {
                self.list(None, options);
            }
            return false;
        };
        let is_new = self.push(rank, stream, time, options);
        if is_new && self.listing.is_none() {
            if self.names.len() == options.window {
                self.names.pop_front();
            }
            self.names.push_back(name.into());
        }
        is_new
    }

    /// A block of a file is wanted, or a child by its rank; false if the stream is still there.
    pub fn push(&mut self, rank: u32, stream: u32, time: f32, options: &Options) -> bool {
        let before = self.streams.replace(stream, rank);
        if before == Some(rank) {
            return false;
        }
        let step = before.map_or(0, |before| i64::from(rank) - i64::from(before));
        let longest = step_that_tells(self.num_children(), options);
        let frontier = self.frontiers.advance(rank, longest);
        self.ring.push(Entry::new(rank, time, step, frontier), options.window);
        self.watch.push(rank, time);
        self.num_pushed = self.num_pushed.saturating_add(1);
        true
    }

    fn rank_of(&self, name: &str) -> Option<u32> {
        match &self.listing {
            Some(listing) => listing.rank(name),
            None => Some(hash(name) as u32),
        }
    }

    /// Whether it is time for a test.
    pub fn is_due(&self, options: &Options) -> bool {
        let children = self.num_children();
        let all_seen = self.is_provisional
            && children >= u64::from(options.fewest)
            && u64::from(self.num_pushed) == children
            && children < u64::from(options.provisional_after);
        all_seen || self.num_pushed >= self.next_test.max(options.provisional_after)
    }

    /// Tests the node; whether its verdict, or what it is worth, is another one now.
    pub fn test(&mut self, options: &Options) -> bool {
        let pushed = self.num_pushed;
        let full = options.full_after;
        self.next_test = if pushed < full {
            (pushed * 2).clamp(options.provisional_after, full)
        } else {
            pushed + options.retest_every
        };
        let finding = self.look(options);
        let is_full = pushed >= full && self.names.is_empty();
        let old = (self.verdict(), self.is_provisional);
        if finding.verdict == self.finding.verdict || self.finding.verdict == Verdict::Unknown {
            (self.finding, self.candidate) = (finding, Verdict::Unknown);
            self.is_provisional = !is_full;
        } else if finding.verdict != Verdict::Unknown && finding.rule != Rule::Elimination {
            // (While one pattern follows another nothing fits: that alone changes no verdict.)
            // A verdict that holds, or is remembered, changes when two tests in a row say so.
            let is_weak = self.is_provisional && self.finding.rule != Rule::Remembered;
            if is_weak || self.candidate == finding.verdict {
                (self.finding, self.candidate) = (finding, Verdict::Unknown);
                self.is_provisional = !is_full;
            } else {
                self.candidate = finding.verdict;
            }
        }
        old != (self.verdict(), self.is_provisional)
    }

    /// What the tests say of the last accesses.
    pub fn look(&self, options: &Options) -> Finding {
        let mut entries = Vec::with_capacity(self.ring.len());
        self.ring.copy(&mut entries);
        if self.listing.is_some() || self.kind == Kind::File {
            let num_children = self.num_children();
            return judge(
                Sample { entries: &entries, num_children, num_ranks: num_children },
                options,
            );
        }
        self.look_at_names(entries, options)
    }

    /// Without a listing names are ordered among themselves, and the number of children is guessed
    /// by how many names were seen once and twice (Chao 1984).
    fn look_at_names(&self, mut entries: Vec<Entry>, options: &Options) -> Finding {
        let count = entries.len().min(self.names.len());
        entries.drain(..entries.len() - count);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by(|&a, &b| self.names[a].cmp(&self.names[b]));
        let (mut once, mut twice, mut distinct) = (0u64, 0u64, 0u64);
        let mut ranks = vec![0u32; count];
        for same in order.chunk_by(|&a, &b| self.names[a] == self.names[b]) {
            same.iter().for_each(|&place| ranks[place] = distinct as u32);
            distinct += 1;
            once += u64::from(same.len() == 1);
            twice += u64::from(same.len() == 2);
        }
        let num_children = distinct + (once * once.saturating_sub(1)) / (2 * (twice + 1));
        let longest = step_that_tells(distinct, options);
        let mut frontiers = Frontiers::default();
        let mut before = None;
        for (entry, &rank) in entries.iter_mut().zip(&ranks) {
            let step = before.map_or(0, |before: u32| i64::from(rank) - i64::from(before));
            before = Some(rank);
            *entry = Entry::new(rank, entry.time, step, frontiers.advance(rank, longest));
        }
        judge(Sample { entries: &entries, num_children, num_ranks: distinct }, options)
    }

    fn reset(&mut self) {
        self.ring.clear();
        self.names.clear();
        self.streams = Streams::default();
        self.frontiers = Frontiers::default();
        self.watch = Watch::default();
        (self.num_pushed, self.next_test, self.num_strange) = (0, 0, 0);
        self.candidate = Verdict::Unknown;
        // What was said stays until there is something better.
        self.is_provisional = true;
    }

    /// Memory that the node takes, without its listing.
    pub fn num_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len()).sum();
        std::mem::size_of::<Node>()
            + self.name.len() * 2 // once more in the parent's table
            + std::mem::size_of::<(Box<str>, NodeId)>() * self.children.capacity() * 8 / 7
            + self.ring.heap_bytes()
            + self.streams.heap_bytes()
            + self.watch.heap_bytes()
            + self.names.capacity() * std::mem::size_of::<Box<str>>()
            + names
    }
}
