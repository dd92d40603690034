//! Headers and views of all nodes, and what the view says about redundancy.

use artesian_bus::{NodeId, Verbs};

use super::report::{Finding, Place, What};
use crate::config::{PoolConfig, META_REPLICAS};
use crate::error::Result;
use crate::lifecycle::read_header;
use crate::membership::read_views;
use crate::view::{NodeState, View};

/// Region numbers that a finding names.
const NAMED: usize = 8;

/// Looks at headers and views alone, by `verbs` that have joined nothing: for pools that cannot
/// be joined. The answer of a [check](super::run) has these findings as well.
pub fn nodes(verbs: &dyn Verbs) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(config) = headers(verbs, &mut found) else { return found };
    let Some(view) = views(verbs, &config, &mut found) else { return found };
    found.retain(|finding| match (finding.what, finding.place) {
        (What::Header, Place::Node(node)) => is_member(&view, node),
        _ => true,
    });
    members(verbs, &view, &mut found);
    redundancy(&config, &view, &mut found);
    found
}

/// Checks all headers; the numbers that most of them agree on.
fn headers(verbs: &dyn Verbs, found: &mut Vec<Finding>) -> Option<PoolConfig> {
    let read = |node: NodeId| (node, read_header(verbs, node));
    let headers: Vec<(NodeId, Result<PoolConfig>)> =
        verbs.nodes().into_iter().map(|(node, _)| read(node)).collect();
    let good = || headers.iter().filter_map(|(_, header)| header.as_ref().ok());
    let votes = |config: &PoolConfig| good().filter(|other| *other == config).count();
    let agreed = good().max_by_key(|config| votes(config)).copied();
    for (node, header) in &headers {
        let place = Place::Node(*node);
        match header {
            Err(error) => found.push(Finding::error(What::Header, place, error.to_string())),
            Ok(config) if Some(*config) != agreed => {
                let text = "its header has other numbers than those of the other nodes";
                found.push(Finding::error(What::Header, place, text));
            }
            Ok(_) => {}
        }
    }
    if headers.is_empty() {
        let text = "no memory node of the pool can be reached";
        found.push(Finding::error(What::Header, Place::Pool, text));
    }
    agreed
}

/// Checks the views that the nodes carry; the newest one.
fn views(verbs: &dyn Verbs, config: &PoolConfig, found: &mut Vec<Finding>) -> Option<View> {
    let mut carried: Vec<(NodeId, Option<View>)> = Vec::new();
    for (node, _) in verbs.nodes() {
        let views = read_views(verbs, config, node);
        let newest = views.into_iter().flatten().max_by_key(|view| view.epoch);
        carried.push((node, newest));
    }
    let views = || carried.iter().filter_map(|(_, view)| view.as_ref());
    let Some(newest) = views().max_by_key(|view| view.epoch).cloned() else {
        let text = "no node carries a view that can be read";
        found.push(Finding::error(What::View, Place::Pool, text));
        return None;
    };
    for (node, view) in &carried {
        if !is_member(&newest, *node) {
            continue;
        }
        let text = match view {
            None => "it carries no view that can be read".to_string(),
            Some(view) if view.epoch != newest.epoch => {
                format!("its view is of epoch {}, the newest of {}", view.epoch, newest.epoch)
            }
            Some(view) if *view != newest => "its view differs from that of others".to_string(),
            Some(_) => continue,
        };
        found.push(Finding::warning(What::View, Place::Node(*node), text));
    }
    Some(newest)
}

fn is_member(view: &View, node: NodeId) -> bool {
    view.nodes.get(node.0 as usize).is_some_and(|&state| state != NodeState::Dead)
}

/// Compares the view's nodes with those that can be reached.
fn members(verbs: &dyn Verbs, view: &View, found: &mut Vec<Finding>) {
    let reached: Vec<NodeId> = verbs.nodes().into_iter().map(|(node, _)| node).collect();
    for (number, &state) in view.nodes.iter().enumerate() {
        let node = NodeId(number as u16);
        if state != NodeState::Dead && !reached.contains(&node) {
            let text = "it is in the view and cannot be reached";
            found.push(Finding::error(What::NodeLost, Place::Node(node), text));
        }
    }
    for node in reached {
        if !is_member(view, node) {
            let text = "it can be reached and is not in the pool";
            found.push(Finding::note(What::SpareNode, Place::Node(node), text));
        }
    }
}

/// Tells what lacks copies.
fn redundancy(config: &PoolConfig, view: &View, found: &mut Vec<Finding>) {
    let having = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
        let numbered = view.regions.iter().enumerate();
        numbered.filter(|(_, placement)| wanted(placement.len())).map(|(at, _)| at).collect()
    };
    let mut lost = having(&|copies| copies == 0);
    lost.retain(|&region| !view.retired.contains(&(region as u32)));
    if !lost.is_empty() {
        let text = format!("{} are lost with all their copies", regions(&lost));
        found.push(Finding::error(What::RegionLost, Place::Pool, text));
    }
    let copies = usize::from(config.replicas);
    let few = having(&|held| held > 0 && held < copies);
    if !few.is_empty() {
        let text = format!("{} have fewer than {copies} copies", regions(&few));
        found.push(Finding::warning(What::FewCopies, Place::Pool, text));
    }
    let live = view.nodes.iter().filter(|&&state| state == NodeState::Live).count();
    let (has, wants) = (view.meta.len(), META_REPLICAS.min(live));
    if has < wants {
        let text = format!("the pool's tables lie on {has} nodes; there are {wants} for them");
        found.push(Finding::warning(What::FewCopies, Place::Meta(0), text));
    }
    let mut places: Vec<(NodeId, u32)> = view.regions.iter().flatten().copied().collect();
    places.sort_unstable();
    let num = places.len();
    places.dedup();
    if places.len() < num {
        let text = format!("{} copies of regions lie on top of others", num - places.len());
        found.push(Finding::error(What::View, Place::Pool, text));
    }
}

fn regions(numbers: &[usize]) -> String {
    let named: Vec<String> = numbers.iter().take(NAMED).map(usize::to_string).collect();
    let more = if numbers.len() > NAMED { ", ..." } else { "" };
    format!("{} regions ({}{more})", numbers.len(), named.join(", "))
}
