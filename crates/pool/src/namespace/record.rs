//! A record of the namespace table.
//!
//! ```text
//! 0 kind u8 | 1 name bytes u8 | 2 generation u16 | 4 0 u32 | 8 quota | 16 floor | 24 TTL ms
//! 32 check u64 over 0..8 and the name | 40 base i64 | 48 dropped, ms u64 | 56 counted u64
//! 64 name (64) | 128 spare words (16)
//! ```
//!
//! Whoever writes a record may die within the write. So a record is made with its first word last
//! and dropped with that word first; limits change word by word, each with a check of its own
//! (`check 16 | limit 48`).

use crate::xxh3::xxh3_64_with_seed;

use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::object::word;

/// The namespace of number 0.
pub const DEFAULT: &str = "default";
/// Longest name in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Words of a record that a namespace's kind may use as it likes.
pub const SPARE_WORDS: u64 = 16;
/// Where they lie.
pub(super) const SPARE: u64 = 128;
/// Where the base of the usage lies.
pub(super) const BASE: u64 = 40;
/// How many clients had died when the usage was last counted.
pub(super) const COUNTED: u64 = 56;
/// The first word: the namespace is there if its first byte is not 0.
pub(super) const HEAD: usize = 8;
const CHECK: usize = 32;
const DROPPED: usize = 48;
const NAME: usize = 64;
/// The bytes of a record.
pub(super) type Record = [u8; meta::NAMESPACE_RECORD as usize];
const _: () = assert!(SPARE + SPARE_WORDS * 8 == meta::NAMESPACE_RECORD);

/// What a namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Keys by hash.
    Store = 1,
    /// Keys by hash that may be evicted.
    Cache = 2,
    /// Keys in order.
    Tree = 3,
}

/// Limits and habits of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of objects; 0 for no limit.
    pub quota: u64,
    /// Bytes that others' growth shall leave to it.
    pub floor: u64,
    /// Milliseconds after which a value is gone if its writer says nothing; 0 for never.
    pub default_ttl_ms: u64,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its number: part of every object.
    pub id: u16,
    /// Goes up each time the number is given away.
    pub generation: u16,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Its limits.
    pub limits: Limits,
}

/// The largest limit.
const MAX_LIMIT: u64 = (1 << 48) - 1;

/// Refuses limits that cannot be stored.
pub(super) fn check_limits(limits: Limits) -> Result<()> {
    let largest = limits.quota.max(limits.floor).max(limits.default_ttl_ms);
    if largest > MAX_LIMIT {
        return Err(PoolError::Invalid(format!("a limit of {largest}: at most {MAX_LIMIT}")));
    }
    Ok(())
}

fn sealed(limit: u64, id: u16, place: usize) -> u64 {
    let seed = u64::from(id) << 8 | place as u64;
    limit | xxh3_64_with_seed(&limit.to_le_bytes(), seed) << 48
}

/// Refuses names that cannot be stored.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(PoolError::Invalid(format!(
            "a namespace's name has 1 to {MAX_NAME_BYTES} bytes; {name:?} has {}",
            name.len()
        )));
    }
    Ok(())
}

fn check(bytes: &Record, id: u16) -> u64 {
    let head = xxh3_64_with_seed(&bytes[..HEAD], u64::from(id));
    xxh3_64_with_seed(&bytes[NAME..SPARE as usize], head)
}

/// The record of a new namespace.
pub(super) fn encode(namespace: &Namespace, base: i64) -> Record {
    let mut bytes = [0; meta::NAMESPACE_RECORD as usize];
    bytes[BASE as usize..BASE as usize + 8].copy_from_slice(&base.to_le_bytes());
    let name = namespace.name.as_bytes();
    bytes[NAME..NAME + name.len()].copy_from_slice(name);
    update(namespace, &mut bytes);
    bytes
}

/// Puts kind and limits into a record.
pub(super) fn update(namespace: &Namespace, bytes: &mut Record) {
    bytes[0] = namespace.kind as u8;
    bytes[1] = namespace.name.len() as u8;
    bytes[2..4].copy_from_slice(&namespace.generation.to_le_bytes());
    let Limits { quota, floor, default_ttl_ms } = namespace.limits;
    for (at, number) in [quota, floor, default_ttl_ms].into_iter().enumerate() {
        let word = sealed(number, namespace.id, at);
        bytes[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
    }
    let sum = check(bytes, namespace.id);
    bytes[CHECK..CHECK + 8].copy_from_slice(&sum.to_le_bytes());
}

impl Namespace {
    /// The namespace that always exists.
    pub fn default_space() -> Namespace {
        let (name, limits) = (DEFAULT.into(), Limits::default());
        Namespace { id: 0, generation: 0, name, kind: Kind::Store, limits }
    }
}

/// The record of a number that is free again since `now_ms`.
pub(super) fn vacant(generation: u16, now_ms: u64) -> Record {
    let mut bytes = [0; meta::NAMESPACE_RECORD as usize];
    bytes[2..4].copy_from_slice(&generation.to_le_bytes());
    bytes[DROPPED..DROPPED + 8].copy_from_slice(&now_ms.max(1).to_le_bytes());
    bytes
}

/// When the free number was last dropped; 0 if it never was in use.
pub(super) fn dropped_ms(bytes: &Record) -> u64 {
    word(bytes, DROPPED)
}

/// How often the number has been given away.
pub(super) fn generation(bytes: &Record) -> u16 {
    u16::from_le_bytes([bytes[2], bytes[3]])
}

/// The namespace in a record; `None` if its number is free.
pub(super) fn decode(id: u16, bytes: &Record) -> Result<Option<Namespace>> {
    if id == 0 {
        return Ok(Some(Namespace::default_space()));
    }
    let corrupt = |what: &str| PoolError::Corrupt(format!("namespace {id}: {what}"));
    let kind = match bytes[0] {
        0 => return Ok(None),
        1 => Kind::Store,
        2 => Kind::Cache,
        3 => Kind::Tree,
        _ => return Err(corrupt("unknown kind")),
    };
    if word(bytes, CHECK) != check(bytes, id) {
        return Err(corrupt("its check differs"));
    }
    let length = usize::from(bytes[1]);
    let name = bytes[NAME..SPARE as usize].get(..length).ok_or_else(|| corrupt("a long name"))?;
    let name = std::str::from_utf8(name).map_err(|_| corrupt("its name is no text"))?;
    let limit = |place: usize| {
        let (found, limit) = (word(bytes, 8 + place * 8), word(bytes, 8 + place * 8) & MAX_LIMIT);
        let whole = sealed(limit, id, place) == found;
        whole.then_some(limit).ok_or_else(|| corrupt("the check of a limit differs"))
    };
    let limits = Limits { quota: limit(0)?, floor: limit(1)?, default_ttl_ms: limit(2)? };
    let generation = generation(bytes);
    Ok(Some(Namespace { id, generation, name: name.into(), kind, limits }))
}
