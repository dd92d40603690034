//! Node memory, and verbs on it that may happen in pieces.

use super::rng::Rng;
use crate::{BusError, GlobalAddr, NodeId, Verb};

/// The memory of all nodes; a lost node has none.
pub(super) struct Memory {
    nodes: Vec<Option<Vec<u8>>>,
}

/// How far a verb has come: bytes done, counted from byte `first` and wrapping round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub first: usize,
    pub done: usize,
}

fn word_at(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

impl Memory {
    pub fn new(nodes: u16, bytes: usize) -> Memory {
        Memory { nodes: (0..nodes).map(|_| Some(vec![0; bytes])).collect() }
    }

    pub fn lose(&mut self, node: NodeId) -> bool {
        self.nodes.get_mut(node.0 as usize).is_some_and(|memory| memory.take().is_some())
    }

    pub fn add(&mut self, bytes: usize) -> NodeId {
        self.nodes.push(Some(vec![0; bytes]));
        NodeId(self.nodes.len() as u16 - 1)
    }

    pub fn sizes(&self) -> Vec<(NodeId, u64)> {
        let numbered = self.nodes.iter().enumerate();
        let live = numbered.filter_map(|(i, memory)| Some((i, memory.as_ref()?)));
        live.map(|(i, memory)| (NodeId(i as u16), memory.len() as u64)).collect()
    }

    pub fn word(&self, addr: GlobalAddr) -> Option<u64> {
        let memory = self.nodes.get(addr.node().0 as usize)?.as_ref()?;
        let start = addr.offset() as usize;
        Some(word_at(memory.get(start..start.checked_add(8)?)?))
    }

    /// The bytes of a verb, or why it cannot be executed.
    #[inline]
    fn bytes(&mut self, verb: &Verb<'_>) -> Result<&mut [u8], BusError> {
        let (addr, len) = (verb.addr(), verb.len());
        let lost = || BusError::NodeLost(addr.node());
        let memory = self.nodes.get_mut(addr.node().0 as usize).ok_or_else(lost)?;
        let memory = memory.as_mut().ok_or_else(lost)?;
        let (start, size) = (addr.offset() as usize, memory.len() as u64);
        let is_word = matches!(verb, Verb::Cas { .. } | Verb::Faa { .. });
        if addr.offset() + len > size || (is_word && !start.is_multiple_of(8)) {
            return Err(BusError::BadAddress { addr, len, size });
        }
        Ok(&mut memory[start..start + len as usize])
    }

    /// Executes all of a verb.
    #[inline]
    pub fn run(&mut self, verb: &mut Verb<'_>) -> Result<(), BusError> {
        let bytes = self.bytes(verb)?;
        match verb {
            Verb::Read { into, .. } => into.copy_from_slice(bytes),
            Verb::Write { from, .. } => bytes.copy_from_slice(from),
            Verb::Gather { .. } => copy_piece(bytes, verb, 0, bytes.len()),
            Verb::Cas { expected, desired, found, .. } => {
                *found = word_at(bytes);
                if *found == *expected {
                    bytes.copy_from_slice(&desired.to_le_bytes());
                }
            }
            Verb::Faa { add, found, .. } => {
                *found = word_at(bytes);
                bytes.copy_from_slice(&found.wrapping_add(*add).to_le_bytes());
            }
        }
        Ok(())
    }

    /// Executes the next piece of a READ or WRITE: at most `words` words. Says whether it is whole.
    pub fn run_piece(
        &mut self,
        verb: &mut Verb<'_>,
        progress: &mut Progress,
        words: usize,
    ) -> Result<bool, BusError> {
        let skew = verb.addr().offset() as usize % 8;
        let bytes = self.bytes(verb)?;
        let len = bytes.len();
        let (from, limit) = if progress.done < len - progress.first {
            (progress.first + progress.done, len)
        } else {
            (progress.first + progress.done - len, progress.first)
        };
        let to = ((from + skew) / 8 * 8 + 8 * words).saturating_sub(skew).clamp(from, limit);
        copy_piece(bytes, verb, from, to);
        progress.done += to - from;
        Ok(progress.done == len)
    }
}

/// A place in a verb of `len` bytes at which a word of memory starts.
pub(super) fn word_boundary(verb: &Verb<'_>, rng: &mut Rng) -> usize {
    let skew = verb.addr().offset() as usize % 8;
    let words = (verb.len() as usize + skew) / 8;
    (rng.below(words.max(1) as u64) as usize * 8).saturating_sub(skew)
}

/// Copies bytes `from..to` between a READ's or WRITE's buffer and `memory`.
fn copy_piece(memory: &mut [u8], verb: &mut Verb<'_>, from: usize, to: usize) {
    match verb {
        Verb::Read { into, .. } => into[from..to].copy_from_slice(&memory[from..to]),
        Verb::Write { from: source, .. } => memory[from..to].copy_from_slice(&source[from..to]),
        Verb::Gather { parts, .. } => {
            let mut start = 0;
            for part in parts.iter() {
                let (low, high) = (from.max(start), to.min(start + part.len()));
                if low < high {
                    memory[low..high].copy_from_slice(&part[low - start..high - start]);
                }
                start += part.len();
            }
        }
        Verb::Cas { .. } | Verb::Faa { .. } => {}
    }
}
