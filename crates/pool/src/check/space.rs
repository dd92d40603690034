//! What is known of every block: its word, which of its objects are in use, which are free.

use std::collections::{BTreeMap, HashSet};

use artesian_bus::Verb;

use super::people::{People, State};
use super::report::{Counts, Finding, Place, What};
use crate::address::PoolAddr;
use crate::alloc::geometry::BLOCK_HEADER;
use crate::alloc::table::{word_addr, BlockState, BlockWord};
use crate::alloc::{Geometry, Shape};
use crate::class::SizeClass;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;

/// A block that is somebody's, or was.
pub(super) struct Block {
    pub word: BlockWord,
    pub shape: Shape,
    /// Objects that something refers to, by word of the bitmap.
    refs: Vec<u64>,
    /// Objects whose free bit is set.
    free: Vec<u64>,
}

/// All blocks that are not free.
pub(super) struct Space {
    geometry: Geometry,
    blocks: BTreeMap<PoolAddr, Block>,
    /// Objects that were referred to more than once.
    pub twice: HashSet<PoolAddr>,
}

/// Objects that are not accounted for, of one block.
pub(super) struct Rest {
    pub block: PoolAddr,
    pub word: BlockWord,
    pub objects: u64,
    pub bytes: u64,
}

impl Space {
    pub fn new(fabric: &Fabric) -> Space {
        let geometry = Geometry::of(fabric.config());
        Space { geometry, blocks: BTreeMap::new(), twice: HashSet::new() }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub fn addrs(&self) -> Vec<PoolAddr> {
        self.blocks.keys().copied().collect()
    }

    fn note(&mut self, addr: PoolAddr, found: BlockWord) {
        let Some(shape) = self.geometry.shape(found.class) else { return };
        let empty = || vec![0; shape.words()];
        let block = Block { word: found, shape, refs: empty(), free: empty() };
        self.blocks.insert(addr, block);
    }

    /// Something refers to the object of `class` at `addr`, read within this unit. `Err`: the
    /// object cannot be there, and why.
    pub fn refer(
        &mut self,
        fabric: &Fabric,
        addr: PoolAddr,
        class: SizeClass,
    ) -> Result<std::result::Result<(), String>> {
        let place = match self.geometry.place(addr, class) {
            Ok(place) => place,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let is_known = self.blocks.get(&place.block).is_some_and(|block| block.word.class == class);
        // It may have been taken since the tables were read.
        if !is_known {
            let at = word_addr(fabric.config(), place.block);
            let now = fabric.read_word(fabric.primary(at)?)?;
            match BlockWord::decode(now) {
                Ok(found) if found.state != BlockState::Free && found.class == class => {
                    self.note(place.block, found);
                }
                _ => {
                    let (class, block) = (class.0, place.block);
                    let text = format!(
                        "an object of class {class} in the block {block:?}, whose word is {now:#x}"
                    );
                    return Ok(Err(text));
                }
            }
        }
        let Some(block) = self.blocks.get_mut(&place.block) else { return Ok(Ok(())) };
        let bits = &mut block.refs[place.index as usize / 64];
        if *bits & place.bit() != 0 {
            self.twice.insert(addr);
        }
        *bits |= place.bit();
        Ok(Ok(()))
    }

    /// Whether something refers to the object.
    pub fn is_referred(&self, addr: PoolAddr, class: SizeClass) -> bool {
        let Ok(place) = self.geometry.place(addr, class) else { return false };
        let block = self.blocks.get(&place.block);
        let word = block.and_then(|block| block.refs.get(place.index as usize / 64));
        word.is_some_and(|word| word & place.bit() != 0)
    }

    /// Objects that are in use and whose free bit is set.
    pub fn freed_in_use(&self) -> Vec<(PoolAddr, SizeClass)> {
        let mut found = Vec::new();
        for (&addr, block) in &self.blocks {
            for (at, (refs, free)) in block.refs.iter().zip(&block.free).enumerate() {
                let mut both = refs & free;
                while both != 0 {
                    let index = at as u32 * 64 + both.trailing_zeros();
                    let object = self.geometry.object(addr, block.shape, index);
                    found.push((object, block.word.class));
                    both &= both - 1;
                }
            }
        }
        found
    }

    /// Whether the object's free bit is set now.
    pub fn is_freed_now(&self, fabric: &Fabric, addr: PoolAddr, class: SizeClass) -> Result<bool> {
        let place = self.geometry.place(addr, class)?;
        Ok(fabric.read_word(fabric.primary(place.word())?)? & place.bit() != 0)
    }

    /// Counts objects into `counts`, all that is not accounted for into what `of` says for its
    /// block; the blocks that have such objects.
    pub fn count(
        &self,
        counts: &mut Counts,
        of: impl Fn(&BlockWord, &mut Counts, u64, u64),
    ) -> Vec<Rest> {
        let mut rests = Vec::new();
        for (&addr, block) in &self.blocks {
            let bytes = u64::from(block.shape.bytes);
            let ones = |words: &[u64]| words.iter().map(|word| u64::from(word.count_ones())).sum();
            let (refs, free): (u64, u64) = (ones(&block.refs), ones(&block.free));
            counts.in_use.add(refs, bytes);
            counts.free.add(free, bytes);
            let either = block.refs.iter().zip(&block.free).map(|(a, b)| a | b);
            let known: u64 = either.map(|word| u64::from(word.count_ones())).sum();
            let objects = u64::from(block.shape.objects).saturating_sub(known);
            if objects > 0 {
                of(&block.word, counts, objects, bytes);
                rests.push(Rest { block: addr, word: block.word, objects, bytes });
            }
        }
        rests
    }

    /// Reads the block table of `region` from all copies.
    pub fn read_table(
        &mut self,
        fabric: &Fabric,
        region: usize,
        found: &mut Vec<Finding>,
    ) -> Result<Counts> {
        let config = fabric.config();
        let start = PoolAddr((region as u64) << config.region_shift);
        let mut counts = Counts::default();
        if fabric.copies(start).is_empty() {
            return Ok(counts);
        }
        counts.regions += 1;
        let copies = read_all(fabric, start, config.blocks_per_region() as usize * 8)?;
        let people = People::read(fabric)?;
        for number in 1..config.blocks_per_region() {
            let block = start.add(number << config.block_shift);
            let at = number as usize * 8;
            let first = word(&copies[0], at);
            if let Some(other) = differing(&copies, at) {
                let text = format!("its word is {first:#x} and {other:#x}");
                found.push(Finding::warning(What::BlockCopies, Place::Block(block), text));
            }
            self.blocks.remove(&block);
            match BlockWord::decode(first) {
                Ok(known) => self.enter(fabric, &people, block, known, &mut counts, found),
                Err(error) => {
                    let place = Place::Block(block);
                    found.push(Finding::error(What::BlockWord, place, error.to_string()));
                }
            }
        }
        Ok(counts)
    }

    fn enter(
        &mut self,
        fabric: &Fabric,
        people: &People,
        block: PoolAddr,
        known: BlockWord,
        counts: &mut Counts,
        found: &mut Vec<Finding>,
    ) {
        let number = match known.state {
            BlockState::Free => &mut counts.blocks_free,
            BlockState::Owned => &mut counts.blocks_owned,
            BlockState::Orphan => &mut counts.blocks_orphan,
            BlockState::Wreck => &mut counts.blocks_wreck,
        };
        *number += 1;
        let place = Place::Block(block);
        if known.state == BlockState::Owned && people.state(fabric, known.owner) == State::Gone {
            let text = format!("it belongs to {:?}, who is not in the pool", known.owner);
            found.push(Finding::warning(What::BlockWord, place, text));
        }
        if known.state == BlockState::Free {
            return;
        }
        if self.geometry.shape(known.class).is_none() {
            let text = format!("objects of class {} do not fit into a block", known.class.0);
            found.push(Finding::error(What::BlockWord, place, text));
            return;
        }
        self.note(block, known);
    }

    /// Reads the free bits of a block from all copies.
    pub fn read_bits(
        &mut self,
        fabric: &Fabric,
        addr: PoolAddr,
        found: &mut Vec<Finding>,
    ) -> Result<()> {
        let Some(block) = self.blocks.get_mut(&addr) else { return Ok(()) };
        let words = block.shape.words();
        let copies = read_all(fabric, addr.add(BLOCK_HEADER), words * 8)?;
        for number in 0..words {
            let first = word(&copies[0], number * 8);
            let place = Place::Slot(addr.add(BLOCK_HEADER + number as u64 * 8));
            // The owner of a wreck may have died between copies: who looks it through sees to that.
            let wreck = block.word.state == BlockState::Wreck;
            if let Some(other) = differing(&copies, number * 8).filter(|_| !wreck) {
                let text = format!("{first:#x} and {other:#x}");
                found.push(Finding::warning(What::FreeBitCopies, place, text));
            }
            let mask = block.shape.mask(number);
            if first & !mask != 0 {
                let text = format!("bits {:#x} stand for no objects", first & !mask);
                found.push(Finding::error(What::FreeBits, place, text));
            }
            block.free[number] = first & mask;
        }
        Ok(())
    }
}

/// All copies of `len` bytes.
pub(super) fn read_all(fabric: &Fabric, addr: PoolAddr, len: usize) -> Result<Vec<Vec<u8>>> {
    let copies = fabric.copies(addr);
    if copies.is_empty() {
        return Err(crate::PoolError::Lost(format!("no copy of {addr:?} is left")));
    }
    let mut bytes = vec![vec![0; len]; copies.len()];
    let reads = copies.iter().zip(&mut bytes);
    let mut verbs: Vec<Verb<'_>> = reads.map(|(&at, into)| Verb::read(at, into)).collect();
    fabric.batch(&mut verbs)?;
    Ok(bytes)
}

/// What another copy has at byte `at` that differs from what the first has.
pub(super) fn differing(copies: &[Vec<u8>], at: usize) -> Option<u64> {
    let first = word(&copies[0], at);
    copies.iter().map(|copy| word(copy, at)).find(|&word| word != first)
}
