//! The shape of a pool, fixed when it is created, and where things lie on a node.

use crate::error::{PoolError, Result};

/// Numbers chosen at creation; they lie in every node's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Random name of this pool, so that nodes of another one are not mixed in.
    pub pool_id: u64,
    /// Bytes of one memory node, header and tables included.
    pub node_bytes: u64,
    /// Nodes at creation.
    pub num_nodes: u16,
    /// Copies of every region, 1 to 4; at most `num_nodes`.
    pub replicas: u8,
    /// log2 of a region's bytes.
    pub region_shift: u8,
    /// log2 of a block's bytes.
    pub block_shift: u8,
    /// Places in the client table, place 0 (nobody) included.
    pub max_clients: u16,
    /// How long a silent client is trusted, in milliseconds.
    pub lease_ms: u32,
}

/// Largest node count: six bits of it were enough for FUSEE, and views stay small.
pub const MAX_NODES: usize = 64;
/// Largest replication factor.
pub const MAX_REPLICAS: usize = 4;
/// Most copies of a byte: while one is made that is to replace another, there is one more.
pub const MAX_COPIES: usize = MAX_REPLICAS + 1;
/// Nodes that carry a copy of the meta area.
pub const META_REPLICAS: usize = 3;

impl PoolConfig {
    /// A pool of `num_nodes` nodes of `node_bytes` each, with sizes that suit.
    pub fn for_size(node_bytes: u64, num_nodes: u16, replicas: u8) -> PoolConfig {
        let share = (node_bytes / 16).max(1);
        let region_shift = share.ilog2().clamp(20, 31) as u8;
        let block_shift = (node_bytes / 1024).max(1).ilog2().clamp(16, 22) as u8;
        PoolConfig {
            pool_id: 0,
            node_bytes,
            num_nodes,
            replicas,
            region_shift,
            block_shift: block_shift.min(region_shift - 3),
            max_clients: if node_bytes < 64 << 20 { 16 } else { 128 },
            lease_ms: 5_000,
        }
    }

    /// Refuses numbers that do not fit together. Everything read from memory passes here first.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(PoolError::Invalid(what));
        if self.num_nodes == 0 || self.num_nodes as usize > MAX_NODES {
            return wrong(format!(
                "{} memory nodes: 1 to {MAX_NODES} are possible",
                self.num_nodes
            ));
        }
        let most = MAX_REPLICAS.min(self.num_nodes as usize);
        if self.replicas == 0 || self.replicas as usize > most {
            return wrong(format!(
                "{} replicas: 1 to {most} are possible on {} nodes",
                self.replicas, self.num_nodes
            ));
        }
        if !(14..=22).contains(&self.block_shift)
            || !(17..=31).contains(&self.region_shift)
            || self.region_shift < self.block_shift + 3
        {
            return wrong(format!(
                "regions of 2^{} and blocks of 2^{} bytes do not fit together",
                self.region_shift, self.block_shift
            ));
        }
        if !(2..=1024).contains(&self.max_clients) {
            return wrong(format!("{} client places: 2 to 1024 are possible", self.max_clients));
        }
        if self.node_bytes > 1 << 46 || NodeLayout::of(self).num_regions == 0 {
            return wrong(format!(
                "{} bytes a node: too small for one region of {} bytes after {} bytes of tables, \
                 or too large",
                self.node_bytes,
                self.region_bytes(),
                NodeLayout::of(self).regions
            ));
        }
        Ok(())
    }

    /// Bytes of a region.
    pub const fn region_bytes(&self) -> u64 {
        1 << self.region_shift
    }

    /// Bytes of a block.
    pub const fn block_bytes(&self) -> u64 {
        1 << self.block_shift
    }

    /// Blocks of a region; block 0 holds the region's block table.
    pub const fn blocks_per_region(&self) -> u64 {
        1 << (self.region_shift - self.block_shift)
    }
}

/// Offsets of a node's parts, in bytes. The same on every node of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLayout {
    /// The view, see [`crate::view`].
    pub view: u64,
    /// Tables of the whole pool; live on the view's meta nodes.
    pub meta: u64,
    /// One [`CLIENT_AREA`] for every place in the client table; lives on the meta nodes.
    pub clients: u64,
    /// [`NUM_LOCKS`] lock words of this node.
    pub locks: u64,
    /// Region places, one behind the other.
    pub regions: u64,
    /// How many region places the node has.
    pub num_regions: u64,
}

/// Bytes of the header at offset 0.
pub const HEADER_BYTES: u64 = 4096;
/// Bytes of the view area.
pub const VIEW_BYTES: u64 = 256 << 10;
/// Bytes of the meta area.
pub const META_BYTES: u64 = 512 << 10;
/// Bytes of one client's area.
pub const CLIENT_AREA: u64 = 64 << 10;
/// Lock words on each node.
pub const NUM_LOCKS: u64 = 32_768;

impl NodeLayout {
    /// The layout of a pool's nodes.
    pub const fn of(config: &PoolConfig) -> NodeLayout {
        let view = HEADER_BYTES;
        let meta = view + VIEW_BYTES;
        let clients = meta + META_BYTES;
        let locks = clients + config.max_clients as u64 * CLIENT_AREA;
        let regions = (locks + NUM_LOCKS * 8).next_multiple_of(1 << 16);
        let room = config.node_bytes.saturating_sub(regions);
        NodeLayout { view, meta, clients, locks, regions, num_regions: room >> config.region_shift }
    }
}

/// Where things lie in the meta area, in bytes from its start.
pub mod meta {
    /// Word: where the hash index's directory is, and its depth.
    pub const INDEX_ROOT: u64 = 0;
    /// Word: the reclamation epoch.
    pub const EPOCH: u64 = 8;
    /// Word: the master, as [`crate::ClientId::word`]; 0 when there is none.
    pub const MASTER: u64 = 16;
    /// Word: the ordered index's root.
    pub const TREE_ROOT: u64 = 24;
    /// Lock word: structural changes of the hash index.
    pub const INDEX_LOCK: u64 = 32;
    /// Lock word: the namespace table.
    pub const NAMESPACE_LOCK: u64 = 40;
    /// Word: the view epoch that the master moves to, times 2, plus 1 until that is done.
    pub const CHANGE: u64 = 48;
    /// Word: how many dead clients have been recovered.
    pub const DEATHS: u64 = 56;
    /// The split of the hash index that is under way: see `index/split.rs`.
    pub const INDEX_SPLIT: u64 = 64;
    /// Word: the client that wants to be master, as [`crate::ClientId::word`].
    pub const WANTED: u64 = 96;
    /// Word: when the use of a namespace was last counted anew, in milliseconds of the bus's clock.
    pub const RECOUNT: u64 = 104;
    /// Client table: `max_clients` records of [`CLIENT_RECORD`] bytes.
    pub const CLIENT_TABLE: u64 = 4096;
    /// Bytes of a client record.
    pub const CLIENT_RECORD: u64 = 128;
    /// Namespace table: [`NUM_NAMESPACES`] records of [`NAMESPACE_RECORD`] bytes.
    pub const NAMESPACE_TABLE: u64 = 4096 + 1024 * CLIENT_RECORD;
    /// Namespaces of a pool.
    pub const NUM_NAMESPACES: u64 = 256;
    /// Bytes of a namespace record.
    pub const NAMESPACE_RECORD: u64 = 256;
    /// First byte after these tables.
    pub const END: u64 = NAMESPACE_TABLE + NUM_NAMESPACES * NAMESPACE_RECORD;
}

/// Words of a client record, in bytes from its start.
pub mod record {
    use crate::address::ClientId;

    /// The place is free; its word keeps the last client, whose successor is the next incarnation.
    pub const FREE: u8 = 0;
    /// Taken, not yet filled in. The pad holds the joiner's pid, so that it can be fenced.
    pub const JOINING: u8 = 1;
    /// At work.
    pub const LIVE: u8 = 2;
    /// Fenced and declared dead; its operations are to be finished.
    pub const DEAD: u8 = 3;
    /// Somebody (see [`REPAIRER`]) finishes its operations.
    pub const RECOVERING: u8 = 4;

    /// The word at [`STATE`].
    pub const fn state_word(state: u8, client: ClientId) -> u64 {
        (state as u64) << 56 | client.word()
    }

    /// State and client of the word at [`STATE`].
    pub const fn split(word: u64) -> (u8, ClientId) {
        ((word >> 56) as u8, ClientId::from_word(word))
    }

    /// state 8 bits | pad 24 | client word 32 (see [`crate::ClientId`]).
    pub const STATE: u64 = 0;
    /// Process id (32 bits).
    pub const PID: u64 = 8;
    /// When the process started.
    pub const STARTED: u64 = 16;
    /// Lease: nanoseconds of the bus's clock until which the client is trusted.
    pub const LEASE: u64 = 24;
    /// Epoch seen at the client's last quiescent moment; `u64::MAX` while it is idle.
    pub const REPORTED: u64 = 32;
    /// Operations up to this sequence number have had their old objects freed. Written before the
    /// report that ends them.
    pub const FLUSHED: u64 = 40;
    /// [`FLUSHED`] of a dead client of which nothing is left to be done.
    pub const ALL_FLUSHED: u64 = (1 << 48) - 1;
    /// Mailbox: the view epoch the client shall move to, times 2, plus 1 while it must hold still.
    pub const MAILBOX: u64 = 48;
    /// The last mailbox value that the client has obeyed.
    pub const ACK: u64 = 56;
    /// Who recovers this client once it is dead (a lock word).
    pub const REPAIRER: u64 = 64;
    /// How many hazard words of the client's area are in use.
    pub const PINNED: u64 = 72;
    /// Keys that the client has read, as far as it has told.
    pub const READS: u64 = 80;
    /// Keys that the client has written or deleted, as far as it has told.
    pub const WRITES: u64 = 88;
    /// Announcements up to this number are done with: the ring's window starts behind it.
    pub const WINDOW: u64 = 96;
}

/// Where things lie in a client's area, in bytes from its start.
pub mod area {
    /// Ring of announced objects: [`NUM_ANNOUNCED`] words.
    pub const RING: u64 = 0;
    /// Words of the ring.
    pub const NUM_ANNOUNCED: u64 = 2048;
    /// Hazard words: addresses that must not be reused, 0 when unused.
    pub const PINS: u64 = 16 << 10;
    /// Hazard words of a client.
    pub const NUM_PINS: u64 = 512;
    /// Bytes that this place's clients have added to each namespace: signed words. They outlive
    /// the client.
    pub const USAGE: u64 = 20 << 10;
    /// Redo logs of transactions.
    pub const LOGS: u64 = 24 << 10;
    /// Bytes for redo logs.
    pub const LOG_BYTES: u64 = super::CLIENT_AREA - LOGS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_sizes_are_valid() {
        for bytes in [16 << 20, 64 << 20, 1 << 30, 64_u64 << 30] {
            for (nodes, replicas) in [(1, 1), (3, 2), (5, 3)] {
                let config = PoolConfig::for_size(bytes, nodes, replicas);
                config.validate().unwrap();
                let layout = NodeLayout::of(&config);
                assert!(layout.num_regions >= 4, "{config:?} {layout:?}");
                let end = layout.regions + layout.num_regions * config.region_bytes();
                assert!(end <= bytes);
            }
        }
        const { assert!(meta::END <= META_BYTES) };
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good = PoolConfig::for_size(64 << 20, 3, 2);
        for bad in [
            PoolConfig { replicas: 4, ..good },
            PoolConfig { num_nodes: 0, ..good },
            PoolConfig { node_bytes: 1 << 20, ..good },
            PoolConfig { block_shift: 40, ..good },
            PoolConfig { max_clients: 0, ..good },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
