//! What the tests that kill clients share.

pub mod audit;
pub mod record;
