//! The cache: a store that evicts, after Ditto (SOSP 2023).

pub mod policy;
