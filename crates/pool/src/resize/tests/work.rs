//! Clients that work all the while.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// Three clients with keys of their own and one that all share, while `change` happens.
fn at_work(pool: &TestPool, change: impl FnOnce(&mut Client)) {
    let (done, rounds) = (&AtomicBool::new(false), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for pid in 1..4_u32 {
            let mut client = pool.client(pid);
            scope.spawn(move || {
                let mut last = vec![None; 60];
                let mut value = Vec::new();
                let mut round = 0_u32;
                while !done.load(Ordering::Relaxed) || round < 200 {
                    round += 1;
                    let number = round as usize * 7 % 60;
                    let key = (u64::from(pid) << 32 | number as u64).to_le_bytes();
                    let there = client.get(0, &key, &mut value).unwrap();
                    let found = there.then(|| u32::from_le_bytes(value[..4].try_into().unwrap()));
                    assert_eq!(found, last[number], "client {pid}, key {number}");
                    if round.is_multiple_of(5) {
                        assert_eq!(client.delete(0, &key).unwrap(), last[number].take().is_some());
                    } else {
                        client.put(0, &key, &[round.to_le_bytes(); 20].concat(), Never).unwrap();
                        last[number] = Some(round);
                    }
                    client.put(0, b"shared", &[pid as u8; 90], Never).unwrap();
                    assert!(client.get(0, b"shared", &mut value).unwrap() && value.len() == 90);
                    assert!(value.iter().all(|&byte| byte == value[0]));
                    client.tick().unwrap();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                client.leave().unwrap();
            });
        }
        let mut mover = pool.client(9);
        change(&mut mover);
        let before = rounds.load(Ordering::Relaxed);
        for _ in 0..20 {
            mover.tick().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        done.store(true, Ordering::Relaxed);
        mover.leave().unwrap();
        assert!(before > 0, "clients went on");
    });
    let mut client = pool.client(5);
    assert_well(&mut client, false);
}

#[test]
fn nodes_come_and_go_under_clients_at_work() {
    for replicas in [1, 2] {
        let pool = TestPool::new(2, 1, replicas);
        at_work(&pool, |mover| {
            quietly(|progress| add_node(mover, node(2), progress));
            quietly(|progress| drain_node(mover, node(0), progress));
        });
        pool.memory.kill_node(node(0));
        let mut client = pool.client(6);
        assert!(client.contains(0, b"shared").unwrap());
    }
}

#[test]
fn a_node_is_lost_and_replaced_under_clients_at_work() {
    let pool = TestPool::new(3, 1, 2);
    at_work(&pool, |mover| {
        pool.memory.kill_node(node(1));
        let _ = mover.contains(0, b"shared").unwrap();
        quietly(|progress| add_node(mover, node(3), progress));
        let after = status(mover.fabric());
        assert_eq!((after.lacking, after.lost), (0, 0));
    });
}
