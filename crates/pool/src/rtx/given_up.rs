//! Objects that transactions give up, with clients that die at every verb.

use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::Verb;

use super::testing::declare_dead;
use super::*;
use crate::address::{ClientId, PoolAddr};
use crate::alloc::{Allocation, Allocator, Geometry};
use crate::config::{meta, record, PoolConfig};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::lifecycle::{format, join};
use crate::membership::{table, words, EPOCH_JUMP};

const BYTES: u64 = 4 << 20;

fn memory(replicas: u8) -> Arc<HeapNodes> {
    let memory = HeapNodes::new(u16::from(replicas), BYTES as usize);
    let config = PoolConfig::for_size(BYTES, u16::from(replicas), replicas);
    format(&memory.connect(900), &config).unwrap();
    memory
}

/// The bit of an object, which must be the same on all copies.
fn is_free(fabric: &Fabric, room: Allocation) -> bool {
    let place = Geometry::of(fabric.config()).place(room.addr, room.class).unwrap();
    let copies = fabric.copies(place.word()).into_iter();
    let mut bits = copies.map(|copy| fabric.read_word(copy).unwrap() & place.bit() != 0);
    let first = bits.next().unwrap();
    assert!(bits.all(|bit| bit == first), "free bits differ between the copies");
    first
}

/// Links the object at `new` in a word of `root` and gives up the one that was there.
fn replace(
    fabric: &Fabric,
    alloc: &mut Allocator,
    logs: &Logs,
    root: PoolAddr,
    old: Allocation,
    new: PoolAddr,
) -> Result<()> {
    let mut rtx = Rtx::begin(fabric, logs)?;
    rtx.lock(Target::Pool(root), &mut [0; 8])?;
    rtx.write(Target::Pool(root), &new.0.to_le_bytes())?;
    rtx.free(alloc, old.addr, old.class)?;
    rtx.commit()
}

/// A client dies after some verbs of its transaction, its first repairer after `repair`. Returns
/// whether the dead client and its first repairer came to the end.
fn scenario(replicas: u8, after: u64, repair: u64) -> (bool, bool) {
    let memory = memory(replicas);
    let healthy = join(Box::new(memory.connect(1))).unwrap();
    let mut alloc = Allocator::new(&healthy).unwrap();
    let [root, old] = [64, 200].map(|bytes| alloc.allocate(&healthy, bytes).unwrap());
    healthy.write_all(root.addr, &old.addr.0.to_le_bytes()).unwrap();
    let enter = |pid, verbs| {
        let before = memory.connect(pid);
        let probe = join(Box::new(before)).unwrap();
        Allocator::new(&probe).unwrap();
        let joined = probe.verbs().tally().verbs();
        crate::lifecycle::leave(probe).unwrap();
        let plan = FaultPlan { after: joined + verbs, torn_words: 1, death: Death::Connection };
        let fabric = join(Box::new(Faulty::new(memory.connect(pid), plan))).unwrap();
        let alloc = Allocator::new(&fabric).unwrap();
        (fabric, alloc)
    };
    let (dying, mut its_alloc) = enter(3, after);
    let new = PoolAddr(root.addr.0 + 64);
    let lives = replace(&dying, &mut its_alloc, &Logs::default(), root.addr, old, new).is_ok();
    let (repairer, _) = enter(5, repair);
    declare_dead(&healthy, dying.me());
    let repaired = repair_all(&repairer, dying.me()).is_ok();
    declare_dead(&healthy, repairer.me());
    repair_all(&healthy, dying.me()).unwrap();
    repair_all(&healthy, dying.me()).unwrap();
    let mut word = [0; 8];
    healthy.read(root.addr, &mut word).unwrap();
    let committed = u64::from_le_bytes(word) == new.0;
    assert_eq!(is_free(&healthy, old), committed, "{after} {repair}");
    assert!(committed || !lives);
    (lives, repaired)
}

#[test]
fn what_a_dead_client_gave_up_is_freed_once_iff_it_committed() {
    for replicas in [1, 2] {
        for after in 0.. {
            if scenario(replicas, after, u64::MAX / 2).0 {
                break;
            }
            assert!(after < 60);
        }
        for after in [5, 7, 9, 11] {
            for repair in (0..).step_by(2) {
                if scenario(replicas, after, repair).1 {
                    break;
                }
                assert!(repair < 200);
            }
        }
    }
}

/// The object may be somebody else's by the time that the client which gave it up dies.
#[test]
fn what_was_reclaimed_since_is_not_freed_again() {
    let memory = memory(2);
    let owner = join(Box::new(memory.connect(1))).unwrap();
    let mut alloc = Allocator::new(&owner).unwrap();
    let [root, old] = [64, 200].map(|bytes| alloc.allocate(&owner, bytes).unwrap());
    let other = join(Box::new(memory.connect(2))).unwrap();
    let mut its_alloc = Allocator::new(&other).unwrap();
    replace(&other, &mut its_alloc, &Logs::default(), root.addr, old, PoolAddr(64)).unwrap();
    assert!(is_free(&owner, old));
    for _ in 0..1000 {
        its_alloc.settle(&other).unwrap();
        alloc.settle(&owner).unwrap();
    }
    assert!(!is_free(&owner, old), "reclaimed");
    declare_dead(&owner, ClientId { index: 2, incarnation: 1 });
    repair_all(&owner, other.me()).unwrap();
    assert!(!is_free(&owner, old), "freed again");
}

/// A master has settled what the dead client left, then the epoch jumped.
#[test]
fn what_a_master_has_settled_is_not_freed_again() {
    let memory = memory(2);
    let owner = join(Box::new(memory.connect(1))).unwrap();
    let mut alloc = Allocator::new(&owner).unwrap();
    let [root, old] = [64, 200].map(|bytes| alloc.allocate(&owner, bytes).unwrap());
    let other = join(Box::new(memory.connect(2))).unwrap();
    let mut its_alloc = Allocator::new(&other).unwrap();
    replace(&other, &mut its_alloc, &Logs::default(), root.addr, old, PoolAddr(64)).unwrap();
    declare_dead(&owner, other.me());
    repair_all(&owner, other.me()).unwrap();
    let flushed = table::offset(other.me().index, record::FLUSHED);
    words::write(&owner, flushed, record::ALL_FLUSHED).unwrap();
    (0..10).for_each(|_| alloc.settle(&owner).unwrap());
    for copy in owner.meta(meta::EPOCH) {
        owner.batch(&mut [Verb::faa(copy, EPOCH_JUMP)]).unwrap();
    }
    for _ in 0..1000 {
        alloc.settle(&owner).unwrap();
    }
    assert!(!is_free(&owner, old), "reclaimed");
    repair_all(&owner, other.me()).unwrap();
    assert!(!is_free(&owner, old), "freed again");
}

#[test]
fn giving_up_twice_is_noticed_and_harms_nobody() {
    let memory = memory(1);
    let fabric = join(Box::new(memory.connect(1))).unwrap();
    let mut alloc = Allocator::new(&fabric).unwrap();
    let [root, old, next] = [64, 200, 200].map(|bytes| alloc.allocate(&fabric, bytes).unwrap());
    let logs = Logs::default();
    replace(&fabric, &mut alloc, &logs, root.addr, old, PoolAddr(64)).unwrap();
    let twice = replace(&fabric, &mut alloc, &logs, root.addr, old, PoolAddr(128));
    assert!(matches!(twice, Err(crate::PoolError::Corrupt(_))), "{twice:?}");
    assert!(is_free(&fabric, old) && !is_free(&fabric, next));
}
