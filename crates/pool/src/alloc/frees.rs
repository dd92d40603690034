//! Objects given up by this client whose free bits are not set yet.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::geometry::{Geometry, BLOCK_HEADER};
use crate::address::PoolAddr;
use crate::class::SizeClass;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Words changed in one batch at most.
const WORDS: usize = 64;

/// The deferred frees.
#[derive(Default)]
pub(super) struct Frees {
    objects: Vec<(PoolAddr, SizeClass)>,
    words: Vec<(PoolAddr, u64)>,
    verbs: Vec<Verb<'static>>,
}

impl Frees {
    #[inline]
    pub(super) fn push(&mut self, addr: PoolAddr, class: SizeClass) {
        self.objects.push((addr, class));
    }

    /// Sets the bits on all copies. An object that was free already is left as it was, and told
    /// at the end, after all others have been set.
    pub(super) fn flush(&mut self, fabric: &Fabric, geometry: &Geometry) -> Result<()> {
        let mut outcome = Ok(());
        self.words.clear();
        for (addr, class) in self.objects.drain(..) {
            match geometry.place(addr, class) {
                Ok(place) => self.words.push((place.word(), place.bit())),
                Err(error) => outcome = Err(error),
            }
        }
        self.words.sort_unstable_by_key(|(word, _)| *word);
        let mut at = 0;
        while at < self.words.len() {
            let start = at;
            self.verbs.clear();
            while at < self.words.len() && self.verbs.len() < WORDS {
                let (word, mut bits) = self.words[at];
                at += 1;
                while self.words.get(at).is_some_and(|next| next.0 == word) {
                    let bit = self.words[at].1;
                    if bits & bit != 0 {
                        outcome = Err(twice(word, bit));
                    }
                    bits |= bit;
                    at += 1;
                }
                self.verbs
                    .extend(fabric.copies(word).into_iter().map(|copy| Verb::faa(copy, bits)));
            }
            debug_assert!(start < at);
            post(fabric, &mut self.verbs)?;
            outcome = outcome.and(undo_doubles(fabric, &self.verbs));
        }
        outcome
    }
}

/// Posts FAAs. They take effect exactly once on every node that is there, whatever happens to the
/// view meanwhile: the membership only changes between batches.
fn post(fabric: &Fabric, verbs: &mut [Verb<'_>]) -> Result<()> {
    if verbs.is_empty() {
        return Ok(());
    }
    match fabric.batch(verbs) {
        Err(PoolError::ViewChanged) => Ok(()),
        outcome => outcome,
    }
}

/// Takes back what set bits that were set before, as the sum has run over into other bits.
pub(crate) fn undo_doubles(fabric: &Fabric, verbs: &[Verb<'_>]) -> Result<()> {
    let mut outcome = Ok(());
    for verb in verbs {
        let Verb::Faa { addr, add, found } = verb else { continue };
        if found & add != 0 {
            let again = (found | add).wrapping_sub(found.wrapping_add(*add));
            post(fabric, &mut [Verb::faa(*addr, again)])?;
            let text = format!("objects freed twice: bits {:#x} at {addr:?}", found & add);
            outcome = Err(PoolError::Corrupt(text));
        }
    }
    outcome
}

fn twice(word: PoolAddr, bit: u64) -> PoolError {
    PoolError::Corrupt(format!("an object was freed twice: bit {bit:#x} of {word:?}"))
}

/// Frees an object of a dead client's operation, unless its bit is set already: on every copy,
/// as its death may have come in between. Only for the one who recovers that client.
pub fn free_once(fabric: &Fabric, addr: PoolAddr, class: SizeClass) -> Result<()> {
    let place = Geometry::of(fabric.config()).place(addr, class)?;
    for copy in fabric.copies(place.word()) {
        if fabric.read_word(copy)? & place.bit() == 0 {
            post(fabric, &mut [Verb::faa(copy, place.bit())])?;
        }
    }
    Ok(())
}

/// Where the bitmap of a block lies.
pub(super) fn bitmap(block: PoolAddr) -> PoolAddr {
    block.add(BLOCK_HEADER)
}

/// Where word `at` of that bitmap lies.
pub(super) fn word_of(block: PoolAddr, at: usize) -> PoolAddr {
    bitmap(block).add(at as u64 * 8)
}

/// Adds (or, with `set` false, takes off) bits of words of bitmaps on all copies.
pub(super) fn change_bits(fabric: &Fabric, bits: &[(PoolAddr, u64)], set: bool) -> Result<()> {
    for some in bits.chunks(WORDS) {
        let mut verbs: SmallVec<[Verb<'_>; WORDS]> = SmallVec::new();
        for &(word, bits) in some {
            let add = if set { bits } else { bits.wrapping_neg() };
            verbs.extend(fabric.copies(word).iter().map(|&copy| Verb::faa(copy, add)));
        }
        post(fabric, &mut verbs)?;
    }
    Ok(())
}
