//! The operations on one key.

use super::change::{Change, Done, Rule};
use super::find::Key;
use super::now_ms;
use crate::client::Client;
use crate::error::Result;
use crate::object::{Kind, Op};

/// When a value that is written goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// When the namespace says.
    #[default]
    Default,
    /// Never.
    Never,
    /// So many milliseconds from now.
    In(u64),
}

impl Client {
    /// Gives `key` this value, whatever it had.
    pub fn put(&mut self, namespace: u16, key: &[u8], value: &[u8], expiry: Expiry) -> Result<()> {
        self.store(namespace, key, value, expiry, Rule::Any, Op::Put).map(drop)
    }

    /// Gives `key` this value if it has none; false if it has one.
    pub fn insert(
        &mut self,
        namespace: u16,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> Result<bool> {
        let done = self.store(namespace, key, value, expiry, Rule::Absent, Op::Insert)?;
        Ok(done.happened())
    }

    /// Gives `key` this value if it has one; false if it has none.
    pub fn update(
        &mut self,
        namespace: u16,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> Result<bool> {
        let done = self.store(namespace, key, value, expiry, Rule::Present, Op::Put)?;
        Ok(done.happened())
    }

    /// Takes the value of `key` away; false if it had none.
    pub fn delete(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        self.stats.deletes += 1;
        if self.sweeper.is_short {
            self.sweep_in_time()?;
        }
        let key = Key::new(namespace, key)?;
        let (rule, op, kind) = (Rule::Present, Op::Delete, Kind::Deletion);
        let done = self.change(&key, &Change { rule, op, kind, value: &[], expires_ms: 0 })?;
        Ok(done.happened())
    }

    fn store(
        &mut self,
        namespace: u16,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
        rule: Rule,
        op: Op,
    ) -> Result<Done> {
        self.stats.writes += 1;
        let key = Key::new(namespace, key)?;
        let expires_ms = self.expires_ms(namespace, expiry)?;
        let done = if value.len() > super::MAX_INLINE_BYTES {
            self.store_large(&key, value, expires_ms, rule, op)
        } else {
            self.change_within(&key, &Change { rule, op, kind: Kind::Value, value, expires_ms })
        };
        self.settle_down()?;
        done
    }

    /// When a value that is written now expires, in milliseconds of the bus's clock; 0 for never.
    /// Refuses namespaces that take no values.
    #[inline]
    pub(crate) fn expires_ms(&mut self, namespace: u16, expiry: Expiry) -> Result<u64> {
        let space = self.spaces.for_writing(&self.fabric, namespace)?;
        let ms = match expiry {
            Expiry::Never => return Ok(0),
            Expiry::Default if space.limits.default_ttl_ms == 0 => return Ok(0),
            Expiry::Default => space.limits.default_ttl_ms,
            Expiry::In(ms) => ms,
        };
        Ok(now_ms(&self.fabric).saturating_add(ms))
    }
}
