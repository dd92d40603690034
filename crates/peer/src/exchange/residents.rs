//! Sequences whose keys and values lie in the executor's arena.

use parking_lot::{Mutex, MutexGuard};

use super::{ExchangeError, RemoteRow};

/// One of them.
#[derive(Debug)]
struct Resident {
    generation: u32,
    blocks: Vec<i32>,
    /// Tokens that came with it: their keys and values may be other sequences' too.
    floor: usize,
    num_tokens: usize,
}

/// The sequences, in numbered slots. The engine's thread admits, extends and releases them. The
/// executor's looks which are there once it holds `attending`, and holds that until it has read and
/// written their blocks: who takes a sequence out and then has that lock for a moment may use its
/// blocks for other things.
#[derive(Debug)]
pub struct Residents {
    slots: Mutex<Table>,
    attending: Mutex<()>,
    block_size_tokens: usize,
    num_blocks: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Resident>>,
    next_generation: u32,
    block_size_tokens: usize,
}

impl Residents {
    /// Room for `num_slots` sequences in an arena of `num_blocks`. Generations are counted from
    /// `first_generation` on, so that those of an earlier executor are not met again soon.
    pub fn new(
        num_slots: usize,
        block_size_tokens: usize,
        num_blocks: usize,
        first_generation: u32,
    ) -> Residents {
        let slots = (0..num_slots).map(|_| None).collect();
        let table = Table { slots, next_generation: first_generation.max(1), block_size_tokens };
        let (slots, attending) = (Mutex::new(table), Mutex::new(()));
        Residents { slots, attending, block_size_tokens, num_blocks }
    }

    fn check(&self, blocks: &[i32]) -> Result<(), ExchangeError> {
        let is_strange = |&&block: &&i32| usize::try_from(block).is_ok_and(|b| b < self.num_blocks);
        match blocks.iter().find(|block| !is_strange(block)) {
            None => Ok(()),
            Some(block) => Err(ExchangeError::Shape(format!(
                "block {block} is none of the arena's {}",
                self.num_blocks
            ))),
        }
    }

    /// Takes a sequence of whose tokens the first `num_tokens` are in `blocks`; clients name it by
    /// the slot and the generation that are returned. Tokens behind these are stored in `blocks`:
    /// those blocks must be the sequence's alone.
    ///
    /// # Errors
    /// [`ExchangeError::Full`] when all slots are taken, [`ExchangeError::Shape`] for blocks that
    /// the arena has not or that are too few.
    pub fn admit(&self, blocks: &[i32], num_tokens: usize) -> Result<(u32, u32), ExchangeError> {
        self.check(blocks)?;
        if num_tokens > blocks.len() * self.block_size_tokens {
            return Err(ExchangeError::Shape(format!(
                "{num_tokens} tokens in {} blocks of {}",
                blocks.len(),
                self.block_size_tokens
            )));
        }
        let mut table = self.slots.lock();
        let Some(slot) = table.slots.iter().position(Option::is_none) else {
            return Err(ExchangeError::Full(table.slots.len()));
        };
        let generation = table.next_generation;
        table.next_generation = generation.wrapping_add(1).max(1);
        let blocks = blocks.to_vec();
        table.slots[slot] = Some(Resident { generation, blocks, floor: num_tokens, num_tokens });
        Ok((slot as u32, generation))
    }

    /// Gives a sequence more blocks.
    ///
    /// # Errors
    /// [`ExchangeError::Shape`] for blocks that the arena has not or a sequence that is not there.
    pub fn extend(&self, slot: u32, generation: u32, blocks: &[i32]) -> Result<(), ExchangeError> {
        self.check(blocks)?;
        let mut table = self.slots.lock();
        let Some(resident) = table.find(slot, generation) else {
            return Err(ExchangeError::Shape(format!(
                "no sequence {slot} of generation {generation}"
            )));
        };
        resident.blocks.extend_from_slice(blocks);
        Ok(())
    }

    /// Lets a sequence go; whether it was there. Waits for the layer that is attended now: its
    /// blocks are not touched behind that.
    pub fn release(&self, slot: u32, generation: u32) -> bool {
        let mut table = self.slots.lock();
        if table.find(slot, generation).is_none() {
            return false;
        }
        table.slots[slot as usize] = None;
        drop(table);
        drop(self.attending.lock());
        true
    }

    /// Tokens whose keys and values a sequence has.
    pub fn num_tokens(&self, slot: u32, generation: u32) -> Option<usize> {
        self.slots.lock().find(slot, generation).map(|resident| resident.num_tokens)
    }

    /// Sequences that are there.
    pub fn len(&self) -> usize {
        self.slots.lock().slots.iter().flatten().count()
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// While this is held, blocks of sequences that are there may be read and written.
    pub(super) fn attend(&self) -> MutexGuard<'_, ()> {
        self.attending.lock()
    }

    /// Not to be held for long: the engine waits for it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.slots.lock()
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.num_blocks
    }
}

impl Table {
    fn find(&mut self, slot: u32, generation: u32) -> Option<&mut Resident> {
        let resident = self.slots.get_mut(slot as usize)?.as_mut();
        resident.filter(|resident| resident.generation == generation)
    }

    /// Whether the row's sequence is there.
    pub fn has(&mut self, row: RemoteRow) -> bool {
        self.find(row.slot, row.generation).is_some()
    }

    /// The blocks up to the row's token, if it may come next: it is new, or one that the sequence
    /// did not come with.
    pub fn blocks_of(&mut self, row: RemoteRow) -> Option<&[i32]> {
        let block_size = self.block_size_tokens;
        let resident = self.find(row.slot, row.generation)?;
        let position = row.position as usize;
        let is_next = (resident.floor..=resident.num_tokens).contains(&position);
        resident.blocks.get(..=position / block_size).filter(|_| is_next)
    }

    /// The row's token is stored: the next may come.
    pub fn stored(&mut self, row: RemoteRow) {
        if let Some(resident) = self.find(row.slot, row.generation) {
            resident.num_tokens = row.position as usize + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row((slot, generation): (u32, u32), position: u32) -> RemoteRow {
        RemoteRow { slot, generation, position }
    }

    #[test]
    fn only_the_next_token_or_one_again_may_come() {
        let residents = Residents::new(2, 32, 10, 5);
        let name = residents.admit(&[3, 4], 40).unwrap();
        let mut table = residents.lock();
        assert_eq!(table.blocks_of(row(name, 40)), Some(&[3, 4][..]));
        for wrong in [0, 39, 41, 64, u32::MAX] {
            assert_eq!(table.blocks_of(row(name, wrong)), None, "{wrong}");
        }
        table.stored(row(name, 40));
        table.stored(row(name, 41));
        for (position, may) in [(39, false), (40, true), (42, true), (43, false)] {
            assert_eq!(table.blocks_of(row(name, position)).is_some(), may, "{position}");
        }
        assert_eq!(table.blocks_of(row((name.0, name.1 + 1), 40)), None);
    }

    #[test]
    fn blocks_come_later_and_slots_are_used_again_under_another_generation() {
        let residents = Residents::new(1, 32, 10, u32::MAX);
        let name = residents.admit(&[9], 32).unwrap();
        assert_eq!(residents.admit(&[1], 1), Err(ExchangeError::Full(1)));
        assert_eq!(residents.lock().blocks_of(row(name, 32)), None);
        residents.extend(name.0, name.1, &[2]).unwrap();
        assert_eq!(residents.lock().blocks_of(row(name, 32)), Some(&[9, 2][..]));
        assert!(residents.release(name.0, name.1) && !residents.release(name.0, name.1));
        let other = residents.admit(&[9], 32).unwrap();
        assert!(other.0 == name.0 && other.1 != name.1 && other.1 != 0);
        assert!(!residents.lock().has(row(name, 32)) && residents.len() == 1);
        assert_eq!(residents.num_tokens(other.0, other.1), Some(32));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let residents = Residents::new(1, 32, 10, 1);
        assert!(residents.admit(&[10], 1).is_err());
        assert!(residents.admit(&[-1], 1).is_err());
        assert!(residents.admit(&[1], 33).is_err());
        assert!(residents.extend(0, 1, &[1]).is_err() && residents.extend(7, 1, &[1]).is_err());
        assert!(residents.is_empty());
    }
}
