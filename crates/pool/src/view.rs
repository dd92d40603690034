//! The view: which nodes there are and where every region's copies lie.
//!
//! Every node carries the view; the one with the highest epoch and a good checksum counts. It is
//! only changed while all clients hold still. Odd epochs lie in the first half of a node's view
//! area, even ones in the second, so that a master that dies while it writes leaves the old one.

use std::collections::BTreeSet;

use crate::xxh3::xxh3_64;
use artesian_bus::{GlobalAddr, NodeId};
use smallvec::SmallVec;

use crate::address::PoolAddr;
use crate::config::{NodeLayout, PoolConfig, MAX_NODES, MAX_REPLICAS, META_REPLICAS, VIEW_BYTES};
use crate::error::{PoolError, Result};
use crate::object::word;

const MAGIC: u64 = u64::from_le_bytes(*b"artview1");
const HEAD: usize = 64;
/// In the bytes of a view: no copy, and the region was given up.
const RETIRED: u32 = u32::MAX - 1;
/// Where in the view area views of even epochs start.
const HALF: u64 = VIEW_BYTES / 2;
/// Regions that fit into a view.
pub const MAX_REGIONS: usize = (HALF as usize - HEAD - MAX_NODES) / (4 * MAX_REPLICAS);

/// One past the largest epoch of a view: words that ask for more are garbage.
pub const EPOCH_LIMIT: u64 = 1 << 60;

/// State of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeState {
    /// Lends its memory.
    Live = 1,
    /// Lends it, but gets no new regions: it is about to leave.
    Draining = 2,
    /// Lost, or gone after draining.
    Dead = 3,
}

/// The copies of one region: node and place on it, the primary first. Empty: the region is lost.
pub type Placement = SmallVec<[(NodeId, u32); MAX_REPLICAS]>;

/// A copy of a region that is being made, piece by piece, while clients run: the bytes below `upto`
/// are a full copy that every write reaches, those behind it do not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// The region.
    pub region: u32,
    /// The node that gets the copy.
    pub node: NodeId,
    /// Its place there.
    pub place: u32,
    /// Bytes of the region that are copied.
    pub upto: u64,
}

/// Who is in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Goes up with every change; starts at 1.
    pub epoch: u64,
    /// State of every node, by number.
    pub nodes: Vec<NodeState>,
    /// Nodes that carry the meta area, the primary first.
    pub meta: SmallVec<[NodeId; META_REPLICAS]>,
    /// Every region's copies.
    pub regions: Vec<Placement>,
    /// Regions without copies that were given up while they held nothing; the others are lost.
    pub retired: BTreeSet<u32>,
    /// The copy that is being made, if any.
    pub filling: Option<Filling>,
}

impl View {
    /// The first view of a pool: regions placed by consistent (rendezvous) hashing.
    pub fn first(config: &PoolConfig) -> View {
        let places = NodeLayout::of(config).num_regions;
        let nodes = config.num_nodes as usize;
        let num = (places as usize * nodes / config.replicas as usize).min(MAX_REGIONS);
        let mut view = View {
            epoch: 1,
            nodes: vec![NodeState::Live; nodes],
            meta: (0..config.num_nodes).take(META_REPLICAS).map(NodeId).collect(),
            regions: Vec::new(),
            retired: BTreeSet::new(),
            filling: None,
        };
        let mut free = vec![places as u32; nodes];
        for region in 0..num {
            let chosen = view.choose(region, config.replicas as usize, &free);
            if chosen.len() < config.replicas as usize {
                break;
            }
            let placement = chosen.into_iter().map(|node| {
                let left = &mut free[node.0 as usize];
                *left -= 1;
                (node, places as u32 - 1 - *left)
            });
            let placement = placement.collect();
            view.regions.push(placement);
        }
        view
    }

    /// The first of the regions that are to be given up: while nodes drain, those that the others
    /// have no places for. Nobody takes blocks there; what they hold goes as it is replaced.
    /// `usize::MAX` if there are none.
    pub fn closing(&self, config: &PoolConfig) -> usize {
        let live = self.nodes.iter().filter(|&&state| state == NodeState::Live).count();
        if live == 0 || !self.nodes.contains(&NodeState::Draining) {
            return usize::MAX;
        }
        let copies = usize::from(config.replicas).min(live).max(1);
        let fit = NodeLayout::of(config).num_regions as usize * live / copies;
        let mut in_use = (0..self.regions.len()).filter(|&at| !self.regions[at].is_empty());
        in_use.nth(fit).unwrap_or(usize::MAX)
    }

    /// The `count` live nodes that hash highest for `region` among those whose `free` places are
    /// not far below the average: rendezvous hashing with bounded loads. A node that joins or
    /// leaves moves only the regions that it wins or had; the fewer places are left, the tighter
    /// the bound, so that the last ones are used up evenly.
    pub fn choose(&self, region: usize, count: usize, free: &[u32]) -> SmallVec<[NodeId; 4]> {
        let open: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node] == NodeState::Live && free[node] > 0)
            .collect();
        let all: u64 = open.iter().map(|&node| u64::from(free[node])).sum();
        let average = all.checked_div(open.len() as u64).unwrap_or(0);
        let mut nodes: Vec<(bool, u64, NodeId)> = open
            .iter()
            .map(|&node| {
                let roomy = u64::from(free[node]) + average / 8 > average;
                let tight = if roomy { 0 } else { u64::from(free[node]) << 32 };
                let weight = rendezvous(region, NodeId(node as u16)) >> 32 | tight;
                (roomy, weight, NodeId(node as u16))
            })
            .collect();
        nodes.sort_unstable_by(|a, b| b.cmp(a));
        nodes.into_iter().take(count).map(|(_, _, node)| node).collect()
    }

    /// Free places of every node, by number; of those that are gone none.
    pub fn free_places(&self, config: &PoolConfig) -> Vec<u32> {
        let used = self.used_places(config);
        let gone = |node: usize| self.nodes[node] == NodeState::Dead;
        let count = |node: usize| used[node].iter().filter(|&&used| !used).count() as u32;
        (0..self.nodes.len()).map(|node| if gone(node) { 0 } else { count(node) }).collect()
    }

    /// The first free place of `node`.
    pub fn free_place(&self, config: &PoolConfig, node: NodeId) -> Option<u32> {
        let used = self.used_places(config);
        used.get(node.0 as usize)?.iter().position(|&used| !used).map(|place| place as u32)
    }

    fn used_places(&self, config: &PoolConfig) -> Vec<Vec<bool>> {
        let places = NodeLayout::of(config).num_regions as usize;
        let mut used = vec![vec![false; places]; self.nodes.len()];
        let filling = self.filling.map(|filling| (filling.node, filling.place));
        for (node, place) in self.regions.iter().flatten().copied().chain(filling) {
            used[node.0 as usize][place as usize] = true;
        }
        used
    }

    /// The copies of the region of `addr`; empty if it is lost or was never there.
    pub fn placement(&self, config: &PoolConfig, addr: PoolAddr) -> &[(NodeId, u32)] {
        let region = (addr.0 >> config.region_shift) as usize;
        self.regions.get(region).map_or(&[], |placement| placement.as_slice())
    }

    /// The node and place of the copy in the making, if that byte of it counts already.
    pub fn filled(&self, config: &PoolConfig, addr: PoolAddr) -> Option<GlobalAddr> {
        let filling = self.filling.as_ref()?;
        let within = addr.0 & (config.region_bytes() - 1);
        if u64::from(filling.region) != addr.0 >> config.region_shift || within >= filling.upto {
            return None;
        }
        let start = NodeLayout::of(config).regions;
        let place = u64::from(filling.place) << config.region_shift;
        Some(GlobalAddr::new(filling.node, start + place + within))
    }

    /// Where in a node's view area, in bytes from the node's start, the view of `epoch` lies.
    pub fn place_of(layout: &NodeLayout, epoch: u64) -> u64 {
        layout.view + if epoch.is_multiple_of(2) { HALF } else { 0 }
    }

    /// Where copy `replica` of `addr` lies.
    pub fn locate(
        &self,
        config: &PoolConfig,
        layout: &NodeLayout,
        addr: PoolAddr,
        replica: usize,
    ) -> Option<GlobalAddr> {
        let (node, place) = *self.placement(config, addr).get(replica)?;
        let within = addr.0 & (config.region_bytes() - 1);
        let start = layout.regions + (u64::from(place) << config.region_shift);
        Some(GlobalAddr::new(node, start + within))
    }

    /// The view's bytes for a node's view area.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.nodes.len() + self.regions.len() * 16);
        for number in [MAGIC, 0, self.epoch] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let (nodes, meta) = (self.nodes.len() as u16, self.meta.len() as u16);
        bytes.extend_from_slice(&nodes.to_le_bytes());
        bytes.extend_from_slice(&meta.to_le_bytes());
        bytes.extend_from_slice(&(self.regions.len() as u32).to_le_bytes());
        for slot in 0..4 {
            let node = self.meta.get(slot).map_or(u16::MAX, |node| node.0);
            bytes.extend_from_slice(&node.to_le_bytes());
        }
        let none = Filling { region: u32::MAX, node: NodeId(0), place: 0, upto: 0 };
        let filling = self.filling.unwrap_or(none);
        bytes.extend_from_slice(&filling.region.to_le_bytes());
        bytes.extend_from_slice(&u32::from(filling.node.0).to_le_bytes());
        bytes.extend_from_slice(&u64::from(filling.place).to_le_bytes());
        bytes.extend_from_slice(&filling.upto.to_le_bytes());
        bytes.extend(self.nodes.iter().map(|&state| state as u8));
        for (region, placement) in self.regions.iter().enumerate() {
            let none = if self.retired.contains(&(region as u32)) { RETIRED } else { u32::MAX };
            for replica in 0..MAX_REPLICAS {
                let packed = placement
                    .get(replica)
                    .map_or(none, |&(node, place)| u32::from(node.0) << 24 | place);
                bytes.extend_from_slice(&packed.to_le_bytes());
            }
        }
        let sum = xxh3_64(&bytes[16..]);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// How many bytes the view starting with `head` ([`View::HEAD`] bytes) has.
    pub fn encoded_bytes(head: &[u8]) -> Result<usize> {
        let bad = |what| PoolError::Corrupt(format!("view: {what}"));
        if head.len() < HEAD || word(head, 0) != MAGIC {
            return Err(bad("no view here"));
        }
        let nodes = u16::from_le_bytes([head[24], head[25]]) as usize;
        let regions = u32::from_le_bytes([head[28], head[29], head[30], head[31]]) as usize;
        if nodes > MAX_NODES || regions > MAX_REGIONS {
            return Err(bad("too many nodes or regions"));
        }
        Ok(HEAD + nodes + regions * 4 * MAX_REPLICAS)
    }

    /// Bytes that tell [`View::encoded_bytes`].
    pub const HEAD: usize = HEAD;

    /// The view in `bytes`, every number checked against `config`.
    pub fn decode(bytes: &[u8], config: &PoolConfig) -> Result<View> {
        let bad = |what| PoolError::Corrupt(format!("view: {what}"));
        let length = View::encoded_bytes(bytes)?;
        if bytes.len() < length || word(bytes, 8) != xxh3_64(&bytes[16..length]) {
            return Err(bad("checksum differs"));
        }
        if word(bytes, 16) >= EPOCH_LIMIT {
            return Err(bad("impossible epoch"));
        }
        let num_nodes = u16::from_le_bytes([bytes[24], bytes[25]]) as usize;
        let num_meta = u16::from_le_bytes([bytes[26], bytes[27]]) as usize;
        if num_meta == 0 || num_meta > META_REPLICAS {
            return Err(bad("impossible meta nodes"));
        }
        let meta: SmallVec<[NodeId; META_REPLICAS]> = (0..num_meta)
            .map(|i| NodeId(u16::from_le_bytes([bytes[32 + 2 * i], bytes[33 + 2 * i]])))
            .collect();
        let states = bytes[HEAD..HEAD + num_nodes].iter().map(|&byte| match byte {
            1 => Ok(NodeState::Live),
            2 => Ok(NodeState::Draining),
            3 => Ok(NodeState::Dead),
            _ => Err(bad("unknown node state")),
        });
        let nodes = states.collect::<Result<Vec<_>>>()?;
        let places = NodeLayout::of(config).num_regions;
        let known = |node: NodeId| (node.0 as usize) < num_nodes;
        if !meta.iter().all(|&node| known(node)) {
            return Err(bad("unknown meta node"));
        }
        let (mut regions, mut retired) = (Vec::new(), BTreeSet::new());
        for packed in bytes[HEAD + num_nodes..length].chunks_exact(4 * MAX_REPLICAS) {
            let mut placement = Placement::new();
            for copy in packed.chunks_exact(4) {
                let packed = u32::from_le_bytes([copy[0], copy[1], copy[2], copy[3]]);
                if packed == RETIRED {
                    retired.insert(regions.len() as u32);
                }
                if packed >= RETIRED {
                    continue;
                }
                let (node, place) = (NodeId((packed >> 24) as u16), packed & 0xff_ffff);
                if !known(node) || u64::from(place) >= places {
                    return Err(bad("a region outside its node"));
                }
                placement.push((node, place));
            }
            if !placement.is_empty() {
                retired.remove(&(regions.len() as u32));
            }
            regions.push(placement);
        }
        let filling = Filling {
            region: word(bytes, 40) as u32,
            node: NodeId((word(bytes, 40) >> 32) as u16),
            place: word(bytes, 48) as u32,
            upto: word(bytes, 56),
        };
        let filling = (filling.region != u32::MAX).then_some(filling);
        if filling.is_some_and(|f| {
            f.region as usize >= regions.len()
                || !known(f.node)
                || u64::from(f.place) >= places
                || f.upto > config.region_bytes()
        }) {
            return Err(bad("an impossible copy in the making"));
        }
        Ok(View { epoch: word(bytes, 16), nodes, meta, regions, retired, filling })
    }
}

/// How high `node` hashes for `region`.
pub fn rendezvous(region: usize, node: NodeId) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(region as u64).to_le_bytes());
    key[8..].copy_from_slice(&u64::from(node.0).to_le_bytes());
    xxh3_64(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_region_lies_on_distinct_nodes_and_no_place_twice() {
        for (nodes, replicas) in [(1, 1), (2, 2), (3, 2), (5, 3)] {
            let config = PoolConfig::for_size(64 << 20, nodes, replicas);
            let view = View::first(&config);
            let places = NodeLayout::of(&config).num_regions as usize;
            assert!(
                view.regions.len() * replicas as usize + nodes as usize > places * nodes as usize
            );
            let mut used = std::collections::HashSet::new();
            for placement in &view.regions {
                assert_eq!(placement.len(), replicas as usize);
                assert!(placement.iter().all(|copy| used.insert(*copy)));
                let on: std::collections::HashSet<_> =
                    placement.iter().map(|copy| copy.0).collect();
                assert_eq!(on.len(), replicas as usize);
            }
        }
    }

    #[test]
    fn comes_back_and_notices_damage() {
        let config = PoolConfig::for_size(64 << 20, 3, 2);
        let filling = Filling { region: 1, node: NodeId(2), place: 3, upto: 4 };
        let mut view = View { filling: Some(filling), ..View::first(&config) };
        view.regions[5].clear();
        view.regions[7].clear();
        view.retired.insert(7);
        let mut bytes = view.encode();
        assert_eq!(View::encoded_bytes(&bytes[..View::HEAD]).unwrap(), bytes.len());
        assert_eq!(View::decode(&bytes, &config).unwrap(), view);
        bytes[50] ^= 1;
        assert!(View::decode(&bytes, &config).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            if bytes.len() > HEAD {
                bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
                let sum = xxh3_64(&bytes[16..]);
                bytes[8..16].copy_from_slice(&sum.to_le_bytes());
            }
            let _ = View::decode(&bytes, &PoolConfig::for_size(64 << 20, 3, 2));
        }
    }
}
