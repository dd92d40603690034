//! Pins: hazard words in the client's area. What they name is not reused, however long it was
//! freed ago, so that readers may keep looking at bytes in the pool after their operation.
//!
//! A pin is set within the operation that found the object: only then is it certain to be seen
//! by whoever reuses memory, who reads the pins after the grace period.

use artesian_bus::{GlobalAddr, Verb};
use smallvec::SmallVec;

use crate::address::PoolAddr;
use crate::config::{area, meta, record};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::object::word;

const WORDS: usize = area::NUM_PINS as usize;

/// The pins of one client.
pub struct Pins {
    used: [u64; WORDS / 64],
    count: u64,
}

/// A pin that is held. It must be given to [`Pins::unpin`]; else it holds until the client ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Pin(u16);

impl Default for Pins {
    fn default() -> Self {
        Pins { used: [0; WORDS / 64], count: 0 }
    }
}

impl Pins {
    /// Pins held.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Keeps the object at `addr` from being reused.
    pub fn pin(&mut self, fabric: &Fabric, addr: PoolAddr) -> Result<Pin> {
        let place = self.used.iter().position(|&word| word != u64::MAX);
        let Some(at) = place else {
            return Err(PoolError::Invalid(format!(
                "{WORDS} views of pool memory are held by this client, the most there can be: \
                 release some, or copy the bytes"
            )));
        };
        let slot = at as u16 * 64 + self.used[at].trailing_ones() as u16;
        write(fabric, slot, addr.0, self.count + 1)?;
        self.used[at] |= 1 << (slot % 64);
        self.count += 1;
        Ok(Pin(slot))
    }

    /// Lets go of a pin.
    pub fn unpin(&mut self, fabric: &Fabric, pin: Pin) -> Result<()> {
        let Pin(slot) = pin;
        write(fabric, slot, 0, self.count - 1)?;
        self.used[usize::from(slot) / 64] &= !(1 << (slot % 64));
        self.count -= 1;
        Ok(())
    }
}

/// Writes the word and the count of all pins of the client, again if the view changed: the copies
/// of an older view count for nothing.
fn write(fabric: &Fabric, slot: u16, value: u64, count: u64) -> Result<()> {
    let me = fabric.me().index;
    let (value, count) = (value.to_le_bytes(), count.to_le_bytes());
    for _ in 0..16 {
        let words = fabric.client_area(me, area::PINS + u64::from(slot) * 8);
        let counts = fabric.client_record(me, record::PINNED);
        let mut verbs: SmallVec<[Verb<'_>; 6]> = SmallVec::new();
        verbs.extend(words.iter().map(|&copy| Verb::write(copy, &value)));
        verbs.extend(counts.iter().map(|&copy| Verb::write(copy, &count)));
        match fabric.batch(&mut verbs) {
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Timeout { what: "a membership that stays".into(), waited_ms: 0 })
}

/// What all clients that are live, or dead and not recovered yet, pin: sorted.
pub fn pinned(fabric: &Fabric) -> Result<Vec<PoolAddr>> {
    let places = usize::from(fabric.config().max_clients);
    let mut records = vec![0; places * meta::CLIENT_RECORD as usize];
    fabric.batch(&mut [Verb::read(fabric.client_record(0, 0)[0], &mut records)])?;
    let pinning: Vec<u16> = records
        .chunks_exact(meta::CLIENT_RECORD as usize)
        .enumerate()
        .filter(|(_, place)| !matches!(place[7], record::FREE | record::JOINING))
        .filter(|(_, place)| word(place, record::PINNED as usize) > 0)
        .map(|(index, _)| index as u16)
        .collect();
    pinned_by(fabric, &pinning)
}

/// What the clients at these places pin: sorted.
pub(crate) fn pinned_by(fabric: &Fabric, places: &[u16]) -> Result<Vec<PoolAddr>> {
    let mut found = Vec::new();
    for &place in places {
        let at: GlobalAddr = fabric.client_area(place, area::PINS)[0];
        let mut bytes = [0; WORDS * 8];
        fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
        let words = (0..WORDS).map(|slot| word(&bytes, slot * 8));
        found.extend(words.filter(|&addr| addr != 0).map(PoolAddr));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use artesian_bus::heap::HeapNodes;

    use super::*;
    use crate::lifecycle::{format, join};
    use crate::PoolConfig;

    #[test]
    fn pins_are_seen_by_all_until_they_are_let_go() {
        let memory = HeapNodes::new(3, 16 << 20);
        format(&memory.connect(900), &PoolConfig::for_size(16 << 20, 3, 2)).unwrap();
        let one = join(Box::new(memory.connect(1))).unwrap();
        let two = join(Box::new(memory.connect(2))).unwrap();
        let mut pins = Pins::default();
        let held: Vec<Pin> =
            (1..=512).rev().map(|at| pins.pin(&one, PoolAddr(at * 64)).unwrap()).collect();
        let text = pins.pin(&one, PoolAddr(64)).unwrap_err().to_string();
        assert!(text.contains("512 views of pool memory"), "{text}");
        let all: Vec<PoolAddr> = (1..=512).map(|at| PoolAddr(at * 64)).collect();
        assert_eq!(pinned(&two).unwrap(), all);
        for (at, pin) in held.into_iter().enumerate() {
            if at != 100 {
                pins.unpin(&one, pin).unwrap();
            }
        }
        assert_eq!(pinned(&two).unwrap(), [PoolAddr(412 * 64)]);
        let twice = pins.pin(&one, PoolAddr(412 * 64)).unwrap();
        assert_eq!((pinned(&two).unwrap().len(), pins.count()), (1, 2));
        pins.unpin(&one, twice).unwrap();
        crate::lifecycle::leave(one).unwrap();
        assert!(pinned(&two).unwrap().is_empty());
        let again = join(Box::new(memory.connect(1))).unwrap();
        assert_eq!((again.me().index, pinned(&two).unwrap().len()), (1, 0));
    }
}
