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
use crate::slot::Slot;

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

    /// Pins that can still be had.
    pub fn left(&self) -> usize {
        WORDS - self.count as usize
    }

    /// Keeps the object at `addr` from being reused.
    pub fn pin(&mut self, fabric: &Fabric, addr: PoolAddr) -> Result<Pin> {
        let mut pins = self.pin_all(fabric, &[addr], None)?.0;
        pins.pop().ok_or_else(too_many)
    }

    /// Keeps the objects from being reused, or none of them on an error. With `slot`, also reads
    /// what that holds, in the same batch.
    pub fn pin_all(
        &mut self,
        fabric: &Fabric,
        addrs: &[PoolAddr],
        slot: Option<PoolAddr>,
    ) -> Result<(Vec<Pin>, Slot)> {
        if addrs.len() > self.left() {
            return Err(too_many());
        }
        let mut words = Vec::with_capacity(addrs.len());
        let mut free = (0..WORDS as u16).filter(|at| !self.is_used(*at));
        words.extend(addrs.iter().map_while(|addr| Some((free.next()?, addr.0))));
        let held = write(fabric, &words, self.count + addrs.len() as u64, slot)?;
        self.count += words.len() as u64;
        let pins = words.iter().map(|&(at, _)| {
            self.used[usize::from(at) / 64] |= 1 << (at % 64);
            Pin(at)
        });
        Ok((pins.collect(), held))
    }

    fn is_used(&self, at: u16) -> bool {
        self.used[usize::from(at) / 64] >> (at % 64) & 1 == 1
    }

    /// Lets go of a pin.
    pub fn unpin(&mut self, fabric: &Fabric, pin: Pin) -> Result<()> {
        self.unpin_all(fabric, vec![pin])
    }

    /// Lets go of pins.
    pub fn unpin_all(&mut self, fabric: &Fabric, pins: Vec<Pin>) -> Result<()> {
        let words: Vec<(u16, u64)> = pins.iter().map(|pin| (pin.0, 0)).collect();
        write(fabric, &words, self.count - words.len() as u64, None)?;
        for (at, _) in words {
            self.used[usize::from(at) / 64] &= !(1 << (at % 64));
            self.count -= 1;
        }
        Ok(())
    }
}

fn too_many() -> PoolError {
    PoolError::Invalid(format!(
        "{WORDS} views of pool memory are held by this client, the most there can be: release \
         some, or copy the bytes"
    ))
}

/// Writes the words and the count of all pins of the client, again if the view changed: the copies
/// of an older view count for nothing. Returns what `slot` holds.
fn write(
    fabric: &Fabric,
    words: &[(u16, u64)],
    count: u64,
    slot: Option<PoolAddr>,
) -> Result<Slot> {
    let me = fabric.me().index;
    let count = count.to_le_bytes();
    let values: SmallVec<[[u8; 8]; 2]> = words.iter().map(|word| word.1.to_le_bytes()).collect();
    for _ in 0..16 {
        let mut held = [0; 8];
        let counts = fabric.client_record(me, record::PINNED);
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        for (&(at, _), value) in words.iter().zip(&values) {
            let copies = fabric.client_area(me, area::PINS + u64::from(at) * 8);
            verbs.extend(copies.iter().map(|&copy| Verb::write(copy, value)));
        }
        verbs.extend(counts.iter().map(|&copy| Verb::write(copy, &count)));
        if let Some(slot) = slot {
            verbs.push(Verb::read(fabric.primary(slot)?, &mut held));
        }
        match fabric.batch(&mut verbs) {
            Err(PoolError::ViewChanged) => {}
            outcome => {
                drop(verbs);
                return outcome.map(|()| Slot(u64::from_le_bytes(held)));
            }
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
