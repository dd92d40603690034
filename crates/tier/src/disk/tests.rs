//! A directory of blocks: bounds, crashes, damage, and two that share it.

use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::record::PAGE;
use super::*;
use crate::store::KEY_BYTES;

const BLOCK: usize = 10_000;
const LAYER: u64 = 900;
const ROOM: u64 = 4 * PAGE;
/// What file systems take for themselves, for two or three segments; less than a block.
const OWN: u64 = 3 * PAGE;

fn open(path: &Path) -> DiskStore {
    open_with(path, 1 << 30)
}

fn open_with(path: &Path, capacity_bytes: u64) -> DiskStore {
    let segment_bytes = 5 * ROOM;
    let options =
        DiskOptions { path: path.into(), capacity_bytes, segment_bytes, layer_bytes: LAYER };
    DiskStore::open(options).unwrap()
}

fn key(number: u8) -> Key {
    [number; KEY_BYTES]
}

fn block(number: u8) -> Vec<u8> {
    (0..BLOCK).map(|at| number.wrapping_mul(31).wrapping_add(at as u8)).collect()
}

fn load(store: &DiskStore, number: u8) -> Loaded {
    let mut into = vec![0; BLOCK];
    let loaded = store.load(&key(number), &mut into).unwrap();
    assert!(loaded != Loaded::Hit || into == block(number), "wrong bytes");
    loaded
}

/// The files take so much, but for what the file system adds.
fn assert_used(store: &DiskStore, bytes: u64) {
    let used = store.stats().used_bytes;
    assert!((bytes..=bytes + OWN).contains(&used), "{used} are used, not {bytes}");
}

fn files(path: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some()).collect()
}

#[test]
fn blocks_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..12 {
        assert_eq!(store.save(&key(number), &block(number)).unwrap(), Saved::New);
    }
    assert_eq!(store.save(&key(3), &block(3)).unwrap(), Saved::Known);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.stats().num_blocks, 12);
    assert!((0..12).all(|number| load(&store, number) == Loaded::Hit));
    assert_eq!(load(&store, 99), Loaded::Absent);
    assert_eq!(files(dir.path()).len(), 3, "five in a segment");
    assert_eq!(store.entries().iter().map(|entry| entry.bytes).sum::<u64>(), 12 * ROOM);
}

#[test]
fn the_bound_holds_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), 8 * ROOM + OWN);
    for number in 0..8 {
        store.save(&key(number), &block(number)).unwrap();
    }
    let error = store.save(&key(8), &block(8)).unwrap_err();
    assert!(matches!(error, TierError::Full { .. }), "{error}");
    assert_used(&store, 8 * ROOM);
    for number in 0..5 {
        assert!(store.remove(&key(number)).unwrap());
    }
    assert!(!store.remove(&key(0)).unwrap());
    assert_eq!(files(dir.path()).len(), 1, "a segment of dead blocks goes");
    assert_used(&store, 3 * ROOM);
    assert_eq!(store.save(&key(8), &block(8)).unwrap(), Saved::New);
    assert_eq!(load(&store, 8), Loaded::Hit);
    drop(store);
    let store = open_with(dir.path(), 8 * ROOM + OWN);
    assert_eq!(load(&store, 0), Loaded::Absent, "what was taken away stays away");
    assert_eq!(store.stats().num_blocks, 4);
}

#[test]
fn two_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    // The header of one that is taken away stays.
    let capacity = 6 * ROOM + PAGE + 2 * PAGE;
    let (one, other) = (open_with(dir.path(), capacity), open_with(dir.path(), capacity));
    one.save(&key(1), &block(1)).unwrap();
    assert_eq!(load(&other, 1), Loaded::Absent);
    other.refresh().unwrap();
    assert_eq!(load(&other, 1), Loaded::Hit);
    for number in 2..7 {
        let by = if number % 2 == 0 { &one } else { &other };
        by.save(&key(number), &block(number)).unwrap();
    }
    for store in [&one, &other] {
        assert!(matches!(store.save(&key(7), &block(7)), Err(TierError::Full { .. })));
    }
    assert!(other.remove(&key(1)).unwrap());
    assert_eq!(load(&one, 1), Loaded::Vanished);
    assert_eq!(load(&one, 1), Loaded::Absent);
    assert_eq!((one.stats().num_vanished, one.stats().num_corrupt), (1, 0));
    one.save(&key(1), &block(1)).unwrap();
    other.refresh().unwrap();
    assert_eq!(load(&other, 1), Loaded::Hit);
}

#[test]
fn what_is_known_is_told_while_the_disk_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.save(&key(1), &block(1)).unwrap();
    let _slow = store.files.lock();
    assert!(store.contains(&key(1)) && !store.contains(&key(2)));
    assert_eq!((store.entries().len(), store.stats().num_blocks), (1, 1));
    assert_used(&store, ROOM);
    assert_eq!(load(&store, 1), Loaded::Hit);
}

#[test]
fn damage_costs_the_blocks_that_it_hits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..4 {
        store.save(&key(number), &block(number)).unwrap();
    }
    let path = files(dir.path()).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).read(true).open(&path).unwrap();
    // A bit of the bytes of the second one.
    let at = ROOM + PAGE + 77;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 8], at).unwrap();
    assert_eq!(load(&store, 1), Loaded::Corrupt);
    assert_eq!(load(&store, 1), Loaded::Absent);
    assert_eq!(store.stats().num_corrupt, 1);
    assert!([0, 2, 3].iter().all(|&number| load(&store, number) == Loaded::Hit));
    assert_eq!(store.save(&key(1), &block(1)).unwrap(), Saved::New, "can be saved again");
    // Cut short in the middle of the last one.
    file.set_len(3 * ROOM + PAGE + 5).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(load(&store, 3), Loaded::Corrupt);
    assert!([0, 2].iter().all(|&number| load(&store, number) == Loaded::Hit));
}

#[test]
fn parts_come_and_verify_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..3 {
        store.save(&key(number), &block(number)).unwrap();
    }
    let part = store.part_bytes(&key(1), BLOCK);
    assert_eq!(part, LAYER as usize);
    assert_eq!(store.part_bytes(&key(1), BLOCK + 1), BLOCK + 1, "of no such block");
    let mut into = vec![0; BLOCK];
    for first in (0..BLOCK).step_by(2 * part) {
        let into = &mut into[first..BLOCK.min(first + 2 * part)];
        assert_eq!(store.load_part(&key(1), first, into).unwrap(), Loaded::Hit);
    }
    assert_eq!(into, block(1));
    for (offset, bytes) in [(1, part), (0, part + 1), (part, BLOCK), (usize::MAX, 2)] {
        let loaded = store.load_part(&key(1), offset, &mut vec![0; bytes]);
        assert!(matches!(loaded, Err(TierError::Invalid(_))), "{offset} {bytes}");
    }
    // A bit of the sixth part: those before it still come, and then the block is no more.
    let file = fs::OpenOptions::new().write(true).read(true).open(&files(dir.path())[0]).unwrap();
    let at = ROOM + PAGE + 5 * LAYER + 3;
    file.write_all_at(&[block(1)[5 * part + 3] ^ 1], at).unwrap();
    let mut load =
        |number: u8, index| store.load_part(&key(number), index * part, &mut into[..part]).unwrap();
    assert_eq!([load(1, 4), load(1, 6), load(1, 5)], [Loaded::Hit, Loaded::Hit, Loaded::Corrupt]);
    assert_eq!([load(1, 4), load(2, 5), load(9, 0)], [Loaded::Absent, Loaded::Hit, Loaded::Absent]);
    assert_eq!(store.stats().num_corrupt, 1);
}

#[test]
fn files_that_somebody_deletes_are_blocks_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()), open(dir.path()));
    for number in 0..7 {
        store.save(&key(number), &block(number)).unwrap();
    }
    other.refresh().unwrap();
    for path in files(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    assert!(other.remove(&key(6)).unwrap());
    for store in [&store, &other] {
        assert_eq!(store.save(&key(9), &block(9)).unwrap(), Saved::New);
        assert_eq!(load(store, 9), Loaded::Hit);
        assert_eq!(load(store, 0), Loaded::Absent);
        assert!(store.remove(&key(9)).unwrap());
    }
    assert_eq!(open(dir.path()).stats().num_blocks, 0);
}

#[test]
fn what_a_dead_process_left_half_written_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.save(&key(0), &block(0)).unwrap();
    let mut header = Header::of(&key(1), &block(1), LAYER, 1);
    let place = store.reserve(&mut header).unwrap();
    store.save(&key(2), &block(2)).unwrap();
    let other = open(dir.path());
    assert_eq!(
        [0, 1, 2].map(|number| load(&other, number)),
        [Loaded::Hit, Loaded::Absent, Loaded::Hit]
    );
    // It is still being written: it becomes readable, not rubbish.
    segment::fill(&place.file, &header, &block(1)).unwrap();
    other.refresh().unwrap();
    assert_eq!(load(&other, 1), Loaded::Hit);
    let mut header = Header { key: key(4), ..header };
    store.reserve(&mut header).unwrap();
    other.refresh().unwrap();
    drop(place);
    drop(store);
    drop(other);
    let store = open(dir.path());
    store.refresh().unwrap();
    // Only the header is left of the last one.
    assert_used(&store, 3 * ROOM + PAGE);
}

#[test]
fn other_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let options = |path: &Path| DiskOptions {
        path: path.into(),
        capacity_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        layer_bytes: LAYER,
    };
    let error = DiskStore::open(options(dir.path())).err().unwrap().to_string();
    assert!(error.contains("name an empty directory"), "{error}");
    fs::write(dir.path().join("FORMAT"), "artesian disk tier 1\n").unwrap();
    let error = DiskStore::open(options(dir.path())).err().unwrap().to_string();
    assert!(error.contains("of this version, but of format 1: name an empty"), "{error}");
    let error = DiskStore::open(options(&dir.path().join("letter.txt"))).err().unwrap();
    assert!(matches!(error, TierError::Io { .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = store.save(&key(1), &[0; 6 << 14]).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is written over a directory's files: a block is right or missing, and new ones can
    /// be saved.
    #[test]
    fn no_damage_gives_wrong_bytes(
        damage in prop::collection::vec((0..2_usize, 0..5 * ROOM, any::<u64>()), 1..30),
        cut in prop::option::of(0..5 * ROOM),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for number in 0..8 {
            store.save(&key(number), &block(number)).unwrap();
        }
        let files = files(dir.path());
        for (which, at, word) in damage {
            let file = fs::OpenOptions::new().write(true).open(&files[which]).unwrap();
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
        }
        if let Some(len) = cut {
            fs::OpenOptions::new().write(true).open(&files[0]).unwrap().set_len(len).unwrap();
        }
        for store in [store, open(dir.path())] {
            for number in 0..8 {
                load(&store, number);
            }
            store.save(&key(100), &block(100)).unwrap();
            prop_assert_eq!(load(&store, 100), Loaded::Hit);
            drop(store);
        }
    }
}
