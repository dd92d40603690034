//! Reading.

use crate::xxh3::xxh3_64;

use super::find::Key;
use super::look::Object;
use super::now_ms;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::object::{Kind, LOG_BYTES};

/// Names one state of a key: never the same again, whatever becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Of the object with that log entry: client and operation number, which never change.
    pub(crate) fn of_log(bytes: &[u8]) -> Version {
        Version(xxh3_64(&bytes[LOG_BYTES / 2..]))
    }
}

impl Client {
    /// Calls `f` with the value of `key`; `None` if there is none. One in pieces is put together
    /// for it: [`Client::get_into`] and [`Client::get_to`] do without that copy.
    pub fn get_with<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let mut f = Some(f);
        let found = self.reading(namespace, key, |client, key, object| {
            if let Some(value) = client.value_of(key, object)? {
                return Ok(f.take().map(|f| f(value)));
            }
            let mut value = Vec::new();
            client.get_large(key, object, &mut value)?;
            Ok(f.take().map(|f| f(&value)))
        })?;
        Ok(found.flatten())
    }

    /// Puts the value of `key` into `into` (what was there is gone); false if there is none.
    pub fn get(&mut self, namespace: u16, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        let found = self
            .reading(namespace, key, |client, key, object| client.copy_value(key, object, into));
        if !matches!(found, Ok(Some(()))) {
            into.clear();
        }
        Ok(found?.is_some())
    }

    /// [`Client::get`] that names the state it has read; `None` if there is no value.
    pub fn get_versioned(
        &mut self,
        namespace: u16,
        key: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<Option<Version>> {
        let found = self.reading(namespace, key, |client, key, object| {
            let version = client.version_of(object);
            client.copy_value(key, object, into).map(|()| version)
        });
        if !matches!(found, Ok(Some(_))) {
            into.clear();
        }
        found
    }

    /// Puts the value of `key` at the start of `into` and returns its bytes; `None` if there is
    /// none. [`PoolError::TooLarge`] if `into` is too short.
    pub fn get_into(
        &mut self,
        namespace: u16,
        key: &[u8],
        into: &mut [u8],
    ) -> Result<Option<usize>> {
        let limit = into.len();
        let fit = |size| match size <= limit {
            true => Ok(()),
            false => Err(PoolError::TooLarge { what: "value", size, limit }),
        };
        self.reading(namespace, key, |client, key, object| {
            if let Some(value) = client.value_of(key, object)? {
                fit(value.len())?;
                into[..value.len()].copy_from_slice(value);
                return Ok(value.len());
            }
            let manifest = client.manifest_of(key, object)?;
            fit(manifest.bytes)?;
            client.read_parts(key, &manifest, &mut into[..manifest.bytes])?;
            Ok(manifest.bytes)
        })
    }

    /// Asks `room` for a buffer once the value's length is known, and puts the value there; `None`
    /// if there is none. The buffer must have that length.
    pub fn get_to<'b>(
        &mut self,
        namespace: u16,
        key: &[u8],
        room: impl FnOnce(usize) -> Result<&'b mut [u8]>,
    ) -> Result<Option<&'b mut [u8]>> {
        let (mut room, mut buffer) = (Some(room), None);
        let found = self.reading(namespace, key, |client, key, object| {
            let manifest = match object.header.kind {
                Kind::Manifest => Some(client.manifest_of(key, object)?),
                _ => None,
            };
            let len = manifest.as_ref().map_or(object.header.value_len as usize, |m| m.bytes);
            // After a change of the view the key may have a value of another length.
            if let (Some(room), None) = (room.take(), &buffer) {
                buffer = Some(room(len)?);
            }
            let Some(into) = buffer.as_deref_mut().filter(|into| into.len() == len) else {
                let text = format!("the buffer for a value of {len} bytes has another length");
                return Err(PoolError::Invalid(text));
            };
            match (manifest, client.value_of(key, object)?) {
                (Some(manifest), _) => client.read_parts(key, &manifest, into),
                (None, Some(value)) => {
                    into.copy_from_slice(value);
                    Ok(())
                }
                (None, None) => Ok(()),
            }
        })?;
        Ok(found.and(buffer))
    }

    /// Reads the value of `key` from byte `offset` on until `into` is full or the value ends;
    /// returns how many bytes that were, `None` if there is no value.
    pub fn get_range(
        &mut self,
        namespace: u16,
        key: &[u8],
        offset: usize,
        into: &mut [u8],
    ) -> Result<Option<usize>> {
        self.reading(namespace, key, |client, key, object| {
            if let Some(value) = client.value_of(key, object)? {
                let rest = value.get(offset..).unwrap_or_default();
                let len = rest.len().min(into.len());
                into[..len].copy_from_slice(&rest[..len]);
                return Ok(len);
            }
            let manifest = client.manifest_of(key, object)?;
            let len = manifest.bytes.saturating_sub(offset).min(into.len());
            client.read_range(key, &manifest, offset, &mut into[..len])?;
            Ok(len)
        })
    }

    /// Bytes of the value of `key`; `None` if there is none.
    pub fn value_len(&mut self, namespace: u16, key: &[u8]) -> Result<Option<usize>> {
        self.reading(namespace, key, |client, key, object| match object.header.kind {
            Kind::Manifest => Ok(client.manifest_of(key, object)?.bytes),
            _ => Ok(object.header.value_len as usize),
        })
    }

    /// Whether `key` has a value.
    pub fn contains(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        let key = Key::new(namespace, key)?;
        self.stats.reads += 1;
        let found = self.read_or_reclaim(&key, false);
        self.settle_down()?;
        let found = found?.is_some();
        self.stats.reads_found += u64::from(found);
        Ok(found)
    }

    /// Milliseconds after which the value of `key` expires: `None` if there is no value,
    /// `Some(None)` if it never does.
    pub fn ttl_ms(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Option<u64>>> {
        self.reading(namespace, key, |client, _, object| match object.header.expires_ms {
            0 => Ok(None),
            expires => Ok(Some(expires.saturating_sub(now_ms(&client.fabric)))),
        })
    }

    /// Names the present state of `key`; `None` if it has no value.
    pub fn version(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Version>> {
        self.reading(namespace, key, |client, _, object| Ok(client.version_of(object)))
    }

    /// [`Client::version`] as a part of an operation.
    pub(crate) fn version_within(&mut self, namespace: u16, key: &[u8]) -> Result<Option<Version>> {
        let key = Key::new(namespace, key)?;
        let found = self.read_live(&key)?;
        Ok(found.map(|object| self.version_of(&object)))
    }

    /// Puts the value of the object in the client's buffer into `into`.
    #[inline]
    fn copy_value(&mut self, key: &Key<'_>, object: &Object, into: &mut Vec<u8>) -> Result<()> {
        let Some(value) = self.value_of(key, object)? else {
            return self.get_large(key, object, into);
        };
        into.clear();
        into.extend_from_slice(value);
        Ok(())
    }

    /// Calls `read` with the object of a key, which lies in the client's buffer: an operation of
    /// its own. `read` may ask for another look by [`PoolError::ViewChanged`].
    #[inline]
    pub(super) fn reading<R>(
        &mut self,
        namespace: u16,
        key: &[u8],
        mut read: impl FnMut(&mut Client, &Key<'_>, &Object) -> Result<R>,
    ) -> Result<Option<R>> {
        let key = Key::new(namespace, key)?;
        self.stats.reads += 1;
        let outcome = self.read_within(&key, &mut read);
        self.settle_down()?;
        outcome
    }

    /// [`Client::reading`] as a part of an operation.
    #[inline]
    pub(super) fn read_within<R>(
        &mut self,
        key: &Key<'_>,
        mut read: impl FnMut(&mut Client, &Key<'_>, &Object) -> Result<R>,
    ) -> Result<Option<R>> {
        loop {
            let Some(object) = self.read_or_reclaim(key, true)? else { return Ok(None) };
            match read(self, key, &object) {
                Err(PoolError::ViewChanged) => {}
                outcome => {
                    self.stats.reads_found += 1;
                    return outcome.map(Some);
                }
            }
        }
    }

    /// The value in the client's buffer; `None` if it lies in pieces.
    #[inline]
    pub(super) fn value_of(&self, key: &Key<'_>, object: &Object) -> Result<Option<&[u8]>> {
        let start = key.head_bytes();
        let end = start + object.header.value_len as usize;
        match object.header.kind {
            Kind::Value => Ok(Some(&self.object[start..end])),
            Kind::Manifest => Ok(None),
            kind => {
                let text = format!("a key names an object of kind {kind:?}");
                Err(PoolError::Corrupt(text))
            }
        }
    }

    /// The version of the object in the buffer.
    pub(crate) fn version_of(&self, object: &Object) -> Version {
        let slot = object.seen.slot.thawed().unwrap_or(object.seen.slot);
        let end = slot.class().map_or(LOG_BYTES, |class| class.bytes());
        Version::of_log(&self.object[end - LOG_BYTES..end])
    }
}
