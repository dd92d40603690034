//! How long it takes until a child is wanted again, also where that is longer than the window.

use twox_hash::XxHash3_64;

const MOST: usize = 16;

/// A few children, chosen by the hashes of their ranks (after SHARDS, FAST '15, with a fixed number
/// of samples), of which every use is noticed.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Vec<Watched>,
    threshold: u64, // hashes from there on are not watched; 0: all are
    count: u32,
    mean: f64,
    squares: f64,
    last: f32,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    rank: u32,
    time: f32,
    was_reused: bool,
}

/// What is known of reuse.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reuse {
    /// Reuses that were seen.
    pub count: u32,
    /// Mean of the seconds between uses.
    pub mean_s: f64,
    /// Their standard deviation.
    pub deviation_s: f64,
    /// The latest such time.
    pub last_s: f64,
    /// Children that are watched.
    pub num_watched: u32,
    /// Of these, the ones that were wanted again.
    pub num_reused: u32,
}

fn hash(rank: u32) -> u64 {
    XxHash3_64::oneshot(&rank.to_le_bytes())
}

impl Watch {
    /// A child is wanted.
    pub fn push(&mut self, rank: u32, time: f32) {
        let hashed = hash(rank);
        if self.threshold != 0 && hashed >= self.threshold {
            return;
        }
        if let Some(found) = self.watched.iter_mut().find(|found| found.rank == rank) {
            self.last = (time - found.time).max(0.0);
            found.time = time;
            found.was_reused = true;
            let interval = f64::from(self.last);
            self.count = self.count.saturating_add(1);
            let delta = interval - self.mean;
            self.mean += delta / f64::from(self.count);
            self.squares += delta * (interval - self.mean);
            return;
        }
        if self.watched.capacity() == 0 {
            self.watched.reserve_exact(MOST + 1);
        }
        self.watched.push(Watched { rank, time, was_reused: false });
        if self.watched.len() > MOST {
            let highest = (0..self.watched.len()).max_by_key(|&i| hash(self.watched[i].rank));
            let gone = self.watched.swap_remove(highest.unwrap_or_default());
            self.threshold = hash(gone.rank);
        }
    }

    /// What was seen so far.
    pub fn reuse(&self) -> Reuse {
        let variance = if self.count > 1 { self.squares / f64::from(self.count - 1) } else { 0.0 };
        Reuse {
            count: self.count,
            mean_s: self.mean,
            deviation_s: variance.max(0.0).sqrt(),
            last_s: f64::from(self.last),
            num_watched: self.watched.len() as u32,
            num_reused: self.watched.iter().filter(|found| found.was_reused).count() as u32,
        }
    }

    /// Memory besides the struct.
    pub fn heap_bytes(&self) -> usize {
        self.watched.capacity() * std::mem::size_of::<Watched>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_longer_than_the_window_and_seen() {
        let mut watch = Watch::default();
        for access in 0..5 * 2000u32 {
            watch.push(access % 2000, access as f32 * 0.5);
        }
        let reuse = watch.reuse();
        assert_eq!((reuse.num_watched, reuse.num_reused, reuse.last_s), (16, 16, 1000.0));
        assert!((reuse.mean_s - 1000.0).abs() < 1e-6 && reuse.deviation_s < 1e-6);
        assert!(watch.heap_bytes() <= 17 * 12);
    }

    #[test]
    fn what_is_read_once_is_not_reused() {
        let mut watch = Watch::default();
        for access in 0..5000 {
            watch.push(access, access as f32);
        }
        assert_eq!(watch.reuse(), Reuse { num_watched: 16, ..Reuse::default() });
    }
}
