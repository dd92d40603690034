//! Going through the keys of a namespace.

use artesian_bus::Verb;

use super::large::Manifest;
use super::now_ms;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{self, Candidate, Cursor};
use crate::namespace::{self, Kind as Space};
use crate::object::{Header, Kind, HEADER_BYTES};
use crate::slot::Slot;

/// Bytes read of an object at first: enough for most keys.
const PEEK: usize = 128;
/// Subtables of which keys are counted for an estimate.
const SAMPLE: u32 = 32;
/// How often a piece is looked at again that transactions hold or a change of the view disturbed.
const ATTEMPTS: u32 = 32;
/// Keys deleted at once when a namespace is cleared.
const CLEARED: usize = 128;

/// Some keys, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys, in no order.
    pub keys: Vec<Vec<u8>>,
    /// The cursor of the next call; 0 when all have been told.
    pub cursor: u64,
}

/// A key with what is known without reading its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key.
    pub key: Vec<u8>,
    /// Bytes that its objects take in one copy: of a value in pieces up to one piece more.
    pub bytes: u64,
    /// Milliseconds from now until it expires; `None` for never.
    pub ttl_ms: Option<u64>,
}

impl Client {
    /// As [`Client::scan_keys`], with what each key takes; returns the keys and the cursor.
    pub fn scan_entries(
        &mut self,
        namespace: u16,
        cursor: u64,
        limit: usize,
    ) -> Result<(Vec<KeyEntry>, u64)> {
        let (mut entries, mut cursor) = (Vec::new(), cursor);
        loop {
            let (now, piece_bytes) = (now_ms(&self.fabric), self.alloc.piece_bytes() as u64);
            let tell = |seen: Candidate, header: &Header, key: &[u8]| {
                if header.namespace != namespace {
                    return;
                }
                let mut bytes =
                    object_of(seen.slot).class().map_or(0, |class| class.bytes() as u64);
                if header.kind == Kind::Manifest {
                    bytes += Manifest::pieces_in(header.value_len as usize) * piece_bytes;
                }
                let ttl_ms =
                    (header.expires_ms != 0).then(|| header.expires_ms.saturating_sub(now));
                entries.push(KeyEntry { key: key.to_vec(), bytes, ttl_ms });
            };
            let next = self.scan_piece(Cursor::from_word(cursor), true, tell)?.next;
            self.settle_down()?;
            cursor = next.map_or(0, Cursor::to_word);
            if cursor == 0 || entries.len() >= limit {
                return Ok((entries, cursor));
            }
        }
    }

    /// Keys of the namespace, at least `limit` of them unless there are no more, and somewhat more
    /// at times. Begin with cursor 0, go on with what the last page says. Every key that has a
    /// value all the while is told at least once, whatever happens to the index meanwhile; others
    /// may be told or not.
    pub fn scan_keys(&mut self, namespace: u16, cursor: u64, limit: usize) -> Result<Page> {
        let mut page = Page { keys: Vec::new(), cursor };
        loop {
            let keys = &mut page.keys;
            let tell = |_, header: &Header, key: &[u8]| {
                if header.namespace == namespace {
                    keys.push(key.to_vec());
                }
            };
            let next = self.scan_piece(Cursor::from_word(page.cursor), true, tell)?.next;
            self.settle_down()?;
            page.cursor = next.map_or(0, Cursor::to_word);
            if page.cursor == 0 || page.keys.len() >= limit {
                return Ok(page);
            }
        }
    }

    /// How many keys the namespace has, estimated from some parts of the index if it is large.
    pub fn count(&mut self, namespace: u16) -> Result<u64> {
        let mut estimate = 0.0;
        let all = 1 << self.directory.depth();
        for number in 0..SAMPLE.min(all) {
            // Equal steps over the reversed hashes: every directory entry, or evenly spread ones.
            let bits = u64::from(number) * (1 << 26) / u64::from(SAMPLE.min(all));
            let (keys, depth) = self.count_table(namespace, Cursor::at(bits as u32))?;
            self.settle_down()?;
            estimate += keys as f64 * f64::from(1 << depth) / f64::from(SAMPLE.min(all));
        }
        Ok(estimate.round() as u64)
    }

    /// Keys of the namespace in one subtable, and its depth.
    fn count_table(&mut self, namespace: u16, start: Cursor) -> Result<(u64, u8)> {
        let (mut keys, mut cursor) = (0, start);
        loop {
            let count = |_, header: &Header, _: &[u8]| {
                keys += u64::from(header.namespace == namespace);
            };
            let piece = self.scan_piece(cursor, true, count)?;
            match piece.next.filter(|_| !piece.is_last) {
                Some(next) => cursor = next,
                None => return Ok((keys, piece.depth)),
            }
        }
    }

    /// Deletes all keys of the namespace; returns how many there were. Keys that others write
    /// meanwhile may stay.
    pub fn clear(&mut self, namespace: u16) -> Result<u64> {
        let (mut cursor, mut deleted) = (0, 0);
        loop {
            let page = self.scan_keys(namespace, cursor, CLEARED)?;
            for key in &page.keys {
                deleted += u64::from(self.delete(namespace, key)?);
            }
            cursor = page.cursor;
            if cursor == 0 {
                return Ok(deleted);
            }
        }
    }

    /// Deletes all keys of the namespace, then the namespace. Nobody should use it any more: what
    /// clients write that do not know yet may lie about, unseen, until its number is used again.
    /// All memory comes back. For a cache that takes a change of the view, and the end of all
    /// operations that are under way.
    pub fn drop_namespace(&mut self, name: &str) -> Result<()> {
        let known = namespace::open(&self.fabric, name)?;
        let Some(known) = known else {
            return Err(PoolError::Invalid(format!("there is no namespace {name:?}")));
        };
        let tree = match known.kind {
            Space::Tree => self.doomed_tree(known.id)?,
            Space::Cache => return self.drop_cache(&known),
            Space::Store if known.id == 0 => None,
            Space::Store => {
                self.clear(known.id)?;
                None
            }
        };
        namespace::drop(&self.fabric, name)?;
        self.spaces.refresh(&self.fabric)?;
        match tree {
            Some(tree) => self.raze_tree(&tree),
            None if known.kind == Space::Tree => Ok(()),
            None => self.clear(known.id).map(drop),
        }
    }

    /// Calls `f` for every key of a piece of the index; with `live`, not for expired ones.
    pub(super) fn scan_piece(
        &mut self,
        cursor: Cursor,
        live: bool,
        mut f: impl FnMut(Candidate, &Header, &[u8]),
    ) -> Result<index::Piece> {
        for attempt in 0..ATTEMPTS {
            let piece = match index::piece(&self.fabric, &mut self.directory, cursor) {
                Err(PoolError::ViewChanged) => continue,
                piece => piece?,
            };
            let held = piece.slots.iter().any(|seen| super::find::is_intent(seen.slot));
            if held && attempt < ATTEMPTS / 2 {
                self.fabric.verbs().relax(500 << attempt.min(8));
                continue;
            }
            match self.read_peeks(&piece.slots) {
                Err(PoolError::ViewChanged) => continue,
                outcome => outcome?,
            }
            let now = now_ms(&self.fabric);
            for (number, &seen) in piece.slots.iter().enumerate() {
                let peek = number * PEEK..(number + 1) * PEEK;
                let Some(header) = head_in(&self.object[peek.clone()], seen.slot) else { continue };
                if live && header.is_expired(now) {
                    continue;
                }
                let end = HEADER_BYTES + header.key_len as usize;
                if end <= PEEK {
                    f(seen, &header, &self.object[peek][HEADER_BYTES..end]);
                } else if let Some(key) = self.read_long_key(seen.slot, &header)? {
                    f(seen, &header, &key);
                }
            }
            return Ok(piece);
        }
        let what = "transactions or a change of the membership".into();
        Err(PoolError::Timeout { what, waited_ms: 0 })
    }

    /// Reads the first bytes of the objects, all in one batch, into the client's buffer.
    fn read_peeks(&mut self, seen: &[Candidate]) -> Result<()> {
        self.reserve(seen.len() * PEEK);
        let mut verbs = Vec::with_capacity(seen.len());
        for (candidate, peek) in seen.iter().zip(self.object.chunks_exact_mut(PEEK)) {
            let slot = object_of(candidate.slot);
            let bytes = slot.class().map_or(0, |class| class.bytes()).min(PEEK);
            peek.fill(0);
            if bytes > 0 {
                if let Ok(at) = self.fabric.primary(slot.addr()) {
                    verbs.push(Verb::read(at, &mut peek[..bytes]));
                }
            }
        }
        match verbs.is_empty() {
            true => Ok(()),
            false => self.fabric.batch(&mut verbs),
        }
    }

    fn read_long_key(&self, slot: Slot, header: &Header) -> Result<Option<Vec<u8>>> {
        let mut key = vec![0; header.key_len as usize];
        for _ in 0..ATTEMPTS {
            match self.fabric.read(slot.addr().add(HEADER_BYTES as u64), &mut key) {
                Ok(()) => return Ok(Some(key)),
                Err(PoolError::ViewChanged) => {}
                Err(PoolError::Lost(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The value of a slot that names an object, frozen by a split or not.
pub(super) fn object_of(slot: Slot) -> Slot {
    slot.thawed().unwrap_or(slot)
}

/// The header of a key's object.
fn head_in(peek: &[u8], slot: Slot) -> Option<Header> {
    let header = Header::decode(peek, object_of(slot).class()?).ok()?;
    matches!(header.kind, Kind::Value | Kind::Manifest).then_some(header)
}
