//! Regions that come to the pool, and those that hold nothing and give up their places.

use artesian_bus::{GlobalAddr, NodeId, Verb};

use crate::address::PoolAddr;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::view::{View, MAX_REGIONS};

/// Whether all blocks of a region are free. Only while everybody holds still.
pub(super) fn is_unused(fabric: &Fabric, region: usize) -> Result<bool> {
    let start = PoolAddr((region as u64) << fabric.config().region_shift);
    let mut table = vec![0; fabric.config().blocks_per_region() as usize * 8];
    for copy in fabric.copies(start) {
        fabric.batch(&mut [Verb::read(copy, &mut table)])?;
        if table.chunks_exact(8).skip(1).any(|bytes| word(bytes, 0) != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A region without anything in it that has a copy on a node that `suits`, other than `but`.
pub(super) fn find_unused(
    fabric: &Fabric,
    view: &View,
    but: usize,
    suits: impl Fn(NodeId) -> bool,
) -> Result<Option<usize>> {
    let filling = view.filling.map(|filling| filling.region as usize);
    for (region, placement) in view.regions.iter().enumerate().rev() {
        let fits = placement.iter().any(|(node, _)| suits(*node));
        if fits && region != but && filling != Some(region) && is_unused(fabric, region)? {
            return Ok(Some(region));
        }
    }
    Ok(None)
}

/// Takes the region out of use. Its number is used again when there is room.
pub(super) fn retire(view: &mut View, region: usize) {
    view.regions[region].clear();
    view.retired.insert(region as u32);
}

/// Makes regions of the places that are free, as long as each gets all its copies: those that were
/// retired first. Returns how many there are.
pub(super) fn grow(fabric: &Fabric, view: &mut View, copies: usize) -> Result<u64> {
    let config = fabric.config();
    let mut made = 0;
    loop {
        let region = view.retired.first().map_or(view.regions.len(), |&at| at as usize);
        if region >= MAX_REGIONS {
            return Ok(made);
        }
        let chosen = view.choose(region, copies, &view.free_places(config));
        if chosen.len() < copies || copies == 0 {
            return Ok(made);
        }
        view.retired.remove(&(region as u32));
        if region == view.regions.len() {
            view.regions.push(crate::view::Placement::new());
        }
        for node in chosen {
            let Some(place) = view.free_place(config, node) else { return Ok(made) };
            clear_table(fabric, node, place)?;
            view.regions[region].push((node, place));
        }
        made += 1;
    }
}

/// All blocks of the region at that place are free.
fn clear_table(fabric: &Fabric, node: NodeId, place: u32) -> Result<()> {
    let config = fabric.config();
    let start = fabric.layout().regions + (u64::from(place) << config.region_shift);
    let zeros = vec![0; config.blocks_per_region() as usize * 8];
    fabric.batch(&mut [Verb::write(GlobalAddr::new(node, start), &zeros)])
}
