//! Checks of clients in several threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{at, word, Random, Rig};

use crate::Verb;

const THREADS: u64 = 3;
const ROUNDS: u64 = 2_000;

/// A rig whose clients are threads.
type Threads = dyn Rig + Sync;

/// All checks that need threads, each with a new rig.
pub fn concurrent<R: Rig + Sync + 'static>(make: impl Fn() -> R) {
    let checks: [fn(&Threads); 6] = [
        faa_loses_nothing,
        cas_has_one_winner,
        words_are_never_torn,
        batches_publish_in_order,
        writes_are_seen_before_later_reads,
        a_waiter_is_woken,
    ];
    for check in checks {
        check(&make());
    }
}

fn faa_loses_nothing(rig: &Threads) {
    let add = || {
        let verbs = rig.connect();
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            let mut batch = [Verb::faa(at(0), 1), Verb::faa(at(8), u64::MAX)];
            verbs.batch(&mut batch).unwrap();
            found.push(batch[0].found());
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(add)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<u64>>()
    });
    found.sort_unstable();
    assert!(found.into_iter().eq(0..THREADS * ROUNDS), "everybody finds another number");
    let verbs = rig.connect();
    assert_eq!(word(&*verbs, at(8)), (THREADS * ROUNDS).wrapping_neg());
}

fn cas_has_one_winner(rig: &Threads) {
    let wins = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for me in 0..THREADS {
            let wins = &wins;
            scope.spawn(move || {
                let verbs = rig.connect();
                let mut seen = 0;
                for round in 0..ROUNDS {
                    let mut batch = [Verb::cas(at(0), seen, (round * THREADS + me + 1) << 1)];
                    verbs.batch(&mut batch).unwrap();
                    let found = batch[0].found();
                    if found == seen {
                        wins.fetch_add(1, Ordering::Relaxed);
                        // Counts on the bus what was won, to be compared in the end.
                        verbs.batch(&mut [Verb::faa(at(8), 1)]).unwrap();
                        seen = (round * THREADS + me + 1) << 1;
                    } else {
                        seen = found;
                    }
                }
            });
        }
    });
    let verbs = rig.connect();
    let wins = wins.into_inner();
    assert!(wins >= 1);
    assert_eq!(word(&*verbs, at(8)), wins);
}

/// A writer copies patterns whose words are all alike within; whole words must be whole anywhere
/// in a copy, at every alignment of the private side.
fn words_are_never_torn(rig: &Threads) {
    const WORDS: usize = 300;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let verbs = rig.connect();
            for round in 0..ROUNDS * 4 {
                let skew = (round % 9) as usize;
                let bytes = vec![round as u8; skew + WORDS * 8];
                let bytes = &bytes[skew..];
                let cut = (round % 37) as usize;
                let parts = [&bytes[..cut], &bytes[cut..cut + 5], &bytes[cut + 5..]];
                let mut batch = match round % 2 {
                    0 => [Verb::write(at(64), bytes)],
                    _ => [Verb::Gather { addr: at(64), parts: &parts }],
                };
                verbs.batch(&mut batch).unwrap();
            }
            stop.store(true, Ordering::Release);
        });
        let verbs = rig.connect();
        let mut random = Random(3);
        while !stop.load(Ordering::Acquire) {
            let (lead, skew) = (random.below(16), random.below(9));
            let words = 1 + random.below(WORDS);
            let mut bytes = vec![0; skew + lead + words * 8];
            let into = &mut bytes[skew..];
            verbs.batch(&mut [Verb::read(at(64 - lead as u64), into)]).unwrap();
            for word in into[lead..].chunks_exact(8) {
                assert!(word.iter().all(|byte| *byte == word[0]), "torn word {word:?}");
            }
        }
    });
}

/// Who sees a later write of a batch sees the earlier ones.
fn batches_publish_in_order(rig: &Threads) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let verbs = rig.connect();
            for round in 1..=ROUNDS {
                let data = [round.to_le_bytes(); 40].concat();
                let flag = round.to_le_bytes();
                verbs
                    .batch(&mut [Verb::write(at(1024), &data), Verb::write(at(0), &flag)])
                    .unwrap();
            }
        });
        let verbs = rig.connect();
        let mut seen = 0;
        while seen < ROUNDS {
            let (mut flag, mut data) = ([0; 8], [0; 320]);
            let mut batch = [Verb::read(at(0), &mut flag), Verb::read(at(1024), &mut data)];
            verbs.batch(&mut batch).unwrap();
            let now = u64::from_le_bytes(flag);
            assert!(now >= seen, "{now} after {seen}");
            seen = now;
            for word in data.as_chunks().0 {
                let word = u64::from_le_bytes(*word);
                assert!(word >= seen, "the flag says {seen}, a word before it is {word}");
            }
        }
    });
}

/// Two clients each write their own word and read the other's, in one batch or in two: at least one
/// sees the other.
fn writes_are_seen_before_later_reads(rig: &Threads) {
    const WORDS: u64 = 500;
    let arrived = AtomicU64::new(0);
    let client = |me: u64| {
        let arrived = &arrived;
        move || {
            let verbs = rig.connect();
            let mut random = Random(me + 1);
            let round = |round: u64| {
                let (place, value) = (round % WORDS * 128, (round / WORDS + 1).to_le_bytes());
                let (mine, other) = (at(place + me * 64), at(place + 64 - me * 64));
                let mut found = [0; 8];
                meet(arrived, 2 * (round + 1));
                // Neither shall always be the first.
                for _ in 0..random.below(4) {
                    std::hint::spin_loop();
                }
                if round.is_multiple_of(2) {
                    let mut batch = [Verb::write(mine, &value), Verb::read(other, &mut found)];
                    verbs.batch(&mut batch).unwrap();
                } else {
                    verbs.batch(&mut [Verb::write(mine, &value)]).unwrap();
                    verbs.batch(&mut [Verb::read(other, &mut found)]).unwrap();
                }
                found == value
            };
            (0..ROUNDS * 20).map(round).collect::<Vec<bool>>()
        }
    };
    let seen = std::thread::scope(|scope| {
        let threads = [scope.spawn(client(0)), scope.spawn(client(1))];
        threads.map(|thread| thread.join().unwrap())
    });
    let missed = seen[0].iter().zip(&seen[1]).filter(|&(one, other)| !one && !other).count();
    assert_eq!(missed, 0, "rounds in which a read overtook the write before it");
}

/// Waits until `all` have arrived, at first so busily that the threads go on at the same moment.
fn meet(arrived: &AtomicU64, all: u64) {
    arrived.fetch_add(1, Ordering::AcqRel);
    for turn in 0_u64.. {
        if arrived.load(Ordering::Acquire) >= all {
            return;
        }
        if turn > 1000 {
            std::thread::yield_now();
        }
    }
}

fn a_waiter_is_woken(rig: &Threads) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let verbs = rig.connect();
            for turn in 0..200 {
                // Far longer than a test may take: only the wake ends it.
                while verbs.mailbox(at(0)) == turn {
                    verbs.wait_mailbox(at(0), turn, 3_600_000_000_000);
                }
                verbs.batch(&mut [Verb::faa(at(64), 1)]).unwrap();
                verbs.wake_mailbox(at(64));
            }
        });
        let verbs = rig.connect();
        for turn in 0..200 {
            verbs.batch(&mut [Verb::faa(at(0), 1)]).unwrap();
            verbs.wake_mailbox(at(0));
            while verbs.mailbox(at(64)) == turn {
                verbs.wait_mailbox(at(64), turn, 3_600_000_000_000);
            }
        }
    });
}
