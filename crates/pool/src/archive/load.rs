//! Loading.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::blocks::{BlockReader, Fault};
use super::file;
use super::record::{Record, Records};
use super::Summary;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::namespace::{Kind, Namespace};
use crate::store::Expiry;

/// Values between two ticks.
const TICK: u64 = 64;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the file read,
    pub bytes: u64,
    /// of so many.
    pub total: u64,
    /// The file is still being verified; nothing was restored.
    pub verifying: bool,
}

/// Reads the whole file at `path` and checks everything in it.
pub fn verify(path: &Path, progress: &mut dyn FnMut(LoadProgress)) -> Result<Summary> {
    let mut namespaces = HashSet::new();
    let told = &mut |bytes, total| progress(LoadProgress { bytes, total, verifying: true });
    read_all(path, told, &mut |record, _| {
        match record {
            Record::Namespace(known) => {
                namespaces.insert(known.id);
            }
            Record::Value { namespace, .. }
                if *namespace != 0 && !namespaces.contains(namespace) =>
            {
                let text = format!("a value of namespace {namespace}, which is not there");
                return Err(PoolError::Invalid(text));
            }
            _ => {}
        }
        Ok(true)
    })
}

/// Restores the file at `path` into the pool: namespaces are made, or used if there are ones of
/// the same name and kind, whose limits stay; keys are put, over those that are there; times to
/// live go on from what was left of them. The file is read and checked whole before, so that a bad
/// one changes nothing. Should the pool refuse something on the way (it is full, a quota is
/// reached), the error says how much has been restored.
pub fn load(
    client: &mut Client,
    path: &Path,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Summary> {
    let whole = verify(path, progress)?;
    let told = &mut |bytes, total| progress(LoadProgress { bytes, total, verifying: false });
    let mut ids = HashMap::from([(0, (0, Kind::Store))]);
    let mut restored = Summary::default();
    let outcome = read_all(path, told, &mut |record, records| {
        restore(client, record, records, &mut ids, &mut restored)
    });
    client.tick()?;
    match outcome {
        Ok(_) => Ok(Summary {
            file_bytes: whole.file_bytes,
            saved_unix_ms: whole.saved_unix_ms,
            frozen: whole.frozen,
            ..restored
        }),
        Err(error) => Err(PoolError::Invalid(format!(
            "{}: {} of {} values were restored, then: {error}",
            path.display(),
            restored.values,
            whole.values
        ))),
    }
}

/// Puts one record into the pool; false if it was left out.
fn restore(
    client: &mut Client,
    record: &Record,
    records: (&[u8], &[u8]),
    ids: &mut HashMap<u16, (u16, Kind)>,
    restored: &mut Summary,
) -> Result<bool> {
    let (key, value) = records;
    match record {
        Record::Namespace(Namespace { id, name, kind, limits, .. }) => {
            let own = if *id == 0 { 0 } else { client.namespace(name, *kind, *limits)? };
            ids.insert(*id, (own, *kind));
            restored.namespaces += 1;
        }
        Record::Value { namespace, ttl_ms } => {
            let expiry = match ttl_ms {
                None => Expiry::Never,
                Some(0) => {
                    restored.left_out += 1;
                    return Ok(false);
                }
                Some(ttl) => Expiry::In(*ttl),
            };
            let unknown = || PoolError::Invalid(format!("namespace {namespace} is not there"));
            match *ids.get(namespace).ok_or_else(unknown)? {
                (own, Kind::Tree) => client.tree_put(own, key, value)?,
                (own, _) => client.put(own, key, value, expiry)?,
            }
            restored.values += 1;
            restored.bytes += (key.len() + value.len()) as u64;
            if restored.values.is_multiple_of(TICK) {
                client.tick()?;
            }
        }
        Record::End { .. } => {}
    }
    Ok(true)
}

/// What is done with a record, its key and its value.
type Each<'a> = dyn FnMut(&Record, (&[u8], &[u8])) -> Result<bool> + 'a;

/// Reads all records; what there was in all.
fn read_all(
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut Each<'_>,
) -> Result<Summary> {
    let io = |error| file::error(path, &error);
    let at = |fault: Fault| {
        let (path, Fault { offset, what }) = (path.display(), fault);
        PoolError::Invalid(format!("{path}: at byte {offset}: {what}"))
    };
    let opened = File::open(path).map_err(io)?;
    let total = opened.metadata().map_err(io)?.len();
    let (blocks, header) = BlockReader::new(BufReader::new(opened)).map_err(at)?;
    let mut records = Records::new(blocks);
    let mut found = Summary {
        file_bytes: total,
        saved_unix_ms: header.saved_unix_ms,
        frozen: header.frozen,
        ..Summary::default()
    };
    loop {
        let record = records.next().map_err(at)?;
        match &record {
            Record::Namespace(known) => {
                found.namespaces += 1;
                if known.kind == Kind::Cache {
                    let text = format!("a namespace of kind {:?}", known.kind);
                    return Err(at(records.blocks.fault(text)));
                }
            }
            Record::Value { .. } => {
                found.values += 1;
                found.bytes += (records.key.len() + records.value.len()) as u64;
            }
            Record::End { namespaces, values, bytes } => {
                let told = (*namespaces, *values, *bytes);
                if told != (found.namespaces, found.values, found.bytes) {
                    let text = format!("it ends with {told:?} namespaces, values and bytes");
                    return Err(at(records.blocks.fault(text)));
                }
                if !records.blocks.is_at_end().map_err(at)? {
                    return Err(at(records.blocks.fault("something follows the end")));
                }
                progress(total, total);
                return Ok(found);
            }
        }
        each(&record, (&records.key, &records.value))?;
        progress(records.blocks.offset(), total);
    }
}
