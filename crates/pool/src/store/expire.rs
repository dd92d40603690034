//! Times to live: changing them, and taking away what has expired.
//!
//! A value that has expired is none for everybody at once, as all clients go by the bus's clock.
//! Its memory comes back when somebody meets it: a read of its key, a write, or a [`super::sweep`].

use super::atomic::Next;
use super::batch::Task;
use super::change::{Change, Rule};
use super::find::Key;
use super::look::Object;
use super::ops::Expiry;
use super::GROUP;
use crate::client::Client;
use crate::error::Result;
use crate::object::{Kind, Op};
use crate::slot::Slot;

impl Client {
    /// Lets the value of `key` expire then; false if there is none. Pieces of large values stay
    /// where they are.
    pub fn expire(&mut self, namespace: u16, key: &[u8], expiry: Expiry) -> Result<bool> {
        let expires_ms = self.expires_ms(namespace, expiry)?;
        self.depending(namespace, key, |client, key, object, wait| {
            let Some(object) = object else { return Ok(Some(false)) };
            let done = if object.header.kind == Kind::Manifest {
                client.relink(key, object, expires_ms, wait)?
            } else {
                let value = client.value_of(key, object)?.unwrap_or_default().to_vec();
                let next = Next::Value(&value, expires_ms);
                client.exchange(key, Some(object.slot()), next, wait)?
            };
            Ok(done.map(|_| true))
        })
    }

    /// Lets the value of `key` never expire; false if there is none.
    pub fn persist(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        self.expire(namespace, key, Expiry::Never)
    }

    /// Takes an expired object of `key` away, if nobody else is quicker; one try.
    #[cold]
    pub(super) fn reclaim(&mut self, key: &Key<'_>, object: &Object) {
        // Whoever reads has no use for an error of this.
        let _ = self.change_within(key, &reclaims(object.slot()));
    }

    /// Takes expired objects away that this operation has seen.
    pub(super) fn reclaim_all(&mut self, expired: &[(u16, Vec<u8>, Slot)]) {
        for some in expired.chunks(GROUP) {
            let mut tasks: Vec<Task<'_>> = some.iter().map(reclaiming).collect();
            self.change_together(&mut tasks);
        }
    }
}

fn reclaiming((namespace, key, slot): &(u16, Vec<u8>, Slot)) -> Task<'_> {
    Task::new(Key::new(*namespace, key), reclaims(*slot))
}

/// The change that takes the expired object in a slot away.
fn reclaims(slot: Slot) -> Change<'static> {
    let (rule, op, kind) = (Rule::Expired(slot), Op::Delete, Kind::Deletion);
    Change { rule, op, kind, value: &[], expires_ms: 0 }
}
