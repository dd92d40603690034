//! Replays requests for keys against a cache: a miss puts the key. Prints a line of JSON a cache.
//!
//! `cache_replay KEYS --objects N[,N..] [--algorithms NAME,NAME..] [--sample SLOTS]
//! [--learning shadows|regrets]`. The file KEYS holds the keys of the requests in order, as 32-bit
//! little-endian numbers.
//!
//! The pool lies on this process's heap, so that hit ratios are the real protocol's, and times are
//! of no meaning.

use std::error::Error;

use artesian_bus::heap::HeapNodes;
use artesian_pool::cache::policy::{Learning, Registry};
use artesian_pool::cache::CacheConfig;
use artesian_pool::client::Client;
use artesian_pool::store::Expiry;
use artesian_pool::{lifecycle, PoolConfig};

/// Bytes of memory for an object: header, value, table, history, slack.
const BYTES_PER_OBJECT: usize = 1024;

struct Args {
    keys: Vec<u32>,
    objects: Vec<u64>,
    config: CacheConfig,
    learning: Learning,
}

fn numbers(path: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut args = pico_args::Arguments::from_env();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut config = CacheConfig::default();
    if let Some(names) = args.opt_value_from_str::<_, String>("--algorithms")? {
        config.algorithms = list(&names);
    }
    if let Some(sample) = args.opt_value_from_str("--sample")? {
        config.sample = sample;
    }
    let learning = match args.opt_value_from_str::<_, String>("--learning")?.as_deref() {
        None | Some("shadows") => Learning::Shadows,
        Some("regrets") => Learning::Regrets,
        Some(other) => return Err(format!("no way of learning {other:?}").into()),
    };
    let objects: String = args.value_from_str("--objects")?;
    let objects = list(&objects).iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let keys = numbers(&args.free_from_str::<String>()?)?;
    Ok(Args { keys, objects, config, learning })
}

fn replay(args: &Args, objects: u64) -> Result<String, Box<dyn Error>> {
    let config = CacheConfig { objects, ..args.config.clone() };
    let bytes = (objects as usize + 64 * 1024) * BYTES_PER_OBJECT;
    let memory = HeapNodes::new(1, bytes);
    lifecycle::format(&memory.connect(1), &PoolConfig::for_size(bytes as u64, 1, 1))?;
    let mut client = Client::join(Box::new(memory.connect(2)))?;
    let mut registry = Registry::standard();
    registry.learning = args.learning;
    let id = client.cache_open_with("replay", &config, &registry)?;
    let mut hits = 0u64;
    for key in &args.keys {
        let key = key.to_le_bytes();
        if client.cache_touch(id, &key)? {
            hits += 1;
        } else {
            client.cache_put(id, &key, &key, Expiry::Never)?;
        }
    }
    let stats = client.cache_stats(id)?;
    let experts: serde_json::Map<_, _> = stats
        .experts
        .iter()
        .map(|expert| (expert.name.clone(), serde_json::json!([expert.weight, expert.evictions])))
        .collect();
    let requests = args.keys.len();
    Ok(serde_json::json!({
        "objects": objects,
        "requests": requests,
        "hit_ratio": hits as f64 / requests.max(1) as f64,
        "held": stats.objects,
        "evictions": stats.evictions,
        "crowded": stats.crowded,
        "regrets": stats.regrets,
        "experts": experts,
    })
    .to_string())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse()?;
    for &objects in &args.objects {
        println!("{}", replay(&args, objects)?);
    }
    Ok(())
}
