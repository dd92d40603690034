//! Keys that meet: few of them, or many in the same two buckets.

use std::sync::OnceLock;

use artesian_pool::index::KeyHash;

/// Keys that share both combined buckets.
const CROWD: usize = 120;

/// Key number `number`, as it is in the pool.
pub type Key = [u8; 8];

/// Which keys a run works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The first so many numbers: they lie anywhere.
    Few(u32),
    /// So many of those that share their buckets: two buckets and their overflow take 28, then the
    /// subtable splits.
    Crowd(u32),
}

impl Keys {
    /// How many there are.
    pub fn count(self) -> u32 {
        match self {
            Keys::Few(count) | Keys::Crowd(count) => count,
        }
    }

    /// The key of that number.
    pub fn key(self, number: u32) -> Key {
        match self {
            Keys::Few(_) => u64::from(number).to_le_bytes(),
            Keys::Crowd(_) => crowd()[number as usize].to_le_bytes(),
        }
    }
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Values of any length, to which is appended.
    Text,
    /// Numbers, to which is added.
    Number,
    /// Values that expire.
    Mortal,
}

impl Sort {
    /// More texts than others.
    pub fn of(number: u32) -> Sort {
        match number % 6 {
            4 => Sort::Number,
            5 => Sort::Mortal,
            _ => Sort::Text,
        }
    }
}

fn crowd() -> &'static [u64] {
    static FOUND: OnceLock<Vec<u64>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let buckets = |number: &u64| KeyHash::of(0, &number.to_le_bytes()).buckets();
        let wanted = buckets(&0);
        (0..).filter(|number| buckets(number) == wanted).take(CROWD).collect()
    })
}
