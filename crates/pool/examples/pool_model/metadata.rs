//! A store with a metadata server, in the style of Clover and Mooncake Store: a server knows where
//! every object lies; clients ask it, then read and write the objects with one-sided verbs.
//!
//! get: request the location, READ. put: request room, WRITE to all copies, request publication.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use artesian_bus::{BusError, GlobalAddr, NodeId, Verb, Verbs};

use crate::server::Server;
use crate::timed::Timed;

/// The server and what it knows. The n-th copy of an object lies on node n.
pub struct Metadata {
    server: Server,
    tables: Mutex<Tables>,
    replicas: u16,
    value_bytes: usize,
}

#[derive(Default)]
struct Tables {
    index: HashMap<[u8; 16], u64>,
    free: Vec<u64>,
    end: u64,
}

impl Metadata {
    pub fn new(service_ns: u64, replicas: u16, value_bytes: usize) -> Metadata {
        let (server, tables) = (Server::new(service_ns), Mutex::default());
        Metadata { server, tables, replicas, value_bytes }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the key has a value, which is in `into` then.
    pub fn get(&self, verbs: &Timed, key: &[u8; 16], into: &mut Vec<u8>) -> Result<bool, BusError> {
        let found = self.server.call(&verbs.place, || self.tables().index.get(key).copied());
        let Some(offset) = found else { return Ok(false) };
        into.resize(self.value_bytes, 0);
        verbs.batch(&mut [Verb::read(GlobalAddr::new(NodeId(0), offset), into)])?;
        Ok(true)
    }

    pub fn put(&self, verbs: &Timed, key: &[u8; 16], value: &[u8]) -> Result<(), BusError> {
        let bytes = self.value_bytes as u64;
        let offset = self.server.call(&verbs.place, || {
            let mut tables = self.tables();
            tables.free.pop().unwrap_or_else(|| {
                tables.end += bytes;
                tables.end - bytes
            })
        });
        let copies = (0..self.replicas).map(|node| GlobalAddr::new(NodeId(node), offset));
        let mut writes: Vec<Verb<'_>> = copies.map(|copy| Verb::write(copy, value)).collect();
        verbs.batch(&mut writes)?;
        self.server.call(&verbs.place, || {
            let mut tables = self.tables();
            let old = tables.index.insert(*key, offset);
            tables.free.extend(old);
        });
        Ok(())
    }
}
