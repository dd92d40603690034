//! Exploration of the pool's protocols on the simulator: clients work on few keys while clients and
//! nodes die, freeze and join; afterwards all operations must be linearizable, and a healthy client
//! must find everything in order, down to the last object.

mod cache;
#[path = "../common/mod.rs"]
mod common;
mod keys;
mod mover;
mod saboteur;
mod scenario;
mod store;
mod values;
mod worker;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use artesian_bus::sim::{report, seeds};
use scenario::{run, Done, Plan, Trouble};

/// Verbs that a failure shows, unless `SIM_TRACE` says otherwise.
const TRACE: usize = 80;

/// Seeds of a long exploration, and operations of each.
const LONG: (Range<u64>, u32) = (1_000..1_800, 1_000);

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What the threads of one exploration share.
struct Exploration {
    seeds: Vec<u64>,
    next: AtomicUsize,
    plan: Plan,
    failures: Mutex<Vec<String>>,
    /// All seeds are run, and what they found is told by kind (`SIM_KEEP_GOING`).
    keeps_going: bool,
}

impl Exploration {
    fn work(&self) -> Done {
        let trace = number("SIM_TRACE").unwrap_or(TRACE);
        let mut done = Done::default();
        while let Some(&seed) = self.seeds.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match run(seed, self.plan, trace) {
                Ok(more) => done += more,
                Err(text) => {
                    self.failures.lock().expect("no panic").push(text);
                    if !self.keeps_going {
                        self.next.store(self.seeds.len(), Ordering::Relaxed);
                    }
                }
            }
        }
        done
    }

    /// Panics if any seed failed.
    fn conclude(&self) {
        let failures = self.failures.lock().expect("no panic");
        let Some(first) = failures.first() else { return };
        let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for failure in failures.iter() {
            let line = failure.lines().next().unwrap_or_default();
            let (seed, reason) = line.split_once(": ").unwrap_or(("", line));
            let kind = reason.replace(|letter: char| letter.is_ascii_hexdigit(), "");
            kinds.entry(kind).or_default().push(seed);
        }
        for seeds in kinds.values() {
            let example = failures.iter().find(|text| text.starts_with(seeds[0]));
            let line = example.and_then(|text| text.lines().next()).unwrap_or_default();
            println!("{} failures such as: {line}", seeds.len());
        }
        panic!("{first}");
    }
}

/// Runs all seeds on two threads; panics with the first failure. `SIM_SEEDS` and `SIM_THREADS`
/// change how many.
fn explore(range: Range<u64>, plan: Plan) {
    let count = number("SIM_SEEDS").map_or(range.end - range.start, |count| count as u64);
    let range = range.start..range.start + count;
    let name = std::thread::current().name().unwrap_or("explore").to_owned();
    let exploration = Exploration {
        seeds: seeds(range),
        next: AtomicUsize::new(0),
        plan,
        failures: Mutex::default(),
        keeps_going: number("SIM_KEEP_GOING").is_some(),
    };
    let started = Instant::now();
    let mut done = Done::default();
    std::thread::scope(|scope| {
        // The name of the test tells how to replay a failure.
        let builder = || std::thread::Builder::new().name(name.clone());
        let spawn = |_| builder().spawn_scoped(scope, || exploration.work()).expect("a thread");
        let threads: Vec<_> = (0..number("SIM_THREADS").unwrap_or(2)).map(spawn).collect();
        threads.into_iter().for_each(|thread| done += thread.join().expect("failures are caught"));
    });
    exploration.conclude();
    report(done.seeds, done.operations);
    let seconds = started.elapsed().as_secs_f64();
    let rate = done.operations as f64 / seconds;
    println!("{plan:?}: {} verbs in {seconds:.1} s, {rate:.0} operations a second", done.verbs);
}

/// For every trouble a short test and, in `many`, a long one on other seeds.
macro_rules! troubles {
    ($($name:ident: $trouble:ident, $seeds:expr, $caches:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let (trouble, caches) = (Trouble::$trouble, $caches);
                explore(0..$seeds, Plan { trouble, operations: 300, caches });
            }
        )*

        mod many {
            use super::{explore, Plan, Trouble, LONG};

            $(
                #[test]
                #[ignore = "slow: a million operations"]
                fn $name() {
                    let (trouble, caches) = (Trouble::$trouble, $caches);
                    explore(LONG.0, Plan { trouble, operations: LONG.1, caches });
                }
            )*
        }
    };
}

troubles! {
    calm: Calm, 60, false;
    deaths: Deaths, 150, false;
    splitters: Splitters, 100, false;
    freezes: Freezes, 100, false;
    repairers: Repairers, 100, false;
    nodes: Nodes, 100, false;
    movers: Movers, 60, false;
    movers_in_a_cache: Movers, 40, true;
    masters: Masters, 100, false;
    mixed: Mixed, 100, false;
    calm_cache: Calm, 60, true;
    deaths_in_a_cache: Deaths, 150, true;
    freezes_in_a_cache: Freezes, 60, true;
    repairers_in_a_cache: Repairers, 60, true;
    nodes_of_a_cache: Nodes, 100, true;
    mixed_in_a_cache: Mixed, 100, true;
}
