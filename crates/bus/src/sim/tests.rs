//! The simulator keeps the bus's promises, kills and tears as planned, and repeats itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Config, Fault, Pid, World};
use crate::{BusError, GlobalAddr, NodeId, Verb, Verbs};

fn at(node: u16, offset: u64) -> GlobalAddr {
    GlobalAddr::new(NodeId(node), offset)
}

fn word(verbs: &dyn Verbs, addr: GlobalAddr) -> u64 {
    let mut bytes = [0; 8];
    verbs.batch(&mut [Verb::read(addr, &mut bytes)]).unwrap();
    u64::from_le_bytes(bytes)
}

/// Processes that count up one word by CAS; gives the order in which they succeeded.
fn counting(seed: u64, processes: u64, each: u64) -> (Vec<u32>, World) {
    let mut world = World::new(&Config::new(seed, 1, 64));
    let order = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..processes {
        let pid = world.process();
        let (verbs, order) = (world.verbs(pid), Rc::clone(&order));
        world.spawn(pid, move || {
            for _ in 0..each {
                let mut seen = 0;
                loop {
                    let mut batch = [Verb::cas(at(0, 8), seen, seen + 1)];
                    verbs.batch(&mut batch).unwrap();
                    if batch[0].found() == seen {
                        break order.borrow_mut().push(pid.0);
                    }
                    seen = batch[0].found();
                }
            }
        });
    }
    world.run();
    let order = order.take();
    (order, world)
}

#[test]
fn cas_is_atomic_and_a_seed_repeats_itself() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..20 {
        let (order, mut world) = counting(seed, 5, 20);
        let pid = world.process();
        assert_eq!(word(&world.verbs(pid), at(0, 8)), 100);
        assert_eq!(counting(seed, 5, 20).0, order);
        seen.insert(order);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn verbs_on_one_node_keep_their_order_and_nodes_do_not() {
    let mut overtakes = 0;
    for seed in 0..300 {
        let mut world = World::new(&Config::new(seed, 2, 64));
        let (writer, reader) = (world.process(), world.process());
        let verbs = world.verbs(writer);
        world.spawn(writer, move || {
            let one = 1u64.to_le_bytes();
            let addrs = [at(0, 0), at(0, 8), at(1, 0)];
            verbs.batch(&mut addrs.map(|addr| Verb::write(addr, &one))).unwrap();
        });
        let verbs = world.verbs(reader);
        let overtaken = Rc::new(Cell::new(false));
        let saw = Rc::clone(&overtaken);
        world.spawn(reader, move || {
            for _ in 0..20 {
                let (second, first) = (word(&verbs, at(0, 8)), word(&verbs, at(0, 0)));
                assert!(first >= second, "seed {seed}: the second write came first");
                let (other, first) = (word(&verbs, at(1, 0)), word(&verbs, at(0, 0)));
                saw.set(saw.get() || other > first);
            }
        });
        world.run();
        overtakes += u32::from(overtaken.get());
    }
    assert!(overtakes > 0);
}

#[test]
fn large_reads_are_torn_between_words_only() {
    let mut torn = 0;
    for seed in 0..400 {
        let mut world = World::new(&Config::new(seed, 1, 1024));
        let (writer, reader) = (world.process(), world.process());
        let verbs = world.verbs(writer);
        world.spawn(writer, move || {
            for fill in 1..10 {
                verbs.batch(&mut [Verb::write(at(0, 4), &[fill; 300])]).unwrap();
            }
        });
        let verbs = world.verbs(reader);
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        world.spawn(reader, move || {
            for _ in 0..10 {
                let mut bytes = [0; 300];
                verbs.batch(&mut [Verb::read(at(0, 4), &mut bytes)]).unwrap();
                counted.set(counted.get() + u32::from(bytes.iter().any(|&byte| byte != bytes[0])));
                assert!(bytes[..4].iter().all(|&byte| byte == bytes[0]));
                assert!(bytes[4..].chunks(8).all(|word| word.iter().all(|byte| *byte == word[0])));
            }
        });
        world.run();
        torn += count.get();
    }
    assert!(torn > 20, "{torn}");
}

/// What a process leaves that is to die within `[faa 0:0, write 0:8 (64 bytes), faa 1:0]`.
fn leavings(seed: u64, after: u64, torn: bool) -> (u64, Vec<u8>, u64) {
    let mut world = World::new(&Config::new(seed, 2, 128));
    let pid = world.process();
    let verbs = world.verbs(pid);
    let held = Rc::new(());
    let holds = Rc::clone(&held);
    world.spawn(pid, move || {
        let _held = holds;
        verbs
            .batch(&mut [
                Verb::faa(at(0, 0), 1),
                Verb::write(at(0, 8), &[7; 64]),
                Verb::faa(at(1, 0), 1),
            ])
            .unwrap();
        verbs.relax(1_000_000);
        let _ = verbs.batch(&mut [Verb::faa(at(0, 0), 1 << 32)]);
    });
    world.plan(Fault::Kill { process: pid, after, torn });
    world.run();
    assert_eq!(Rc::strong_count(&held), 1, "the dead strand's values were not dropped");
    assert!(!world.is_alive(pid));
    let observer = world.process();
    let verbs = world.verbs(observer);
    assert!(!verbs.is_alive(world.verbs(pid).identity()));
    let mut bytes = vec![0; 64];
    verbs.batch(&mut [Verb::read(at(0, 8), &mut bytes)]).unwrap();
    (word(&verbs, at(0, 0)), bytes, word(&verbs, at(1, 0)))
}

#[test]
fn a_death_leaves_any_prefix_per_node() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..400 {
        let (first, bytes, other) = leavings(seed, seed % 3, seed % 2 == 0);
        assert!(first <= 1, "died too late");
        let written = bytes.iter().filter(|&&byte| byte == 7).count();
        assert!(written.is_multiple_of(8) && (written == 0 || first == 1));
        seen.insert((first, written.div_ceil(32), other));
    }
    let partly = (1, 1, 0);
    for state in [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1), partly, (1, 2, 0), (1, 2, 1)] {
        assert!(seen.contains(&state), "{state:?} never happened: {seen:?}");
    }
}

#[test]
fn a_stopped_process_wakes_as_a_zombie_and_a_fenced_one_is_refused() {
    for (seed, fences) in [(1, false), (2, true)] {
        let mut world = World::new(&Config::new(seed, 1, 64));
        let (sleeper, other) = (world.process(), world.process());
        let verbs = world.verbs(sleeper);
        let outcome = Rc::new(RefCell::new(None));
        let told = Rc::clone(&outcome);
        world.spawn(sleeper, move || {
            verbs.batch(&mut [Verb::faa(at(0, 0), 1)]).unwrap();
            *told.borrow_mut() = Some(verbs.batch(&mut [Verb::faa(at(0, 0), 1)]));
        });
        world.plan(Fault::Freeze { process: sleeper, after: 1, ns: 10_000_000_000 });
        let verbs = world.verbs(other);
        let victim = world.verbs(sleeper).identity();
        world.spawn(other, move || {
            verbs.relax(1_000_000_000);
            assert_eq!(word(&verbs, at(0, 0)), 1);
            assert!(verbs.is_alive(victim));
            if fences {
                verbs.fence(victim);
                assert!(!verbs.is_alive(victim));
            }
        });
        world.run();
        assert!(world.now_ns() > 10_000_000_000);
        let expected = if fences { Err(BusError::Fenced) } else { Ok(()) };
        assert_eq!(outcome.take(), Some(expected));
    }
}

#[test]
fn a_lost_node_fails_alone() {
    let mut world = World::new(&Config::new(3, 2, 64));
    let pid = world.process();
    let verbs = world.verbs(pid);
    world.plan(Fault::LoseNode { node: NodeId(1), after: 4 });
    world.spawn(pid, move || {
        let mut outcomes = Vec::new();
        for _ in 0..4 {
            outcomes.push(verbs.batch(&mut [Verb::faa(at(1, 0), 1), Verb::faa(at(0, 0), 1)]));
        }
        let lost = Err(BusError::NodeLost(NodeId(1)));
        assert_eq!(outcomes, [Ok(()), Ok(()), lost.clone(), lost]);
        assert_eq!((word(&verbs, at(0, 0)), verbs.nodes().len()), (4, 1));
    });
    world.run();
    assert_eq!(world.faults().nodes_lost, 1);
}

#[test]
fn a_sleeper_is_woken_by_its_mailbox_or_by_time() {
    let mut world = World::new(&Config::new(4, 1, 64));
    let (sleeper, waker) = (world.process(), world.process());
    let verbs = world.verbs(sleeper);
    world.spawn(sleeper, move || {
        verbs.wait_mailbox(at(0, 8), 0, 10_000_000_000);
        assert_eq!(verbs.mailbox(at(0, 8)), 5);
        assert!(verbs.now_ns() < 1_500_000_000);
        verbs.wait_mailbox(at(0, 8), 5, 1_000_000_000);
        assert!(verbs.now_ns() > 2_000_000_000);
    });
    let verbs = world.verbs(waker);
    world.spawn(waker, move || {
        verbs.relax(1_000_000);
        verbs.wake_mailbox(at(0, 8));
        verbs.batch(&mut [Verb::faa(at(0, 8), 5)]).unwrap();
        verbs.wake_mailbox(at(0, 8));
    });
    world.run();
}

#[test]
fn a_panic_names_the_seed_and_the_last_verbs() {
    let mut world = World::new(&Config::new(99, 1, 64));
    let held = Rc::new(());
    for _ in 0..2 {
        let pid = world.process();
        let (verbs, held) = (world.verbs(pid), Rc::clone(&held));
        world.spawn(pid, move || {
            let _held = held;
            verbs.batch(&mut [Verb::faa(at(0, 0), 0xabc)]).unwrap();
            if pid == Pid(1) {
                verbs.relax(1_000_000);
                std::panic::resume_unwind(Box::new("planned"));
            }
            verbs.relax(u64::MAX / 2);
        });
    }
    let failure = world.try_run().unwrap_err().to_string();
    assert_eq!(Rc::strong_count(&held), 1);
    for part in
        ["seed 99: process 1 panicked: planned", "faa   0:0x0", "0xabc", "SIM_SEED=99 cargo"]
    {
        assert!(failure.contains(part), "{part:?} is missing in {failure}");
    }
}

#[test]
fn endless_waiting_is_noticed() {
    let mut world = World::new(&Config { max_steps: 1000, ..Config::new(1, 1, 64) });
    let pid = world.process();
    let verbs = world.verbs(pid);
    world.spawn(pid, move || loop {
        verbs.relax(1);
    });
    assert!(world.try_run().unwrap_err().reason.contains("no end"));
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Kills `count` processes that hold heap memory, 50 to a world.
fn kill_many(count: u64) {
    for seed in 0..count / 50 {
        let mut world = World::new(&Config::new(seed, 1, 64));
        for _ in 0..50 {
            let pid = world.process();
            let verbs = world.verbs(pid);
            world.plan(Fault::Kill { process: pid, after: seed % 4, torn: seed % 2 == 0 });
            world.spawn(pid, move || loop {
                let big = vec![1u8; 2000];
                verbs.batch(&mut [Verb::write(at(0, 0), &big[..64])]).unwrap();
            });
        }
        world.run();
        assert_eq!(world.faults().kills + world.faults().torn_kills, 50);
    }
}

#[test]
fn the_dead_leave_no_memory_behind() {
    kill_many(5_000);
    let before = resident_bytes();
    kill_many(20_000);
    let more = resident_bytes().saturating_sub(before);
    assert!(more < 8 << 20, "{more} bytes more: 20000 leaks of 2000 bytes would be 40 MB");
}

#[test]
#[ignore = "slow: 100,000 deaths, and the rate of simple verbs"]
fn many_deaths_and_verbs() {
    kill_many(10_000);
    let before = resident_bytes();
    kill_many(100_000);
    assert!(resident_bytes().saturating_sub(before) < 8 << 20);
    let started = std::time::Instant::now();
    let (_, world) = counting(1, 8, 200_000);
    let rate = world.total_verbs() as f64 / started.elapsed().as_secs_f64();
    println!("{} verbs, {rate:.0} a second", world.total_verbs());
}
