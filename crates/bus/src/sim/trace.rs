//! The last verbs before a failure.

use std::collections::VecDeque;
use std::fmt;

use crate::{GlobalAddr, Verb};

/// What was done, with the words that matter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Read { addr: GlobalAddr, len: u64, first: u64 },
    Write { addr: GlobalAddr, len: u64, first: u64 },
    Cas { addr: GlobalAddr, expected: u64, desired: u64, found: u64 },
    Faa { addr: GlobalAddr, add: u64, found: u64 },
    Failed { addr: GlobalAddr },
    Struck(&'static str),
}

fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

impl Event {
    pub fn of(verb: &Verb<'_>) -> Event {
        let len = verb.len();
        match verb {
            Verb::Read { addr, into } => Event::Read { addr: *addr, len, first: first_word(into) },
            Verb::Write { addr, from } => {
                Event::Write { addr: *addr, len, first: first_word(from) }
            }
            Verb::Gather { addr, parts } => {
                let first = parts.first().map_or(0, |part| first_word(part));
                Event::Write { addr: *addr, len, first }
            }
            Verb::Cas { addr, expected, desired, found } => {
                Event::Cas { addr: *addr, expected: *expected, desired: *desired, found: *found }
            }
            Verb::Faa { addr, add, found } => Event::Faa { addr: *addr, add: *add, found: *found },
        }
    }
}

/// A ring of the last events.
#[derive(Default)]
pub(super) struct Trace {
    ring: VecDeque<(u64, u32, Event)>,
    limit: usize,
}

impl Trace {
    pub fn new(limit: usize) -> Trace {
        Trace { ring: VecDeque::with_capacity(limit), limit }
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    #[inline]
    pub fn push(&mut self, now: u64, process: u32, event: Event) {
        if self.ring.len() >= self.limit {
            self.ring.pop_front();
        }
        self.ring.push_back((now, process, event));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (now, process, event) in &self.ring {
            write!(f, "\n  {now:>12} ns  process {process:>3}  ")?;
            match event {
                Event::Read { addr, len, first } => {
                    write!(f, "read  {addr:?} {len} bytes: {first:#x} ..")?
                }
                Event::Write { addr, len, first } => {
                    write!(f, "write {addr:?} {len} bytes: {first:#x} ..")?
                }
                Event::Cas { addr, expected, desired, found } if expected == found => {
                    write!(f, "cas   {addr:?} {expected:#x} -> {desired:#x}")?
                }
                Event::Cas { addr, expected, found, .. } => {
                    write!(f, "cas   {addr:?} {expected:#x} fails: {found:#x}")?
                }
                Event::Faa { addr, add, found } => {
                    write!(f, "faa   {addr:?} {found:#x} + {add:#x}")?
                }
                Event::Failed { addr } => write!(f, "fails {addr:?}")?,
                Event::Struck(what) => write!(f, "{what}")?,
            }
        }
        Ok(())
    }
}
