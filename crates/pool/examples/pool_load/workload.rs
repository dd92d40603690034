//! The core workloads of YCSB.

use crate::zipf::{Random, Zipf};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Update,
    Insert,
    ReadModifyWrite,
    /// The values of some keys from one on, in order.
    Scan,
}

/// The operations of one client.
pub struct Workload {
    /// Reads in a thousand operations, what they are, and what the others are.
    reads: u64,
    read: Kind,
    other: Kind,
    keys: u64,
    zipf: Zipf,
    random: Random,
    /// Keys that this client has inserted; all clients' numbers differ.
    inserted: u64,
    client: u64,
    clients: u64,
}

impl Workload {
    /// `letter` is that of YCSB; `client` of `clients` tells the clients apart.
    pub fn new(letter: &str, keys: u64, client: u64, clients: u64) -> Option<Workload> {
        let (reads, read, other) = match letter {
            "a" => (500, Kind::Read, Kind::Update),
            "b" => (950, Kind::Read, Kind::Update),
            "c" => (1000, Kind::Read, Kind::Update),
            "d" => (950, Kind::Read, Kind::Insert),
            "e" => (950, Kind::Scan, Kind::Insert),
            "f" => (500, Kind::Read, Kind::ReadModifyWrite),
            _ => return None,
        };
        let random = Random(client.wrapping_mul(0x1234_5678_9abc_def1) ^ keys);
        let zipf = Zipf::new(keys);
        Some(Workload { reads, read, other, keys, zipf, random, inserted: 0, client, clients })
    }

    /// The next operation and the number of its key.
    #[inline]
    pub fn next(&mut self) -> (Kind, u64) {
        let kind = if self.random.below(1000) < self.reads { self.read } else { self.other };
        let number = match (kind, self.other) {
            (Kind::Insert, _) => {
                self.inserted += 1;
                self.own(self.inserted - 1)
            }
            // Workload D reads what was inserted last.
            (Kind::Read, Kind::Insert) => match self.zipf.rank(&mut self.random) {
                rank if rank < self.inserted => self.own(self.inserted - 1 - rank),
                rank => self.keys - 1 - (rank - self.inserted),
            },
            _ => self.zipf.scrambled(&mut self.random),
        };
        (kind, number)
    }

    fn own(&self, nth: u64) -> u64 {
        self.keys + nth * self.clients + self.client
    }
}

/// The bytes of key `number`: those of `redis-benchmark`.
#[inline]
pub fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}
