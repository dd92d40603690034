//! Regions: the memory that a worker lends its peers, a file of shared memory of its own.
//!
//! A region is the only node of a bus pool called `kv-NAME`. So it is found, refused to other users
//! and counted against the host's memory as every node is, and who has mapped it sees it lost once
//! it was removed. Its owner makes and removes it; when the owner has died, whoever watches over
//! the workers calls [`Region::remove`].

mod huge;
mod known;
mod shape;

use std::sync::Arc;

use artesian_bus::shm::{self, ShmMemory, ShmNodes, ShmVerbs};
use artesian_bus::{BusError, GlobalAddr, Identity, Verb, Verbs};

pub use known::reach;
pub use shape::{fingerprint, Area, RegionShape, HUGE_PAGE, NODE};

use crate::PeerError;
use shape::HEADER_WORDS;

/// A region as it is mapped into this process.
pub struct Region {
    name: String,
    nodes: Arc<ShmNodes>,
    memory: ShmMemory,
    shape: RegionShape,
    owner: Identity,
    /// Process that made it and removes it when it is dropped there.
    made_by: Option<u32>,
}

/// What the pools of regions are called, before the region's name.
const PREFIX: &str = "kv-";

fn pool(name: &str) -> Result<Arc<ShmNodes>, BusError> {
    ShmNodes::open(&Region::pool_name(name))
}

impl Region {
    /// Makes a region of zeros that peers find by `name`.
    ///
    /// # Errors
    /// [`PeerError::Shape`] for sizes that cannot be, [`PeerError::Bus`] where the host has no room
    /// or there is a region of that name.
    pub fn create(name: &str, shape: RegionShape) -> Result<Region, PeerError> {
        shape.check()?;
        let nodes = pool(name)?;
        nodes.create_node(NODE, shape.num_bytes())?;
        let verbs = nodes.connect();
        let owner = verbs.identity();
        let made = || {
            let words = shape.to_words(owner).map(u64::to_le_bytes);
            let header = GlobalAddr::new(NODE, 0);
            verbs.batch(&mut [
                Verb::write(header.add(8), words[1..].as_flattened()),
                Verb::write(header, &words[0]),
            ])?;
            nodes.memory(NODE)
        };
        let memory = match made() {
            Ok(memory) => memory,
            Err(error) => {
                let _ = nodes.remove_node(NODE);
                return Err(error.into());
            }
        };
        let made_by = Some(std::process::id());
        let region = Region { name: name.to_owned(), nodes, memory, shape, owner, made_by };
        region.advise();
        Ok(region)
    }

    /// Maps the region called `name`, if its blocks are of `block_bytes` bytes and mean what
    /// `fingerprint` says.
    ///
    /// # Errors
    /// [`PeerError::Bus`] where there is none, [`PeerError::Mismatch`] where it is another kind.
    pub fn open(name: &str, block_bytes: u64, fingerprint: u64) -> Result<Region, PeerError> {
        let (nodes, memory, shape, owner) = read(name)?;
        if (shape.block_bytes, shape.fingerprint) != (block_bytes, fingerprint) {
            let what = format!(
                "its blocks have {} bytes and fingerprint {:#018x}, this worker's {block_bytes} \
                 and {fingerprint:#018x}: run the same model with the same numerics and \
                 kv_cache_dtype",
                shape.block_bytes, shape.fingerprint
            );
            return Err(PeerError::Mismatch { name: name.to_owned(), what });
        }
        let region = Region { name: name.to_owned(), nodes, memory, shape, owner, made_by: None };
        region.advise();
        Ok(region)
    }

    /// Removes the region of an owner that has died; whether there was one. Peers that have it
    /// mapped see it lost.
    pub fn remove(name: &str) -> Result<bool, PeerError> {
        match pool(name)?.remove_node(NODE) {
            Ok(()) => Ok(true),
            Err(BusError::NodeLost(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Names of this user's regions on this host, those of dead owners too, sorted.
    pub fn names() -> Result<Vec<String>, PeerError> {
        let pools = shm::pools()?.into_iter();
        let names = pools.filter_map(|pool| Some(pool.strip_prefix(PREFIX)?.to_owned()));
        Ok(names.filter(|name| read(name).is_ok()).collect())
    }

    /// What the bus calls the pool of the region called `name`.
    pub fn pool_name(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// Takes it away from its peers, if this process made it and nobody has done so before.
    pub fn end(&self) {
        // A child process that inherited it does not own it; and if it was removed already, the
        // name may be another's.
        if self.made_by == Some(std::process::id()) && !self.is_lost() {
            let _ = self.nodes.remove_node(NODE);
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its sizes, and what its blocks are.
    pub fn shape(&self) -> &RegionShape {
        &self.shape
    }

    /// The process that made it.
    pub fn owner(&self) -> Identity {
        self.owner
    }

    /// Whether it was removed: what is written to it now, nobody sees.
    pub fn is_lost(&self) -> bool {
        self.memory.is_lost()
    }

    /// A connection for one thread.
    pub fn connect(&self) -> ShmVerbs {
        self.nodes.connect()
    }

    /// The first byte of an area in this address space, and its bytes; see [`ShmMemory`] for what
    /// to keep in mind. Arenas begin at a multiple of 2 MiB.
    pub fn area(&self, area: Area) -> (*mut u8, usize) {
        let range = self.shape.range(area);
        // SAFETY: the header's sizes were compared with the mapping's.
        (
            unsafe { self.memory.as_ptr().add(range.start as usize) },
            (range.end - range.start) as usize,
        )
    }

    /// Asks for huge pages under `bytes` of the arena, and the whole of those in which it begins
    /// and ends; whether there are now. Takes some milliseconds for each that was not.
    pub fn back(&self, bytes: std::ops::Range<u64>) -> bool {
        let arena = self.shape.range(Area::Arena);
        let start = (arena.start + bytes.start) / HUGE_PAGE * HUGE_PAGE;
        let end = (arena.start + bytes.end).next_multiple_of(HUGE_PAGE).min(self.shape.num_bytes());
        start >= end || huge::back(self.memory.as_ptr(), start as usize..end as usize)
    }

    fn advise(&self) {
        let start = self.shape.range(Area::Arena).start as usize;
        huge::advise(self.memory.as_ptr(), start..self.shape.num_bytes() as usize);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.end();
    }
}

/// Maps a region and reads its header.
fn read(name: &str) -> Result<(Arc<ShmNodes>, ShmMemory, RegionShape, Identity), PeerError> {
    let nodes = pool(name)?;
    let memory = nodes.memory(NODE)?;
    let mut words = [[0; 8]; HEADER_WORDS];
    let header = GlobalAddr::new(NODE, 0);
    nodes.connect().batch(&mut [Verb::read(header, words.as_flattened_mut())])?;
    let read = RegionShape::of_words(words.map(u64::from_le_bytes), memory.len() as u64);
    let mismatch = |what| PeerError::Mismatch { name: name.to_owned(), what };
    let (shape, owner) = read.map_err(mismatch)?;
    Ok((nodes, memory, shape, owner))
}
