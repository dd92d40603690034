//! Where each stream was last, and the scans that may go on.

use crate::options::FRONTIERS;
use crate::ring::Entry;

const MOST_STREAMS: usize = 24;

/// The last ranks of the streams that were active last.
#[derive(Debug, Default)]
pub struct Streams {
    last: Vec<(u32, u32)>, // stream, rank; in no order
    next: u8,              // which one makes room
}

impl Streams {
    /// The stream's last rank, if it is known, and the new one for next time.
    pub fn replace(&mut self, stream: u32, rank: u32) -> Option<u32> {
        if let Some(found) = self.last.iter_mut().find(|found| found.0 == stream) {
            return Some(std::mem::replace(&mut found.1, rank));
        }
        if self.last.len() < MOST_STREAMS {
            if self.last.len() == self.last.capacity() {
                self.last.reserve_exact(MOST_STREAMS / 3);
            }
            self.last.push((stream, rank));
        } else {
            self.last[usize::from(self.next)] = (stream, rank);
            self.next = (self.next + 1) % MOST_STREAMS as u8;
        }
        None
    }

    /// Memory besides the struct.
    pub fn heap_bytes(&self) -> usize {
        self.last.capacity() * 8
    }
}

/// The ends of the latest scans, the latest first.
#[derive(Debug, Default)]
pub struct Frontiers {
    ends: [u32; FRONTIERS],
    len: u8,
}

impl Frontiers {
    /// How many scans were further on since the one that `rank` continues by at most `longest`
    /// ranks, or `Entry::NO_FRONTIER`; then the scan ends at `rank`.
    pub fn advance(&mut self, rank: u32, longest: u32) -> u8 {
        let len = usize::from(self.len);
        let continues = |&end: &u32| rank > end && rank - end <= longest;
        let (found, from) = match self.ends[..len].iter().position(continues) {
            Some(place) => (place as u8, place),
            None => match self.ends[..len].iter().position(|&end| end == rank) {
                Some(place) => (Entry::NO_FRONTIER, place),
                None => {
                    self.len = (len + 1).min(FRONTIERS) as u8;
                    (Entry::NO_FRONTIER, usize::from(self.len) - 1)
                }
            },
        };
        self.ends.copy_within(..from, 1);
        self.ends[0] = rank;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded() {
        let mut streams = Streams::default();
        for stream in 0..100 {
            assert_eq!(streams.replace(stream, stream), None);
        }
        assert_eq!(streams.replace(99, 7), Some(99));
        assert_eq!(streams.replace(99, 8), Some(7));
        assert_eq!(streams.replace(0, 8), None);
        assert!(streams.heap_bytes() <= MOST_STREAMS * 8);
    }

    #[test]
    fn frontiers_follow_interleaved_scans() {
        let mut frontiers = Frontiers::default();
        for scan in 0..16 {
            assert_eq!(frontiers.advance(scan * 1000, 4), Entry::NO_FRONTIER);
        }
        for step in 1..50 {
            for scan in 0..16 {
                assert_eq!(frontiers.advance(scan * 1000 + step, 4), 15);
            }
        }
        assert_eq!(frontiers.advance(15_049, 4), Entry::NO_FRONTIER, "again the same");
        assert_eq!(frontiers.advance(15_051, 1), Entry::NO_FRONTIER, "too far");
        assert_eq!(frontiers.advance(15_050, 1), 1);
    }
}
