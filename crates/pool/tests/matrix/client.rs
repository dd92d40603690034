//! What a client process does.

use std::io::Write;
use std::sync::Arc;

use artesian_bus::shm::ShmNodes;
use artesian_bus::Verbs;
use artesian_pool::cache::CacheConfig;
use artesian_pool::client::Client;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::observe;
use artesian_pool::Result;
use rustix::process::{getppid, set_parent_process_death_signal, Signal};

use super::case::{Case, Start, CACHE_OBJECTS};
use super::deed::{Arena, Deed, Space};
use super::fuse::{Fuse, Trigger};
use super::history::Actor;
use super::process::{Order, Role};
use super::spec::{Spec, Trouble};

/// Bytes of a client's index cache.
pub const INDEX_CACHE: usize = 1 << 16;
const NAME: u8 = 2;
/// Turns of a repairer, and of a master.
const TURNS: u32 = 4_000;

/// Tells the test something, at once.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The other end is gone when the test is.
    let _ = out.write_all(format!("\n@{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// Opens the case's namespace.
pub fn open(client: &mut Client, case: &Case) -> Result<Space> {
    let name = format!("{:?}", case.arena);
    let id = match case.arena {
        Arena::Cache => client.cache_open(&name, &CacheConfig::of_objects(CACHE_OBJECTS))?,
        Arena::Tree => client.namespace(&name, Kind::Tree, Limits::default())?,
        Arena::Store => client.namespace(&name, Kind::Store, Limits::default())?,
    };
    Ok(Space { arena: case.arena, id, key: case.key })
}

/// Does what it is told until it dies or has done it.
pub fn run(order: &Order) {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a known signal");
    let parent = getppid().map(|pid| pid.as_raw_pid() as u32);
    assert_eq!(parent, Some(order.parent), "the test has ended");
    let nodes = ShmNodes::open(&order.pool).expect("a pool");
    let (fuse, trigger) = Fuse::new(&nodes);
    let outcome = match order.role {
        Role::Worker => work(order, &nodes, fuse, &trigger),
        Role::Repairer => repair(&order.spec, &nodes, fuse, &trigger),
    };
    match outcome {
        Ok(gone_off) => say(&format!("done {gone_off}")),
        Err(error) => say(&format!("error {error}")),
    }
}

/// The operation; whether the charge has gone off before its end.
fn work(order: &Order, nodes: &Arc<ShmNodes>, fuse: Fuse, trigger: &Trigger) -> Result<bool> {
    let (spec, case) = (&order.spec, order.spec.case);
    if case.start == Start::Joining {
        trigger.arm(spec.charge());
    }
    let mut client = Client::with_cache(Box::new(fuse), INDEX_CACHE)?;
    let joined = case.start == Start::Joining && !trigger.disarm();
    let space = open(&mut client, case)?;
    let mut actor = Actor::new(client, space, NAME, order.epoch);
    for key in 0..if spec.warm { case.keys } else { 0 } {
        space.perform(&mut actor.client, &Deed::Get(key))?;
    }
    if spec.trouble == Trouble::Master {
        actor.client.tick()?;
    }
    let view = actor.client.fabric().epoch();
    if case.start == Start::Working {
        trigger.arm(spec.charge());
    }
    if spec.trouble == Trouble::Master {
        nodes.kill_node(spec.victim())?;
    }
    for deed in (case.work)() {
        let (returned, outcome) = actor.act(&deed, |moment| say(&format!("calls {moment}")))?;
        say(&format!("returns {returned} {}", outcome.encode()));
    }
    if spec.trouble == Trouble::Master {
        await_change(&mut actor.client, view)?;
    }
    if case.start == Start::Leaving {
        trigger.arm(spec.charge());
    }
    let worked = case.start == Start::Working && !trigger.disarm();
    actor.client.leave()?;
    let left = case.start == Start::Leaving && !trigger.disarm();
    Ok(joined || worked || left)
}

/// Ticks until there is another view.
fn await_change(client: &mut Client, view: u64) -> Result<()> {
    for _ in 0..TURNS {
        if client.fabric().epoch() > view {
            break;
        }
        client.tick()?;
        client.fabric().verbs().relax(500_000);
    }
    Ok(())
}

/// Looks after the dead until nobody else is there; whether the charge has gone off.
fn repair(spec: &Spec, nodes: &Arc<ShmNodes>, fuse: Fuse, trigger: &Trigger) -> Result<bool> {
    let mut client = Client::with_cache(Box::new(fuse), INDEX_CACHE)?;
    trigger.arm(spec.second_charge());
    for _ in 0..TURNS {
        client.tick()?;
        let connection: Box<dyn Verbs> = Box::new(nodes.connect());
        if observe::clients(connection)?.len() == 1 {
            break;
        }
        client.fabric().verbs().relax(500_000);
    }
    let gone_off = !trigger.disarm();
    client.leave()?;
    Ok(gone_off)
}
