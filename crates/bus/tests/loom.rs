//! The bus's rules in all interleavings of a few threads.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p artesian-bus --release --test loom`. The steps are
//! those of the shared memory transport, on the model's words instead of mapped ones.
#![cfg(loom)]

use loom::sync::atomic::{fence, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;

/// Words of one memory node.
struct Node(Vec<AtomicU64>);

impl Node {
    fn new(words: usize) -> Arc<Node> {
        Arc::new(Node((0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    /// A WRITE: its last word becomes visible after the others.
    fn write(&self, at: usize, from: &[u64]) {
        fence(Ordering::Release);
        for (i, &word) in from.iter().enumerate() {
            if i + 1 == from.len() {
                fence(Ordering::Release);
            }
            self.0[at + i].store(word, Ordering::Relaxed);
        }
    }

    /// A READ: what follows sees no older state.
    fn read(&self, at: usize) -> u64 {
        let word = self.0[at].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        word
    }

    /// What a batch does between a WRITE and a READ, and at its end.
    fn settle(&self) {
        fence(Ordering::SeqCst);
    }

    fn cas(&self, at: usize, expected: u64, desired: u64) -> u64 {
        let order = Ordering::SeqCst;
        self.0[at].compare_exchange(expected, desired, order, order).unwrap_or_else(|found| found)
    }

    fn faa(&self, at: usize, add: u64) -> u64 {
        self.0[at].fetch_add(add, Ordering::SeqCst)
    }
}

#[test]
fn the_last_word_of_a_write_publishes_the_others() {
    loom::model(|| {
        let node = Node::new(3);
        let writer = Arc::clone(&node);
        let thread = thread::spawn(move || writer.write(0, &[7, 8, 1]));
        if node.read(2) == 1 {
            assert_eq!((node.read(0), node.read(1)), (7, 8));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_write_is_published_by_a_later_verb_of_its_batch() {
    for by_cas in [false, true] {
        loom::model(move || {
            let node = Node::new(2);
            let writer = Arc::clone(&node);
            let thread = thread::spawn(move || {
                writer.write(0, &[7]);
                if by_cas {
                    assert_eq!(writer.cas(1, 0, 1), 0);
                } else {
                    writer.write(1, &[1]);
                }
            });
            if node.read(1) == 1 {
                assert_eq!(node.read(0), 7);
            }
            thread.join().unwrap();
        });
    }
}

/// Publication goes on through a third client that only passes it along.
#[test]
fn what_was_seen_can_be_told_on() {
    loom::model(|| {
        let node = Node::new(3);
        let (first, second) = (Arc::clone(&node), Arc::clone(&node));
        let writer = thread::spawn(move || first.write(0, &[7, 1]));
        let teller = thread::spawn(move || {
            if second.read(1) == 1 {
                second.write(2, &[1]);
            }
        });
        if node.read(2) == 1 {
            assert_eq!(node.read(0), 7);
        }
        writer.join().unwrap();
        teller.join().unwrap();
    });
}

/// A pin: write mine, read yours; and you the same.
#[test]
fn one_of_two_sees_the_other() {
    loom::model(|| {
        let node = Node::new(2);
        let other = Arc::clone(&node);
        let thread = thread::spawn(move || {
            other.write(0, &[1]);
            other.settle();
            other.read(1)
        });
        node.write(1, &[1]);
        node.settle();
        let mine = node.read(0);
        let theirs = thread.join().unwrap();
        assert!(mine == 1 || theirs == 1);
    });
}

/// Free bits: each is added once, by different clients, and an owner takes what it has seen.
#[test]
fn free_bits_are_collected_once_each() {
    loom::model(|| {
        let node = Node::new(1);
        let free = |bit: u64| {
            let node = Arc::clone(&node);
            thread::spawn(move || node.faa(0, 1 << bit))
        };
        let threads = [free(0), free(5)];
        let collected = node.read(0);
        let found = node.faa(0, collected.wrapping_neg());
        assert_eq!(found & collected, collected, "bits seen stay until they are taken");
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(node.read(0) | collected, 0b10_0001);
        assert_eq!(node.read(0) & collected, 0);
    });
}
