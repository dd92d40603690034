//! What a block's owner knows of it.

use smallvec::SmallVec;

use super::geometry::Shape;
use super::ring::BATCH;
use crate::address::PoolAddr;
use crate::class::SizeClass;

/// Words of a bitmap by their place, those without a bit left out.
pub(super) type Words = SmallVec<[(usize, u64); 16]>;

/// A block of this client.
pub(super) struct Block {
    pub(super) addr: PoolAddr,
    pub(super) class: SizeClass,
    pub(super) shape: Shape,
    /// Objects that may be handed out.
    free: Vec<u64>,
    num_free: u32,
    /// Objects whose free bit was seen and that wait for the grace period.
    waiting: Vec<u64>,
    num_waiting: u32,
    /// The epoch may not have been beyond this when those bits were seen.
    seen_at: u64,
    /// It is among its class's sources.
    pub(super) offered: bool,
}

impl Block {
    /// A block fresh from the table, all of it free.
    pub(super) fn fresh(addr: PoolAddr, class: SizeClass, shape: Shape) -> Block {
        let mut block = Block::adopted(addr, class, shape);
        for word in 0..shape.words() {
            block.free[word] = shape.mask(word);
        }
        block.num_free = shape.objects;
        block
    }

    /// A block of which nothing is known to be free.
    pub(super) fn adopted(addr: PoolAddr, class: SizeClass, shape: Shape) -> Block {
        let (free, waiting) = (vec![0; shape.words()], vec![0; shape.words()]);
        Block {
            addr,
            class,
            shape,
            free,
            num_free: 0,
            waiting,
            num_waiting: 0,
            seen_at: 0,
            offered: false,
        }
    }

    pub(super) fn num_free(&self) -> u32 {
        self.num_free
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.num_free == self.shape.objects
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.num_waiting > 0
    }

    /// Takes up to `most` objects for use.
    pub(super) fn pick(&mut self, most: usize, picked: &mut SmallVec<[u32; BATCH]>) {
        for (at, word) in self.free.iter_mut().enumerate() {
            while *word != 0 && picked.len() < most {
                picked.push(at as u32 * 64 + word.trailing_zeros());
                *word &= *word - 1;
                self.num_free -= 1;
            }
            if picked.len() == most {
                return;
            }
        }
    }

    /// An object that was picked and not used after all.
    pub(super) fn put_back(&mut self, index: u32) {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        self.num_free += u32::from(self.free[word] & bit == 0);
        self.free[word] |= bit;
    }

    /// Notes the free bits of a bitmap; whether there are any. `Err`: the bits cannot be, as they
    /// name objects that are free or none at all.
    pub(super) fn see(&mut self, bits: &[u8]) -> Result<bool, u64> {
        debug_assert!(!self.is_waiting());
        self.seen_at = u64::MAX;
        for (at, bytes) in bits.chunks_exact(8).enumerate() {
            let found = crate::object::word(bytes, 0);
            let wrong = found & (self.free[at] | !self.shape.mask(at));
            if wrong != 0 {
                return Err(wrong);
            }
            self.waiting[at] = found;
            self.num_waiting += found.count_ones();
        }
        Ok(self.is_waiting())
    }

    /// The epoch, read after the bits were.
    pub(super) fn seen_at(&mut self, epoch: u64) {
        self.seen_at = epoch;
    }

    /// Whether what waits may be reused at `epoch`, but for pins.
    pub(super) fn is_ripe(&self, epoch: u64) -> bool {
        self.is_waiting() && epoch >= self.seen_at.saturating_add(2)
    }

    /// The words of what waits, without the objects that `pinned` holds.
    pub(super) fn ripe(&self, pinned: &[PoolAddr]) -> Words {
        let waiting = self.waiting.iter().copied().enumerate();
        let words: Words = waiting.filter(|(_, word)| *word != 0).collect();
        if pinned.is_empty() {
            return words;
        }
        let held = self.held(&words, pinned);
        let loose = words.into_iter().map(|(at, word)| (at, word & !held[at]));
        loose.filter(|(_, word)| *word != 0).collect()
    }

    /// Which of the objects in `words` are pinned, by word of the bitmap.
    pub(super) fn held(&self, words: &[(usize, u64)], pinned: &[PoolAddr]) -> Vec<u64> {
        let mut held = vec![0; self.shape.words()];
        let start = self.addr.0 + u64::from(self.shape.data);
        let first = pinned.partition_point(|addr| addr.0 < start);
        for addr in &pinned[first..] {
            let index = (addr.0 - start) / u64::from(self.shape.bytes);
            if index >= u64::from(self.shape.objects) {
                break;
            }
            held[index as usize / 64] |= 1 << (index % 64);
        }
        let mut among = vec![0; held.len()];
        for &(at, word) in words {
            among[at] = held[at] & word;
        }
        among
    }

    /// These objects, whose bits have been cleared in the pool, may be handed out.
    pub(super) fn release(&mut self, words: &[(usize, u64)]) {
        for &(at, word) in words {
            self.waiting[at] &= !word;
            self.free[at] |= word;
            self.num_waiting -= word.count_ones();
            self.num_free += word.count_ones();
        }
    }

    /// These objects, found to be unused, may be handed out.
    pub(super) fn release_unseen(&mut self, words: &[(usize, u64)]) {
        for &(at, word) in words {
            debug_assert!((self.free[at] | self.waiting[at]) & word == 0);
            self.free[at] |= word;
            self.num_free += word.count_ones();
        }
    }

    /// The objects that may be handed out, by word.
    pub(super) fn free_words(&self) -> &[u64] {
        &self.free
    }
}
