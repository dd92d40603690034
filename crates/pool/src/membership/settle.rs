//! What the master sets right while everybody holds still.

use artesian_bus::{GlobalAddr, NodeId, Verb};

use super::table;
use crate::cache;
use crate::config::{meta, record, CLIENT_AREA, META_BYTES, META_REPLICAS, NUM_LOCKS};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::index::{self, Loss};
use crate::object::word;
use crate::rtx;
use crate::view::{NodeState, View};
use crate::PoolAddr;

/// By how much the reclamation epoch jumps when its first copy is lost: beyond all that others may
/// have seen there.
pub const EPOCH_JUMP: u64 = 1000;

/// Takes `lost` nodes out of `view`: the next copies become the first ones, and another node is to
/// carry the meta area.
pub(super) fn leave_out(view: &mut View, lost: &[NodeId]) -> Result<()> {
    for &node in lost {
        view.nodes[node.0 as usize] = NodeState::Dead;
    }
    view.meta.retain(|node| !lost.contains(node));
    if view.meta.is_empty() {
        return Err(PoolError::Lost(
            "all memory nodes that carry the pool's tables are lost".into(),
        ));
    }
    for placement in &mut view.regions {
        placement.retain(|(node, _)| !lost.contains(node));
    }
    let regions = &view.regions;
    let useful = |region: u32| !regions[region as usize].is_empty();
    view.filling = view.filling.filter(|f| !lost.contains(&f.node) && useful(f.region));
    for node in (0..view.nodes.len()).map(|node| NodeId(node as u16)) {
        let fit = view.nodes[node.0 as usize] == NodeState::Live && !view.meta.contains(&node);
        if fit && view.meta.len() < META_REPLICAS {
            view.meta.push(node);
        }
    }
    Ok(())
}

/// Settles what lost nodes leave: the fabric goes by `next` already, `base` had them still.
pub(super) fn copies(fabric: &Fabric, base: &View, next: &View) -> Result<()> {
    if base.meta != next.meta {
        copy_meta(fabric, next, base.meta[0] != next.meta[0])?;
    }
    for (region, (old, new)) in base.regions.iter().zip(&next.regions).enumerate() {
        if old.len() != new.len() && new.len() > 1 {
            merge_block_table(fabric, region)?;
        }
    }
    Ok(())
}

/// Decides the rounds that were open in slots which lost a copy.
pub(super) fn slots(fabric: &Fabric, base: &View) -> Result<()> {
    if fabric.config().replicas == 1 {
        // One swap decides a round without copies: none is open.
        return Ok(());
    }
    let loss = |addr| {
        let (config, view) = (fabric.config(), fabric.view());
        let (before, now) = (base.placement(config, addr), view.placement(config, addr));
        // The copy in the making that was lost counted as a backup.
        let filled = |view: &View| view.filled(config, addr).is_some();
        match (before.first(), now.first()) {
            _ if filled(base) && !filled(&view) => Loss::Backup,
            _ if before.len() == now.len() => Loss::None,
            (_, None) => Loss::All,
            (old, new) if old != new => Loss::Primary,
            _ => Loss::Backup,
        }
    };
    index::reconcile_tables(fabric, loss)?;
    cache::reconcile_tables(fabric, loss)
}

/// Decides the rounds that are open in slots whose addresses are `within`, on all copies that there
/// are. Only while everybody holds still.
pub(crate) fn decide_rounds(fabric: &Fabric, within: impl Fn(PoolAddr) -> bool) -> Result<()> {
    let loss = |addr| if within(addr) { Loss::Backup } else { Loss::None };
    index::reconcile_tables(fabric, loss)?;
    cache::reconcile_tables(fabric, loss)
}

/// Makes all meta nodes equal to the first: tables, and the areas of clients that are not gone.
fn copy_meta(fabric: &Fabric, view: &View, first_lost: bool) -> Result<()> {
    if first_lost {
        let at = GlobalAddr::new(view.meta[0], fabric.layout().meta + meta::EPOCH);
        fabric.batch(&mut [Verb::faa(at, EPOCH_JUMP)])?;
    }
    copy_tables(fabric, view.meta[0], &view.meta)
}

/// Copies the pool's tables, and the areas of clients that are not gone, from one node to others.
/// Only while everybody holds still.
pub(crate) fn copy_tables(fabric: &Fabric, from: NodeId, to: &[NodeId]) -> Result<()> {
    let layout = fabric.layout();
    let mut pieces = vec![(layout.meta, META_BYTES)];
    for client in table::read_all(fabric)? {
        if client.state != record::FREE || client.client.incarnation != 0 {
            let area = layout.clients + u64::from(client.client.index) * CLIENT_AREA;
            pieces.push((area, CLIENT_AREA));
        }
    }
    let mut bytes = vec![0; META_BYTES.max(CLIENT_AREA) as usize];
    for (start, len) in pieces {
        let bytes = &mut bytes[..len as usize];
        fabric.batch(&mut [Verb::read(GlobalAddr::new(from, start), bytes)])?;
        for &node in to.iter().filter(|&&node| node != from) {
            fabric.batch(&mut [Verb::write(GlobalAddr::new(node, start), bytes)])?;
        }
    }
    // This one is held on the first copy alone, and looked for again after a change of the view.
    for &node in to.iter().filter(|&&node| node != from) {
        let lock = GlobalAddr::new(node, layout.meta + meta::NAMESPACE_LOCK);
        fabric.batch(&mut [Verb::write(lock, &[0; 8])])?;
    }
    Ok(())
}

/// A block whose taker died on the way is in the table of only some copies: taken wins. (Who frees
/// a block writes the other copies first, so it is free on the first copy only if on all.)
fn merge_block_table(fabric: &Fabric, region: usize) -> Result<()> {
    let start = crate::PoolAddr((region as u64) << fabric.config().region_shift);
    let copies = fabric.copies(start);
    let len = fabric.config().blocks_per_region() as usize * 8;
    let mut tables = vec![0; len * copies.len()];
    for (&copy, table) in copies.iter().zip(tables.chunks_exact_mut(len)) {
        fabric.batch(&mut [Verb::read(copy, table)])?;
    }
    for at in (0..len).step_by(8) {
        let of = |table: &[u8]| word(table, at);
        let taken = tables.chunks_exact(len).map(of).find(|&word| word != 0).unwrap_or(0);
        if tables.chunks_exact(len).any(|table| of(table) != taken) {
            fabric.write_all(start.add(at as u64), &taken.to_le_bytes())?;
        }
    }
    Ok(())
}

/// Finishes all committed transactions and frees all lock words: those of a lost node are gone, and
/// which node guards an address may change. Every transaction looks again.
pub(super) fn transactions(fabric: &Fabric) -> Result<()> {
    rtx::replay_committed(fabric)?;
    let zeros = vec![0; NUM_LOCKS as usize * 8];
    let view = fabric.view();
    for (node, _) in view.nodes.iter().enumerate().filter(|(_, &state)| state != NodeState::Dead) {
        let at = GlobalAddr::new(NodeId(node as u16), fabric.layout().locks);
        fabric.batch(&mut [Verb::write(at, &zeros)])?;
    }
    Ok(())
}
