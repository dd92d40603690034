//! The last accesses to the children of a node.

/// One access.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Which child, by its place in the listing; without a listing, a hash of its name.
    pub rank: u32,
    /// Seconds since the tree was made.
    pub time: f32,
    // The step in the upper 24 bits, the frontier in the lower 8.
    packed: i32,
}

const MOST: i32 = (1 << 23) - 1;

impl Entry {
    /// One access; steps beyond 24 bits are cut, as nobody needs to tell them apart.
    pub fn new(rank: u32, time: f32, step: i64, frontier: u8) -> Entry {
        let step = step.clamp(i64::from(-MOST), i64::from(MOST)) as i32;
        Entry { rank, time, packed: (step << 8) | i32::from(frontier) }
    }

    /// Ranks from the last access of the same stream to this one; 0 is none.
    pub fn step(self) -> i32 {
        self.packed >> 8
    }

    /// How many scans went on after the one that this access continues; `Entry::NO_FRONTIER` if it
    /// continues none.
    pub fn frontier(self) -> u8 {
        (self.packed & 0xff) as u8
    }

    /// Continues no scan.
    pub const NO_FRONTIER: u8 = u8::MAX;
}

/// As many as the window has; the oldest one makes room.
#[derive(Debug, Default)]
pub struct Ring {
    entries: Vec<Entry>,
    next: usize,
}

impl Ring {
    /// Adds an access.
    pub fn push(&mut self, entry: Entry, window: usize) {
        if self.entries.len() < window {
            if self.entries.len() == self.entries.capacity() {
                let more = self.entries.len().max(8).min(window - self.entries.len());
                self.entries.reserve_exact(more);
            }
            self.entries.push(entry);
            return;
        }
        self.entries[self.next] = entry;
        self.next = (self.next + 1) % self.entries.len();
    }

    /// Copies the accesses, oldest first.
    pub fn copy(&self, to: &mut Vec<Entry>) {
        to.clear();
        to.extend_from_slice(&self.entries[self.next..]);
        to.extend_from_slice(&self.entries[..self.next]);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Accesses a second, 0 if that cannot be said.
    pub fn rate(&self) -> f64 {
        let (Some(first), false) = (self.entries.get(self.next), self.entries.len() < 2) else {
            return 0.0;
        };
        let last = self.entries[(self.next + self.entries.len() - 1) % self.entries.len()];
        let took = f64::from(last.time - first.time);
        if took > 0.0 {
            (self.entries.len() - 1) as f64 / took
        } else {
            0.0
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Ring::default();
    }

    /// Memory besides the struct.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * std::mem::size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_steps_and_frontiers() {
        for step in [0, 1, -1, 77, -77, i64::from(MOST), -i64::from(MOST)] {
            let entry = Entry::new(3, 0.5, step, 15);
            assert_eq!((i64::from(entry.step()), entry.frontier()), (step, 15));
        }
        let far = Entry::new(3, 0.5, -(1 << 40), Entry::NO_FRONTIER);
        assert_eq!((far.step(), far.frontier()), (-MOST, Entry::NO_FRONTIER));
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut ring, mut found) = (Ring::default(), Vec::new());
        for i in 0..40u32 {
            ring.push(Entry::new(i, i as f32, 1, 0), 16);
        }
        ring.copy(&mut found);
        assert_eq!(found.iter().map(|e| e.rank).collect::<Vec<_>>(), (24..40).collect::<Vec<_>>());
        assert!((ring.rate() - 1.0).abs() < 1e-6);
        assert!(ring.heap_bytes() <= 16 * 12);
    }
}
