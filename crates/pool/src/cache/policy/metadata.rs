//! What an index slot says of its object: five words beside the slot itself.
//!
//! ```text
//! word          63                        16 15             0
//! 0 HASH      | hash of the key, 64 bits                     |
//! 1 INSERT    | time of insertion            | cost          |
//! 2 LAST      | time of the last access      | value, high   |
//! 3 PREVIOUS  | time of the one before       | value, low    |
//! 4 FREQ      | accesses, 32 bits      | bytes, 32 bits      |
//! ```
//!
//! A hit changes words 2 and 3 by one WRITE, and the accesses by FAA of [`ACCESS`] (an overflow
//! falls off the top). Ditto's slots keep four words and a counter, without the second-last access
//! and the size. The words are read without a lock: every bit pattern is a possible reading, and a
//! mixture of two updates is only a wrong guess.

/// Words of metadata beside a slot's word.
pub const WORDS: usize = 5;
/// Word of the key's hash.
pub const HASH: usize = 0;
/// Word of the time of insertion and the cost.
pub const INSERT: usize = 1;
/// First of the two words that a hit writes.
pub const LAST: usize = 2;
/// Word of the accesses and the bytes.
pub const FREQ: usize = 4;
/// One access, as it is added to word [`FREQ`].
pub const ACCESS: u64 = 1 << 32;

const TIME_BITS: u32 = 48;
const SPARE_BITS: u32 = 64 - TIME_BITS;
/// Largest time.
pub const LAST_TIME: u64 = (1 << TIME_BITS) - 1;

/// The metadata of one object, or of one that was evicted not long ago.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Hash of the key.
    pub hash: u64,
    /// Time of insertion, as all times by any clock that the pool's clients share and that does
    /// not go back much: 48 bits, in microseconds almost nine years.
    pub insert: u64,
    /// Time of the last access; insertion counts as one.
    pub last: u64,
    /// Time of the last access but one, 0 if there was none.
    pub previous: u64,
    /// Number of accesses.
    pub freq: u32,
    /// Bytes of the object.
    pub bytes: u32,
    /// What it takes to get the object again, in the user's unit; kept with 12 significant bits.
    pub cost: u32,
    /// A number of the priority that keeps one ([`super::Priority::value`]).
    pub value: f32,
}

impl Metadata {
    /// An object that is inserted now.
    pub fn new(hash: u64, now: u64, bytes: u32, cost: u32) -> Metadata {
        Metadata { hash, insert: now, last: now, freq: 1, bytes, cost, ..Metadata::default() }
    }

    /// The same of a key of which the history has `ghost`: it comes back with its accesses.
    pub fn admitted(
        hash: u64,
        (bytes, cost): (u32, u32),
        now: u64,
        ghost: Option<&Metadata>,
    ) -> Metadata {
        let object = Metadata::new(hash, now, bytes, cost);
        match ghost {
            None => object,
            Some(ghost) => Metadata {
                previous: ghost.last.min(now),
                freq: ghost.freq.max(1).saturating_add(1),
                ..object
            },
        }
    }

    /// The object after one more access. Clocks of clients differ a little: time never goes back.
    pub fn touched(self, now: u64) -> Metadata {
        let (previous, last) = (self.last, now.max(self.last));
        Metadata { previous, last, freq: self.freq.saturating_add(1), ..self }
    }

    /// Time since the last access.
    pub fn idle(&self, now: u64) -> u64 {
        now.saturating_sub(self.last)
    }

    /// Time since insertion.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.insert)
    }

    /// The words beside the slot.
    pub fn pack(&self) -> [u64; WORDS] {
        let value = self.value.to_bits();
        [
            self.hash,
            timed(self.insert, pack_cost(self.cost)),
            timed(self.last, (value >> SPARE_BITS) as u16),
            timed(self.previous, value as u16),
            u64::from(self.freq) << 32 | u64::from(self.bytes),
        ]
    }

    /// The words from [`LAST`] that a hit writes.
    pub fn pack_hit(&self) -> [u64; 2] {
        let words = self.pack();
        [words[LAST], words[LAST + 1]]
    }

    /// What the words say, whatever they are.
    pub fn unpack(words: [u64; WORDS]) -> Metadata {
        let [hash, insert, last, previous, freq] = words;
        let half = |word: u64| word as u16 as u32;
        let value = f32::from_bits(half(last) << SPARE_BITS | half(previous));
        Metadata {
            hash,
            insert: insert >> SPARE_BITS,
            last: last >> SPARE_BITS,
            previous: previous >> SPARE_BITS,
            freq: (freq >> 32) as u32,
            bytes: freq as u32,
            cost: unpack_cost(insert as u16),
            value: if value.is_finite() { value } else { 0.0 },
        }
    }
}

fn timed(time: u64, spare: u16) -> u64 {
    time.min(LAST_TIME) << SPARE_BITS | u64::from(spare)
}

/// A float of 5 bits of exponent and 11 of mantissa (with an implicit bit), rounded down; exact up
/// to 4095.
fn pack_cost(cost: u32) -> u16 {
    let exponent = (32 - cost.leading_zeros()).saturating_sub(12);
    match cost >> exponent {
        small if small < 1 << 11 => small as u16,
        mantissa => (((exponent + 1) << 11) | (mantissa & 0x7ff)) as u16,
    }
}

fn unpack_cost(packed: u16) -> u32 {
    let (exponent, mantissa) = (u32::from(packed) >> 11, u32::from(packed) & 0x7ff);
    match exponent {
        0 => mantissa,
        // An exponent beyond 21 is no cost's: the result is cut, which is as good as any.
        _ => ((u64::from(mantissa | 0x800) << (exponent - 1)) & 0xffff_ffff) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_come_back(
            (hash, insert) in (any::<u64>(), 0..=LAST_TIME),
            (last, previous) in (0..=LAST_TIME, 0..=LAST_TIME),
            (freq, bytes, cost) in (any::<u32>(), any::<u32>(), any::<u32>()),
            value in -1e30f32..1e30,
        ) {
            let object = Metadata { hash, insert, last, previous, freq, bytes, cost, value };
            let back = Metadata::unpack(object.pack());
            prop_assert!(back.cost <= cost && cost - back.cost <= cost >> 11);
            prop_assert_eq!(Metadata { cost, ..back }, object);
            prop_assert_eq!(Metadata::unpack(back.pack()), back);
        }

        #[test]
        fn any_words_can_be_read(words in any::<[u64; WORDS]>()) {
            let object = Metadata::unpack(words);
            prop_assert!(object.value.is_finite());
            prop_assert_eq!(object.idle(0), 0);
            Metadata::unpack(object.touched(LAST_TIME).pack());
        }
    }

    #[test]
    fn a_torn_value_keeps_its_upper_half() {
        let (old, new) = (Metadata { value: 3.0, ..Metadata::default() }, 1000.3f32);
        let new = Metadata { value: new, ..old };
        let mut words = old.pack();
        words[LAST] = new.pack()[LAST];
        let torn = Metadata::unpack(words).value;
        assert!((torn - new.value).abs() < new.value / 100.0, "{torn}");
    }

    #[test]
    fn costs_up_to_12_bits_are_exact() {
        for cost in (0..4096).chain([0xfff << 20, 1 << 31]) {
            assert_eq!(unpack_cost(pack_cost(cost)), cost);
        }
    }

    #[test]
    fn a_hit_is_two_words_and_a_faa() {
        let object = Metadata::new(7, 100, 64, 3).touched(150).touched(140);
        assert_eq!((object.last, object.previous, object.freq), (150, 150, 3));
        let mut words = Metadata::new(7, 100, 64, 3).pack();
        words[LAST..FREQ].copy_from_slice(&object.pack_hit());
        words[FREQ] = words[FREQ].wrapping_add(2 * ACCESS);
        assert_eq!(Metadata::unpack(words), object);
        words[FREQ] = words[FREQ].wrapping_add(ACCESS.wrapping_mul(u64::from(u32::MAX)));
        assert_eq!(Metadata::unpack(words).bytes, 64, "an overflow of accesses stays there");
    }
}
