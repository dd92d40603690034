//! Namespaces: up to 256 named key spaces of a pool, with quotas.
//!
//! The table lies in the meta area and is changed under a lock that names its owner; every record
//! carries a check, so that readers need no lock. How many bytes a namespace uses is its base plus
//! the signed counters of all client places: each client writes only its own.
//!
//! Number 0 is the namespace [`DEFAULT`]: it always exists, without limits. Its record holds
//! nothing but the base of its usage.

mod lock;
mod meter;
mod record;
mod settle;
mod spaces;
#[cfg(test)]
mod tests;

pub use lock::unlock_of_dead;
pub use meter::{recount, used, Meter, Recount};
pub use record::{Kind, Limits, Namespace, DEFAULT, MAX_NAME_BYTES, SPARE_WORDS};
pub use spaces::Spaces;

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use crate::config::{meta, META_REPLICAS};
use crate::error::{PoolError, Result};
use crate::fabric::{steadily, Fabric};
use crate::object::word;
use record::Record;

const COUNT: u64 = meta::NUM_NAMESPACES;
/// How often a record that is just being written is read again.
const ATTEMPTS: u32 = 32;

/// Makes a namespace; refused if there is one of that name.
pub fn create(fabric: &Fabric, name: &str, kind: Kind, limits: Limits) -> Result<Namespace> {
    record::check_name(name)?;
    record::check_limits(limits)?;
    lock::locked(fabric, || {
        let table = read_table(fabric)?;
        let mut free = Vec::new();
        for (id, bytes) in table.iter().enumerate() {
            match record::decode(id as u16, bytes) {
                Ok(Some(known)) if known.name == name => {
                    let text = format!("there is a namespace {name:?} already: open it");
                    return Err(PoolError::Invalid(text));
                }
                Ok(None) => free.push(id),
                // A damaged record keeps its place until it is looked at.
                Ok(Some(_)) | Err(_) => {}
            }
        }
        // Clients that have not looked at the table since may still write to a dropped number.
        let Some(id) = free.into_iter().min_by_key(|&id| (record::dropped_ms(&table[id]), id))
        else {
            let text = format!("all {COUNT} namespaces of the pool exist already: drop one");
            return Err(PoolError::Invalid(text));
        };
        let generation = record::generation(&table[id]).wrapping_add(1);
        let new = Namespace { id: id as u16, generation, name: name.into(), kind, limits };
        let counted = meter::counted(fabric, new.id)?;
        let bytes = record::encode(&new, counted.wrapping_neg());
        let (head, rest) = bytes.split_at(record::HEAD);
        write(fabric, new.id, &[(record::HEAD, rest), (0, head)])?;
        Ok(new)
    })
}

/// The namespace of that name, if there is one.
pub fn open(fabric: &Fabric, name: &str) -> Result<Option<Namespace>> {
    record::check_name(name)?;
    Ok(list(fabric)?.into_iter().find(|known| known.name == name))
}

/// All namespaces.
pub fn list(fabric: &Fabric) -> Result<Vec<Namespace>> {
    let mut outcome = Ok(Vec::new());
    for attempt in 0..ATTEMPTS {
        let table = steadily(|| read_table(fabric))?;
        let decoded = table.iter().enumerate().map(|(id, bytes)| record::decode(id as u16, bytes));
        outcome = decoded.filter_map(Result::transpose).collect();
        if outcome.is_ok() {
            break;
        }
        fabric.verbs().relax(500 << attempt.min(10));
    }
    outcome
}

/// The namespace of that number with its spare words, as the table has them now.
pub fn with_spares(fabric: &Fabric, id: u16) -> Result<Option<(Namespace, Spares)>> {
    let mut outcome = Ok(None);
    for attempt in 0..ATTEMPTS {
        let mut bytes: Record = [0; meta::NAMESPACE_RECORD as usize];
        if u64::from(id) < COUNT {
            let at = fabric.meta(record_offset(id))[0];
            fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
        }
        let spares = |index: usize| word(&bytes, record::SPARE as usize + index * 8);
        let found = record::decode(id, &bytes);
        outcome = found.map(|known| known.map(|known| (known, std::array::from_fn(spares))));
        if outcome.is_ok() {
            break;
        }
        fabric.verbs().relax(500 << attempt.min(10));
    }
    outcome
}

/// Changes the limits of a namespace.
pub fn set_limits(fabric: &Fabric, name: &str, limits: Limits) -> Result<Namespace> {
    record::check_limits(limits)?;
    lock::locked(fabric, || {
        let (mut known, mut bytes) = find(fabric, name)?;
        refuse_default(&known)?;
        known.limits = limits;
        record::update(&known, &mut bytes);
        // Base and spare words are others' to change.
        write(fabric, known.id, &[(0, &bytes[..record::BASE as usize])])?;
        Ok(known)
    })
}

/// Forgets a namespace. Its keys are the caller's to delete before; its number is used again.
pub fn drop(fabric: &Fabric, name: &str) -> Result<()> {
    lock::locked(fabric, || {
        let (known, _) = find(fabric, name)?;
        refuse_default(&known)?;
        let now_ms = fabric.verbs().now_ns() / 1_000_000;
        let bytes = record::vacant(known.generation, now_ms);
        let (head, rest) = bytes.split_at(record::HEAD);
        write(fabric, known.id, &[(0, head), (record::HEAD, rest)])
    })
}

/// All copies of a word of the namespace's record that its kind may use as it likes (a table's
/// or a root's place), the primary first. Zero in a new namespace.
pub fn spare(
    fabric: &Fabric,
    namespace: &Namespace,
    index: u64,
) -> SmallVec<[GlobalAddr; META_REPLICAS]> {
    fabric.meta(spare_offset(namespace.id, index))
}

/// The namespace in a record that was read; `None` if its number is free.
pub(crate) fn decode(id: u16, bytes: &[u8]) -> Result<Option<Namespace>> {
    match <&Record>::try_from(bytes) {
        Ok(bytes) => record::decode(id, bytes),
        Err(_) => Err(PoolError::Corrupt(format!("namespace {id}: a record cut short"))),
    }
}

/// Where that word lies in the meta area.
pub fn spare_offset(id: u16, index: u64) -> u64 {
    debug_assert!(index < SPARE_WORDS);
    record_offset(id) + record::SPARE + index * 8
}

/// The spare words of a record.
pub type Spares = [u64; SPARE_WORDS as usize];

fn record_offset(id: u16) -> u64 {
    meta::NAMESPACE_TABLE + u64::from(id) * meta::NAMESPACE_RECORD
}

fn refuse_default(namespace: &Namespace) -> Result<()> {
    if namespace.id == 0 {
        let text = format!("the namespace {DEFAULT:?} has no limits and stays");
        return Err(PoolError::Invalid(text));
    }
    Ok(())
}

fn find(fabric: &Fabric, name: &str) -> Result<(Namespace, Record)> {
    for (id, bytes) in read_table(fabric)?.into_iter().enumerate() {
        if let Ok(Some(known)) = record::decode(id as u16, &bytes) {
            if known.name == name {
                return Ok((known, bytes));
            }
        }
    }
    Err(PoolError::Invalid(format!("there is no namespace {name:?}")))
}

fn read_table(fabric: &Fabric) -> Result<Vec<Record>> {
    let bytes = read_copy(fabric, fabric.meta(meta::NAMESPACE_TABLE)[0])?;
    let record = |bytes: &[u8]| {
        let mut record = [0; meta::NAMESPACE_RECORD as usize];
        record.copy_from_slice(bytes);
        record
    };
    Ok(bytes.chunks_exact(meta::NAMESPACE_RECORD as usize).map(record).collect())
}

/// The bytes of the copy of the table that lies at `at`.
fn read_copy(fabric: &Fabric, at: GlobalAddr) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (COUNT * meta::NAMESPACE_RECORD) as usize];
    fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
    Ok(bytes)
}

/// Writes parts of a record, each with its offset, to all copies: on every copy in their order.
fn write(fabric: &Fabric, id: u16, parts: &[(usize, &[u8])]) -> Result<()> {
    let mut verbs: SmallVec<[Verb<'_>; 2 * META_REPLICAS]> = SmallVec::new();
    for copy in fabric.meta(record_offset(id)) {
        verbs.extend(parts.iter().map(|(at, bytes)| Verb::write(copy.add(*at as u64), bytes)));
    }
    fabric.batch(&mut verbs)
}
