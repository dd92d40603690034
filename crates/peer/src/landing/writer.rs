//! The writer's side of landings.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};

use artesian_bus::{GlobalAddr, Identity, Verb, Verbs};
use artesian_kernels::kv::KvLayout;
use artesian_kernels::program::LayerSink;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::cover::Cover;
use super::word::{words_of, Phase, Progress, Slot, State, NUM_GENERATIONS};
use crate::PeerError;

/// Where to write: what a ticket says, and the region that it names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The slots of the owner's region.
    pub control: GlobalAddr,
    /// How many these are.
    pub num_slots: u32,
    /// The owner's arena.
    pub arena: GlobalAddr,
    /// Its blocks.
    pub num_blocks: u64,
    /// The landing's slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// The block of the prompt, counted from 0, that goes to the first of `blocks`.
    pub first_block: usize,
    /// Blocks of the owner's arena, for consecutive blocks of the prompt.
    pub blocks: Vec<u32>,
}

/// Why a writer writes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum End {
    NotYet,
    Revoked,
    Complete,
    Failed,
}

/// Connections for the threads that write, one each if there are so few.
const MAX_LINES: usize = 16;

/// Writes into one landing. Any number of threads may share it.
pub struct Writer<V: Verbs> {
    target: Target,
    layout: KvLayout,
    slot: Slot,
    /// The slot's state between two sections of this writer, and within one.
    idle: State,
    writing: State,
    lines: Vec<Mutex<V>>,
    /// Whether a section is open. Held shared while writing.
    section: RwLock<bool>,
    progress: Mutex<Progress>,
    num_bytes: AtomicU64,
    cover: Cover,
    is_spoiled: AtomicBool,
    end: AtomicU8,
}

impl<V: Verbs> Writer<V> {
    /// Takes a landing up. `connect` gives connections to the owner's region, one for each of about
    /// `num_threads` threads.
    ///
    /// # Errors
    /// [`PeerError::Shape`] for blocks that are not the owner's; [`PeerError::Refused`] when the
    /// landing was revoked or has a writer; [`PeerError::Bus`] when the owner's memory is gone.
    pub fn attach(
        target: Target,
        layout: KvLayout,
        num_threads: usize,
        connect: impl Fn() -> V,
    ) -> Result<Writer<V>, PeerError> {
        check(&target)?;
        let lines: Vec<_> =
            (0..num_threads.clamp(1, MAX_LINES)).map(|_| Mutex::new(connect())).collect();
        let identity = lines[0].lock().identity();
        let open = State::new(target.generation, 0, Phase::Open);
        let idle = State::new(target.generation, identity.pid, Phase::Idle);
        let slot = Slot::new(target.control, target.slot);
        let mut verbs = [Verb::cas(slot.state(), open.0, idle.0)];
        lines[0].lock().batch(&mut verbs)?;
        let found = State(verbs[0].found());
        if found != open {
            return Err(refused(&target, found));
        }
        Ok(Writer {
            cover: Cover::new(target.blocks.len(), layout.num_layers()),
            target,
            layout,
            slot,
            idle,
            writing: idle.with(Phase::Writing),
            lines,
            section: RwLock::new(false),
            progress: Mutex::default(),
            num_bytes: AtomicU64::new(0),
            is_spoiled: AtomicBool::new(false),
            end: AtomicU8::new(End::NotYet as u8),
        })
    }

    /// Bytes written so far.
    pub fn num_bytes(&self) -> u64 {
        self.num_bytes.load(Ordering::Relaxed)
    }

    /// Whether the owner still wants it: looks there.
    pub fn look(&self) -> bool {
        // Held, so that a section that is open is seen open in the word too.
        let section = self.section.read();
        if self.is_over() {
            return false;
        }
        let mut word = [0; 8];
        let read = self.line().batch(&mut [Verb::read(self.slot.state(), &mut word)]);
        let state = State(u64::from_le_bytes(word));
        let is_mine = read.is_ok() && [self.idle, self.writing].contains(&state);
        // A section that is open is answered for at its end.
        if !is_mine && !*section {
            self.conclude(End::Revoked);
        }
        is_mine
    }

    /// Writes one layer of the prompt's block number `block`, of which the first `num_tokens`
    /// tokens are there. Whether it is there now, or was not asked for; false once it is over.
    ///
    /// # Panics
    /// When `bytes` are not a layer, or there is no such layer.
    pub fn write_layer(&self, layer: usize, block: usize, num_tokens: usize, bytes: &[u8]) -> bool {
        assert!(layer < self.layout.num_layers() && bytes.len() == self.layout.layer_bytes());
        let place = block.checked_sub(self.target.first_block);
        let Some((place, &to)) = place.and_then(|p| Some((p, self.target.blocks.get(p)?))) else {
            return !self.is_over();
        };
        let offset = u64::from(to) * self.layout.block_bytes() as u64;
        let offset = offset + self.layout.layer_range(layer).start as u64;
        let Some(section) = self.enter() else { return false };
        let verb = Verb::write(self.target.arena.add(offset), bytes);
        let written = self.line().batch(&mut [verb]);
        drop(section);
        if written.is_err() {
            self.conclude(End::Revoked);
            return false;
        }
        self.num_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.cover.add(place, layer, num_tokens.min(self.layout.block_size_tokens()) as u32);
        true
    }

    /// All is written. False, and nothing is complete, if that is not so, or the owner has taken
    /// the landing back.
    pub fn complete(&self) -> bool {
        let is_whole = !self.is_spoiled.load(Ordering::Relaxed)
            && self.cover.is_whole(self.layout.block_size_tokens() as u32);
        self.leave(if is_whole { End::Complete } else { End::Failed }) == End::Complete
    }

    /// Gives up, unless it is over already.
    pub fn fail(&self) {
        self.leave(End::Failed);
    }

    /// Ends the section that may be open.
    pub fn end_section(&self) {
        self.retreat(&mut self.section.write());
    }

    fn end_of(&self) -> End {
        match self.end.load(Ordering::Acquire) {
            1 => End::Revoked,
            2 => End::Complete,
            3 => End::Failed,
            _ => End::NotYet,
        }
    }

    fn is_over(&self) -> bool {
        self.end_of() != End::NotYet
    }

    /// The first end counts.
    fn conclude(&self, end: End) {
        let order = Ordering::AcqRel;
        let _ = self.end.compare_exchange(End::NotYet as u8, end as u8, order, Ordering::Acquire);
    }

    /// A section, opened if none is; `None` when it is over.
    fn enter(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let section = self.section.read();
        if *section {
            return Some(section);
        }
        drop(section);
        let mut section = self.section.write();
        if !*section {
            *section = !self.is_over() && self.announce();
        }
        section.then(|| RwLockWriteGuard::downgrade(section))
    }

    /// Tells the owner that writing begins, unless it has revoked.
    fn announce(&self) -> bool {
        let line = self.line();
        let mut verbs = [Verb::cas(self.slot.state(), self.idle.0, self.writing.0)];
        let asked = line.batch(&mut verbs);
        if asked.is_err() || verbs[0].found() != self.idle.0 {
            self.conclude(End::Revoked);
            return false;
        }
        if self.progress.lock().num_sections == 0 {
            // Only now, when no other landing can have the slot, it may be written.
            let started = line.identity().started.to_le_bytes();
            let _ = line.batch(&mut [Verb::write(self.slot.started(), &started)]);
        }
        true
    }

    /// Tells the owner that writing has ended, for now or, if it has revoked, for ever.
    fn retreat(&self, section: &mut bool) {
        if !std::mem::take(section) {
            return;
        }
        let mut progress = self.progress.lock();
        progress.num_sections += 1;
        progress.num_bytes = self.num_bytes();
        let words = words_of(Identity { pid: 0, started: 0 }, *progress);
        let line = self.line();
        let mut verbs = [
            Verb::write(self.slot.progress(), words[1..].as_flattened()),
            Verb::cas(self.slot.state(), self.writing.0, self.idle.0),
        ];
        let told = line.batch(&mut verbs);
        if told.is_ok() && verbs[1].found() == self.writing.0 {
            return;
        }
        self.conclude(End::Revoked);
        let revoked = self.writing.revoked();
        let stopped = revoked.with(Phase::Stopped);
        // Where the memory is lost nobody waits for the answer.
        let _ = line.batch(&mut [Verb::cas(self.slot.state(), revoked.0, stopped.0)]);
    }

    /// Ends it, if nothing has; how it ended.
    fn leave(&self, end: End) -> End {
        let mut section = self.section.write();
        self.retreat(&mut section);
        if !self.is_over() {
            let phase = if end == End::Complete { Phase::Complete } else { Phase::Failed };
            let word = self.idle.with(phase);
            let mut verbs = [Verb::cas(self.slot.state(), self.idle.0, word.0)];
            let told = self.line().batch(&mut verbs);
            let is_told = told.is_ok() && verbs[0].found() == self.idle.0;
            self.conclude(if is_told { end } else { End::Revoked });
        }
        self.end_of()
    }

    /// A connection that no other thread uses just now, or the first.
    fn line(&self) -> MutexGuard<'_, V> {
        let idle = self.lines.iter().find_map(|line| line.try_lock());
        idle.unwrap_or_else(|| self.lines[0].lock())
    }
}

impl<V: Verbs> LayerSink for Writer<V> {
    fn begin(&self, _layer: usize) -> bool {
        self.enter().is_some()
    }

    /// # Panics
    /// When the bytes are not a layer of this layout.
    unsafe fn write(
        &self,
        block: usize,
        num_tokens: usize,
        offset: usize,
        bytes: *const u8,
        len: usize,
    ) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
        assert!(offset.is_multiple_of(self.layout.layer_bytes()), "layers are written whole");
        self.write_layer(offset / self.layout.layer_bytes(), block, num_tokens, bytes);
    }

    fn end(&self, layer: usize) {
        self.progress.lock().layer = layer as u32;
        self.end_section();
    }

    fn spoil(&self) {
        self.is_spoiled.store(true, Ordering::Relaxed);
    }
}

impl<V: Verbs> Drop for Writer<V> {
    fn drop(&mut self) {
        self.fail();
    }
}

/// Refuses slots and blocks that the owner does not have, and blocks that come twice.
fn check(target: &Target) -> Result<(), PeerError> {
    if target.slot >= target.num_slots || target.generation >= NUM_GENERATIONS {
        return Err(PeerError::Shape(format!(
            "landing {} of generation {}: there are {} slots, and {NUM_GENERATIONS} generations",
            target.slot, target.generation, target.num_slots
        )));
    }
    let mut sorted = target.blocks.clone();
    sorted.sort_unstable();
    let is_double = sorted.windows(2).any(|pair| pair[0] == pair[1]);
    let last = sorted.last().copied().unwrap_or(0);
    if is_double || (!sorted.is_empty() && u64::from(last) >= target.num_blocks) {
        return Err(PeerError::Shape(format!(
            "a landing in blocks {:?} of an arena of {}: each once, and none beyond",
            target.blocks, target.num_blocks
        )));
    }
    Ok(())
}

/// Why a landing cannot be taken up.
fn refused(target: &Target, found: State) -> PeerError {
    let why = match found.phase() {
        _ if found.generation() != target.generation => "is over",
        _ if found.is_revoked() => "was taken back",
        Some(Phase::Idle | Phase::Writing) => "has a writer already",
        _ => "is over",
    };
    PeerError::Refused(format!("landing {} of generation {} {why}", target.slot, target.generation))
}
