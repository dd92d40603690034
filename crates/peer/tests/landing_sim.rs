//! Exploration of landings on the simulated bus: writers die, freeze, come late and twice; the
//! owner revokes whenever it likes and uses its blocks again. No write may land in a block that the
//! owner has back, what is complete must be whole, and every block must come back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use artesian_bus::sim::{seeds, Config, Fault, Rng, SimVerbs, World};
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};
use artesian_kernels::kv::{KvDtype, KvLayout};
use artesian_peer::landing::{Pad, Standing, Target, Writer, SLOT_BYTES};

const LAYERS: usize = 2;
const NUM_SLOTS: u32 = 2;
const NUM_BLOCKS: u32 = 5;
const ARENA: u64 = 4096;
const NODE_BYTES: usize = 4096 * 8;
/// Looks at a landing in quarantine, before a block counts as leaked.
const MOST_LOOKS: u32 = 200_000;

fn layout() -> KvLayout {
    KvLayout::new(LAYERS, 1, 16, 32, KvDtype::Int8).unwrap()
}

fn control() -> GlobalAddr {
    GlobalAddr::new(NodeId(0), SLOT_BYTES)
}

fn block_at(block: u32) -> GlobalAddr {
    GlobalAddr::new(NodeId(0), ARENA + u64::from(block) * layout().block_bytes() as u64)
}

/// What somebody who is called `name` writes to a layer.
fn pattern(name: u64, block: usize, layer: usize) -> Vec<u8> {
    let mut rng = Rng::new(name << 20 | (block as u64) << 8 | layer as u64);
    (0..layout().layer_bytes() / 8).flat_map(|_| rng.word().to_le_bytes()).collect()
}

/// What the test knows, besides the simulated memory.
#[derive(Default)]
struct Known {
    /// Tickets, which stay here: writers take them late and twice too.
    tickets: Vec<Target>,
    /// Who has taken a landing up: a name for each writer of each landing.
    writers: HashMap<(u32, u64), u64>,
    num_names: u64,
    is_over: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    complete: u32,
    failed: u32,
    freed_at_once: u32,
    quarantined: u32,
    dead: u32,
    refused: u32,
}

type Shared = Rc<RefCell<Known>>;

/// Takes tickets up, and writes, slowly.
fn write_landings(shared: &Shared, connect: &dyn Fn() -> SimVerbs, seed: u64) {
    let (mut rng, verbs) = (Rng::new(seed), connect());
    while !shared.borrow().is_over {
        verbs.relax(rng.below(20_000));
        let ticket = {
            let known = shared.borrow();
            // Mostly the newest; now and then any.
            let back = if rng.once_in(4) { rng.below(known.tickets.len() as u64 + 1) } else { 0 };
            let at = known.tickets.len().checked_sub(1 + back as usize);
            at.map(|at| known.tickets[at].clone())
        };
        let Some(ticket) = ticket else { continue };
        let landing = (ticket.slot, ticket.generation);
        let writer = match Writer::attach(ticket, layout(), 1, connect) {
            Ok(writer) => writer,
            Err(_) => {
                shared.borrow_mut().counts.refused += 1;
                continue;
            }
        };
        let name = {
            let mut known = shared.borrow_mut();
            known.num_names += 1;
            let name = known.num_names;
            let before = known.writers.insert(landing, name);
            assert_eq!(before, None, "landing {landing:?} has two writers");
            name
        };
        write_one(&writer, &verbs, &mut rng, name);
    }
}

fn write_one(writer: &Writer<SimVerbs>, verbs: &SimVerbs, rng: &mut Rng, name: u64) {
    let (fails, forgets) = (rng.once_in(12), rng.once_in(12));
    for layer in 0..LAYERS {
        for block in 0..4 {
            if forgets && (layer, block) == (1, 0) {
                continue; // And says that it is complete all the same.
            }
            // As a chunk does that begins the block, and then one that ends it.
            if rng.once_in(3) {
                writer.write_layer(layer, block, 7, &pattern(name + 500, block, layer));
            }
            let written = writer.write_layer(layer, block, 32, &pattern(name, block, layer));
            if !written && rng.once_in(2) {
                return;
            }
            if rng.once_in(2) {
                writer.end_section();
                verbs.relax(rng.below(3_000));
            }
            if rng.once_in(6) {
                writer.look();
            }
        }
        if fails && layer == 1 {
            return writer.fail();
        }
    }
    writer.complete();
}

/// The owner: lends blocks, takes them back, and uses them itself.
struct Owner {
    shared: Shared,
    verbs: SimVerbs,
    pad: Pad<SimVerbs>,
    rng: Rng,
    free: Vec<u32>,
    lent: Vec<(u32, u64, Vec<u32>)>,
    /// Looks until a landing is revoked; by chance if `None`.
    patience: Option<u32>,
}

impl Owner {
    fn check(&self, blocks: &[u32], name: u64, what: &str) {
        for (place, &block) in blocks.iter().enumerate() {
            let mut bytes = vec![0; layout().block_bytes()];
            self.verbs.batch(&mut [Verb::read(block_at(block), &mut bytes)]).unwrap();
            let wanted = (0..LAYERS).flat_map(|layer| pattern(name, place, layer));
            assert!(bytes.into_iter().eq(wanted), "block {block} {what}");
        }
    }

    /// Uses blocks as its own for a while: nobody else may write there.
    fn use_blocks(&mut self, blocks: Vec<u32>) {
        let name = {
            let mut known = self.shared.borrow_mut();
            known.num_names += 1;
            known.num_names + 1_000_000
        };
        for (place, &block) in blocks.iter().enumerate() {
            let bytes: Vec<u8> =
                (0..LAYERS).flat_map(|layer| pattern(name, place, layer)).collect();
            self.verbs.batch(&mut [Verb::write(block_at(block), &bytes)]).unwrap();
        }
        let long = if self.rng.once_in(5) { 400_000 } else { 10_000 };
        self.verbs.relax(self.rng.below(long));
        self.check(&blocks, name, "was written to after its owner had it back");
        self.free.extend(blocks);
    }

    fn land(&mut self) {
        let num_blocks = 1 + self.rng.below(2) as usize;
        if self.free.len() < num_blocks {
            return;
        }
        let Some((slot, generation)) = self.pad.open().unwrap() else { return };
        let blocks: Vec<u32> = (0..num_blocks).map(|_| self.free.pop().unwrap()).collect();
        let target = Target {
            control: control(),
            num_slots: NUM_SLOTS,
            arena: block_at(0),
            num_blocks: u64::from(NUM_BLOCKS),
            slot,
            generation,
            first_block: 0,
            blocks: blocks.clone(),
        };
        self.shared.borrow_mut().tickets.push(target);
        self.lent.push((slot, generation, blocks));
    }

    /// Waits for a landing, or not so long.
    fn end(&mut self) {
        if self.lent.is_empty() {
            return;
        }
        let at = self.rng.below(self.lent.len() as u64) as usize;
        let (slot, generation, blocks) = self.lent.swap_remove(at);
        let patience = self.patience.unwrap_or_else(|| {
            let most = [1, 10, 60, 400][self.rng.below(4) as usize];
            self.rng.below(most) as u32
        });
        let mut looks = 0;
        let standing = loop {
            let standing = self.pad.standing(slot).unwrap();
            looks += 1;
            let is_over = matches!(standing, Standing::Complete | Standing::Failed);
            if is_over || looks > patience {
                break standing;
            }
            self.verbs.relax(500);
        };
        match standing {
            Standing::Complete => {
                let name = self.shared.borrow().writers[&(slot, generation)];
                self.check(&blocks, name, "is complete, but not what its writer wrote");
                self.shared.borrow_mut().counts.complete += 1;
            }
            Standing::Failed => self.shared.borrow_mut().counts.failed += 1,
            _ => self.take_back(slot),
        }
        self.pad.release(slot).unwrap();
        self.use_blocks(blocks);
    }

    fn take_back(&mut self, slot: u32) {
        let mut is_quiet = self.pad.revoke(slot).unwrap();
        {
            let mut known = self.shared.borrow_mut();
            let count = if is_quiet {
                &mut known.counts.freed_at_once
            } else {
                &mut known.counts.quarantined
            };
            *count += 1;
        }
        for _ in 0..MOST_LOOKS {
            if is_quiet {
                let dead = self.pad.writer_is_dead(slot).unwrap();
                self.shared.borrow_mut().counts.dead += u32::from(dead);
                return;
            }
            self.verbs.relax(1_000);
            is_quiet = self.pad.is_quiet(slot).unwrap();
        }
        panic!("the blocks of landing {slot} never come back");
    }
}

struct Plan {
    seed: u64,
    num_writers: usize,
    num_landings: u32,
    patience: Option<u32>,
}

/// What each process did in a world, and how many verbs the owner and the first writer took.
fn run(plan: &Plan, faults: impl Fn(&mut World, &[artesian_bus::sim::Pid])) -> (Counts, [u64; 2]) {
    let mut world = World::new(&Config::new(plan.seed, 1, NODE_BYTES));
    let shared = Shared::default();
    let owner = world.process();
    let writers: Vec<_> = (0..plan.num_writers).map(|_| world.process()).collect();
    for (number, &process) in writers.iter().enumerate() {
        // A coroutine has its own connections: one process may have several.
        let lines = RefCell::new((0..2000).map(|_| world.verbs(process)).collect::<Vec<_>>());
        let (shared, seed) = (Rc::clone(&shared), plan.seed * 31 + number as u64);
        world.spawn(process, move || {
            let connect = || lines.borrow_mut().pop().expect("enough connections");
            write_landings(&shared, &connect, seed);
        });
    }
    let verbs = [world.verbs(owner), world.verbs(owner)];
    let (mine, num_landings, patience) = (Rc::clone(&shared), plan.num_landings, plan.patience);
    let rng = Rng::new(plan.seed ^ 0xabcd);
    world.spawn(owner, move || {
        let [verbs, of_pad] = verbs;
        let pad = Pad::new(of_pad, control(), NUM_SLOTS, 3);
        let (free, lent) = ((0..NUM_BLOCKS).collect(), Vec::new());
        let mut owner = Owner { shared: mine, verbs, pad, rng, free, lent, patience };
        for _ in 0..num_landings {
            while owner.rng.once_in(2) || owner.lent.is_empty() {
                let before = owner.lent.len();
                owner.land();
                if owner.lent.len() == before {
                    break;
                }
            }
            owner.end();
        }
        while !owner.lent.is_empty() {
            owner.end();
        }
        assert_eq!(owner.free.len(), NUM_BLOCKS as usize, "a block leaked");
        owner.shared.borrow_mut().is_over = true;
    });
    let mut processes = vec![owner];
    processes.extend(&writers);
    faults(&mut world, &processes);
    // The writers do not outlive an owner for ever.
    let orphans = Rc::clone(&shared);
    let watch = world.process();
    let eye = world.verbs(watch);
    let owner_identity = artesian_bus::Identity { pid: owner.0, started: 0 };
    world.spawn(watch, move || {
        while !orphans.borrow().is_over && eye.is_alive(owner_identity) {
            eye.relax(50_000);
        }
        orphans.borrow_mut().is_over = true;
    });
    world.run();
    let verbs = [world.verbs_of(owner), world.verbs_of(writers[0])];
    let counts = shared.borrow().counts;
    (counts, verbs)
}

fn add(sum: &mut Counts, more: Counts) {
    sum.complete += more.complete;
    sum.failed += more.failed;
    sum.freed_at_once += more.freed_at_once;
    sum.quarantined += more.quarantined;
    sum.dead += more.dead;
    sum.refused += more.refused;
}

/// Writers that come and go as `faults` has it; landings and revocations by chance.
fn explore(range: std::ops::Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds(range) {
        let plan = Plan { seed, num_writers: 3, num_landings: 25, patience: None };
        let (counts, _) = run(&plan, |world, processes| {
            let mut rng = Rng::new(seed ^ 0x77);
            for &process in &processes[1..] {
                let after = rng.below(400);
                if rng.once_in(2) {
                    let torn = rng.once_in(2);
                    world.plan(Fault::Kill { process, after: after + 100, torn });
                }
                let ns = 20_000 + rng.below(2_000_000);
                world.plan(Fault::Freeze { process, after, ns });
            }
            let ns = 10_000 + rng.below(300_000);
            world.plan(Fault::Freeze { process: processes[0], after: rng.below(200), ns });
        });
        add(&mut sum, counts);
    }
    sum
}

#[test]
fn writers_die_freeze_and_come_twice() {
    let sum = explore(0..150);
    println!("{sum:?}");
    if std::env::var("SIM_SEED").is_err() {
        let least = [sum.complete, sum.failed, sum.freed_at_once, sum.quarantined, sum.dead];
        assert!(least.iter().all(|&count| count > 10) && sum.refused > 100, "{sum:?}");
    }
}

#[test]
#[ignore = "a long exploration"]
fn many_more_seeds() {
    println!("{:?}", explore(1_000..6_000));
}

#[test]
fn a_writer_dies_at_every_verb() {
    let mut dead = 0;
    for seed in seeds(0..3) {
        let plan = Plan { seed, num_writers: 1, num_landings: 3, patience: Some(80) };
        let (_, [_, verbs]) = run(&plan, |_, _| {});
        for after in 0..verbs {
            for torn in [false, true] {
                let (counts, _) = run(&plan, |world, processes| {
                    world.plan(Fault::Kill { process: processes[1], after, torn });
                });
                dead += counts.dead;
            }
        }
    }
    assert!(dead > 5, "{dead}");
}

#[test]
fn the_owner_dies_at_every_verb() {
    for seed in seeds(0..3) {
        let plan = Plan { seed, num_writers: 2, num_landings: 3, patience: Some(30) };
        let (_, [verbs, _]) = run(&plan, |_, _| {});
        for after in 0..verbs {
            // Writers end: nothing of theirs waits for an owner.
            run(&plan, |world, processes| {
                world.plan(Fault::Kill { process: processes[0], after, torn: after % 2 == 0 });
            });
        }
    }
}

#[test]
fn the_owner_revokes_at_every_moment() {
    let mut sum = Counts::default();
    for seed in seeds(0..4) {
        for patience in 0..120 {
            let plan = Plan { seed, num_writers: 2, num_landings: 4, patience: Some(patience) };
            add(&mut sum, run(&plan, |_, _| {}).0);
        }
    }
    let least = [sum.complete, sum.freed_at_once, sum.quarantined];
    assert!(least.iter().all(|&count| count > 20), "{sum:?}");
}
