//! Rounds on the heap transport: alone, in crowds, with writers that die on the way.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;

use super::*;
use crate::address::ClientId;
use crate::class::SizeClass;
use crate::config::PoolConfig;
use crate::object::{log_addr, LogEntry, Op, LOG_BYTES};
use crate::view::View;

const BYTES: u64 = 16 << 20;

/// A client with a bump allocator of its own.
struct Client {
    fabric: Fabric,
    next: Cell<u64>,
    sequence: Cell<u64>,
}

struct Pool {
    nodes: Arc<HeapNodes>,
    config: PoolConfig,
}

impl Pool {
    fn new(replicas: u8) -> Pool {
        let config = PoolConfig::for_size(BYTES, u16::from(replicas), replicas);
        Pool { nodes: HeapNodes::new(u16::from(replicas), BYTES as usize), config }
    }

    fn client(&self, index: u16, lives: u64) -> Client {
        let verbs = self.nodes.connect(u32::from(index));
        let plan = FaultPlan { after: lives, torn_words: 0, death: Death::Connection };
        let verbs = Box::new(Faulty::new(verbs, plan));
        let me = ClientId { index, incarnation: 1 };
        let fabric = Fabric::new(verbs, self.config, View::first(&self.config), me);
        // Each client has a region of its own for its objects.
        let start = u64::from(index % 4 + 1) << self.config.region_shift;
        let within = u64::from(index / 4) * 2 * self.config.block_bytes();
        let next = Cell::new(start + self.config.block_bytes() + within);
        Client { fabric, next, sequence: Cell::new(1) }
    }

    fn slot(&self, number: u64) -> PoolAddr {
        PoolAddr(self.config.block_bytes() + 8 * number)
    }
}

impl Client {
    /// A round from `old` to a new object.
    fn round(&self, slot: PoolAddr, old: Slot) -> Result<Round> {
        let addr = PoolAddr(self.next.get());
        self.next.set(addr.0 + 64);
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let client = self.fabric.me();
        let log = log_addr(addr, SizeClass(0));
        let entry = LogEntry { client, op: Op::Put, sequence, decided: None };
        self.fabric.write_all(log, &entry.encode())?;
        let new = Slot::new(7, old.next_version(), 0, addr);
        Ok(Round::new(slot, old, new, log, sequence))
    }

    fn read(&self, slot: PoolAddr) -> Result<Slot> {
        self.fabric.read_word(self.fabric.primary(slot)?).map(Slot)
    }

    fn entry(&self, value: Slot) -> LogEntry {
        let mut bytes = [0; LOG_BYTES];
        self.fabric.read(value.log().unwrap(), &mut bytes).unwrap();
        LogEntry::decode(&bytes).unwrap()
    }

    fn copies(&self, slot: PoolAddr) -> Vec<u64> {
        let copies = self.fabric.copies(slot);
        copies.iter().map(|&at| self.fabric.read_word(at).unwrap()).collect()
    }

    /// All values the slot ever had, the last first.
    fn history(&self, slot: PoolAddr) -> Vec<Slot> {
        let mut values = vec![self.read(slot).unwrap()];
        while let Some(log) = values[values.len() - 1].log() {
            let mut bytes = [0; LOG_BYTES];
            self.fabric.read(log, &mut bytes).unwrap();
            let (place, before) = crate::object::proposal(&bytes).expect("a link");
            assert_eq!(place, slot);
            values.push(before);
        }
        assert_eq!(values.pop(), Some(Slot::EMPTY));
        values
    }
}

#[test]
fn a_round_alone_costs_what_it_should() {
    for (replicas, trips) in [(1, 1), (2, 3), (3, 3), (4, 3)] {
        let pool = Pool::new(replicas);
        let client = pool.client(1, u64::MAX);
        let mut round = client.round(pool.slot(0), Slot::EMPTY).unwrap();
        round.proposed = replicas == 1;
        let before = client.fabric.verbs().tally();
        write(&client.fabric, std::slice::from_mut(&mut round)).unwrap();
        let cost = client.fabric.verbs().tally() - before;
        assert_eq!(cost.round_trips, trips, "{replicas}");
        assert!(round.won());
        assert!(client.copies(pool.slot(0)).iter().all(|&copy| copy == round.new.0));
    }
}

#[test]
fn without_copies_log_entry_and_slot_share_an_ordered_batch() {
    let pool = Pool::new(1);
    let client = pool.client(1, u64::MAX);
    let mut rounds = [client.round(pool.slot(0), Slot::EMPTY).unwrap()];
    let lock = pool.slot(9);
    client.fabric.write_all(lock, &5u64.to_le_bytes()).unwrap();
    rounds[0].unlock = Some(Unlock { word: lock, held: 5, free: 6 });
    let before = client.fabric.verbs().tally();
    write(&client.fabric, &mut rounds).unwrap();
    assert_eq!((client.fabric.verbs().tally() - before).round_trips, 1);
    assert_eq!(client.read(lock).unwrap(), Slot(6));
    assert_eq!(client.history(pool.slot(0)), [rounds[0].new]);
    let mut late = [client.round(pool.slot(0), Slot::EMPTY).unwrap()];
    write(&client.fabric, &mut late).unwrap();
    let (winner, current) = (rounds[0].new, rounds[0].new);
    assert_eq!(late[0].outcome(), Some(Outcome::Lost { winner, current }));
}

#[test]
fn many_rounds_share_their_batches() {
    let pool = Pool::new(2);
    let client = pool.client(1, u64::MAX);
    let rounds = (0..50).map(|i| client.round(pool.slot(i), Slot::EMPTY).unwrap());
    let mut rounds: Vec<Round> = rounds.collect();
    let before = client.fabric.verbs().tally();
    write(&client.fabric, &mut rounds).unwrap();
    assert_eq!((client.fabric.verbs().tally() - before).round_trips, 3);
    let mut stats = Stats::default();
    stats.count(&rounds);
    assert_eq!(stats, Stats { rule1: 50, ..Stats::default() });
}

#[test]
fn two_rounds_of_one_batch_on_one_slot_do_not_block_each_other() {
    for replicas in 1..=4 {
        let pool = Pool::new(replicas);
        let client = pool.client(1, u64::MAX);
        let round = || client.round(pool.slot(0), Slot::EMPTY).unwrap();
        let mut rounds = [round(), round(), round()];
        write(&client.fabric, &mut rounds).unwrap();
        assert_eq!(rounds.iter().filter(|round| round.won()).count(), 1);
    }
}

/// Writers in threads that retry until they have won `wins` rounds, or die.
fn crowd(replicas: u8, writers: u16, wins: usize, lives: impl Fn(u16) -> u64) -> Stats {
    let pool = Pool::new(replicas);
    let slot = pool.slot(3);
    let clients: Vec<Client> = (1..=writers).map(|i| pool.client(i, lives(i))).collect();
    let results: Vec<(Vec<Slot>, Stats)> = std::thread::scope(|scope| {
        let run = |client: Client| {
            let (mut won, mut stats) = (Vec::new(), Stats::default());
            while won.len() < wins {
                let Ok(old) = client.read(slot) else { break };
                let Ok(round) = client.round(slot, old) else { break };
                let mut rounds = [round];
                if write(&client.fabric, &mut rounds).is_err() {
                    break;
                }
                stats.count(&rounds);
                if rounds[0].won() {
                    won.push(rounds[0].new);
                }
            }
            (won, stats)
        };
        let handles: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || run(client))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let checker = pool.client(40, u64::MAX);
    let value = settle(&checker.fabric, slot).unwrap();
    assert!(checker.copies(slot).iter().all(|&copy| copy == value.0));
    let history = checker.history(slot);
    let held: HashSet<Slot> = history.iter().copied().collect();
    assert_eq!(held.len(), history.len());
    let mut all = Stats::default();
    for (index, (won, stats)) in results.iter().enumerate() {
        assert!(won.iter().all(|value| held.contains(value)));
        all.lost += stats.lost;
        all.helps += stats.helps;
        let theirs = |value: &&Slot| checker.entry(**value).client.index as usize == index + 1;
        let theirs = history.iter().filter(theirs).count();
        // The dead may have won one that they did not come to know of.
        let unknown = u64::MAX != lives(index as u16 + 1);
        assert!(theirs == won.len() || unknown && theirs == won.len() + 1);
    }
    all
}

#[test]
fn every_win_of_a_crowd_is_in_the_history_once() {
    for replicas in 1..=4 {
        crowd(replicas, 4, 60, |_| u64::MAX);
    }
}

#[test]
fn the_living_finish_the_rounds_of_the_dead() {
    for replicas in 1..=4 {
        for seed in 0..40u64 {
            let lives =
                |i: u16| if i < 3 { 20 + (seed * 7 + u64::from(i) * 13) % 97 } else { u64::MAX };
            crowd(replicas, 4, 12, lives);
        }
    }
}

/// One writer dies after each verb, another goes on: never stuck, never lost.
#[test]
fn death_after_any_verb_leaves_a_slot_that_others_go_on_with() {
    for replicas in 2..=4 {
        for lives in 0..16 {
            let pool = Pool::new(replicas);
            let (dead, alive) = (pool.client(1, lives), pool.client(2, u64::MAX));
            let slot = pool.slot(0);
            let whole = dead.round(slot, Slot::EMPTY).and_then(|round| {
                let mut rounds = [round];
                write(&dead.fabric, &mut rounds).map(|()| rounds[0].won())
            });
            let mut wins = 0;
            while wins < 2 {
                let old = alive.read(slot).unwrap();
                let mut rounds = [alive.round(slot, old).unwrap()];
                write(&alive.fabric, &mut rounds).unwrap();
                wins += usize::from(rounds[0].won());
            }
            let history = alive.history(slot);
            let by_dead = history.iter().filter(|value| alive.entry(**value).client.index == 1);
            let by_dead = by_dead.count();
            assert!(by_dead == 1 || whole.is_err() && by_dead == 0);
            assert_eq!(history.len(), by_dead + 2);
        }
    }
}

#[test]
fn settling_completes_half_made_proposals() {
    let pool = Pool::new(4);
    let client = pool.client(1, u64::MAX);
    let slot = pool.slot(0);
    let (a, b) =
        (client.round(slot, Slot::EMPTY).unwrap(), client.round(slot, Slot::EMPTY).unwrap());
    assert_eq!(settle(&client.fabric, slot).unwrap(), Slot::EMPTY);
    let backups = client.fabric.copies(slot);
    client.fabric.cas(backups[1], 0, b.new.0).unwrap();
    client.fabric.cas(backups[3], 0, a.new.0).unwrap();
    // a is less than b: the unfilled backup goes to it, so that it has the majority.
    assert_eq!(settle(&client.fabric, slot).unwrap(), a.new);
    assert_eq!(client.copies(slot), [a.new.0; 4]);
    assert_eq!(client.entry(a.new).decided, Some((slot, Slot::EMPTY)));
    assert_eq!(client.entry(b.new).decided, None);
    assert_eq!(settle_many(&client.fabric, &[slot, pool.slot(1)]).unwrap(), [a.new, Slot::EMPTY]);
}

#[test]
fn a_proposal_without_a_log_entry_is_corrupt() {
    let pool = Pool::new(2);
    let client = pool.client(1, u64::MAX);
    let slot = pool.slot(0);
    let garbage = Slot::new(1, 1, 0, PoolAddr(client.next.get()));
    client.fabric.cas(client.fabric.copies(slot)[1], 0, garbage.0).unwrap();
    assert!(matches!(settle(&client.fabric, slot), Err(PoolError::Corrupt(_))));
}

#[test]
fn reconciling_prefers_proposals_and_marks_them_decided() {
    let pool = Pool::new(3);
    let client = pool.client(1, u64::MAX);
    let slot = pool.slot(0);
    let mut rounds = [client.round(slot, Slot::EMPTY).unwrap()];
    write(&client.fabric, &mut rounds).unwrap();
    let old = rounds[0].new;
    let next = client.round(slot, old).unwrap();
    let copies = client.fabric.copies(slot);
    client.fabric.cas(copies[2], old.0, next.new.0).unwrap();
    assert_eq!(reconcile(&client.fabric, slot, true).unwrap(), next.new);
    assert_eq!(client.copies(slot), [next.new.0; 3]);
    assert_eq!(client.entry(next.new).decided, Some((slot, old)));
    let late = client.round(slot, next.new).unwrap();
    client.fabric.cas(copies[1], next.new.0, late.new.0).unwrap();
    assert_eq!(reconcile(&client.fabric, slot, false).unwrap(), late.new);
    assert_eq!(client.entry(late.new).decided, Some((slot, next.new)));
    assert_eq!(reconcile(&client.fabric, slot, false).unwrap(), late.new);
}
