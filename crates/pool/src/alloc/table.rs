//! Block tables: who owns which block. One word a block in block 0 of its region.
//!
//! A block becomes somebody's by a CAS on the primary's word, then the copies are written. Its
//! owner gives it away the other way round, copies first: so no copy ever shows an owner who has
//! given the block away while the primary shows the next one.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::geometry::BLOCK_HEADER;
use crate::address::{ClientId, PoolAddr};
use crate::class::SizeClass;
use crate::config::PoolConfig;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// How often a change is tried again because the membership changed.
const ATTEMPTS: u32 = 16;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockState {
    /// Nobody's; the whole word is 0.
    Free = 0,
    /// A client's.
    Owned = 1,
    /// Nobody's, with objects in it. Every object that is not in use has its free bit set.
    Orphan = 2,
    /// A dead client's: objects not in use may lack their bit, as that client alone knew them.
    Wreck = 3,
}

/// A word of a block table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockWord {
    /// What the block is.
    pub state: BlockState,
    /// The class of its objects; 0 when free.
    pub class: SizeClass,
    /// Its owner; nobody unless owned.
    pub owner: ClientId,
}

impl BlockWord {
    /// A block of nobody.
    pub const FREE: BlockWord =
        BlockWord { state: BlockState::Free, class: SizeClass(0), owner: ClientId::NOBODY };

    /// The word.
    pub const fn encode(self) -> u64 {
        (self.class.0 as u64) << 56 | (self.state as u64) << 48 | self.owner.word()
    }

    /// The meaning of `word`; refused if it has none.
    pub fn decode(word: u64) -> Result<BlockWord> {
        let (class, owner) = (SizeClass((word >> 56) as u8), ClientId::from_word(word));
        let state = match (word >> 48) as u8 {
            0 => BlockState::Free,
            1 => BlockState::Owned,
            2 => BlockState::Orphan,
            3 => BlockState::Wreck,
            _ => return Err(garbage(word)),
        };
        let decoded = BlockWord { state, class, owner };
        let owned = state == BlockState::Owned;
        let whole = decoded.encode() == word && owner.is_nobody() != owned;
        let sized = (class.0 as usize) < SizeClass::COUNT;
        let free = state != BlockState::Free || word == 0;
        if whole && sized && free {
            Ok(decoded)
        } else {
            Err(garbage(word))
        }
    }
}

fn garbage(word: u64) -> PoolError {
    PoolError::Corrupt(format!("block table: {word:#x} describes no block"))
}

/// Where the word of the block at `block` lies.
pub fn word_addr(config: &PoolConfig, block: PoolAddr) -> PoolAddr {
    let within = block.0 & (config.region_bytes() - 1);
    PoolAddr(block.0 - within + (within >> config.block_shift) * 8)
}

/// The blocks of `region` with their words, as the primary has them; none of a retired one. Words
/// without meaning are left out: nobody may touch such a block.
pub fn read_region(fabric: &Fabric, region: usize) -> Result<Vec<(PoolAddr, BlockWord)>> {
    let config = fabric.config();
    if fabric.view().retired.contains(&(region as u32)) {
        return Ok(Vec::new());
    }
    let start = PoolAddr((region as u64) << config.region_shift);
    let mut bytes = vec![0; config.blocks_per_region() as usize * 8];
    fabric.read(start, &mut bytes)?;
    let words = bytes.chunks_exact(8).enumerate().skip(1);
    let decoded = words.filter_map(|(at, bytes)| {
        let word = BlockWord::decode(crate::object::word(bytes, 0)).ok()?;
        Some((start.add((at as u64) << config.block_shift), word))
    });
    Ok(decoded.collect())
}

/// Makes the block at `block` go from `found` to the caller; false if somebody was quicker. A
/// free block's bitmap of `bitmap` bytes is cleared.
pub fn take(
    fabric: &Fabric,
    block: PoolAddr,
    found: BlockWord,
    class: SizeClass,
    bitmap: usize,
) -> Result<bool> {
    let at = word_addr(fabric.config(), block);
    let mine = BlockWord { state: BlockState::Owned, class, owner: fabric.me() };
    let (old, new) = (found.encode(), mine.encode());
    let zeros = vec![0; if found.state == BlockState::Free { bitmap } else { 0 }];
    for _ in 0..ATTEMPTS {
        match fabric.primary(at).and_then(|primary| fabric.cas(primary, old, new)) {
            // `new` is there already if the view changed after it was swapped in.
            Ok(seen) if seen == old || seen == new => {}
            // A free block's region may have been given up meanwhile.
            Ok(_) | Err(PoolError::Lost(_)) => return Ok(false),
            Err(PoolError::ViewChanged) => continue,
            Err(error) => return Err(error),
        }
        let (words, bitmaps) = (fabric.copies(at), fabric.copies(block.add(BLOCK_HEADER)));
        let bytes = new.to_le_bytes();
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        verbs.extend(bitmaps.iter().map(|&copy| Verb::write(copy, &zeros)));
        verbs.extend(words.iter().skip(1).map(|&copy| Verb::write(copy, &bytes)));
        match fabric.batch(&mut verbs) {
            Ok(()) => return Ok(true),
            Err(PoolError::ViewChanged) => {}
            Err(error) => return Err(error),
        }
    }
    Err(unsettled())
}

/// Changes the word of a block that nobody else may change: copies first, the primary last.
/// False if it was not `from`, or was lost with its nodes.
pub fn change(fabric: &Fabric, block: PoolAddr, from: BlockWord, to: BlockWord) -> Result<bool> {
    let at = word_addr(fabric.config(), block);
    let (old, new) = (from.encode(), to.encode());
    for _ in 0..ATTEMPTS {
        match change_once(fabric, at, old, new) {
            Err(PoolError::ViewChanged) => {}
            Err(PoolError::Lost(_)) => return Ok(false),
            outcome => return outcome,
        }
    }
    Err(unsettled())
}

fn change_once(fabric: &Fabric, at: PoolAddr, old: u64, new: u64) -> Result<bool> {
    let copies = fabric.copies(at);
    let primary = fabric.primary(at)?;
    // Once the primary shows it, the block may be somebody else's: copies must not be touched.
    let seen = fabric.read_word(primary)?;
    if seen != old {
        return Ok(seen == new);
    }
    let bytes = new.to_le_bytes();
    let mut writes: SmallVec<[Verb<'_>; 4]> =
        copies.iter().skip(1).map(|&copy| Verb::write(copy, &bytes)).collect();
    if !writes.is_empty() {
        fabric.batch(&mut writes)?;
    }
    Ok(fabric.cas(primary, old, new)? == old)
}

fn unsettled() -> PoolError {
    PoolError::Timeout {
        what: "a membership that stays while a block changes hands".into(),
        waited_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_come_back() {
        let owner = ClientId { index: 9, incarnation: 3 };
        let word = BlockWord { state: BlockState::Owned, class: SizeClass(7), owner };
        assert_eq!(BlockWord::decode(word.encode()).unwrap(), word);
        assert_eq!(BlockWord::decode(0).unwrap(), BlockWord::FREE);
        assert!(BlockWord::decode(1 << 56).is_err(), "free, yet with a class");
        assert!(BlockWord::decode(1 << 48).is_err(), "owned by nobody");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(word: u64) {
            if let Ok(decoded) = BlockWord::decode(word) {
                prop_assert_eq!(decoded.encode(), word);
            }
        }
    }
}
