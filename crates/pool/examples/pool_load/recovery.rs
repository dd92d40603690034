//! A client that is killed in the middle of its work, and its recovery by another one.

use std::io::Read;
use std::process::{Command, Stdio};

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::shm::ShmNodes;
use artesian_pool::client::Client;
use artesian_pool::membership::{standing, Standing};
use artesian_pool::store::{Expiry, InUse};
use artesian_pool::{recover, ClientId};
use pico_args::Arguments;
use serde_json::{json, Value};

use crate::setup::join;
use crate::workload::key;
use crate::Error;

/// Lets a process die in the middle of `--updates` updates, and recovers it.
pub fn recovery(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let updates: u64 = args.value_from_str("--updates")?;
    let value_bytes: u64 = args.value_from_str("--value-bytes")?;
    let flags = ["--updates", &updates.to_string(), "--value-bytes", &value_bytes.to_string()];
    let flags = flags.map(str::to_owned);
    let [before, after] = run_victim(pool, &flags, None)?.verbs;
    let mut client = join(pool, 0, 16)?;
    client.idle()?;
    // Late, so that nearly all are unfinished.
    let late = after - (after - before) / 32;
    let dead = run_victim(pool, &flags, Some(late))?.client;
    client.resume()?;
    let fabric = client.fabric();
    let now = || fabric.verbs().now_ns();
    let started = now();
    if standing(fabric, dead)? != Standing::Dead {
        return Err("the victim was not found dead".into());
    }
    let declared = now();
    let done = recover::recover(fabric, &mut InUse, dead)?;
    let recovered = now();
    // What remains is the membership's: it does all again and frees the place.
    client.tick()?;
    client.leave()?;
    Ok(json!({
        "announced": done.announced,
        "used": done.used,
        "won": done.won,
        "lost": done.lost,
        "unknown": done.unknown,
        "freed": done.freed,
        "locks": done.locks,
        "declare_ns": declared - started,
        "read_ns": done.read_ns,
        "settle_ns": done.settle_ns,
        "free_ns": done.free_ns,
        "recover_ns": recovered - declared,
    }))
}

/// What a victim prints: who it was, and how many verbs it had posted before and after the updates.
struct Words {
    client: ClientId,
    verbs: [u64; 2],
}

/// Lets a victim work until its `after`-th verb; `None` for one that survives.
fn run_victim(pool: &str, args: &[String], after: Option<u64>) -> Result<Words, Error> {
    let plan = after.unwrap_or(u64::MAX).to_string();
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["victim", "--pool", pool, "--after", &plan])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut text = String::new();
    if let Some(output) = &mut victim.stdout {
        output.read_to_string(&mut text)?;
    }
    if victim.wait()?.success() != after.is_none() {
        return Err(format!("the victim did not end as planned; it said {text:?}").into());
    }
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [index, incarnation, before, rest @ ..] = numbers.as_slice() else {
        return Err(format!("the victim said {text:?}").into());
    };
    let (index, incarnation) = (u16::try_from(*index)?, u16::try_from(*incarnation)?);
    let client = ClientId { index, incarnation };
    Ok(Words { client, verbs: [*before, rest.first().copied().unwrap_or(0)] })
}

/// Updates keys, and dies of SIGKILL after `--after` verbs.
pub fn victim(pool: &str, mut args: Arguments) -> Result<Value, Error> {
    let updates: u64 = args.value_from_str("--updates")?;
    let value_bytes: usize = args.value_from_str("--value-bytes")?;
    let after: u64 = args.value_from_str("--after")?;
    let plan = FaultPlan { after, torn_words: 0, death: Death::Process };
    let verbs = Faulty::new(ShmNodes::open(pool)?.connect(), plan);
    let mut client = Client::join(Box::new(verbs))?;
    let me = client.fabric().me();
    let posted = |client: &Client| client.fabric().verbs().tally().verbs();
    println!("{} {} {}", me.index, me.incarnation, posted(&client));
    let value = vec![9; value_bytes];
    let keys: Vec<_> = (0..updates).map(key).collect();
    let items: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &value[..])).collect();
    // Not one of them is finished before so many are under way: frees are put off.
    client.put_many(0, &items, Expiry::Never).into_iter().collect::<Result<Vec<()>, _>>()?;
    let after = posted(&client);
    client.leave()?;
    Ok(json!(after))
}
