//! Where the keys of a group lie.

use std::ops::Range;

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::sweep::Task;
use crate::address::PoolAddr;
use crate::client::Client;
use crate::error::Result;
use crate::index::{BucketLock, Buckets, Candidate, Directory, KeyHash, Place};
use crate::object::Header;
use crate::slot::Slot;
use crate::store::find::{is_intent, Key, Verdict};

/// What a lookup found.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// An object of the key.
    There(Candidate, Header),
    /// None; perhaps a slot for one.
    Absent(Option<Candidate>),
}

/// A key whose slot is known, perhaps.
pub(super) struct Hinted {
    pub task: usize,
    pub hint: Candidate,
    pub word: [u8; 8],
    /// Where the head of its object is read to.
    pub head: Range<usize>,
}

/// A key that is looked for in its buckets.
pub(super) struct Blind {
    pub task: usize,
    pub place: Place,
    pub buckets: Buckets,
    /// What taking the insert lock found.
    pub found: Option<u64>,
    /// Slots of the key's fingerprint, with where the heads of their objects are read to.
    pub matches: SmallVec<[(Candidate, Range<usize>); 2]>,
    /// It is answered, or looked for again.
    pub over: bool,
}

/// The lookups of a sweep.
#[derive(Default)]
pub(super) struct Lookups {
    pub hinted: Vec<Hinted>,
    pub blind: Vec<Blind>,
    /// Bytes of all heads.
    pub head_bytes: usize,
    /// Answers, by task.
    pub found: Vec<(usize, Found)>,
    locks: Vec<PoolAddr>,
}

impl Lookups {
    /// Reserves the insert lock of a key for it, unless another key of the group has it.
    pub fn claim(&mut self, place: Place, hash: KeyHash) -> bool {
        let word = Directory::lock_word(place, hash);
        let is_new = !self.locks.contains(&word);
        self.locks.extend(is_new.then_some(word));
        is_new
    }

    pub fn add(&mut self, task: usize, key: &Key<'_>, hint: Option<Candidate>, place: Place) {
        let Some(hint) = hint else {
            let buckets = Buckets::new(place, key.hash);
            let (found, matches, over) = (None, SmallVec::new(), false);
            self.blind.push(Blind { task, place, buckets, found, matches, over });
            return;
        };
        let head = self.head(key, hint.slot);
        self.hinted.push(Hinted { task, hint, word: [0; 8], head });
    }

    /// Room for the head of the object in `slot`.
    fn head(&mut self, key: &Key<'_>, slot: Slot) -> Range<usize> {
        let class = slot.thawed().unwrap_or(slot).class();
        let bytes = key.head_bytes().min(class.map_or(0, |class| class.bytes()));
        let start = self.head_bytes;
        self.head_bytes += bytes;
        start..start + bytes
    }

    /// All tasks that take part.
    pub fn tasks(&self) -> impl Iterator<Item = usize> + '_ {
        let hinted = self.hinted.iter().map(|one| one.task);
        hinted.chain(self.blind.iter().map(|one| one.task))
    }
}

impl Client {
    /// What the first batch tells: which hints were right, which locks are held, which objects are
    /// to be looked at.
    pub(super) fn judge(&mut self, tasks: &mut [Task<'_>], lookups: &mut Lookups) -> Result<()> {
        for one in &lookups.hinted {
            let Some(key) = tasks[one.task].key else { continue };
            tasks[one.task].attempt.written = true;
            let header = key.header_in(&self.object[one.head.clone()], one.hint.slot);
            match header.filter(|_| Slot(u64::from_le_bytes(one.word)) == one.hint.slot) {
                Some(header) => {
                    self.stats.hints_right += 1;
                    lookups.found.push((one.task, Found::There(one.hint, header)));
                }
                None => self.forget_hint(&mut tasks[one.task]),
            }
        }
        lookups.head_bytes = 0;
        let mut blind = std::mem::take(&mut lookups.blind);
        for one in &mut blind {
            let task = &mut tasks[one.task];
            let Some(key) = task.key else { continue };
            task.attempt.written = true;
            let lock = one.found.map(|found| BucketLock::judge(found, one.place, self.fabric.me()));
            if !matches!(lock, None | Some(BucketLock::Mine)) {
                (one.over, task.attempt.lock) = (true, None);
                // Perhaps the directory copy is old; others of the group may have found that out.
                let is_stale = lock == Some(BucketLock::Stale);
                if is_stale && self.directory.place(key.hash) == one.place {
                    self.directory.refresh(&self.fabric, key.hash)?;
                }
                continue;
            }
            for candidate in one.buckets.matches(key.hash) {
                let head = lookups.head(&key, candidate.slot);
                one.matches.push((candidate, head));
            }
        }
        lookups.blind = blind;
        Ok(())
    }

    /// Reads the heads of all objects that may be of the keys, and answers what is still open.
    pub(super) fn read_all_heads(
        &mut self,
        tasks: &mut [Task<'_>],
        lookups: &mut Lookups,
    ) -> Result<()> {
        self.reserve(lookups.head_bytes);
        let mut verbs: Vec<Verb<'_>> = Vec::new();
        let mut heads = &mut self.object[..lookups.head_bytes];
        for (candidate, range) in lookups.blind.iter().flat_map(|one| &one.matches) {
            let (head, rest) = heads.split_at_mut(range.len());
            heads = rest;
            if !head.is_empty() {
                verbs.push(Verb::read(self.fabric.primary(candidate.slot.addr())?, head));
            }
        }
        if !verbs.is_empty() {
            self.fabric.batch(&mut verbs)?;
        }
        drop(verbs);
        let blind = std::mem::take(&mut lookups.blind);
        for one in blind.iter().filter(|one| !one.over) {
            let found = self.answer(&tasks[one.task], one)?;
            lookups.found.extend(found.map(|found| (one.task, found)));
        }
        lookups.blind = blind;
        Ok(())
    }

    /// The answer of a lookup; `None`: look again.
    fn answer(&mut self, task: &Task<'_>, one: &Blind) -> Result<Option<Found>> {
        let Some(key) = task.key else { return Ok(None) };
        let mut frozen = false;
        for (candidate, head) in &one.matches {
            let object = candidate.slot.thawed().unwrap_or(candidate.slot);
            let Some(header) = key.header_in(&self.object[head.clone()], object) else { continue };
            if candidate.slot.class().is_some() {
                return Ok(Some(Found::There(*candidate, header)));
            }
            frozen = true;
        }
        if frozen || one.matches.iter().any(|(candidate, _)| is_intent(candidate.slot)) {
            return Ok(None);
        }
        if task.change.rule.creates() {
            return Ok(Some(Found::Absent(one.buckets.vacancy(key.hash))));
        }
        let verdict = self.check_place(&key, one.place, one.buckets.header(), false)?;
        Ok(matches!(verdict, Verdict::Stands).then_some(Found::Absent(None)))
    }
}
