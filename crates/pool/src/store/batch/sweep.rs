//! The common steps of many changes.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::lookup::{Blind, Found, Lookups};
use super::BATCH_BYTES;
use crate::alloc::Allocation;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{self, Candidate, Hint, KeyHash, Place};
use crate::object::Header;
use crate::snapshot::{self, Round};
use crate::store::attempt::Attempt;
use crate::store::change::{Change, Done, Step};
use crate::store::find::Key;
use crate::store::{GROUP, MAX_INLINE_BYTES};

/// Common tries: most keys need one, those whose insert locks are shared a few.
const SWEEPS: u32 = 6;

/// One key's change.
pub(in crate::store) struct Task<'a> {
    pub key: Option<Key<'a>>,
    pub change: Change<'a>,
    pub attempt: Attempt,
    /// Another task acts for the same key.
    pub is_twin: bool,
    /// It is to be done alone.
    alone: bool,
    /// The hint was wrong.
    unhinted: bool,
    outcome: Option<Result<Done>>,
}

impl<'a> Task<'a> {
    pub fn new(key: Result<Key<'a>>, change: Change<'a>) -> Task<'a> {
        let alone = change.value.len() > MAX_INLINE_BYTES;
        let (key, outcome) = match key {
            Ok(key) => (Some(key), None),
            Err(error) => (None, Some(Err(error))),
        };
        let (attempt, is_twin, unhinted) = (Attempt::default(), false, false);
        Task { key, change, attempt, is_twin, alone, unhinted, outcome }
    }

    /// Whether it is still to be done.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none() && !self.is_twin
    }

    pub fn end(&mut self, outcome: Result<Done>) {
        self.outcome = Some(outcome);
    }

    /// The error counts for all that have no other.
    pub fn spoil(&mut self, error: &PoolError) {
        if matches!(self.outcome, Some(Ok(_))) {
            self.outcome = Some(Err(error.clone()));
        }
    }

    pub fn outcome(&self) -> Result<Done> {
        self.outcome.clone().unwrap_or(Ok(Done::Refused))
    }
}

/// A change that takes part in the rounds.
struct Player {
    task: usize,
    room: Allocation,
    seen: Candidate,
    replaces: Option<Header>,
    lock: Option<(Place, KeyHash)>,
    /// Bytes that are counted beforehand.
    grown: i64,
}

impl Client {
    /// Does what can be done in common; the others stay open.
    pub(super) fn sweep_all(&mut self, tasks: &mut [Task<'_>]) {
        for _ in 0..SWEEPS {
            let open = |task: &Task<'_>| task.is_open() && !task.alone;
            if tasks.iter().filter(|task| open(task)).count() < 2 {
                return;
            }
            match self.sweep(tasks) {
                Ok(()) => {}
                Err(PoolError::ViewChanged) => {
                    for task in tasks.iter_mut() {
                        // The locks may or may not be mine in the new view.
                        let _ = self.unlock(&mut task.attempt);
                        task.attempt.written = false;
                    }
                }
                Err(error) => {
                    for task in tasks.iter_mut().filter(|task| task.is_open()) {
                        let _ = self.unlock(&mut task.attempt);
                        self.give_up(&mut task.attempt);
                        task.end(Err(error.clone()));
                    }
                    return;
                }
            }
        }
    }

    fn sweep(&mut self, tasks: &mut [Task<'_>]) -> Result<()> {
        self.fabric.pass_gate()?;
        let mut lookups = self.prepare(tasks)?;
        self.write_and_read(tasks, &mut lookups)?;
        self.judge(tasks, &mut lookups)?;
        self.read_all_heads(tasks, &mut lookups)?;
        let (players, mut rounds) = self.choose(tasks, &lookups);
        if let Err(error) = snapshot::write(&self.fabric, &mut rounds) {
            for player in &players {
                let namespace = tasks[player.task].key.map_or(0, |key| key.namespace);
                self.spaces.count(namespace, -player.grown);
                tasks[player.task].attempt.lock = player.lock;
                self.alloc.complete(player.room.sequence);
                tasks[player.task].end(Err(error.clone()));
                let _ = self.unlock(&mut tasks[player.task].attempt);
            }
            return Err(error);
        }
        self.stats.rounds.count(&rounds);
        for (player, round) in players.iter().zip(&rounds) {
            let task = &mut tasks[player.task];
            if round.holds_lock() {
                task.attempt.lock = player.lock;
            }
            let Some(key) = task.key else { continue };
            self.spaces.count(key.namespace, -player.grown);
            let (room, seen) = (player.room, player.seen);
            match self.finish(&key, &task.change, room, seen, player.replaces, round) {
                Ok(Step::Done(done)) => task.end(Ok(done)),
                Ok(Step::Again) | Err(PoolError::ViewChanged) => self.stats.retries += 1,
                Err(error) => task.end(Err(error)),
            }
        }
        self.unlock_all(tasks)
    }

    /// Builds the objects of the tasks that take part, and decides how each is looked up.
    fn prepare(&mut self, tasks: &mut [Task<'_>]) -> Result<Lookups> {
        self.image.clear();
        let mut lookups = Lookups::default();
        for (number, task) in tasks.iter_mut().enumerate() {
            let Some(key) = task.key.filter(|_| task.is_open() && !task.alone) else { continue };
            if self.image.len() > BATCH_BYTES {
                break;
            }
            let hint = match self.cache.look(key.hash) {
                Hint::Seen(hint) if hint.slot.class().is_some() && !task.unhinted => Some(hint),
                _ => None,
            };
            let place = self.directory.place(key.hash);
            // One insert at a time under a lock: it bears this client's name alone.
            if hint.is_none() && task.change.rule.creates() && !lookups.claim(place, key.hash) {
                continue;
            }
            // What was written before has left the image buffer.
            task.attempt.written = false;
            match self.build(&key, &task.change, &mut task.attempt, hint) {
                Ok(()) => lookups.add(number, &key, hint, place),
                Err(PoolError::ViewChanged) => return Err(PoolError::ViewChanged),
                Err(PoolError::Full { .. }) => task.alone = true,
                Err(error) => task.end(Err(error)),
            }
        }
        Ok(lookups)
    }

    /// The first common batch: objects are written, locks taken, slots or buckets read.
    fn write_and_read(&mut self, tasks: &mut [Task<'_>], lookups: &mut Lookups) -> Result<()> {
        let me = self.fabric.me();
        let members: SmallVec<[usize; GROUP]> = lookups.tasks().collect();
        self.reserve(lookups.head_bytes);
        let mut verbs: SmallVec<[Verb<'_>; 8]> = SmallVec::new();
        let mut heads = &mut self.object[..lookups.head_bytes];
        for one in &mut lookups.hinted {
            let (head, rest) = heads.split_at_mut(one.head.len());
            heads = rest;
            verbs.push(Verb::read(self.fabric.primary(one.hint.at)?, &mut one.word));
            verbs.push(Verb::read(self.fabric.primary(one.hint.slot.addr())?, head));
        }
        let mut swaps: SmallVec<[usize; GROUP]> = SmallVec::new();
        // Objects before locks: recovery finds the locks of the dead by their objects.
        for task in members {
            let Some(room) = tasks[task].attempt.room else { continue };
            let image = &self.image[tasks[task].attempt.image.clone()];
            verbs.extend(self.fabric.copies(room.addr).iter().map(|&at| Verb::write(at, image)));
        }
        for one in &mut lookups.blind {
            let at = one.buckets.locate(&self.fabric)?;
            let task = &mut tasks[one.task];
            let Some(key) = task.key else { continue };
            if task.change.rule.creates() {
                let (free, held) = index::held(one.place, me);
                swaps.push(verbs.len());
                verbs.push(Verb::cas(at[2], free, held));
                task.attempt.lock = Some((one.place, key.hash));
            }
            one.buckets.post(at, &mut verbs);
        }
        if verbs.is_empty() {
            return Ok(());
        }
        self.fabric.batch(&mut verbs)?;
        let found: SmallVec<[u64; GROUP]> = swaps.iter().map(|&at| verbs[at].found()).collect();
        drop(verbs);
        let creates = |one: &&mut Blind| tasks[one.task].change.rule.creates();
        for (one, found) in lookups.blind.iter_mut().filter(creates).zip(found) {
            one.found = Some(found);
        }
        Ok(())
    }

    /// What the lookups found becomes rounds, or outcomes.
    fn choose(&mut self, tasks: &mut [Task<'_>], lookups: &Lookups) -> (Vec<Player>, Vec<Round>) {
        let mut players: Vec<Player> = Vec::with_capacity(lookups.found.len());
        let mut rounds = Vec::with_capacity(lookups.found.len());
        for &(number, found) in &lookups.found {
            let task = &mut tasks[number];
            let Some(key) = task.key else { continue };
            let (seen, replaces) = match found {
                Found::There(seen, header) => (seen, Some(header)),
                Found::Absent(Some(vacant)) => (vacant, None),
                Found::Absent(None) if !task.change.rule.creates() => {
                    self.cache.forget(key.hash);
                    task.end(Ok(Done::Refused));
                    continue;
                }
                // The subtable is full.
                Found::Absent(None) => {
                    task.alone = true;
                    continue;
                }
            };
            if let Some(header) = replaces {
                if !self.suits(task.change.rule, seen.slot, &header) {
                    self.cache.remember(key.hash, seen);
                    task.end(Ok(Done::Refused));
                    continue;
                }
            }
            // Two inserts may have chosen the same slot: one waits for the next sweep.
            if players.iter().any(|player| player.seen.at == seen.at) {
                continue;
            }
            let admitted = self.admit(&key, &task.change, &task.attempt, seen.slot, replaces);
            let grown = match admitted {
                Ok(grown) => grown as i64,
                Err(PoolError::ViewChanged) => continue,
                // Alone, it looks for room.
                Err(PoolError::QuotaExceeded { .. }) if !task.change.rule.holds() => {
                    task.alone = true;
                    continue;
                }
                Err(error) => {
                    task.end(Err(error));
                    continue;
                }
            };
            let Some((room, round)) = self.round(&key, &task.change, &mut task.attempt, seen)
            else {
                continue;
            };
            let lock = task.attempt.lock.take();
            // The next one is to see it, although its round is still to come.
            self.spaces.count(key.namespace, grown);
            players.push(Player { task: number, room, seen, replaces, lock, grown });
            rounds.push(round);
        }
        (players, rounds)
    }

    /// Gives back the locks that no round gives back, and the rooms of those that are done.
    fn unlock_all(&mut self, tasks: &mut [Task<'_>]) -> Result<()> {
        let mut verbs: SmallVec<[Verb<'_>; GROUP]> = SmallVec::new();
        for task in tasks.iter() {
            if let Some((place, hash)) = task.attempt.lock {
                let unlock = index::unlock_of(place, hash, self.fabric.me());
                let at = self.fabric.primary(unlock.word)?;
                verbs.push(Verb::cas(at, unlock.held, unlock.free));
            }
        }
        if !verbs.is_empty() {
            self.fabric.batch(&mut verbs)?;
        }
        for task in tasks.iter_mut() {
            task.attempt.lock = None;
            if !task.is_open() {
                self.give_up(&mut task.attempt);
            }
        }
        Ok(())
    }

    /// A hint was wrong: not again.
    pub(super) fn forget_hint(&mut self, task: &mut Task<'_>) {
        task.unhinted = true;
        self.stats.hints_wrong += 1;
        if let Some(key) = task.key {
            self.cache.was_wrong(key.hash);
        }
    }
}
