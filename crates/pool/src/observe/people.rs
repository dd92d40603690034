//! Who is in a pool.

use artesian_bus::{Identity, Verb};
use smallvec::SmallVec;

use crate::address::ClientId;
use crate::config::{meta, record, META_REPLICAS};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;

/// One place of the client table that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Who holds it.
    pub client: ClientId,
    /// One of the states in [`record`].
    pub state: u8,
    /// Its process.
    pub identity: Identity,
    /// Whether that process exists, as far as this host can tell.
    pub is_alive: bool,
    /// Whether it is the master.
    pub is_master: bool,
    /// Whether it said that it does nothing for now.
    pub is_idle: bool,
    /// Milliseconds until its lease ends; negative once it has.
    pub lease_left_ms: i64,
    /// Objects that it pins.
    pub pins: u64,
    /// Keys read, as far as it has told.
    pub reads: u64,
    /// Keys written or deleted, as far as it has told.
    pub writes: u64,
}

/// Tells everybody how many keys this client has read and written since it joined.
pub fn publish(fabric: &Fabric, reads: u64, writes: u64) -> Result<()> {
    const { assert!(record::WRITES == record::READS + 8) };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&reads.to_le_bytes());
    bytes[8..].copy_from_slice(&writes.to_le_bytes());
    let copies = fabric.client_record(fabric.me().index, record::READS);
    let mut verbs: SmallVec<[Verb<'_>; META_REPLICAS]> =
        copies.iter().map(|&copy| Verb::write(copy, &bytes)).collect();
    fabric.batch(&mut verbs)
}

/// Everybody who holds a place.
pub(super) fn clients(fabric: &Fabric) -> Result<Vec<ClientInfo>> {
    let places = usize::from(fabric.config().max_clients);
    let mut records = vec![0; places * meta::CLIENT_RECORD as usize];
    let mut master = [0; 8];
    let mut verbs = [
        Verb::read(fabric.meta(meta::MASTER)[0], &mut master),
        Verb::read(fabric.client_record(0, 0)[0], &mut records),
    ];
    fabric.batch(&mut verbs)?;
    let master = ClientId::from_word(u64::from_le_bytes(master));
    let now = fabric.verbs().now_ns();
    let places = records.chunks_exact(meta::CLIENT_RECORD as usize).skip(1);
    let taken = places.filter(|place| record::split(word(place, 0)).0 != record::FREE);
    Ok(taken.map(|place| decode(fabric, place, master, now)).collect())
}

fn decode(fabric: &Fabric, place: &[u8], master: ClientId, now: u64) -> ClientInfo {
    let at = |offset: u64| word(place, offset as usize);
    let (state, client) = record::split(at(record::STATE));
    let identity = Identity { pid: at(record::PID) as u32, started: at(record::STARTED) };
    let left_ns = at(record::LEASE).wrapping_sub(now) as i64;
    ClientInfo {
        client,
        state,
        identity,
        is_alive: fabric.verbs().is_alive(identity),
        is_master: client == master,
        is_idle: at(record::REPORTED) == u64::MAX,
        lease_left_ms: left_ns / 1_000_000,
        pins: at(record::PINNED),
        reads: at(record::READS),
        writes: at(record::WRITES),
    }
}
