//! Load on a real pool in shared memory. `benchmarks/pool.py` runs it: every client is a process
//! of its own, and each command prints one line of JSON.
//!
//! ```text
//! pool_load create --pool NAME [--nodes 1] [--replicas 1] [--node-mib 512]
//! pool_load fill   --pool NAME --keys N --value-bytes N [--tree]
//! pool_load run    --pool NAME --workload a..f --keys N --value-bytes N --start NS --seconds S
//!                  [--batch N]
//! pool_load kill     --pool NAME --node N
//! pool_load recovery --pool NAME --updates N --value-bytes N
//! pool_load memcpy   --pool - --keys N --value-bytes N --seconds S
//! pool_load remove --pool NAME
//! ```

mod bandwidth;
mod batches;
mod costs;
mod recovery;
mod run;
mod setup;
mod workload;
mod zipf;

use pico_args::Arguments;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut args = Arguments::from_env();
    let command = args.subcommand()?.unwrap_or_default();
    let pool: String = args.value_from_str("--pool")?;
    let report = match command.as_str() {
        "create" => setup::create(&pool, args)?,
        "fill" => setup::fill(&pool, args)?,
        "run" => run::run(&pool, args)?,
        "kill" => setup::kill(&pool, args)?,
        "recovery" => recovery::recovery(&pool, args)?,
        "victim" => recovery::victim(&pool, args)?,
        "memcpy" => bandwidth::memcpy(args)?,
        "remove" => setup::remove(&pool)?,
        other => return Err(format!("unknown command {other:?}").into()),
    };
    println!("{report}");
    Ok(())
}
