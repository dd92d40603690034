//! Round trips and verbs of a transaction that changes some objects: repairable transactions beside
//! a two-phase commit whose records are written with the same verbs.
//!
//! Two-phase: lock and read each object; prepare records at all participants; the commit record at
//! the coordinator; the data; the end records and the locks. Each waits for the one before.

use artesian_bus::heap::HeapNodes;
use artesian_bus::{GlobalAddr, Tally, Verb};
use artesian_pool::alloc::Allocator;
use artesian_pool::rtx::{Logs, Rtx, Target};
use artesian_pool::{lifecycle, Fabric, PoolAddr, PoolConfig};
use pico_args::Arguments;
use serde_json::{json, Value};

use crate::Error;

const NODE_BYTES: usize = 64 << 20;
const OBJECT_BYTES: usize = 128;
/// Bytes that change of each object.
const IMAGE: [u8; 64] = [7; 64];
/// A record's bytes beside the images.
const RECORD_HEAD: usize = 64;

struct Setting {
    fabric: Fabric,
    objects: Vec<PoolAddr>,
    /// Room for records, of the coordinator and of each object's node.
    records: Vec<PoolAddr>,
}

/// What a transaction over `--objects` objects costs either way.
pub fn measure(mut args: Arguments) -> Result<Value, Error> {
    let objects: usize = args.value_from_str("--objects")?;
    let replicas: u8 = args.value_from_str("--replicas")?;
    let setting = Setting::new(objects, replicas)?;
    let logs = Logs::default();
    let repairable = setting.cost(|setting| setting.repairable(&logs))?;
    let two_phase = setting.cost(Setting::two_phase)?;
    Ok(json!({ "repairable": report(repairable), "two_phase": report(two_phase) }))
}

fn report(tally: Tally) -> Value {
    json!({
        "round_trips": tally.round_trips,
        "verbs": tally.verbs(),
        "bytes": tally.bytes,
    })
}

impl Setting {
    fn new(objects: usize, replicas: u8) -> Result<Setting, Error> {
        let nodes = (objects as u16).max(u16::from(replicas));
        let memory = HeapNodes::new(nodes, NODE_BYTES);
        let config = PoolConfig::for_size(NODE_BYTES as u64, nodes, replicas);
        lifecycle::format(&memory.connect(900), &config)?;
        let fabric = lifecycle::join(Box::new(memory.connect(1)))?;
        let mut alloc = Allocator::new(&fabric)?;
        // Objects on nodes of their own, as the keys of a transaction are: others are passed over.
        let mut found: Vec<PoolAddr> = Vec::new();
        for class in 1.. {
            let addr = alloc.allocate(&fabric, OBJECT_BYTES * class)?.addr;
            let node = |addr: &PoolAddr| fabric.primary(*addr).map(|at| at.node());
            if found.iter().all(|other| node(other) != node(&addr)) {
                found.push(addr);
            }
            if found.len() == objects {
                break;
            }
        }
        let bytes = RECORD_HEAD + objects * IMAGE.len() + 64;
        let records = (0..=objects).map(|_| Ok(alloc.allocate(&fabric, bytes)?.addr));
        let records = records.collect::<Result<_, Error>>()?;
        Ok(Setting { fabric, objects: found, records })
    }

    fn cost(&self, mut f: impl FnMut(&Setting) -> Result<(), Error>) -> Result<Tally, Error> {
        f(self)?;
        let before = self.fabric.verbs().tally();
        f(self)?;
        Ok(self.fabric.verbs().tally() - before)
    }

    fn repairable(&self, logs: &Logs) -> Result<(), Error> {
        let mut rtx = Rtx::begin(&self.fabric, logs)?;
        let mut into = [0; IMAGE.len()];
        for &object in &self.objects {
            rtx.lock(Target::Pool(object), &mut into)?;
        }
        for &object in &self.objects {
            rtx.write(Target::Pool(object), &IMAGE)?;
        }
        Ok(rtx.commit()?)
    }

    fn two_phase(&self) -> Result<(), Error> {
        let fabric = &self.fabric;
        let mut locks: Vec<GlobalAddr> = Vec::new();
        for &object in &self.objects {
            let (lock, mut into) = (fabric.lock_of(object)?, [0; IMAGE.len()]);
            let at = fabric.primary(object)?;
            let mut verbs = [Verb::cas(lock, 0, 1), Verb::read(at, &mut into)];
            fabric.batch(&mut verbs)?;
            locks.push(lock);
        }
        let (coordinator, participants) = self.records.split_at(1);
        let prepare = [1; RECORD_HEAD + IMAGE.len()];
        self.write_all(participants, &prepare)?;
        self.write_all(coordinator, &[2; RECORD_HEAD])?;
        self.write_all(&self.objects, &IMAGE)?;
        let end = [0; 8];
        let ends = self.records.iter().flat_map(|&record| fabric.copies(record));
        let mut verbs: Vec<Verb<'_>> = ends.map(|copy| Verb::write(copy, &end)).collect();
        verbs.extend(locks.iter().map(|&lock| Verb::cas(lock, 1, 0)));
        Ok(fabric.batch(&mut verbs)?)
    }

    fn write_all(&self, places: &[PoolAddr], bytes: &[u8]) -> Result<(), Error> {
        let copies = places.iter().flat_map(|&place| self.fabric.copies(place));
        let mut verbs: Vec<Verb<'_>> = copies.map(|copy| Verb::write(copy, bytes)).collect();
        Ok(self.fabric.batch(&mut verbs)?)
    }
}
