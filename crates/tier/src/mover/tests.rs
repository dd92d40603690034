//! Threads that move blocks.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::store::{Entry, StoreStats, KEY_BYTES};
use crate::{DiskOptions, DiskStore, Throttled};

const BLOCK: usize = 1_000;
const LAYER: usize = 100;
const SOON: Duration = Duration::from_secs(20);

/// Blocks in memory; nothing goes on while its gate is closed.
#[derive(Default)]
struct Gated {
    blocks: Mutex<HashMap<Key, Vec<u8>>>,
    order: Mutex<Vec<(char, u8)>>,
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn close(&self) {
        *self.is_closed.lock() = true;
    }

    fn open(&self) {
        *self.is_closed.lock() = false;
        self.opened.notify_all();
    }

    fn pass(&self, what: char, key: &Key) {
        let mut is_closed = self.is_closed.lock();
        while *is_closed {
            self.opened.wait(&mut is_closed);
        }
        self.order.lock().push((what, key[0]));
    }
}

impl Store for Gated {
    fn contains(&self, key: &Key) -> bool {
        self.blocks.lock().contains_key(key)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        self.pass('s', key);
        match key[0] {
            200 => Err(TierError::Full { bytes: 1, used: 2, capacity: 3 }),
            201 => Err(TierError::Invalid("broken".into())),
            _ => {
                self.blocks.lock().insert(*key, bytes.to_vec());
                Ok(Saved::New)
            }
        }
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        self.pass('l', key);
        let Some(bytes) = self.blocks.lock().get(key).cloned() else { return Ok(Loaded::Absent) };
        into.copy_from_slice(&bytes);
        Ok(Loaded::Hit)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        Ok(self.blocks.lock().remove(key).is_some())
    }

    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

fn key(number: u8) -> Key {
    [number; KEY_BYTES]
}

fn place(block: usize) -> Place {
    Place { offset: block * BLOCK, bytes: BLOCK }
}

/// A mover, its store and the memory, in which block `n` is full of `n`.
fn set_up(most_saving_bytes: usize) -> (Mover, Arc<Gated>, &'static mut [u8]) {
    let store = Arc::new(Gated::default());
    let bytes: Vec<u8> = (0..8 * BLOCK).map(|at| (at / BLOCK) as u8).collect();
    let bytes = Box::leak(bytes.into_boxed_slice());
    // SAFETY: leaked; the tests keep to the rules.
    let memory = unsafe { Memory::new(bytes.as_mut_ptr(), bytes.len()) };
    let mover = Mover::new(store.clone(), memory, 1, most_saving_bytes).unwrap();
    (mover, store, bytes)
}

fn outcomes(mover: &Mover, count: usize) -> HashMap<Ticket, Outcome> {
    let (mut found, until) = (HashMap::new(), Instant::now() + SOON);
    while found.len() < count {
        assert!(mover.wait(SOON) || Instant::now() < until, "{} of {count} ended", found.len());
        found.extend(mover.poll().into_iter().map(|done| (done.ticket, done.outcome)));
    }
    found
}

#[test]
fn blocks_go_out_and_come_back() {
    let (mover, _store, bytes) = set_up(1 << 20);
    let saves: Vec<Ticket> =
        (0..4).map(|n| mover.save(&key(n as u8), place(n)).unwrap().unwrap()).collect();
    let done = outcomes(&mover, 4);
    assert!(saves.iter().all(|ticket| done[ticket] == Outcome::Saved(Saved::New)));
    let loads: Vec<Ticket> =
        (0..4).map(|n| mover.load(&key(n as u8), place(7 - n)).unwrap()).collect();
    let done = outcomes(&mover, 4);
    assert!(loads.iter().all(|ticket| done[ticket] == Outcome::Loaded(Loaded::Hit)));
    for n in 0..4 {
        assert!(bytes[(7 - n) * BLOCK..][..BLOCK].iter().all(|&byte| byte == n as u8));
    }
    let removals = [mover.remove(&key(2)), mover.remove(&key(60))];
    let done = outcomes(&mover, 2);
    assert_eq!(removals.map(|ticket| done[&ticket]), [true, false].map(Outcome::Removed));
    let absent = mover.load(&key(50), place(0)).unwrap();
    assert_eq!(outcomes(&mover, 1)[&absent], Outcome::Loaded(Loaded::Absent));
    assert!(!mover.wait(SOON), "nothing is under way");
}

#[test]
fn blocks_go_from_one_store_to_another() {
    let (mover, store, _) = set_up(2 * BLOCK);
    let from = Arc::new(Gated::default());
    from.blocks.lock().extend([(key(1), vec![1; BLOCK]), (key(200), vec![2; BLOCK])]);
    let copy = |number| mover.copy(&key(number), BLOCK, from.clone());
    let (there, absent) = (copy(1).unwrap(), copy(2).unwrap());
    let done = outcomes(&mover, 2);
    assert_eq!(done[&there], Outcome::Saved(Saved::New));
    assert_eq!(done[&absent], Outcome::Loaded(Loaded::Absent));
    assert_eq!(store.blocks.lock()[&key(1)], vec![1; BLOCK]);
    let full = copy(200).unwrap();
    assert_eq!(outcomes(&mover, 1)[&full], Outcome::Full);
    store.close();
    assert!(copy(1).is_some() && copy(1).is_some() && copy(1).is_none(), "they count as saves");
    store.open();
    outcomes(&mover, 2);
    assert_eq!(mover.saving_bytes(), 0);
}

#[test]
fn loads_go_first_and_saves_are_bounded() {
    let (mover, store, _) = set_up(3 * BLOCK);
    store.close();
    let saves: Vec<_> =
        (0..5).map(|n| mover.save(&key(n as u8), place(n)).unwrap().is_some()).collect();
    assert_eq!(saves, [true, true, true, false, false]);
    assert_eq!(mover.saving_bytes(), 3 * BLOCK);
    mover.load(&key(9), place(7)).unwrap();
    assert!(!mover.wait(Duration::from_millis(5)));
    store.open();
    outcomes(&mover, 4);
    let order = store.order.lock().clone();
    let load = order.iter().position(|&(what, _)| what == 'l').unwrap();
    assert!(load <= 1, "behind the save that was under way at most: {order:?}");
    assert_eq!((mover.saving_bytes(), mover.num_open()), (0, 0));
}

#[test]
fn errors_are_outcomes() {
    let (mover, _store, _) = set_up(1 << 20);
    let full = mover.save(&key(200), place(0)).unwrap().unwrap();
    let broken = mover.save(&key(201), place(1)).unwrap().unwrap();
    let done = outcomes(&mover, 2);
    assert_eq!((done[&full], done[&broken]), (Outcome::Full, Outcome::Failed));
    assert_eq!(mover.take_error().as_deref(), Some("broken"));
    assert_eq!(mover.take_error(), None);
    for place in [Place { offset: 8 * BLOCK, bytes: 1 }, Place { offset: usize::MAX, bytes: 2 }] {
        assert!(mover.load(&key(1), place).is_err() && mover.save(&key(1), place).is_err());
    }
}

#[test]
fn dropping_it_ends_its_threads() {
    let (mover, store, _) = set_up(1 << 20);
    store.close();
    for n in 0..3 {
        mover.save(&key(n), place(n as usize)).unwrap();
    }
    let opener = std::thread::spawn({
        let store = store.clone();
        move || {
            std::thread::sleep(Duration::from_millis(20));
            store.open();
        }
    });
    drop(mover);
    opener.join().unwrap();
    assert!(store.order.lock().len() <= 1, "what waited is forgotten");
}

/// Blocks of a directory, through which so many bytes pass in a second.
fn disk(path: &std::path::Path, bytes_per_s: f64) -> Arc<dyn Store> {
    let (capacity_bytes, segment_bytes) = (1 << 30, 1 << 20);
    let path = path.to_path_buf();
    let options = DiskOptions { path, capacity_bytes, segment_bytes, layer_bytes: LAYER as u64 };
    Arc::new(Throttled::new(Arc::new(DiskStore::open(options).unwrap()), bytes_per_s).unwrap())
}

fn over(store: Arc<dyn Store>, num_threads: usize) -> (Mover, &'static mut [u8]) {
    let bytes = Box::leak(vec![255; 8 * BLOCK].into_boxed_slice());
    // SAFETY: leaked; the tests keep to the rules.
    let memory = unsafe { Memory::new(bytes.as_mut_ptr(), bytes.len()) };
    (Mover::new(store, memory, num_threads, 1 << 20).unwrap(), bytes)
}

fn content(number: usize) -> Vec<u8> {
    (0..BLOCK).map(|at| (at / LAYER * 31 + number * 7 + at % LAYER) as u8).collect()
}

fn fill(store: &dyn Store, numbers: std::ops::Range<usize>) {
    for number in numbers {
        store.save(&key(number as u8), &content(number)).unwrap();
    }
}

fn group(numbers: std::ops::Range<usize>) -> Vec<(Key, usize)> {
    numbers.map(|number| (key(number as u8), number * BLOCK)).collect()
}

#[test]
fn groups_come_layer_by_layer_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = disk(dir.path(), 1e6);
    fill(&*store, 0..8);
    let (mover, bytes) = over(store, 2);
    mover.set_trace(true);
    let first = mover.load_group(&group(0..5), BLOCK, 2 * LAYER).unwrap();
    let second = mover.load_group(&group(5..8), BLOCK, 2 * LAYER).unwrap();
    for end in (LAYER..=BLOCK).step_by(LAYER) {
        assert!(first.gate.wait(end, Instant::now() + SOON));
        assert!(second.gate.ready_bytes() == 0 || first.gate.ready_bytes() > BLOCK / 2);
        for number in 0..5 {
            // What the gate told of can be read while later layers are being written.
            let layer = number * BLOCK + end - LAYER..number * BLOCK + end;
            assert_eq!(bytes[layer], content(number)[end - LAYER..end]);
        }
    }
    let polled: Vec<Ticket> = mover.poll().iter().map(|done| done.ticket).collect();
    assert!(first.tickets.iter().all(|ticket| polled.contains(ticket)), "told before the end");
    assert!(second.gate.wait(BLOCK, Instant::now() + SOON) && second.gate.is_complete());
    assert!(second.gate.elapsed() > Duration::ZERO);
    let moved = mover.take_trace();
    assert_eq!(moved.len(), 8 * BLOCK.div_ceil(2 * LAYER));
    assert!(moved.iter().all(|event| !event.is_save && event.start_s < event.end_s));
    assert!(mover.load_group(&[], BLOCK, LAYER).is_err());
}

#[test]
fn a_bad_bit_fails_the_gate_but_not_the_blocks_before_it() {
    for layer in [0, 3, BLOCK / LAYER - 1] {
        let dir = tempfile::tempdir().unwrap();
        let store = disk(dir.path(), 1e9);
        fill(&*store, 0..6);
        let file = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = file.into_iter().find(|path| path.extension().is_some()).unwrap();
        let mut all = std::fs::read(&path).unwrap();
        let page = 4096;
        all[3 * (page + BLOCK.next_multiple_of(page)) + page + layer * LAYER + 1] ^= 4;
        std::fs::write(&path, all).unwrap();
        let (mover, bytes) = over(store, 2);
        let loading = mover.load_group(&group(0..6), BLOCK, LAYER).unwrap();
        assert!(!loading.gate.wait(BLOCK, Instant::now() + SOON));
        assert_eq!(loading.gate.state(), GateState::Failed);
        let done = outcomes(&mover, 6);
        let found: Vec<_> = loading.tickets.iter().map(|ticket| done[ticket]).collect();
        assert!(found[..3].iter().all(|&outcome| outcome == Outcome::Loaded(Loaded::Hit)));
        assert_eq!(found[3], Outcome::Loaded(Loaded::Corrupt));
        assert!(found[4..].iter().all(|&outcome| outcome == Outcome::Skipped));
        assert!((0..3).all(|n| bytes[n * BLOCK..(n + 1) * BLOCK] == content(n)));
    }
}

#[test]
fn a_cancelled_group_lets_the_next_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let store = disk(dir.path(), 2e5);
    fill(&*store, 0..8);
    let (mover, bytes) = over(store, 2);
    let first = mover.load_group(&group(0..6), BLOCK, LAYER).unwrap();
    let second = mover.load_group(&group(6..8), BLOCK, LAYER).unwrap();
    assert!(first.gate.wait(LAYER, Instant::now() + SOON));
    mover.cancel(&first.gate);
    mover.cancel(&first.gate);
    assert_eq!(first.gate.state(), GateState::Abandoned);
    let done = outcomes(&mover, 8);
    assert!(first.tickets.iter().all(|ticket| done[ticket] == Outcome::Skipped));
    assert!(second.tickets.iter().all(|t| done[t] == Outcome::Loaded(Loaded::Hit)));
    assert_eq!(bytes[7 * BLOCK..], content(7));
    assert_eq!(mover.num_open(), 0);
}

#[test]
fn a_store_without_parts_brings_whole_blocks() {
    let store = Arc::new(Gated::default());
    fill(&*store, 0..4);
    let (mover, bytes) = over(store.clone(), 1);
    store.close();
    let loading = mover.load_group(&group(0..4), BLOCK, LAYER).unwrap();
    assert!(!mover.wait(Duration::from_millis(5)) && loading.gate.ready_bytes() == 0);
    store.open();
    assert!(loading.gate.wait(BLOCK, Instant::now() + SOON));
    assert!((0..4).all(|n| bytes[n * BLOCK..(n + 1) * BLOCK] == content(n)));
}

/// Blocks of `content` that come after a while, or not, by a plan of (delay in µs, what it finds)
/// for each part.
struct Moody {
    part_bytes: usize,
    plan: HashMap<(u8, usize), (u64, Loaded)>,
}

impl Store for Moody {
    fn contains(&self, _: &Key) -> bool {
        true
    }

    fn save(&self, _: &Key, _: &[u8]) -> Result<Saved> {
        Ok(Saved::Known)
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        self.load_part(key, 0, into)
    }

    fn part_bytes(&self, _: &Key, _: usize) -> usize {
        self.part_bytes
    }

    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        let end = offset + into.len();
        for part in offset / self.part_bytes..end.div_ceil(self.part_bytes) {
            let (delay, found) =
                self.plan.get(&(key[0], part)).copied().unwrap_or((0, Loaded::Hit));
            std::thread::sleep(Duration::from_micros(delay));
            if found != Loaded::Hit {
                into.fill(254);
                return Ok(found);
            }
        }
        into.copy_from_slice(&content(key[0] as usize)[offset..end]);
        Ok(Loaded::Hit)
    }

    fn remove(&self, _: &Key) -> Result<bool> {
        Ok(false)
    }

    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever comes when, or not at all: what gates tell of is right at once, and blocks before
    /// the first that cannot be had are there in the end.
    #[test]
    fn gates_tell_the_truth(
        plan in prop::collection::hash_map(
            (0..8_u8, 0..11_usize), (0..300_u64, 0..40_usize), 0..20
        ),
        part_bytes in prop::sample::select(vec![LAYER, 250, BLOCK]),
        stage_bytes in 1..BLOCK,
        num_threads in 1..4_usize,
        cancelled_after in prop::option::weighted(0.3, 0..600_u64),
    ) {
        let moods = [Loaded::Corrupt, Loaded::Absent, Loaded::Vanished];
        let mood = |(delay, kind)| (delay, moods.get(kind).copied().unwrap_or(Loaded::Hit));
        let plan: HashMap<_, _> = plan.into_iter().map(|(at, what)| (at, mood(what))).collect();
        let last = (BLOCK - 1) / part_bytes;
        let fails = |block: u8| {
            plan.iter().any(|(at, what)| at.0 == block && at.1 <= last && what.1 != Loaded::Hit)
        };
        let first_bad = (0..8).find(|&block| fails(block)).map_or(8, usize::from);
        let (mover, bytes) = over(Arc::new(Moody { part_bytes, plan }), num_threads);
        let loading = mover.load_group(&group(0..8), BLOCK, stage_bytes).unwrap();
        let start = Instant::now();
        let mut end = 0;
        while end < BLOCK && loading.gate.wait((end + 1).min(BLOCK), start + SOON) {
            let ready = loading.gate.ready_bytes().min(BLOCK);
            for number in 0..8 {
                let at = number * BLOCK;
                prop_assert_eq!(&bytes[at + end..at + ready], &content(number)[end..ready]);
            }
            end = ready;
            if cancelled_after.is_some_and(|after| start.elapsed().as_micros() >= after as u128) {
                mover.cancel(&loading.gate);
            }
        }
        let done = outcomes(&mover, 8);
        let hit = |number: usize| done[&loading.tickets[number]] == Outcome::Loaded(Loaded::Hit);
        if loading.gate.is_complete() {
            prop_assert!(first_bad == 8 && (0..8).all(hit));
        } else if cancelled_after.is_none() {
            prop_assert_eq!(loading.gate.state(), GateState::Failed);
            prop_assert!((0..8).all(|number| hit(number) == (number < first_bad)));
        }
        for number in (0..8).filter(|&number| hit(number)) {
            prop_assert_eq!(&bytes[number * BLOCK..][..BLOCK], &content(number)[..]);
        }
        prop_assert_eq!(mover.num_open(), 0);
    }
}
