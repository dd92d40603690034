//! The operations of the ordered index. `namespace` is the number of one of kind
//! [`Kind::Tree`](crate::namespace::Kind::Tree); keys have at most
//! [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES).

use super::change::Want;
use crate::client::Client;
use crate::error::Result;

impl Client {
    /// Puts the value of `key` into `into` (what was there is gone); false if there is none.
    pub fn tree_get(&mut self, namespace: u16, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        into.clear();
        let found = self.tree_get_with(namespace, key, |value| into.extend_from_slice(value))?;
        Ok(found.is_some())
    }

    /// Gives `key` this value, whatever it had.
    pub fn tree_put(&mut self, namespace: u16, key: &[u8], value: &[u8]) -> Result<()> {
        self.tree_change(namespace, key, Want::Put(value)).map(drop)
    }

    /// Gives `key` this value if it has none; false if it has one.
    pub fn tree_insert(&mut self, namespace: u16, key: &[u8], value: &[u8]) -> Result<bool> {
        self.tree_change(namespace, key, Want::Insert(value))
    }

    /// Takes the value of `key` away; false if it had none.
    pub fn tree_delete(&mut self, namespace: u16, key: &[u8]) -> Result<bool> {
        self.tree_change(namespace, key, Want::Delete)
    }

    /// Bytes of logs that this client's transactions have written so far, on one copy.
    pub fn tree_log_bytes(&self) -> u64 {
        self.logs.bytes()
    }

    /// With `off`, this client's transactions write no logs, so that they do not survive it: for
    /// measurements of what logs cost, and for nothing else.
    pub fn tree_logs_off(&self, off: bool) {
        self.logs.set_off(off);
    }
}
