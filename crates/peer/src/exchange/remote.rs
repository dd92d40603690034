//! A program's view of a connection: attention by a peer.

use artesian_bus::Verbs;
use artesian_kernels::program::{RemoteAttention, Rows, RowsMut};
use parking_lot::Mutex;

use super::{Client, ExchangeError, RemoteRow, Timing};

/// One run of a program whose last rows a peer attends for.
pub struct RemoteRun<'a, V: Verbs> {
    client: &'a Mutex<Client<V>>,
    timing: Timing,
}

impl<'a, V: Verbs> RemoteRun<'a, V> {
    /// Names the rows to the peer, which prepares for them while the program comes to its first
    /// attention. All waits of the run together end at `timing`.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn begin(
        client: &'a Mutex<Client<V>>,
        rows: &[RemoteRow],
        timing: Timing,
    ) -> Result<RemoteRun<'a, V>, ExchangeError> {
        client.lock().begin(rows)?;
        Ok(RemoteRun { client, timing })
    }
}

impl<V: Verbs> RemoteAttention for RemoteRun<'_, V> {
    fn send(&self, _layer: usize, qkv: Rows<'_>) -> bool {
        let rows: Vec<&[u8]> =
            (0..qkv.len()).map(|row| bytemuck::cast_slice(qkv.row(row))).collect();
        self.client.lock().send(&rows).is_ok()
    }

    fn receive(&self, _layer: usize, mut out: RowsMut<'_>) -> bool {
        let mut rows: Vec<&mut [u8]> = out.rows_mut().map(bytemuck::cast_slice_mut).collect();
        self.client.lock().receive(&mut rows, self.timing).is_ok()
    }

    fn refused(&self) -> Vec<usize> {
        self.client.lock().refused()
    }
}

impl<V: Verbs> Drop for RemoteRun<'_, V> {
    fn drop(&mut self) {
        self.client.lock().abandon();
    }
}
