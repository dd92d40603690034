//! Which parts of a landing's blocks were written.

use std::sync::atomic::{AtomicU32, Ordering};

/// For each layer of each block, how many tokens of it.
pub(super) struct Cover {
    num_layers: usize,
    tokens: Vec<AtomicU32>,
}

impl Cover {
    pub fn new(num_blocks: usize, num_layers: usize) -> Cover {
        let tokens = (0..num_blocks * num_layers).map(|_| AtomicU32::new(0)).collect();
        Cover { num_layers, tokens }
    }

    /// The first `num_tokens` tokens of that layer are there.
    pub fn add(&self, block: usize, layer: usize, num_tokens: u32) {
        let place = &self.tokens[block * self.num_layers + layer];
        place.fetch_max(num_tokens, Ordering::Relaxed);
    }

    /// Whether every layer of every block is there: all `block_tokens` tokens, but of the last
    /// block only equally many, and at least one.
    pub fn is_whole(&self, block_tokens: u32) -> bool {
        let mut blocks = self.tokens.chunks_exact(self.num_layers);
        let has = |layer: &AtomicU32, tokens: u32| layer.load(Ordering::Relaxed) == tokens;
        let Some(last) = blocks.next_back() else { return true };
        let in_last = last[0].load(Ordering::Relaxed);
        in_last > 0
            && last.iter().all(|layer| has(layer, in_last))
            && blocks.flatten().all(|layer| has(layer, block_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_once_nothing_is_missing() {
        let cover = Cover::new(2, 3);
        let pushes = [(0, 0, 32), (0, 1, 32), (1, 0, 5), (1, 1, 5), (0, 2, 32), (1, 2, 5)];
        for (block, layer, tokens) in pushes {
            assert!(!cover.is_whole(32));
            cover.add(block, layer, tokens);
        }
        assert!(cover.is_whole(32));
        cover.add(1, 1, 9);
        assert!(!cover.is_whole(32), "one layer has more tokens than the others");
        assert!(Cover::new(0, 3).is_whole(32), "a prompt that the owner has");
    }
}
