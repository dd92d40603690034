//! Values without a copy: views of their bytes in the pool.
//!
//! What a view shows is pinned: not reused, however long the key has had another value since. Its
//! bytes never change either, as values are written once; only the log entry at an object's end
//! does. A node that is lost shows as zeros, unless the operating system has taken its memory away.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::{smallvec, SmallVec};

use super::find::Key;
use super::large::{Manifest, Piece};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{self, Header, Kind, LOG_BYTES};
use crate::pin::Pin;
use crate::slot::Slot;

/// How often a key that changes all the while is looked at; then its value is copied.
const ATTEMPTS: u32 = 8;

/// Pins that views have let go of, for the client to give back.
#[derive(Default)]
pub(crate) struct Releases {
    any: AtomicBool,
    pins: Mutex<Vec<Pin>>,
}

impl Releases {
    fn push(&self, pins: impl Iterator<Item = Pin>) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).extend(pins);
        self.any.store(true, Ordering::Release);
    }

    /// Whether there are any: costs nothing when there are none.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Pin> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *pins)
    }
}

/// The bytes of a value, in the pool where the transport can show them, else copied. May be sent to
/// other threads; its pins are given back by the client's next operation after it was dropped.
pub struct Pinned {
    bytes: Bytes,
    len: usize,
}

enum Bytes {
    Copied(Vec<u8>),
    Mapped(Mapped),
}

struct Mapped {
    segments: SmallVec<[Segment; 1]>,
    pins: SmallVec<[Pin; 1]>,
    releases: Arc<Releases>,
    /// Keeps the memory in this address space.
    _anchor: Arc<dyn Any + Send + Sync>,
}

/// Bytes in the pool.
#[derive(Clone, Copy)]
struct Segment {
    at: *const u8,
    len: usize,
}

// SAFETY: the memory is shared anyway, pinned, and only read through these pointers.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `Client::mapped` had the transport vouch for these bytes as long as its anchor is
        // held, and they do not change while pinned: whoever writes there breaks the protocol.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    fn part(&self, range: Range<usize>) -> Option<Segment> {
        let bytes = self.bytes().get(range)?;
        Some(Segment { at: bytes.as_ptr(), len: bytes.len() })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.releases.push(self.pins.drain(..));
    }
}

impl Pinned {
    /// Bytes of the value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bytes lie in the pool, not in a copy.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// The value in one piece; `None` if it lies in several: see [`Pinned::segments`].
    pub fn as_slice(&self) -> Option<&[u8]> {
        let mut segments = self.segments();
        match (segments.next(), segments.next()) {
            (None, _) => Some(&[]),
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) => None,
        }
    }

    /// The value's bytes in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let (copied, mapped) = match &self.bytes {
            Bytes::Copied(bytes) => (Some(bytes.as_slice()), &[][..]),
            Bytes::Mapped(mapped) => (None, mapped.segments.as_slice()),
        };
        copied.into_iter().chain(mapped.iter().map(Segment::bytes))
    }

    /// A copy of the value.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.segments().for_each(|segment| bytes.extend_from_slice(segment));
        bytes
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_mapped() { "mapped" } else { "copied" };
        write!(f, "{} bytes, {what}, in {} pieces", self.len, self.segments().count())
    }
}

impl Client {
    /// A view of the value of `key`; `None` if there is none. Its bytes are verified now, and stay
    /// as they are for as long as the view is held, whatever becomes of the key. The bytes are
    /// copied where the transport cannot show them and when all pins of this client are in use.
    ///
    /// A client cannot leave the pool while its views are held, and memory that they show is not
    /// freed: do not keep them without need.
    pub fn get_pinned(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Pinned>> {
        let key = Key::new(namespace, key)?;
        self.stats.reads += 1;
        if self.releases.any() {
            self.release_pins()?;
        }
        let outcome = self.view_of(&key);
        self.settle_down()?;
        self.stats.reads_found += u64::from(matches!(outcome, Ok(Some(_))));
        outcome
    }

    /// Views that are held, counted by the objects that they pin.
    pub fn num_pins(&mut self) -> Result<u64> {
        self.release_pins()?;
        Ok(self.pins.count())
    }

    /// Gives back what views have let go of.
    #[cold]
    pub(crate) fn release_pins(&mut self) -> Result<()> {
        let pins = self.releases.take();
        match pins.is_empty() {
            true => Ok(()),
            false => self.pins.unpin_all(&self.fabric, pins),
        }
    }

    fn view_of(&mut self, key: &Key<'_>) -> Result<Option<Pinned>> {
        let anchor = self.fabric.verbs().anchor();
        for _ in 0..ATTEMPTS {
            let Some(anchor) = anchor.clone().filter(|_| self.pins.left() > 0) else { break };
            let found = self.read_or_reclaim(key, false)?;
            let Some(object) = found else { return Ok(None) };
            let slot = object.slot();
            let pinned = self.pins.pin_all(&self.fabric, &[slot.addr()], Some(object.seen.at));
            let (pins, held) = match pinned {
                Err(PoolError::ViewChanged) => continue,
                pinned => pinned?,
            };
            let releases = Arc::clone(&self.releases);
            let (pins, segments) = (SmallVec::from_vec(pins), SmallVec::new());
            // From here on the pins are given back whatever happens.
            let mut mapped = Mapped { segments, pins, releases, _anchor: anchor };
            if held != object.seen.slot {
                continue;
            }
            return match self.fill(key, slot, &mut mapped) {
                Ok(Some(len)) => Ok(Some(Pinned { bytes: Bytes::Mapped(mapped), len })),
                Ok(None) => break,
                Err(PoolError::ViewChanged) => continue,
                Err(error) => Err(error),
            };
        }
        self.read_within(key, |client, key, object| {
            let mut bytes = Vec::new();
            match client.value_of(key, object)? {
                Some(value) => bytes.extend_from_slice(value),
                None => client.get_large(key, object, &mut bytes)?,
            }
            Ok(Pinned { len: bytes.len(), bytes: Bytes::Copied(bytes) })
        })
    }

    /// Finds the value's bytes, whose object is pinned; its length. `None` if they cannot be shown
    /// or do not verify here: then a copy is made, from another place if need be.
    fn fill(&mut self, key: &Key<'_>, slot: Slot, mapped: &mut Mapped) -> Result<Option<usize>> {
        let Some(class) = slot.class() else { return Ok(None) };
        let Some(object) = self.mapped(slot, 0..class.bytes() - LOG_BYTES)? else {
            return Ok(None);
        };
        let header = key.header_in(object.bytes(), slot);
        let whole = |header: &Header| object::is_whole(object.bytes(), header);
        let Some(header) = header.filter(whole) else { return Ok(None) };
        let value = key.head_bytes()..key.head_bytes() + header.value_len as usize;
        let Some(value) = object.part(value) else { return Ok(None) };
        match header.kind {
            Kind::Value => {
                mapped.segments = smallvec![value];
                Ok(Some(value.len))
            }
            Kind::Manifest => self.fill_pieces(key, &Manifest::decode(value.bytes())?, mapped),
            _ => Ok(None),
        }
    }

    /// Pins the pieces instead of the manifest, all in one batch. What this operation has seen is
    /// not reused before its end: that is soon enough.
    fn fill_pieces(
        &mut self,
        key: &Key<'_>,
        manifest: &Manifest,
        mapped: &mut Mapped,
    ) -> Result<Option<usize>> {
        let addrs: Vec<_> = manifest.parts.iter().map(|part| part.slot.addr()).collect();
        if addrs.len() > self.pins.left() {
            return Ok(None);
        }
        let (pins, _) = self.pins.pin_all(&self.fabric, &addrs, None)?;
        self.releases.push(mapped.pins.drain(..));
        mapped.pins.extend(pins);
        for (number, part) in manifest.parts.iter().enumerate() {
            let len = manifest.len_of(number);
            let start = Piece::HEAD_BYTES as usize;
            let Some(segment) = self.mapped(part.slot, start..start + len)? else {
                return Ok(None);
            };
            let piece = Piece::new(key.namespace, key.hash, number, len);
            if piece.sum(segment.bytes()) != part.sum {
                return Ok(None);
            }
            mapped.segments.push(segment);
        }
        Ok(Some(manifest.bytes))
    }

    /// Bytes of the primary copy of the object in `slot`, where they can be seen.
    fn mapped(&self, slot: Slot, range: Range<usize>) -> Result<Option<Segment>> {
        let at = self.fabric.primary(slot.addr().add(range.start as u64))?;
        let at = self.fabric.verbs().map(at, range.len());
        Ok(at.map(|at| Segment { at, len: range.len() }))
    }
}
