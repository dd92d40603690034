//! Exploration of the pool's protocols on the simulator: clients work on few keys while clients and
//! nodes die, freeze and join; afterwards all operations must be linearizable, and a healthy client
//! must find everything in order, down to the last object.

#[path = "../common/mod.rs"]
mod common;
mod keys;
mod scenario;
mod worker;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use artesian_bus::sim::seeds;
use scenario::{run, Done, Plan, Trouble};

/// Verbs that a failure shows.
const TRACE: usize = 80;

/// Runs all seeds on two threads; panics with the first failure.
fn explore(range: Range<u64>, plan: Plan) -> Done {
    let seeds = seeds(range);
    let name = std::thread::current().name().unwrap_or("explore").to_owned();
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let work = || -> Result<Done, String> {
        let mut done = Done::default();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match run(seed, plan, TRACE) {
                Ok(more) => done += more,
                Err(text) => {
                    next.store(seeds.len(), Ordering::Relaxed);
                    return Err(text);
                }
            }
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Done, String>> = std::thread::scope(|scope| {
        let spawn = || std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, work);
        let handles: Vec<_> = (0..2).map(|_| spawn().expect("a thread")).collect();
        handles.into_iter().map(|handle| handle.join().expect("failures are caught")).collect()
    });
    let mut done = Done::default();
    for outcome in outcomes {
        match outcome {
            Ok(more) => done += more,
            Err(text) => panic!("{text}"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = done.operations as f64 / seconds;
    println!(
        "{:?}: {} seeds, {} operations, {} verbs in {seconds:.1} s ({rate:.0} operations a second)",
        plan.trouble, done.seeds, done.operations, done.verbs
    );
    done
}

#[test]
fn calm() {
    explore(0..100, Plan { trouble: Trouble::Calm, operations: 300 });
}

#[test]
fn deaths() {
    explore(0..200, Plan { trouble: Trouble::Deaths, operations: 300 });
}
