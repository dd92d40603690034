//! Reading many keys.

use std::ops::Range;

use artesian_bus::Verb;
use smallvec::{smallvec, SmallVec};

use super::BATCH_BYTES;
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::index::{Buckets, Candidate, Hint, Place};
use crate::object::{self, Header, Kind};
use crate::slot::Slot;
use crate::store::find::{is_intent, Key};
use crate::store::{now_ms, GROUP};

/// Who is told of each key, by its number.
type Teller<'f> = dyn FnMut(usize, Result<Option<&[u8]>>) + 'f;

/// A key whose objects are read.
struct Item<'a> {
    number: usize,
    key: Key<'a>,
    /// Slots that may be the key's, and where their objects are read to.
    candidates: SmallVec<[(Candidate, Range<usize>); 2]>,
    /// What a hinted slot holds now.
    word: Option<[u8; 8]>,
    /// Which of the group's buckets are the key's.
    buckets: Option<usize>,
}

/// The keys of a group, by how far they are.
#[derive(Default)]
struct Group<'a> {
    items: Vec<Item<'a>>,
    buckets: Vec<(usize, Key<'a>, Place, Buckets)>,
    /// To be read alone.
    alone: Vec<(usize, Key<'a>)>,
    /// Whether values are wanted, not just heads.
    whole: bool,
}

impl Client {
    /// Calls `f` with the number of each key and its value, in no order.
    pub fn get_many_with(
        &mut self,
        namespace: u16,
        keys: &[&[u8]],
        mut f: impl FnMut(usize, Result<Option<&[u8]>>),
    ) {
        self.read_keys(namespace, keys, true, &mut f);
    }

    /// The values of the keys, in their order.
    pub fn get_many(&mut self, namespace: u16, keys: &[&[u8]]) -> Vec<Result<Option<Vec<u8>>>> {
        let mut values: Vec<_> = keys.iter().map(|_| Ok(None)).collect();
        self.get_many_with(namespace, keys, |number, told| {
            values[number] = told.map(|value| value.map(<[u8]>::to_vec));
        });
        values
    }

    /// Whether the keys have values, in their order.
    pub fn contains_many(&mut self, namespace: u16, keys: &[&[u8]]) -> Vec<Result<bool>> {
        let mut found: Vec<_> = keys.iter().map(|_| Ok(false)).collect();
        self.read_keys(namespace, keys, false, &mut |number, told| {
            found[number] = told.map(|value| value.is_some());
        });
        found
    }

    fn read_keys(&mut self, namespace: u16, keys: &[&[u8]], whole: bool, f: &mut Teller<'_>) {
        self.stats.reads += keys.len() as u64;
        let mut first = 0;
        for some in keys.chunks(GROUP) {
            let mut group = Group { whole, ..Group::default() };
            for (number, key) in (first..).zip(some) {
                match Key::new(namespace, key) {
                    Ok(key) => self.sort_in(number, key, &mut group),
                    Err(error) => f(number, Err(error)),
                }
            }
            first += some.len();
            self.read_group(&mut group, f);
            // An error here concerns no read, and comes again.
            let _ = self.settle_down();
        }
    }

    /// Decides how the key is looked for.
    fn sort_in<'a>(&mut self, number: usize, key: Key<'a>, group: &mut Group<'a>) {
        match self.cache.look(key.hash) {
            Hint::Seen(hint) if hint.slot.class().is_some() => {
                let candidates = smallvec![(hint, 0..0)];
                let (word, buckets) = (Some([0; 8]), None);
                group.items.push(Item { number, key, candidates, word, buckets });
            }
            _ => {
                let place = self.directory.place(key.hash);
                group.buckets.push((number, key, place, Buckets::new(place, key.hash)));
            }
        }
    }

    fn read_group<'a>(&mut self, group: &mut Group<'a>, f: &mut Teller<'_>) {
        // First the hinted objects and all buckets, then the objects that those name.
        let mut first = true;
        let mut items = std::mem::take(&mut group.items);
        while first || !items.is_empty() {
            let mut rest = items.as_mut_slice();
            while first || !rest.is_empty() {
                let count = rest.len().min(self.fit(rest, group.whole));
                let (some, behind) = rest.split_at_mut(count);
                rest = behind;
                let outcome = self.read_items(some, first.then_some(&mut group.buckets));
                match outcome {
                    Ok(()) => {
                        some.iter().for_each(|item| self.tell(item, group, f));
                        if first {
                            self.look_into_buckets(group, f);
                        }
                    }
                    Err(PoolError::ViewChanged) => {
                        group.alone.extend(some.iter().map(|item| (item.number, item.key)));
                        let blind = group.buckets.iter().filter(|_| first);
                        group.alone.extend(blind.map(|(number, key, ..)| (*number, *key)));
                    }
                    Err(error) => {
                        some.iter().for_each(|item| f(item.number, Err(error.clone())));
                        let blind = group.buckets.iter().filter(|_| first);
                        blind.for_each(|(number, ..)| f(*number, Err(error.clone())));
                    }
                }
                first = false;
            }
            items = std::mem::take(&mut group.items);
        }
        for (number, key) in std::mem::take(&mut group.alone) {
            self.tell_alone(number, &key, f);
        }
    }

    /// Finds places in the client's buffer for the objects of the first items; how many fit.
    fn fit(&mut self, items: &mut [Item<'_>], whole: bool) -> usize {
        let mut end = 0;
        for (number, item) in items.iter_mut().enumerate() {
            if end > BATCH_BYTES {
                return number;
            }
            for (candidate, range) in &mut item.candidates {
                let class = object_of(candidate.slot).class().map_or(0, |class| class.bytes());
                let wanted = if whole { class } else { class.min(item.key.head_bytes()) };
                *range = end..end + wanted;
                end += wanted;
            }
        }
        items.len()
    }

    /// Reads the items' slots and objects and the buckets, all in one batch.
    fn read_items(
        &mut self,
        items: &mut [Item<'_>],
        buckets: Option<&mut Vec<(usize, Key<'_>, Place, Buckets)>>,
    ) -> Result<()> {
        self.fabric.pass_gate()?;
        let ends = items.iter().flat_map(|item| item.candidates.last());
        self.reserve(ends.map(|(_, range)| range.end).max().unwrap_or(0));
        let mut rest = self.object.as_mut_slice();
        let mut verbs: Vec<Verb<'_>> = Vec::with_capacity(items.len() * 3);
        for item in items {
            if let (Some(word), Some((hint, _))) = (&mut item.word, item.candidates.first()) {
                verbs.push(Verb::read(self.fabric.primary(hint.at)?, word));
            }
            for (candidate, range) in &item.candidates {
                let (into, behind) = rest.split_at_mut(range.len());
                rest = behind;
                if !into.is_empty() {
                    let at = self.fabric.primary(object_of(candidate.slot).addr())?;
                    verbs.push(Verb::read(at, into));
                }
            }
        }
        for (_, _, _, buckets) in buckets.into_iter().flatten() {
            let at = buckets.locate(&self.fabric)?;
            buckets.post(at, &mut verbs);
        }
        match verbs.is_empty() {
            true => Ok(()),
            false => self.fabric.batch(&mut verbs),
        }
    }

    /// Sorts the keys by what their buckets hold.
    fn look_into_buckets(&mut self, group: &mut Group<'_>, f: &mut Teller<'_>) {
        for at in 0..group.buckets.len() {
            let (number, key, place, buckets) = &group.buckets[at];
            let matches = buckets.matches(key.hash);
            if matches.is_empty() {
                let (number, key) = (*number, *key);
                match buckets.header().is_of(place.depth, place.suffix) {
                    true => f(number, Ok(None)),
                    false => group.alone.push((number, key)),
                }
                continue;
            }
            let candidates = matches.into_iter().map(|candidate| (candidate, 0..0)).collect();
            let (number, key, word, buckets) = (*number, *key, None, Some(at));
            group.items.push(Item { number, key, candidates, word, buckets });
        }
    }

    /// Tells what became of an item that was read, or sees to it that it is read again.
    fn tell<'a>(&mut self, item: &Item<'a>, group: &mut Group<'a>, f: &mut Teller<'_>) {
        let (number, key) = (item.number, item.key);
        if let (Some(word), Some((hint, _))) = (item.word, item.candidates.first()) {
            let now = Slot(u64::from_le_bytes(word));
            self.stats.hints_right += u64::from(now == hint.slot);
            if now != hint.slot {
                self.stats.hints_wrong += 1;
                self.cache.was_wrong(key.hash);
                // The key may have a new object in the same slot.
                if now.class().is_some() && now.fingerprint() == key.hash.fingerprint() {
                    let candidates = smallvec![(Candidate { at: hint.at, slot: now }, 0..0)];
                    let (word, buckets) = (None, None);
                    group.items.push(Item { number, key, candidates, word, buckets });
                } else {
                    group.alone.push((number, key));
                }
                return;
            }
        }
        let mut found = item.candidates.iter().filter_map(|(candidate, range)| {
            let header = key.header_in(&self.object[range.clone()], object_of(candidate.slot))?;
            Some((*candidate, range.clone(), header))
        });
        let Some((candidate, range, header)) = found.next() else {
            drop(found);
            let intents = item.candidates.iter().any(|(candidate, _)| is_intent(candidate.slot));
            let stands = item.buckets.is_some_and(|at| {
                let (_, _, place, buckets) = &group.buckets[at];
                buckets.header().is_of(place.depth, place.suffix)
            });
            match stands && !intents {
                true => f(number, Ok(None)),
                false => group.alone.push((number, key)),
            }
            return;
        };
        drop(found);
        let bytes = &self.object[range];
        if candidate.slot.class().is_none() || group.whole && !is_ready(bytes, &header) {
            group.alone.push((number, key));
            return;
        }
        self.cache.remember(key.hash, candidate);
        if header.expires_ms != 0 && header.is_expired(now_ms(&self.fabric)) {
            f(number, Ok(None));
            return;
        }
        self.stats.reads_found += 1;
        let value = match group.whole {
            true => &bytes[key.head_bytes()..key.head_bytes() + header.value_len as usize],
            false => &[],
        };
        f(number, Ok(Some(value)));
    }

    /// Reads one key as any single read does.
    #[cold]
    fn tell_alone(&mut self, number: usize, key: &Key<'_>, f: &mut Teller<'_>) {
        let told = self.read_within(key, |client, key, object| {
            if let Some(value) = client.value_of(key, object)? {
                f(number, Ok(Some(value)));
                return Ok(());
            }
            let mut value = Vec::new();
            client.get_large(key, object, &mut value)?;
            f(number, Ok(Some(&value)));
            Ok(())
        });
        match told {
            Ok(Some(())) => {}
            Ok(None) => f(number, Ok(None)),
            Err(error) => f(number, Err(error)),
        }
    }
}

/// The value of a slot that names an object, frozen by a split or not.
fn object_of(slot: Slot) -> Slot {
    slot.thawed().unwrap_or(slot)
}

/// Whether the object can be told as it is: whole, with its value in it.
fn is_ready(bytes: &[u8], header: &Header) -> bool {
    header.kind == Kind::Value && object::is_whole(bytes, header)
}
