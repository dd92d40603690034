//! Making a pool.

use crate::xxh3::xxh3_64;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use super::header;
use crate::config::{meta, NodeLayout, PoolConfig};
use crate::error::{PoolError, Result};
use crate::view::View;

/// The first reclamation epoch. Not 0, so that a zeroed record never looks like a report.
pub(super) const FIRST_EPOCH: u64 = 1;

/// Makes a new pool of the nodes that `verbs` reaches; whatever they held is gone. A pool id of 0
/// is replaced by a random one.
pub fn format(verbs: &dyn Verbs, config: &PoolConfig) -> Result<()> {
    config.validate()?;
    let mut config = *config;
    if config.pool_id == 0 {
        let seed = [verbs.now_ns(), u64::from(verbs.identity().pid), verbs.identity().started];
        config.pool_id = xxh3_64(&seed.map(u64::to_le_bytes).concat()).max(1);
    }
    let reached = verbs.nodes();
    for node in (0..config.num_nodes).map(NodeId) {
        let size = reached.iter().find(|(known, _)| *known == node).map(|(_, size)| *size);
        match size {
            Some(size) if size >= config.node_bytes => {}
            Some(size) => {
                return Err(PoolError::Invalid(format!(
                    "memory node {} has {size} bytes; the pool needs {} on each node",
                    node.0, config.node_bytes
                )))
            }
            None => {
                return Err(PoolError::Invalid(format!(
                    "memory node {} cannot be reached; the pool needs {} nodes",
                    node.0, config.num_nodes
                )))
            }
        }
    }
    let view = View::first(&config).encode();
    for node in (0..config.num_nodes).map(NodeId) {
        clear(verbs, &config, node)?;
        let epoch = GlobalAddr::new(node, NodeLayout::of(&config).meta + meta::EPOCH);
        let first = FIRST_EPOCH.to_le_bytes();
        let at = GlobalAddr::new(node, NodeLayout::of(&config).view);
        verbs.batch(&mut [Verb::write(at, &view), Verb::write(epoch, &first)])?;
    }
    for node in (0..config.num_nodes).map(NodeId) {
        write_header(verbs, &config, node)?;
    }
    Ok(())
}

/// Prepares a node that is to join a pool that exists: everything zero, then the header. The
/// view and the meta area come to it with the change of the view.
pub fn format_node(verbs: &dyn Verbs, config: &PoolConfig, node: NodeId) -> Result<()> {
    config.validate()?;
    clear(verbs, config, node)?;
    write_header(verbs, config, node)
}

/// Writes the header of `node`, which makes it a node of that pool.
pub(crate) fn write_header(verbs: &dyn Verbs, config: &PoolConfig, node: NodeId) -> Result<()> {
    let header = header::encode(config, node);
    Ok(verbs.batch(&mut [Verb::write(GlobalAddr::new(node, 0), &header)])?)
}

/// Zeroes header, view, tables, locks and block tables; regions' other bytes do not matter.
fn clear(verbs: &dyn Verbs, config: &PoolConfig, node: NodeId) -> Result<()> {
    let layout = NodeLayout::of(config);
    zero(verbs, node, 0, layout.regions)?;
    for place in 0..layout.num_regions {
        let table = layout.regions + (place << config.region_shift);
        zero(verbs, node, table, config.blocks_per_region() * 8)?;
    }
    Ok(())
}

fn zero(verbs: &dyn Verbs, node: NodeId, start: u64, bytes: u64) -> Result<()> {
    const PIECE: u64 = 64 << 10;
    let zeros = [0; PIECE as usize];
    let mut at = start;
    while at < start + bytes {
        let piece = PIECE.min(start + bytes - at);
        let addr = GlobalAddr::new(node, at);
        verbs.batch(&mut [Verb::write(addr, &zeros[..piece as usize])])?;
        at += piece;
    }
    Ok(())
}
