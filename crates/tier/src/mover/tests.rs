//! Threads that move blocks.

use std::collections::HashMap;

use super::*;
use crate::store::{Entry, StoreStats, KEY_BYTES};

const BLOCK: usize = 1_000;
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
    let mut found = HashMap::new();
    while found.len() < count {
        assert!(mover.wait(SOON), "{} of {count} ended", found.len());
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
