//! Protocols under a modelled network. `benchmarks/pool.py` runs it; each command prints one line
//! of JSON.
//!
//! ```text
//! pool_model rpc                                     what a request costs a server, really
//! pool_model run --mode MODE --workload a|c --clients N --service-ns NS ...
//! pool_model transactions                            round trips of transactions
//! ```
//!
//! In `run` clients are threads in virtual time: a batch of verbs takes a round trip, a request to
//! a server a round trip and the time that its one core is busy with it and with those that
//! came before. Nothing else takes time: neither the clients' work nor the network's bandwidth.

mod clock;
mod metadata;
mod rpc;
mod run;
mod server;
mod timed;
mod transactions;
#[path = "../pool_load/workload.rs"]
mod workload;
#[path = "../pool_load/zipf.rs"]
mod zipf;

use pico_args::Arguments;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut args = Arguments::from_env();
    let command = args.subcommand()?.unwrap_or_default();
    let report = match command.as_str() {
        "rpc" => rpc::measure()?,
        "run" => run::run(args)?,
        "transactions" => transactions::measure(args)?,
        other => return Err(format!("unknown command {other:?}").into()),
    };
    println!("{report}");
    Ok(())
}
