//! Clients that die, freeze, or take over.

use std::time::Duration;

use super::harness::TestPool;
use crate::config::record;
use crate::membership::{hold_still, standing, store_view, table, tick, words, Standing};
use crate::View;

#[test]
fn a_killed_client_is_declared_and_recovered_once() {
    let pool = TestPool::new(2, 2, 60_000);
    let (a, b, c) = (pool.join(1), pool.join(2), pool.join(3));
    assert_eq!(standing(&a, b.me()).unwrap(), Standing::Live);
    pool.kill(2);
    std::thread::scope(|scope| {
        for client in [a, c] {
            scope.spawn(move || {
                tick(&client).unwrap();
                (client.watch().deaths(), client.watch().recoveries())
            });
        }
    });
    let d = pool.join(4);
    tick(&d).unwrap();
    assert_eq!(pool.state(&d, 2), record::FREE);
    assert_eq!((d.watch().deaths(), d.watch().recoveries()), (0, 0));
    assert_eq!(standing(&d, b.me()).unwrap(), Standing::Gone);
    assert!(tick(&b).is_err(), "the dead do nothing");
}

#[test]
fn a_silent_client_is_fenced_but_a_suspended_observer_kills_nobody() {
    let pool = TestPool::new(2, 2, 80);
    let (observer, frozen, lively) = (pool.join(1), pool.join(2), pool.join(3));
    for client in [&observer, &frozen, &lively] {
        tick(client).unwrap();
    }
    // Everybody is silent beyond the lease, the observer included: nobody is blamed.
    std::thread::sleep(Duration::from_millis(120));
    tick(&observer).unwrap();
    assert_eq!(observer.watch().deaths(), 0);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(5));
        tick(&lively).unwrap();
        tick(&observer).unwrap();
    }
    assert_eq!(observer.watch().deaths() + lively.watch().deaths(), 1);
    assert_eq!(pool.state(&observer, 2), record::FREE);
    assert_eq!(pool.state(&observer, 3), record::LIVE);
    assert!(tick(&frozen).is_err(), "fenced before it was declared dead");
}

/// The tables have come to a second node while the client slept.
#[test]
fn who_has_missed_a_view_acknowledges_the_next_on_all_copies() {
    let pool = TestPool::new(2, 1, 60_000);
    let (client, master) = (pool.join(1), pool.join(2));
    let wide = pool.view();
    client.adopt(View { meta: wide.meta.iter().copied().take(1).collect(), ..wide.clone() });
    let at = |of| table::offset(1, of);
    let view = |epoch| View { epoch, ..wide.clone() };
    store_view(master.verbs(), &pool.config, &view(3)).unwrap();
    words::write(&master, at(record::MAILBOX), 9).unwrap();
    let copies = std::thread::scope(|scope| {
        let held = scope.spawn(move || hold_still(&client).map(|()| client.epoch()));
        let acknowledged = || words::values(&master, at(record::ACK)).unwrap();
        while acknowledged()[0].1 != 9 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(2));
        let copies: Vec<u64> = acknowledged().iter().map(|copy| copy.1).collect();
        store_view(master.verbs(), &pool.config, &view(4)).unwrap();
        words::write(&master, at(record::MAILBOX), 8).unwrap();
        assert_eq!(held.join().unwrap(), Ok(4));
        copies
    });
    assert_eq!(copies, [9, 9]);
}
