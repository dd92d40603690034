//! Snapshot files: what comes back, and what bad files and full disks do.

mod bad;
mod whole;

use std::path::PathBuf;
use std::sync::Arc;

use artesian_bus::heap::HeapNodes;

use super::{load, save, SaveOptions, Summary};
use crate::client::Client;
use crate::error::Result;
use crate::lifecycle;
use crate::PoolConfig;

/// A pool on the heap.
pub struct TestPool {
    pub memory: Arc<HeapNodes>,
}

impl TestPool {
    pub fn new(nodes: u16, replicas: u8) -> TestPool {
        let memory = HeapNodes::new(nodes, 16 << 20);
        let config = PoolConfig::for_size(16 << 20, nodes, replicas);
        let config = PoolConfig { lease_ms: 60_000, ..config };
        lifecycle::format(&memory.connect(9_999), &config).unwrap();
        TestPool { memory }
    }

    pub fn client(&self, pid: u32) -> Client {
        Client::with_cache(Box::new(self.memory.connect(pid)), 1 << 16).unwrap()
    }
}

/// A directory of one test, removed with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("artesian-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of all files in it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn save_to(client: &mut Client, path: &std::path::Path, frozen: bool) -> Result<Summary> {
    save(client, path, SaveOptions { frozen }, &mut |_| {})
}

pub fn load_from(client: &mut Client, path: &std::path::Path) -> Result<Summary> {
    load(client, path, &mut |_| {})
}
