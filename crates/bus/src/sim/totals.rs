//! What explorations did, so that it can be added up.

use std::io::Write;

/// Prints how many operations an exploration did over how many seeds; a file that `SIM_TOTALS`
/// names gets a line `SEEDS OPERATIONS TEST`.
pub fn report(seeds: u64, operations: u64) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main");
    println!("{test}: {seeds} seeds, {operations} operations");
    let Some(path) = std::env::var_os("SIM_TOTALS") else { return };
    let file = std::fs::File::options().append(true).create(true).open(&path);
    let line = format!("{seeds} {operations} {test}\n");
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        println!("{}: {error}", path.display());
    }
}
