//! A small store on one bucket table: its clients die at every verb, and so do their repairers.

use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::Verb;

use super::*;
use crate::alloc::{Allocation, Allocator, Geometry};
use crate::class::SizeClass;
use crate::config::PoolConfig;
use crate::lifecycle::{format, join};
use crate::object::{log_addr, object_bytes, word, Header, Kind, LogEntry, Op, LOG_BYTES};
use crate::snapshot::{write, Round, Unlock};

const BYTES: u64 = 4 << 20;
const BUCKETS: u64 = 8;

/// The buckets: where they start.
#[derive(Clone, Copy)]
struct Table(PoolAddr);

impl Table {
    fn bucket(self, key: u8) -> PoolAddr {
        self.0.add(64 * (u64::from(key) % BUCKETS))
    }
}

impl Index for Table {
    fn places(&mut self, _: &Fabric, _: &Header, key: &[u8]) -> Result<Places> {
        let Some(&key) = key.first() else { return Ok(Places::default()) };
        let slots = (1..8).map(|slot| self.bucket(key).add(8 * slot)).collect();
        Ok(Places { slots, locks: vec![self.bucket(key)] })
    }

    fn parts(&self, manifest: &[u8]) -> Vec<Slot> {
        manifest.chunks_exact(8).map(|bytes| Slot(word(bytes, 0))).collect()
    }
}

struct Client {
    fabric: Fabric,
    alloc: Allocator,
    table: Table,
}

fn memory(replicas: u8) -> Arc<HeapNodes> {
    let nodes = u16::from(replicas);
    let memory = HeapNodes::new(nodes, BYTES as usize);
    format(&memory.connect(900), &PoolConfig::for_size(BYTES, nodes, replicas)).unwrap();
    memory
}

impl Client {
    fn first(memory: &Arc<HeapNodes>) -> Client {
        let fabric = join(Box::new(memory.connect(1))).unwrap();
        let mut alloc = Allocator::new(&fabric).unwrap();
        let room = alloc.allocate(&fabric, 64 * (BUCKETS as usize + 2)).unwrap();
        fabric.write_all(room.addr, &vec![0; room.class.bytes()]).unwrap();
        alloc.complete(room.sequence);
        Client { fabric, alloc, table: Table(room.addr) }
    }

    /// A client that dies after some verbs.
    fn dying(memory: &Arc<HeapNodes>, pid: u32, table: Table, after: u64) -> Result<Client> {
        let plan = FaultPlan { after, torn_words: 1, death: Death::Connection };
        let fabric = join(Box::new(Faulty::new(memory.connect(pid), plan)))?;
        let alloc = Allocator::new(&fabric)?;
        Ok(Client { fabric, alloc, table })
    }

    /// Writes an object for `key` and its log entry.
    fn object(&mut self, key: u8, value: &[u8], kind: Kind, op: Op) -> Result<Allocation> {
        let room = self.alloc.allocate(&self.fabric, object_bytes(1, value.len()))?;
        let value_len = value.len() as u32;
        let (version, namespace, expires_ms) = (0, 0, 0);
        let header = Header { kind, version, namespace, key_len: 1, value_len, expires_ms };
        let mut bytes = header.encode(&[key], value).to_vec();
        bytes.push(key);
        bytes.extend_from_slice(value);
        bytes.resize(room.class.bytes() - LOG_BYTES, 0);
        let (client, sequence) = (self.fabric.me(), room.sequence);
        bytes.extend_from_slice(&LogEntry { client, op, sequence, decided: None }.encode());
        self.fabric.write_all(room.addr, &bytes)?;
        Ok(room)
    }

    fn bucket(&self, key: u8) -> Result<[u8; 64]> {
        let mut bytes = [0; 64];
        self.fabric.read(self.table.bucket(key), &mut bytes)?;
        Ok(bytes)
    }

    fn find(&self, key: u8) -> Result<Option<(PoolAddr, Slot)>> {
        let bytes = self.bucket(key)?;
        let fits = |slot: &Slot| slot.fingerprint() == key && slot.class().is_some();
        let slots = (1..8).map(|at| (self.table.bucket(key).add(8 * at), at as usize * 8));
        let mut slots = slots.map(|(addr, at)| (addr, Slot(word(&bytes, at))));
        Ok(slots.find(|(_, slot)| fits(slot)))
    }

    /// Inserts or updates; `parts` makes the value a manifest of that many pieces.
    fn put(&mut self, key: u8, parts: usize) -> Result<()> {
        let found = self.find(key)?;
        let op = if found.is_some() { Op::Put } else { Op::Insert };
        let mut pieces = Vec::new();
        for _ in 0..parts {
            let piece = self.object(key, &[1; 100], Kind::Chunk, Op::Part)?;
            let slot = Slot::new(0, 0, piece.class.0, piece.addr);
            pieces.extend_from_slice(&slot.0.to_le_bytes());
            self.alloc.complete(piece.sequence);
        }
        let kind = if parts > 0 { Kind::Manifest } else { Kind::Value };
        let room = self.object(key, &pieces, kind, op)?;
        if found.is_none() {
            let lock = self.fabric.primary(self.table.bucket(key))?;
            let mine = self.fabric.me().word();
            assert_eq!(self.fabric.cas(lock, 0, mine)?, 0);
        }
        let bytes = self.bucket(key)?;
        let vacant = (1..8).find(|at| Slot(word(&bytes, at * 8)).is_vacant());
        let (at, old) = match (found, vacant) {
            (Some(found), _) => found,
            (None, Some(at)) => {
                (self.table.bucket(key).add(8 * at as u64), Slot(word(&bytes, at * 8)))
            }
            (None, None) => panic!("a full bucket"),
        };
        let new = Slot::new(key, old.next_version(), room.class.0, room.addr);
        self.round(key, at, old, new, room, found.is_none())
    }

    fn delete(&mut self, key: u8) -> Result<()> {
        let Some((at, old)) = self.find(key)? else { panic!("{key} is not there") };
        let room = self.object(key, &[], Kind::Deletion, Op::Delete)?;
        let new = Slot::tombstone(old.next_version(), room.class, room.addr);
        self.round(key, at, old, new, room, false)
    }

    fn round(
        &mut self,
        key: u8,
        at: PoolAddr,
        old: Slot,
        new: Slot,
        room: Allocation,
        locked: bool,
    ) -> Result<()> {
        let log = log_addr(room.addr, room.class);
        let mut rounds = [Round::new(at, old, new, log, room.sequence)];
        if locked {
            let held = self.fabric.me().word();
            rounds[0].unlock = Some(Unlock { word: self.table.bucket(key), held, free: 0 });
        }
        write(&self.fabric, &mut rounds)?;
        assert!(rounds[0].won());
        for (addr, class) in self.objects_of(old)? {
            self.alloc.free(addr, class);
        }
        self.alloc.complete(room.sequence);
        self.alloc.quiesce(&self.fabric)
    }

    /// The object of a slot's value and its pieces.
    fn objects_of(&self, value: Slot) -> Result<Vec<(PoolAddr, SizeClass)>> {
        let Some(class) = value.logged_class().filter(|_| value.0 != 0) else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; class.bytes()];
        self.fabric.read(value.addr(), &mut bytes)?;
        let (header, _, value_bytes) = crate::object::parse(&bytes, class)?;
        let mut objects = vec![(value.addr(), class)];
        if header.kind == Kind::Manifest {
            let parts = self.table.parts(value_bytes).into_iter();
            objects.extend(parts.map(|slot| (slot.addr(), slot.class().unwrap())));
        }
        Ok(objects)
    }

    /// Values of all slots of all buckets; refuses copies that differ and locks.
    fn values(&self) -> Vec<Slot> {
        let mut values = Vec::new();
        for bucket in 0..BUCKETS as u8 {
            let mut all: Vec<[u8; 64]> = Vec::new();
            for copy in self.fabric.copies(self.table.bucket(bucket)) {
                let mut bytes = [0; 64];
                self.fabric.batch(&mut [Verb::read(copy, &mut bytes)]).unwrap();
                all.push(bytes);
            }
            assert_eq!(word(&all[0], 0), 0, "the lock is free");
            assert!(all.iter().all(|bytes| bytes[8..] == all[0][8..]), "copies differ");
            values.extend((1..8).map(|at| Slot(word(&all[0], at * 8))));
        }
        values
    }

    fn is_free(&self, (addr, class): (PoolAddr, SizeClass)) -> bool {
        let place = Geometry::of(self.fabric.config()).place(addr, class).unwrap();
        let bits = self.fabric.copies(place.word()).into_iter();
        let mut bits = bits.map(|copy| self.fabric.read_word(copy).unwrap() & place.bit() != 0);
        let first = bits.next().unwrap();
        assert!(bits.all(|bit| bit == first), "free bits differ between the copies");
        first
    }
}

/// What the client that dies does, and how many of these it was told were done.
fn work(client: &mut Client, done: &mut usize) -> Result<()> {
    for step in 0..12 {
        match step {
            0 | 1 => client.put(1, 0)?,
            2 => client.put(2, 2)?,
            3 => client.delete(3)?,
            4 => client.put(20, 0)?,
            5 => {
                client.alloc.idle(&client.fabric)?;
                client.alloc.resume(&client.fabric)?;
            }
            6 => client.put(2, 0)?,
            7 => client.put(20, 1)?,
            8 => client.delete(4)?,
            9 => client.put(3, 0)?,
            10 => client.put(20, 0)?,
            _ => client.put(5, 3)?,
        }
        *done += 1;
    }
    Ok(())
}

/// What is to hold after the recovery of a client that had done `done` steps of [`work`].
fn check(observer: &Client, initial: &[(PoolAddr, SizeClass)], done: usize) {
    let values = observer.values();
    let live = |addr: PoolAddr| values.iter().any(|value| value.0 != 0 && value.addr() == addr);
    let in_use: Vec<_> =
        values.iter().flat_map(|&value| observer.objects_of(value).unwrap()).collect();
    for &object in initial {
        let used = in_use.contains(&object);
        assert_eq!(used, !observer.is_free(object), "{object:?} after {done} steps");
    }
    assert!(in_use.iter().all(|&object| !observer.is_free(object)));
    let by_dead = |key: u8| {
        let found = observer.find(key).unwrap();
        found.map(|(_, slot)| !initial.iter().any(|object| object.0 == slot.addr()))
    };
    let overwritten = |key, after: usize| done < after || by_dead(key) == Some(true);
    assert!(overwritten(1, 1) && overwritten(2, 3) && overwritten(20, 5) && overwritten(5, 12));
    assert!(done < 4 || by_dead(3) != Some(false));
    assert!(done < 9 || by_dead(4).is_none());
    assert!(in_use.iter().all(|object| live(object.0) || object.1 .0 > 0));
}

/// Verbs of joining, which are not what is tested here.
fn join_verbs(memory: &Arc<HeapNodes>, table: Table) -> u64 {
    let client = Client::dying(memory, 50, table, u64::MAX).unwrap();
    client.fabric.verbs().tally().verbs()
}

/// A client dies after `after` verbs of its work, its first repairer after `repair`. Returns
/// whether each came to the end.
fn scenario(replicas: u8, after: u64, repair: u64) -> (bool, bool) {
    let memory = memory(replicas);
    let mut first = Client::first(&memory);
    for key in 0..12 {
        first.put(key, usize::from(key % 3 == 2)).unwrap();
    }
    let values = first.values();
    let initial: Vec<_> =
        values.iter().flat_map(|&value| first.objects_of(value).unwrap()).collect();
    let joined = join_verbs(&memory, first.table);
    let mut dead = Client::dying(&memory, 3, first.table, joined + after).unwrap();
    let mut done = 0;
    let lives = work(&mut dead, &mut done).is_ok();
    let who = dead.fabric.me();
    drop(dead);
    let repairer = Client::dying(&memory, 5, first.table, joined + repair).unwrap();
    let repaired = recover(&repairer.fabric, &mut { first.table }, who).is_ok();
    let recovered = recover(&first.fabric, &mut { first.table }, who).unwrap();
    assert_eq!(recovered.unknown, 0);
    assert!(!repaired || recovered.freed == 0, "{recovered:?}");
    check(&first, &initial, done);
    (lives, repaired)
}

fn at_every_verb(replicas: u8, repair: u64) {
    for after in 0.. {
        if scenario(replicas, after, repair).0 {
            return;
        }
    }
}

#[test]
fn clients_that_die_after_any_verb_are_recovered_exactly() {
    for replicas in 1..=2 {
        at_every_verb(replicas, u64::MAX / 2);
    }
}

#[test]
fn repairers_that_die_after_any_verb_are_replaced() {
    for replicas in [1, 2] {
        for after in [40, 75, 110, 150] {
            for repair in 0.. {
                if scenario(replicas, after, repair).1 {
                    break;
                }
            }
        }
    }
}

#[test]
#[ignore = "slow: three copies, and repairers that die in between"]
fn all_deaths_of_clients_and_repairers() {
    at_every_verb(3, u64::MAX / 2);
    for replicas in 1..=3 {
        for repair in (0..200).step_by(7) {
            at_every_verb(replicas, repair);
        }
    }
}

#[test]
fn a_thousand_updates_are_recovered_in_few_batches() {
    let memory = memory(2);
    let mut first = Client::first(&memory);
    (0..40).for_each(|key| first.put(key, 0).unwrap());
    let mut dead = Client::dying(&memory, 3, first.table, u64::MAX).unwrap();
    // Frees are deferred: completing nothing keeps all updates in flight.
    for update in 0..1000 {
        let key = (update % 40) as u8;
        let (at, old) = dead.find(key).unwrap().unwrap();
        let room = dead.object(key, &[], Kind::Value, Op::Put).unwrap();
        let new = Slot::new(key, old.next_version(), room.class.0, room.addr);
        let log = log_addr(room.addr, room.class);
        let mut rounds = [Round::new(at, old, new, log, room.sequence)];
        write(&dead.fabric, &mut rounds).unwrap();
    }
    let before = first.fabric.verbs().tally();
    let recovered = recover(&first.fabric, &mut { first.table }, dead.fabric.me()).unwrap();
    let cost = first.fabric.verbs().tally() - before;
    let (won, freed) = (recovered.won, recovered.freed);
    assert_eq!((won, freed, recovered.used), (1000, 1000, 1000));
    assert!(cost.round_trips < 60, "{cost:?}");
}
