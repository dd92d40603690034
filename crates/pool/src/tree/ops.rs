//! The operations of the ordered index.

use crate::client::Client;

impl Client {
    /// With `off`, this client's transactions write no logs, so that they do not survive it: for
    /// measurements of what logs cost, and for nothing else.
    pub fn tree_logs_off(&self, off: bool) {
        self.logs.set_off(off);
    }
}
