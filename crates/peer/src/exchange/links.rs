//! Which of the own answer boxes are free.

/// Whether a peer can still write to a box that it was lent.
type CanWrite = Box<dyn Fn() -> bool + Send>;

/// Answer boxes. One that comes back from a peer that may still be writing an answer is kept until
/// it cannot any more.
#[derive(Default)]
pub struct Links {
    free: Vec<usize>,
    kept: Vec<(usize, CanWrite)>,
}

impl Links {
    /// All of `num_links` are free.
    pub fn new(num_links: usize) -> Links {
        Links { free: (0..num_links).rev().collect(), kept: Vec::new() }
    }

    /// A free one.
    pub fn take(&mut self) -> Option<usize> {
        let (kept, done) = std::mem::take(&mut self.kept).into_iter().partition(|link| link.1());
        self.kept = kept;
        let done: Vec<(usize, CanWrite)> = done;
        self.free.extend(done.into_iter().map(|(link, _)| link));
        self.free.pop()
    }

    /// Gives one back that nobody writes to any more.
    pub fn give_back(&mut self, link: usize) {
        self.free.push(link);
    }

    /// Gives one back to which a peer may write as long as `can_write` says so.
    pub fn keep(&mut self, link: usize, can_write: CanWrite) {
        self.kept.push((link, can_write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;

    #[test]
    fn a_box_is_lent_again_when_nobody_writes_to_it() {
        let mut links = Links::new(2);
        let (first, second) = (links.take().unwrap(), links.take().unwrap());
        assert!((first, second) == (0, 1) && links.take().is_none());
        let writes = Arc::new(AtomicBool::new(true));
        let writing = Arc::clone(&writes);
        links.keep(first, Box::new(move || writing.load(Ordering::Relaxed)));
        assert_eq!(links.take(), None);
        links.give_back(second);
        assert_eq!(links.take(), Some(second));
        writes.store(false, Ordering::Relaxed);
        assert_eq!(links.take(), Some(first));
    }
}
