//! What a client does with the cache.

use artesian_linear::{Call, Reply};
use artesian_pool::store::Expiry;
use artesian_pool::PoolError;

use super::worker::{End, Worker};

impl Worker {
    /// Anything that the cache can do.
    pub fn step_in_cache(&mut self, namespace: u16) -> Result<(), End> {
        let key = self.rng.below(u64::from(self.shared.keys.count())) as u32;
        if self.rng.once_in(8) {
            self.client.cache_touch(namespace, &self.shared.keys.key(key))?;
        }
        let call = match self.rng.below(10) {
            0..=4 => Call::Put(self.shared.record.fresh()),
            5 | 6 => Call::Delete,
            _ => Call::Get,
        };
        self.call(key, call)
    }

    /// One operation on a key.
    pub fn perform_in_cache(
        &mut self,
        namespace: u16,
        number: u32,
        call: Call,
    ) -> Result<Reply, End> {
        let (key, values) = (self.shared.keys.key(number), self.shared.values(number));
        let client = &mut self.client;
        Ok(match call {
            Call::Put(value) => {
                client.cache_put(namespace, &key, &values.encode(value), Expiry::Never)?;
                Reply::Done
            }
            Call::Delete => Reply::Applied(client.cache_delete(namespace, &key)?),
            _ => {
                let found = client.cache_get_with(namespace, &key, |bytes| values.decode(bytes))?;
                Reply::Found(found.transpose().map_err(PoolError::Corrupt)?)
            }
        })
    }
}
