//! The records in a file's stream.
//!
//! ```text
//! namespace: 1 u8 | kind u8 | id u16 | name bytes u32 | quota u64 | floor u64 | TTL ms u64
//!            | name | checksum u64
//! value:     2 u8 | 0 u8 | namespace u16 | key bytes u32 | value bytes u64 | TTL ms u64 | 0 u64
//!            | key | value | checksum u64
//! end:       3 u8 | 0 (7) | namespaces u64 | values u64 | bytes u64 | checksum u64
//! ```

use std::io::{self, Read, Write};

use crate::xxh3::Xxh3;

use super::blocks::{BlockReader, BlockWriter, Fault};
use super::Summary;
use crate::namespace::{Kind, Limits, Namespace, MAX_NAME_BYTES};
use crate::object::{word, MAX_KEY_BYTES};

const HEAD: usize = 32;
const NAMESPACE: u8 = 1;
const VALUE: u8 = 2;
const END: u8 = 3;
/// "Never" among the remaining times to live.
const NEVER: u64 = u64::MAX;
/// Bytes by which a value that is being read grows: a length is believed as far as bytes come.
const STEP: usize = 1 << 20;
/// The longest value.
const MAX_VALUE_BYTES: u64 = 1 << 30;

/// A record that was read; the key and the value of a value lie in the reader's buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Namespace(Namespace),
    /// Of this namespace, with so many milliseconds left unless it never expires.
    Value {
        namespace: u16,
        ttl_ms: Option<u64>,
    },
    End {
        namespaces: u64,
        values: u64,
        bytes: u64,
    },
}

fn write_parts<W: Write>(into: &mut BlockWriter<W>, parts: &[&[u8]]) -> io::Result<()> {
    let mut sum = Xxh3::new();
    for part in parts {
        sum.update(part);
        into.write(part)?;
    }
    into.write(&sum.digest().to_le_bytes())
}

fn head(first: [u8; 8], words: [u64; 3]) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..8].copy_from_slice(&first);
    for (at, word) in words.into_iter().enumerate() {
        bytes[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn first(kind: u8, more: u8, id: u16, length: u32) -> [u8; 8] {
    let (id, length) = (id.to_le_bytes(), length.to_le_bytes());
    [kind, more, id[0], id[1], length[0], length[1], length[2], length[3]]
}

/// Writes a namespace.
pub(super) fn namespace<W: Write>(into: &mut BlockWriter<W>, known: &Namespace) -> io::Result<()> {
    let Limits { quota, floor, default_ttl_ms } = known.limits;
    let name = known.name.as_bytes();
    let first = first(NAMESPACE, known.kind as u8, known.id, name.len() as u32);
    write_parts(into, &[&head(first, [quota, floor, default_ttl_ms]), name])
}

/// Writes a key with its value.
pub(super) fn value<W: Write>(
    into: &mut BlockWriter<W>,
    namespace: u16,
    key: &[u8],
    value: &[u8],
    ttl_ms: Option<u64>,
) -> io::Result<()> {
    let first = first(VALUE, 0, namespace, key.len() as u32);
    let words = [value.len() as u64, ttl_ms.map_or(NEVER, |ttl| ttl.min(NEVER - 1)), 0];
    write_parts(into, &[&head(first, words), key, value])
}

/// Writes the end.
pub(super) fn end<W: Write>(into: &mut BlockWriter<W>, summary: &Summary) -> io::Result<()> {
    let words = [summary.namespaces, summary.values, summary.bytes];
    write_parts(into, &[&head(first(END, 0, 0, 0), words)])
}

/// Reads record after record.
pub(super) struct Records<R: Read> {
    pub blocks: BlockReader<R>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl<R: Read> Records<R> {
    pub fn new(blocks: BlockReader<R>) -> Records<R> {
        Records { blocks, key: Vec::new(), value: Vec::new() }
    }

    /// The next record.
    pub fn next(&mut self) -> Result<Record, Fault> {
        let mut bytes = [0; HEAD];
        self.blocks.read(&mut bytes)?;
        let id = u16::from_le_bytes([bytes[2], bytes[3]]);
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let words = [8, 16, 24].map(|at| word(&bytes, at));
        match bytes[0] {
            NAMESPACE if length <= MAX_NAME_BYTES => {
                self.fill(length, 0)?;
                self.check(&bytes)?;
                self.namespace(id, bytes[1], words).map(Record::Namespace)
            }
            VALUE if length <= MAX_KEY_BYTES && words[0] <= MAX_VALUE_BYTES => {
                self.fill(length, words[0] as usize)?;
                self.check(&bytes)?;
                let ttl_ms = (words[1] != NEVER).then_some(words[1]);
                Ok(Record::Value { namespace: id, ttl_ms })
            }
            END => {
                self.fill(0, 0)?;
                self.check(&bytes)?;
                let [namespaces, values, bytes] = words;
                Ok(Record::End { namespaces, values, bytes })
            }
            kind => Err(self.blocks.fault(format!("a record of kind {kind} that cannot be"))),
        }
    }

    fn fill(&mut self, key: usize, value: usize) -> Result<(), Fault> {
        self.key.resize(key, 0);
        self.blocks.read(&mut self.key)?;
        self.value.clear();
        while self.value.len() < value {
            let start = self.value.len();
            self.value.resize(value.min(start + STEP), 0);
            self.blocks.read(&mut self.value[start..])?;
        }
        Ok(())
    }

    fn check(&mut self, head: &[u8; HEAD]) -> Result<(), Fault> {
        let mut sum = Xxh3::new();
        [head.as_slice(), &self.key, &self.value].iter().for_each(|part| sum.update(part));
        let mut stored = [0; 8];
        self.blocks.read(&mut stored)?;
        if u64::from_le_bytes(stored) != sum.digest() {
            return Err(self.blocks.fault("a record's checksum differs"));
        }
        Ok(())
    }

    fn namespace(&self, id: u16, kind: u8, limits: [u64; 3]) -> Result<Namespace, Fault> {
        let kind = match kind {
            1 => Kind::Store,
            2 => Kind::Cache,
            3 => Kind::Tree,
            _ => return Err(self.blocks.fault(format!("a namespace of kind {kind}"))),
        };
        let name = std::str::from_utf8(&self.key);
        let name = name.map_err(|_| self.blocks.fault("a namespace's name is no text"))?;
        let [quota, floor, default_ttl_ms] = limits;
        let limits = Limits { quota, floor, default_ttl_ms };
        Ok(Namespace { id, generation: 0, name: name.into(), kind, limits })
    }
}
