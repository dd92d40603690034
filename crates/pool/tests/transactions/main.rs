//! Transactions on the simulator: clients and nodes die at any verb; all keys together must have
//! behaved as one object, and no object may be lost or used twice.

#[path = "../common/audit.rs"]
mod audit;
mod bank;
mod client;

use std::rc::Rc;

use artesian_bus::sim::{report, seeds, Config, Fault, Pid, Rng, World};
use artesian_bus::NodeId;
use artesian_pool::client::Client;
use artesian_pool::{lifecycle, PoolConfig};
use client::{work, Shared};

const NODE_BYTES: u64 = 4 << 20;
const LEASE_MS: u32 = 10;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Calm,
    Deaths,
    LostNode,
}

/// Operations, and transactions that committed.
fn run(seed: u64, trouble: Trouble) -> Result<(u64, u64), String> {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let least = if trouble == Trouble::LostNode { 2 } else { 1 };
    let replicas = (least + rng.below(3 - least + 1)) as u8;
    let nodes = u16::from(replicas) + rng.below(2) as u16;
    let trace = std::env::var("SIM_TRACE").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let config = Config { trace, ..Config::new(seed, nodes, NODE_BYTES as usize) };
    let mut world = World::new(&config);
    let maker = world.process();
    let pool = PoolConfig {
        pool_id: 1,
        node_bytes: NODE_BYTES,
        num_nodes: nodes,
        replicas,
        region_shift: 18,
        block_shift: 14,
        max_clients: 12,
        lease_ms: LEASE_MS,
    };
    lifecycle::format(&world.verbs(maker), &pool).expect("a pool can be made");
    let shared = Rc::new(Shared::default());
    let workers: Vec<Pid> = (1..=2 + rng.below(2) as u32)
        .map(|name| hire(&mut world, &shared, rng.fork(), name, 16))
        .collect();
    plan(&mut world, &mut rng, trouble, &workers, nodes);
    let outcome = play(&mut world, &shared, &mut rng, maker);
    outcome.map_err(|reason| {
        world.fail(format!("{trouble:?}, {replicas} copies: {reason}")).to_string()
    })?;
    Ok(shared.counts())
}

fn plan(world: &mut World, rng: &mut Rng, trouble: Trouble, workers: &[Pid], nodes: u16) {
    if trouble != Trouble::Calm {
        for &process in workers {
            if !rng.once_in(3) {
                let (after, torn) = (rng.below(900), rng.once_in(2));
                world.plan(Fault::Kill { process, after, torn });
            }
        }
    }
    if trouble == Trouble::LostNode {
        let node = NodeId(rng.below(u64::from(nodes)) as u16);
        world.plan(Fault::LoseNode { node, after: rng.below(2_500) });
    }
}

fn play(world: &mut World, shared: &Rc<Shared>, rng: &mut Rng, maker: Pid) -> Result<(), String> {
    turn(world, shared)?;
    world.calm();
    // Somebody healthy, who stays until the dead are recovered.
    hire(world, shared, rng.fork(), 100, 12);
    turn(world, shared)?;
    shared.check()?;
    audit::audit(&|| Box::new(world.verbs(maker)))
}

fn turn(world: &mut World, shared: &Shared) -> Result<(), String> {
    world.try_run().map_err(|failure| failure.reason)?;
    shared.problems.borrow().first().map_or(Ok(()), |problem| Err(problem.clone()))
}

/// A new client that works, waits a while for others' leases to run out, and leaves.
fn hire(world: &mut World, shared: &Rc<Shared>, mut rng: Rng, name: u32, operations: u32) -> Pid {
    let pid = world.process();
    let verbs = world.verbs(pid);
    let shared = Rc::clone(shared);
    world.spawn(pid, move || {
        shared.watch(name, || {
            let mut client = Client::with_cache(Box::new(verbs), 1 << 12)?;
            work(&mut client, &shared, &mut rng, name, operations)?;
            if name == 100 {
                for _ in 0..60 {
                    client.fabric().verbs().relax(u64::from(LEASE_MS) * 100_000);
                    client.tick()?;
                }
                work(&mut client, &shared, &mut rng, name, operations)?;
            }
            client.leave()
        });
    });
    pid
}

fn explore(count: u64, trouble: Trouble) {
    let (mut runs, mut operations, mut committed) = (0, 0, 0);
    for seed in seeds(0..count) {
        match run(seed, trouble) {
            Ok(done) => {
                runs += 1;
                (operations, committed) = (operations + done.0, committed + done.1);
            }
            Err(text) if std::env::var("SIM_KEEP_GOING").is_ok() => {
                println!("{}", text.lines().next().unwrap_or_default());
            }
            Err(text) => panic!("{text}"),
        }
    }
    report(runs, operations);
    println!("{trouble:?}: {committed} transactions committed");
    assert!(runs < 10 || committed * 8 > operations, "{committed} of {operations} commit");
}

#[test]
fn calm() {
    explore(60, Trouble::Calm);
}

#[test]
fn deaths() {
    explore(120, Trouble::Deaths);
}

#[test]
fn lost_node() {
    explore(60, Trouble::LostNode);
}

#[test]
#[ignore = "slow: thousands of seeds"]
fn many_deaths() {
    explore(6_000, Trouble::Deaths);
}

#[test]
#[ignore = "slow: thousands of seeds"]
fn many_lost_nodes() {
    explore(4_000, Trouble::LostNode);
}
