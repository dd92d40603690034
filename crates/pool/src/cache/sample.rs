//! Neighbouring slots that are read to find a victim.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::bucket::{self, candidate_of};
use super::layout::{BUCKET, BUCKET_HEAD, BUCKET_SLOTS, SLOTS};
use super::policy::{Candidate, CounterCache, Policy, Random};
use super::table::{entries, Entry, Table};
use crate::address::PoolAddr;
use crate::fabric::Fabric;

/// Most doublings of a sample that has no objects.
const MOST_DOUBLED: u32 = 6;

/// A run of neighbouring buckets: the first one and how many.
type Run = (PoolAddr, u64);

/// Slots that were read for an eviction.
pub(super) struct Sample {
    buckets: u64,
    /// How often the sample is doubled, as those before had no objects.
    doubled: u32,
    random: Random,
    runs: SmallVec<[Run; 3]>,
    bytes: Vec<u8>,
    found: Vec<Entry>,
    candidates: Vec<Candidate>,
}

impl Sample {
    /// Samples of `slots` slots.
    pub(super) fn new(slots: u32, seed: u64) -> Sample {
        let buckets = u64::from(slots).div_ceil(SLOTS as u64);
        let (bytes, found, candidates) = (Vec::new(), Vec::new(), Vec::new());
        let (doubled, random, runs) = (0, Random(seed), SmallVec::new());
        Sample { buckets, doubled, random, runs, bytes, found, candidates }
    }

    /// Decides where to look: at a random bucket and those behind it, going round.
    fn aim(&mut self, table: &Table) {
        self.runs.clear();
        let mut left = (self.buckets << self.doubled).min(table.shape.buckets);
        let scaled = u128::from(self.random.next()) * u128::from(table.shape.buckets);
        let mut at = (scaled >> 64) as u64;
        while left > 0 {
            let run = table.run(at, left);
            self.runs.push((table.bucket(at), run));
            at = (at + run) % table.shape.buckets;
            left -= run;
        }
    }

    /// Adds the READs of a new sample. What lies on lost nodes is left out.
    pub(super) fn post<'a>(
        &'a mut self,
        table: &Table,
        fabric: &Fabric,
        verbs: &mut SmallVec<[Verb<'a>; 8]>,
    ) {
        self.aim(table);
        let bytes = self.runs.iter().map(|run| run.1 * BUCKET).sum::<u64>() as usize;
        self.bytes.clear();
        self.bytes.resize(bytes, 0);
        let mut rest = &mut self.bytes[..];
        for &(bucket, run) in &self.runs {
            let (into, behind) = rest.split_at_mut((run * BUCKET) as usize);
            rest = behind;
            if let Ok(at) = fabric.primary(bucket) {
                verbs.push(Verb::read(at, into));
            }
        }
    }

    /// Sorts out what was read: the objects, but for the one in the slot at `spared`.
    pub(super) fn collect(&mut self, spared: PoolAddr, counters: &CounterCache) {
        self.found.clear();
        self.candidates.clear();
        each_entry(&self.runs, &self.bytes, |entry| {
            if entry.slot.class().is_some() && entry.at != spared {
                self.found.push(entry);
            }
        });
        match self.found.is_empty() {
            true => self.widen(),
            false => self.doubled = 0,
        }
        self.candidates.extend(self.found.iter().map(|entry| {
            let mut candidate = candidate_of(entry);
            let uncounted = counters.pending(entry.at.0, entry.slot.0);
            candidate.metadata.freq = candidate.metadata.freq.saturating_add(uncounted);
            candidate
        }));
    }

    /// What was read that is of least use: deletions, then history by age, the oldest first. At
    /// most `most` of it.
    pub(super) fn refuse(&mut self, evictions: u64, most: usize) -> &[Entry] {
        self.found.clear();
        let leftover =
            |entry: &Entry| entry.slot.class().is_none() && entry.slot.logged_class().is_some();
        each_entry(&self.runs, &self.bytes, |entry| {
            if leftover(&entry) {
                self.found.push(entry);
            }
        });
        let age = |entry: &Entry| bucket::depth(entry, evictions, u64::MAX).unwrap_or(u64::MAX);
        self.found.sort_unstable_by_key(|entry| std::cmp::Reverse(age(entry)));
        self.found.truncate(most);
        &self.found
    }

    /// The next sample is to be larger.
    pub(super) fn widen(&mut self) {
        self.doubled = (self.doubled + 1).min(MOST_DOUBLED);
    }

    /// The next victim, and the experts that wanted it gone.
    pub(super) fn next(&mut self, policy: &mut Policy, now: u64) -> Option<(Entry, u8)> {
        let victim = policy.choose(&self.candidates, now)?;
        self.candidates.swap_remove(victim.index);
        Some((self.found.swap_remove(victim.index), victim.bitmap))
    }
}

/// Tells `f` every slot that was read.
fn each_entry(runs: &[Run], bytes: &[u8], mut f: impl FnMut(Entry)) {
    let mut buckets = bytes.chunks_exact(BUCKET as usize);
    for &(first, run) in runs {
        for (number, bytes) in (0..run).zip(&mut buckets) {
            let slots = &bytes[BUCKET_HEAD as usize..BUCKET_HEAD as usize + BUCKET_SLOTS];
            entries(first.add(number * BUCKET), slots).for_each(&mut f);
        }
    }
}
