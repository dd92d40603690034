//! The operations in the middle of which clients die.

use std::sync::OnceLock;

use artesian_bus::sim::Rng;
use artesian_pool::index::KeyHash;

use super::deed::{Arena, Deed};

/// From when on verbs are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The client joins.
    Joining,
    /// It has joined.
    Working,
    /// It leaves.
    Leaving,
}

/// What those do who stay well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Values,
    Large,
    Integers,
    Transactions,
    Tree,
    Cache,
}

/// An operation, or a few.
pub struct Case {
    pub name: &'static str,
    pub arena: Arena,
    pub start: Start,
    /// Nobody was in the pool before.
    pub first: bool,
    /// Keys of the case, and their bytes.
    pub keys: u32,
    pub key: fn(u16, u32) -> Vec<u8>,
    pub mix: Mix,
    /// Values may go away by themselves.
    pub forgetful: bool,
    /// There is a memory node that is not in the pool.
    pub spare: bool,
    /// It has so many verbs that one n in so many is enough.
    pub coarse: u64,
    /// What a healthy client does before.
    pub before: fn() -> Vec<Deed>,
    /// The operation.
    pub work: fn() -> Vec<Deed>,
}

fn short(_: u16, number: u32) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// So long that a tree's leaf has three or four.
fn long(_: u16, number: u32) -> Vec<u8> {
    let mut key = vec![number as u8; 2];
    key.resize(200, 7);
    key
}

/// Keys that share both buckets: these and their overflow take 28.
fn crowded(namespace: u16, number: u32) -> Vec<u8> {
    static FOUND: OnceLock<(u16, Vec<u64>)> = OnceLock::new();
    let (known, keys) = FOUND.get_or_init(|| {
        let buckets = |key: &u64| KeyHash::of(namespace, &key.to_le_bytes()).buckets();
        let wanted = buckets(&0);
        let all = 0..;
        (namespace, all.filter(|key| buckets(key) == wanted).take(32).collect())
    });
    assert_eq!(*known, namespace, "all crowds are in one namespace");
    keys[number as usize].to_le_bytes().to_vec()
}

const STORE: Case = Case {
    name: "put",
    arena: Arena::Store,
    start: Start::Working,
    first: false,
    keys: 3,
    key: short,
    mix: Mix::Values,
    forgetful: false,
    spare: false,
    coarse: 1,
    before: || vec![Deed::Put(0, 101, 40)],
    work: || vec![Deed::Put(0, 1, 60)],
};
const LARGE: Case =
    Case { mix: Mix::Large, before: || vec![Deed::Put(0, 101, 20_000)], keys: 2, ..STORE };
const MANY: Case = Case {
    keys: 6,
    before: || vec![Deed::PutMany(vec![(0, 101), (2, 102), (4, 103)], 40)],
    ..STORE
};
const TREE: Case = Case { arena: Arena::Tree, mix: Mix::Tree, ..STORE };
const BRANCHES: Case = Case { key: long, keys: 12, ..TREE };
const NODES: Case = Case { spare: true, coarse: 16, keys: 6, ..STORE };
const CACHE: Case =
    Case { arena: Arena::Cache, mix: Mix::Cache, forgetful: true, keys: 8, ..STORE };

fn puts(keys: std::ops::Range<u32>, first: u64) -> Vec<Deed> {
    keys.map(|key| Deed::Put(key, first + u64::from(key), 40 + key as usize * 8)).collect()
}

fn inserts(keys: std::ops::Range<u32>, first: u64) -> Vec<Deed> {
    keys.map(|key| Deed::Insert(key, first + u64::from(key), 40)).collect()
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "insert", before: Vec::new, work: || vec![Deed::Insert(0, 1, 40)], ..STORE },
    Case { name: "update", work: || vec![Deed::Update(0, 1, 200)], ..STORE },
    STORE,
    Case { name: "get", work: || vec![Deed::Get(0), Deed::Get(1)], ..STORE },
    Case { name: "delete", work: || vec![Deed::Delete(0)], ..STORE },
    Case {
        name: "increment",
        before: || vec![Deed::Put(0, 101, 8)],
        work: || vec![Deed::Increment(0, 5), Deed::Increment(1, 7)],
        mix: Mix::Integers,
        ..STORE
    },
    Case {
        name: "compare and set",
        work: || vec![Deed::Compare(0, 1, 40), Deed::Compare(1, 2, 40)],
        ..STORE
    },
    Case { name: "append", work: || vec![Deed::Append(0, 1, 60), Deed::Append(1, 2, 60)], ..STORE },
    Case { name: "append to pieces", work: || vec![Deed::Append(0, 1, 9_000)], ..LARGE },
    Case { name: "large put", work: || vec![Deed::Put(0, 1, 40_000)], ..LARGE },
    Case { name: "large insert", work: || vec![Deed::Insert(1, 1, 20_000)], ..LARGE },
    Case {
        name: "put many",
        work: || vec![Deed::PutMany((0..6).map(|key| (key, u64::from(key) + 1)).collect(), 80)],
        ..MANY
    },
    Case { name: "get many", work: || vec![Deed::GetMany((0..6).collect())], ..MANY },
    Case { name: "delete many", work: || vec![Deed::DeleteMany((0..6).collect())], ..MANY },
    Case {
        name: "expiring put",
        before: || vec![Deed::PutFor(0, 101, 40, 5), Deed::PutFor(1, 102, 40, 60_000)],
        work: || vec![Deed::PutFor(0, 1, 40, 15), Deed::PutFor(1, 2, 40, 1)],
        forgetful: true,
        ..STORE
    },
    Case {
        name: "expire",
        before: || vec![Deed::Put(0, 101, 40), Deed::PutFor(1, 102, 20_000, 60_000)],
        work: || vec![Deed::Expire(0, 15), Deed::Expire(1, 60_000), Deed::Expire(2, 1)],
        forgetful: true,
        ..STORE
    },
    Case {
        name: "transaction",
        keys: 4,
        mix: Mix::Transactions,
        before: || vec![Deed::Put(0, 101, 40), Deed::Put(1, 102, 40)],
        work: || vec![Deed::Transact(vec![0, 2], vec![(0, Some(1)), (1, None), (3, Some(2))])],
        ..STORE
    },
    Case {
        name: "index split",
        keys: 31,
        key: crowded,
        before: || inserts(0..28, 100),
        work: || inserts(28..31, 1),
        ..STORE
    },
    Case { name: "tree insert", before: Vec::new, work: || inserts(0..2, 1), ..TREE },
    Case {
        name: "tree put over",
        before: || vec![Deed::Put(0, 101, 40), Deed::Put(1, 102, 400)],
        work: || vec![Deed::Put(0, 1, 300), Deed::Put(1, 2, 500)],
        ..TREE
    },
    Case { name: "tree delete", work: || vec![Deed::Delete(0), Deed::Delete(1)], ..TREE },
    Case { name: "tree split", before: || puts(0..3, 100), work: || puts(3..8, 1), ..BRANCHES },
    Case {
        name: "tree merge",
        before: || puts(0..10, 100),
        work: || (2..9).map(Deed::Delete).collect(),
        ..BRANCHES
    },
    Case { name: "cache put", before: Vec::new, work: || puts(0..2, 1), ..CACHE },
    Case { name: "cache put over", work: || puts(0..1, 1), ..CACHE },
    Case { name: "cache get", work: || vec![Deed::Get(0), Deed::Get(1)], ..CACHE },
    Case { name: "cache delete", work: || vec![Deed::Delete(0), Deed::Delete(1)], ..CACHE },
    Case { name: "cache eviction", before: || puts(0..6, 100), work: || puts(4..8, 1), ..CACHE },
    Case { name: "add node", before: || puts(0..4, 100), work: || vec![Deed::AddNode], ..NODES },
    Case {
        name: "drain node",
        before: || vec![Deed::PutMany((0..6).map(|key| (key, 101)).collect(), 900), Deed::AddNode],
        work: || vec![Deed::DrainNode],
        ..NODES
    },
    Case { name: "join", start: Start::Joining, ..STORE },
    Case { name: "first join", start: Start::Joining, first: true, before: Vec::new, ..STORE },
    Case { name: "leave", start: Start::Leaving, ..STORE },
    Case { name: "namespace", work: || vec![Deed::Open("new")], ..STORE },
];

/// Objects of a case's cache.
pub const CACHE_OBJECTS: u64 = 4;

impl Case {
    pub fn named(name: &str) -> Option<&'static Case> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Whether the keys are to be looked at together.
    pub fn is_whole(&self) -> bool {
        self.mix == Mix::Transactions
    }

    /// What somebody who stays well does next; `name` is a value's.
    pub fn choose(&self, rng: &mut Rng, name: u64) -> Deed {
        let key = rng.below(u64::from(self.keys)) as u32;
        let bytes = 16 + rng.below(300) as usize;
        let large = self.mix == Mix::Large && rng.once_in(3);
        let bytes = if large { 18_000 + bytes } else { bytes };
        match (self.mix, rng.below(8)) {
            (_, 0) => Deed::Get(key),
            (_, 1) => Deed::Delete(key),
            (Mix::Integers, 2) => Deed::Put(key, name, 8),
            (Mix::Integers, _) => Deed::Increment(key, name),
            (Mix::Transactions, 2) => Deed::Put(key, name, bytes),
            (Mix::Transactions, _) => self.choose_transaction(rng, key, name),
            (Mix::Cache, 2 | 3) => Deed::Get(key),
            (Mix::Cache, _) => Deed::Put(key, name, bytes),
            (_, 2 | 3) => Deed::Insert(key, name, bytes),
            (Mix::Tree, 4) => Deed::Delete(key),
            (Mix::Tree, _) => Deed::Put(key, name, bytes),
            (_, 4) => Deed::Update(key, name, bytes),
            // A value that gets another time to live is the same and has another version.
            (_, 5) if !self.forgetful => Deed::Compare(key, name, bytes),
            (_, 6) if !self.forgetful => Deed::Append(key, name, 30),
            _ => Deed::Put(key, name, bytes),
        }
    }

    fn choose_transaction(&self, rng: &mut Rng, key: u32, name: u64) -> Deed {
        let another = rng.below(u64::from(self.keys)) as u32;
        let mut writes = vec![(key, (!rng.once_in(4)).then_some(name))];
        if another != key {
            writes.push((another, Some(name)));
        }
        Deed::Transact(vec![rng.below(u64::from(self.keys)) as u32], writes)
    }
}
