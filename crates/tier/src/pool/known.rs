//! What this process knows of the blocks in a pool, for eviction: read page by page, over and over.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::{Entry, Key};

/// Blocks that were seen.
#[derive(Default)]
pub struct Known {
    blocks: HashMap<Key, Seen>,
    /// Where the next page begins; a round of pages ends with 0.
    cursor: u64,
    round: u64,
}

struct Seen {
    bytes: u64,
    used_ms: u64,
    round: u64,
}

impl Known {
    /// Where to read on.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The block is there, and was used so long ago.
    pub fn see(&mut self, key: Key, bytes: u64, unused: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let used_ms = now.saturating_sub(unused).as_millis() as u64;
        self.blocks.insert(key, Seen { bytes, used_ms, round: self.round });
    }

    /// The next page begins at `cursor`. After the last one, blocks that were on none are gone.
    pub fn turn_page(&mut self, cursor: u64) {
        self.cursor = cursor;
        if cursor == 0 {
            self.blocks.retain(|_, seen| seen.round == self.round);
            self.round += 1;
        }
    }

    /// The block is not there; whether it was known.
    pub fn forget(&mut self, key: &Key) -> bool {
        self.blocks.remove(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// All of them; the times are those of the last use.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |(key, seen): (&Key, &Seen)| Entry {
            key: *key,
            bytes: seen.bytes,
            saved_ms: seen.used_ms,
        };
        self.blocks.iter().map(entry).collect()
    }
}
