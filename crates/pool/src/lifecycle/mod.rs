//! The beginning and the end: making a pool, joining it, leaving it.
//!
//! A pool exists once all its nodes carry a header with a good checksum; the headers are written
//! last, so a creation that was cut short leaves nothing that anybody could join.

mod claim;
mod enter;
mod format;
mod header;
mod join;
mod leave;
#[cfg(test)]
mod tests;

pub(crate) use format::write_header;
pub use format::{format, format_node};
pub use header::{read_header, VERSION};
pub use join::{agreed_config, join};
pub use leave::leave;
