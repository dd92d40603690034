//! What a check found, in a form that callers can print, count or hand on.

use std::collections::BTreeMap;
use std::fmt;

use artesian_bus::{GlobalAddr, NodeId};

use crate::address::{ClientId, PoolAddr};

/// Findings that a report keeps; more are only counted.
pub const MAX_FINDINGS: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Redundancy or space is missing, or work of the dead is left; no data is at risk at once.
    Warning,
    /// Data is lost, or an invariant is broken.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

macro_rules! what {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What kind of thing was found; its text never changes, so that programs may go by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum What {
            $($(#[$doc])* $name,)*
        }

        impl fmt::Display for What {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(What::$name => $text,)*
                })
            }
        }
    };
}

what! {
    /// A node's header is damaged or of another pool.
    Header = "node-header",
    /// A node's view is damaged, or older than that of others.
    View = "view",
    /// A node that can be reached is not in the view.
    SpareNode = "spare-node",
    /// A node of the view cannot be reached.
    NodeLost = "node-lost",
    /// All copies of a region are lost.
    RegionLost = "region-lost",
    /// A region has fewer copies than the pool wants.
    FewCopies = "few-copies",
    /// A change of the view was begun and not finished.
    ChangeOpen = "change-open",
    /// Copies of a meta word differ.
    MetaCopies = "meta-copies",
    /// A client's record makes no sense.
    ClientRecord = "client-record",
    /// A client has died and what it began is not finished.
    DeadClient = "dead-client",
    /// The reclamation epoch, or what a client says of it, makes no sense.
    Epoch = "epoch",
    /// Pins that name nothing, or are counted wrongly.
    Pins = "pins",
    /// A lock word whose holder is gone.
    Lock = "lock",
    /// Memory that the pool needs could not be read.
    Unreadable = "unreadable",
    /// A word of a block table that describes no block, or one of nobody known.
    BlockWord = "block-word",
    /// Copies of a block table differ.
    BlockCopies = "block-copies",
    /// Free bits that stand for no object.
    FreeBits = "free-bits",
    /// Copies of free bits differ.
    FreeBitCopies = "free-bit-copies",
    /// The directory of the hash index, or an entry of it.
    Directory = "directory",
    /// Copies of index memory other than slots differ.
    IndexCopies = "index-copies",
    /// A bucket's header contradicts the directory.
    BucketHeader = "bucket-header",
    /// An insert lock whose holder is gone.
    BucketLock = "bucket-lock",
    /// Traces of a split that nobody is at.
    SplitLeft = "split-left",
    /// Copies of a slot differ: a round that nobody has finished.
    SlotCopies = "slot-copies",
    /// A slot's value makes no sense.
    SlotValue = "slot-value",
    /// An object that a slot names does not verify.
    Object = "object",
    /// Copies of an object differ.
    ObjectCopies = "object-copies",
    /// A node or a value of an ordered namespace.
    Tree = "tree",
    /// A key in a bucket where nobody looks for it.
    Misplaced = "misplaced",
    /// A key in two slots.
    KeyTwice = "key-twice",
    /// An object that two slots name.
    ReferencedTwice = "referenced-twice",
    /// An object that is in use has its free bit set.
    FreedInUse = "freed-in-use",
    /// Objects that are neither in use nor free.
    Leak = "leak",
    /// A dead client's block that nobody has looked through.
    Wreck = "wreck",
    /// A transaction whose owner is gone holds a slot, or left its log.
    Transaction = "transaction",
    /// A record of the namespace table is damaged.
    NamespaceRecord = "namespace-record",
    /// Keys of a namespace that is not in the table.
    NamespaceUnknown = "namespace-unknown",
    /// A namespace's usage is not what was counted.
    Usage = "usage",
}

/// Where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The pool as a whole.
    Pool,
    /// A memory node.
    Node(NodeId),
    /// A place in the client table.
    Client(ClientId),
    /// A region.
    Region(u32),
    /// A block.
    Block(PoolAddr),
    /// A subtable of the hash index.
    Table(PoolAddr),
    /// A slot or another word of the replicated space.
    Slot(PoolAddr),
    /// An object.
    Object(PoolAddr),
    /// A word of one node.
    Word(GlobalAddr),
    /// Bytes of the meta area, from its start.
    Meta(u64),
    /// A namespace.
    Namespace(u16),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pool => write!(f, "pool"),
            Place::Node(node) => write!(f, "node {}", node.0),
            Place::Client(client) => write!(f, "{client:?}"),
            Place::Region(region) => write!(f, "region {region}"),
            Place::Block(at) => write!(f, "block {at:?}"),
            Place::Table(at) => write!(f, "subtable {at:?}"),
            Place::Slot(at) => write!(f, "slot {at:?}"),
            Place::Object(at) => write!(f, "object {at:?}"),
            Place::Word(at) => write!(f, "word {at:?}"),
            Place::Meta(offset) => write!(f, "meta area + {offset:#x}"),
            Place::Namespace(id) => write!(f, "namespace {id}"),
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: What,
    /// Where.
    pub place: Place,
    /// What exactly.
    pub detail: String,
    /// What was done about it, if anything.
    pub repaired: Option<String>,
}

impl Finding {
    pub(super) fn error(what: What, place: Place, detail: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, what, place, detail: detail.into(), repaired: None }
    }

    pub(super) fn warning(what: What, place: Place, detail: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(what, place, detail) }
    }

    pub(super) fn note(what: What, place: Place, detail: impl Into<String>) -> Finding {
        Finding { severity: Severity::Note, ..Finding::error(what, place, detail) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {}: {}", self.severity, self.what, self.place, self.detail)?;
        match &self.repaired {
            Some(done) => write!(f, " [{done}]"),
            None => Ok(()),
        }
    }
}

/// Keys of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// How many.
    pub keys: u64,
    /// Bytes of their objects, the pieces of large values included, on one copy.
    pub bytes: u64,
}

/// Objects and the bytes of their classes, on one copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, objects: u64, bytes: u64) {
        self.objects += objects;
        self.bytes += objects * bytes;
    }
}

/// What there is in the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes that lend memory.
    pub nodes: u32,
    /// Live clients, the checker included.
    pub clients: u32,
    /// Regions that are not lost.
    pub regions: u64,
    /// Blocks of nobody without objects.
    pub blocks_free: u64,
    /// Blocks of clients.
    pub blocks_owned: u64,
    /// Blocks of clients that left.
    pub blocks_orphan: u64,
    /// Blocks of dead clients.
    pub blocks_wreck: u64,
    /// Subtables of the hash index.
    pub subtables: u64,
    /// Bits of the hash by which its directory chooses.
    pub depth: u8,
    /// Slots that remember a deletion.
    pub tombstones: u64,
    /// Objects that something refers to.
    pub in_use: Amount,
    /// Objects whose free bit is set.
    pub free: Amount,
    /// Neither, in blocks of clients: they keep lists of their own.
    pub held: Amount,
    /// Neither, in blocks of clients that left, while other clients are at work: theirs may have
    /// been taken out of use and not be told yet.
    pub pending: Amount,
    /// Neither, in blocks of dead clients.
    pub wrecked: Amount,
    /// Neither, although nobody else is there who could know of them.
    pub leaked: Amount,
    /// Keys by namespace.
    pub keys: BTreeMap<u16, Keys>,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`].
    pub omitted: u64,
    /// No other client was there all the while: every number is exact.
    pub is_exact: bool,
    /// What there is.
    pub counts: Counts,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    /// The worst of what was not repaired; `None` if nothing was found or all of it was.
    pub fn worst(&self) -> Option<Severity> {
        let left = self.findings.iter().filter(|finding| finding.repaired.is_none());
        let worst = left.map(|finding| finding.severity).max();
        if self.omitted > 0 {
            return Some(worst.unwrap_or(Severity::Error));
        }
        worst
    }

    /// Whether there is nothing worse than notes.
    pub fn is_clean(&self) -> bool {
        self.worst().is_none_or(|worst| worst == Severity::Note)
    }
}

/// Whether to put right what can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Does what is safe while others are at work: finishes what the dead began, settles slots,
    /// equalises copies, frees what leaked, recounts usage.
    pub repair: bool,
}

/// What a check is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Headers and views.
    Nodes,
    /// Client records, pins, the epoch.
    Clients,
    /// Block tables.
    Blocks,
    /// Directory, subtables, and all objects they name.
    Index,
    /// Free bits and leaks.
    Space,
    /// The namespace table and usage.
    Namespaces,
    /// Lock words and logs.
    Locks,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::Nodes => "nodes",
            Step::Clients => "clients",
            Step::Blocks => "block tables",
            Step::Index => "index and objects",
            Step::Space => "free space",
            Step::Namespaces => "namespaces",
            Step::Locks => "locks",
        })
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// At what.
    pub step: Step,
    /// Units done,
    pub done: u64,
    /// of so many.
    pub total: u64,
}
