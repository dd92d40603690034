//! Checking a pool: every rule that the crate's README states, on the memory as it is.
//!
//! A check runs while others work: it looks at the pool in units, and where something seems wrong
//! it looks again (`look`). Whoever wants exact numbers, leaks above all, lets it run alone.
//! Everything that it reads may be garbage: that is a finding, and the check goes on.

mod caches;
mod clients;
mod directory;
mod locks;
mod look;
mod namespaces;
mod nodes;
mod objects;
mod people;
mod pieces;
mod repair;
mod report;
mod slots;
mod space;
#[cfg(test)]
mod tests;
mod trees;

pub use nodes::nodes;
pub use report::{
    Amount, Counts, Finding, Keys, Options, Place, Progress, Report, Severity, Step, What,
    MAX_FINDINGS,
};

use std::collections::HashMap;

use artesian_bus::NodeId;

use crate::address::PoolAddr;
use crate::alloc::table::{BlockState, BlockWord};
use crate::alloc::Liveness;
use crate::cache::TableParts;
use crate::class::SizeClass;
use crate::client::Client;
use crate::config::meta;
use crate::error::Result;
use crate::index::layout::{bucket_addr, BUCKET, BUCKETS};
use crate::index::slots_of;
use crate::namespace;
use crate::store::InUse;
use crate::view::NodeState;
use look::Checker;
use slots::{Seen, Table};
use space::Space;

/// Checks the whole pool; `progress` is told how far it is.
///
/// The client must be in no operation. Its own blocks are given away first, so that what is free
/// in them is known. An error is one of the client's (it was fenced, for instance): whatever is
/// wrong with the pool is in the report.
pub fn run(
    client: &mut Client,
    options: Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report> {
    let mut checker = Checker::new(client, options, progress);
    let given = checker.client.resume().and_then(|()| checker.client.disclose());
    checker.doubt(Place::Pool, given)?;
    checker.members()?;
    let mut space = Space::new(&checker.client.fabric);
    checker.blocks(&mut space)?;
    checker.index(&mut space)?;
    checker.caches(&mut space)?;
    checker.trees(&mut space)?;
    checker.space(&mut space)?;
    checker.namespaces()?;
    checker.locks()?;
    checker.report.is_exact = checker.is_alone()?;
    let mut report = checker.report;
    report.findings.sort_by(|a, b| (b.severity, a).cmp(&(a.severity, b)));
    Ok(report)
}

impl Checker<'_> {
    /// Nodes and clients; with repair, what is amiss with them is put right before all else.
    fn members(&mut self) -> Result<()> {
        let repair = std::mem::take(&mut self.options.repair);
        self.nodes()?;
        self.clients()?;
        self.options.repair = repair;
        if !repair {
            return Ok(());
        }
        let before = std::mem::take(&mut self.report).findings;
        repair::begin(self.client, before.iter().any(|finding| finding.what == What::View))?;
        self.look_around();
        self.nodes()?;
        self.clients()?;
        for finding in before.into_iter().filter(|finding| repair::is_for_members(finding.what)) {
            let is_there =
                |left: &&Finding| (left.what, left.place) == (finding.what, finding.place);
            if self.report.findings.iter().find(is_there).is_none() {
                self.report.add(Finding { repaired: Some("finished".into()), ..finding });
            }
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<()> {
        self.tell(Step::Nodes, 0, 1);
        self.is_alone()?;
        for finding in nodes(self.client.fabric.verbs()) {
            self.add(finding)?;
        }
        self.breathe()
    }

    fn clients(&mut self) -> Result<()> {
        self.tell(Step::Clients, 0, 2);
        let mut counts = Counts::default();
        self.unit(Place::Meta(meta::CLIENT_TABLE), |fabric, found| {
            counts = clients::table(fabric, found)?;
            Ok(())
        })?;
        let view = self.client.fabric.view();
        let left = view.nodes.iter().filter(|&&state| state != NodeState::Dead).count();
        self.report.counts.nodes = left as u32;
        self.report.counts.clients = counts.clients;
        self.tell(Step::Clients, 1, 2);
        self.unit(Place::Meta(0), clients::words)?;
        self.breathe()
    }

    fn blocks(&mut self, space: &mut Space) -> Result<()> {
        let regions = self.client.fabric.view().regions.len();
        for region in 0..regions {
            self.tell(Step::Blocks, region as u64, regions as u64);
            let mut part = Counts::default();
            self.unit(Place::Region(region as u32), |fabric, found| {
                part = space.read_table(fabric, region, found)?;
                Ok(())
            })?;
            let counts = &mut self.report.counts;
            counts.regions += part.regions;
            counts.blocks_free += part.blocks_free;
            counts.blocks_owned += part.blocks_owned;
            counts.blocks_orphan += part.blocks_orphan;
            counts.blocks_wreck += part.blocks_wreck;
            self.breathe()?;
        }
        Ok(())
    }

    fn index(&mut self, space: &mut Space) -> Result<()> {
        let mut directory = directory::Tables::default();
        self.unit(Place::Meta(meta::INDEX_ROOT), |fabric, found| {
            directory = directory::read(fabric, space.geometry(), found)?;
            directory::left_split(fabric, found)
        })?;
        self.report.counts.depth = directory.depth;
        self.report.counts.subtables = directory.tables.len() as u64;
        let mut memory: Vec<(PoolAddr, SizeClass)> = directory.directory.into_iter().collect();
        memory.extend(directory.tables.keys().map(|&at| (at, directory::table_class())));
        for (at, class) in memory {
            self.refer(space, Place::Table(at), at, class)?;
        }
        let total = directory.tables.len() as u64;
        let mut moved = Vec::new();
        for (number, (&at, &(depth, suffix))) in directory.tables.iter().enumerate() {
            self.tell(Step::Index, number as u64, total);
            let (mut seen, table) = (Seen::default(), Table { at, depth, suffix });
            self.unit(Place::Table(at), |fabric, found| {
                slots::table(fabric, table, space.geometry(), &mut seen, found)
            })?;
            for (slot, object, class) in seen.refs {
                self.refer(space, Place::Slot(slot), object, class)?;
            }
            moved.extend(seen.moved);
            self.report.counts.tombstones += seen.tombstones;
            for (namespace, keys) in seen.keys {
                let sum = self.report.counts.keys.entry(namespace).or_default();
                sum.keys += keys.keys;
                sum.bytes += keys.bytes;
            }
            self.breathe()?;
        }
        for (slot, object, class) in moved {
            if !space.is_referred(object, class) {
                self.refer(space, Place::Slot(slot), object, class)?;
            }
        }
        self.twice(space, &directory)
    }

    /// The tables of caches.
    fn caches(&mut self, space: &mut Space) -> Result<()> {
        let mut tables = Vec::new();
        self.unit(Place::Meta(meta::NAMESPACE_TABLE), |fabric, _| {
            tables = TableParts::of_all(fabric)?;
            Ok(())
        })?;
        for table in &tables {
            let place = Place::Namespace(table.namespace);
            for &(addr, class) in &table.objects {
                self.refer(space, place, addr, class)?;
            }
            for number in 0..table.num_pieces() {
                let mut seen = caches::Seen::default();
                self.unit(place, |fabric, found| {
                    caches::piece(fabric, table, number, &mut seen, found)
                })?;
                for (slot, object, class) in seen.refs {
                    self.refer(space, Place::Slot(slot), object, class)?;
                }
                self.report.counts.tombstones += seen.tombstones;
                let sum = self.report.counts.keys.entry(table.namespace).or_default();
                sum.keys += seen.keys.keys;
                sum.bytes += seen.keys.bytes;
                self.breathe()?;
            }
        }
        Ok(())
    }

    /// The trees of ordered namespaces. Each is looked at as a whole: as long as that takes, no
    /// memory is reused.
    fn trees(&mut self, space: &mut Space) -> Result<()> {
        let mut known = Vec::new();
        self.unit(Place::Meta(meta::NAMESPACE_TABLE), |fabric, _| {
            known = trees::namespaces(fabric)?;
            Ok(())
        })?;
        for namespace in known {
            let (place, mut seen) = (Place::Namespace(namespace), trees::Seen::default());
            self.unit(place, |fabric, found| trees::tree(fabric, namespace, &mut seen, found))?;
            for (object, class) in seen.refs {
                self.refer(space, place, object, class)?;
            }
            let sum = self.report.counts.keys.entry(namespace).or_default();
            sum.keys += seen.keys.keys;
            sum.bytes += seen.keys.bytes;
            self.breathe()?;
        }
        Ok(())
    }

    /// Something refers to an object; a reference that cannot be is a finding at `place`.
    fn refer(
        &mut self,
        space: &mut Space,
        place: Place,
        addr: PoolAddr,
        class: SizeClass,
    ) -> Result<()> {
        let outcome = space.refer(&self.client.fabric, addr, class);
        match self.doubt(place, outcome)? {
            Some(Err(text)) => self.add(Finding::error(What::SlotValue, place, text)),
            _ => Ok(()),
        }
    }

    /// Objects that were named twice: by two slots, unless a split moved one in between.
    fn twice(&mut self, space: &Space, directory: &directory::Tables) -> Result<()> {
        if space.twice.is_empty() {
            return Ok(());
        }
        self.unit(Place::Pool, |fabric, found| {
            let mut names: HashMap<PoolAddr, Vec<PoolAddr>> = HashMap::new();
            for &table in directory.tables.keys() {
                let mut bytes = vec![0; (BUCKETS * BUCKET) as usize];
                fabric.read(bucket_addr(table, 0), &mut bytes)?;
                for (at, slot) in slots_of(table, &bytes) {
                    let is_named = slot.logged_class().is_some();
                    if is_named && space.twice.contains(&slot.addr()) {
                        names.entry(slot.addr()).or_default().push(at);
                    }
                }
            }
            for (object, slots) in names.iter().filter(|(_, slots)| slots.len() > 1) {
                let text = format!("the slots {slots:?} name it");
                found.push(Finding::error(What::ReferencedTwice, Place::Object(*object), text));
            }
            Ok(())
        })
    }

    fn space(&mut self, space: &mut Space) -> Result<()> {
        let blocks = space.addrs();
        for (number, &block) in blocks.iter().enumerate() {
            self.tell(Step::Space, number as u64, blocks.len() as u64);
            self.unit(Place::Block(block), |fabric, found| space.read_bits(fabric, block, found))?;
            self.breathe()?;
        }
        let is_alone = self.is_alone()?;
        for (object, class) in space.freed_in_use() {
            let place = Place::Object(object);
            self.unit(place, |fabric, found| {
                // Its slot may have changed before its bit was set, or it was reused since.
                let is_freed = space.is_freed_now(fabric, object, class)?;
                if is_freed && (is_alone || InUse.is_live(fabric, object, class)?) {
                    let text = "its free bit is set: its bytes will be overwritten";
                    found.push(Finding::error(What::FreedInUse, place, text));
                }
                Ok(())
            })?;
            self.breathe()?;
        }
        self.leaks(space, is_alone)
    }

    fn leaks(&mut self, space: &Space, is_alone: bool) -> Result<()> {
        let rest = |word: &BlockWord, counts: &mut Counts, objects, bytes| match word.state {
            BlockState::Wreck => counts.wrecked.add(objects, bytes),
            BlockState::Owned => counts.held.add(objects, bytes),
            _ if is_alone => counts.leaked.add(objects, bytes),
            _ => counts.pending.add(objects, bytes),
        };
        let rests = space.count(&mut self.report.counts, rest);
        let mut lost = Vec::new();
        for rest in rests {
            let place = Place::Block(rest.block);
            let text = format!("{} objects of {} bytes", rest.objects, rest.bytes);
            match rest.word.state {
                BlockState::Wreck => {
                    let text = format!("{text} are to be looked up");
                    lost.push(Finding::note(What::Wreck, place, text));
                }
                BlockState::Orphan if is_alone => {
                    let text = format!("{text} are neither in use nor free");
                    lost.push(Finding::warning(What::Leak, place, text));
                }
                _ => {}
            }
        }
        let wrecks = self.report.counts.blocks_wreck;
        if self.options.repair && (wrecks > 0 || !lost.is_empty()) {
            let outcome = repair::reclaim(self.client, &lost);
            if let Some(done) = self.doubt(Place::Pool, outcome)? {
                lost.iter_mut().for_each(|finding| finding.repaired = done.clone());
            }
        }
        lost.into_iter().for_each(|finding| self.report.add(finding));
        Ok(())
    }

    fn namespaces(&mut self) -> Result<()> {
        self.tell(Step::Namespaces, 0, 1);
        self.unit(Place::Meta(meta::NAMESPACE_TABLE), namespaces::table)?;
        let keys = self.report.counts.keys.clone();
        let is_alone = self.is_alone()?;
        let mut wrong = Vec::new();
        self.unit(Place::Meta(meta::NAMESPACE_TABLE), |fabric, found| {
            wrong = namespaces::usage(fabric, &keys, is_alone, found)?;
            Ok(())
        })?;
        for (mut finding, namespace, counted) in wrong {
            if self.options.repair {
                namespace::recount(&self.client.fabric, &namespace, counted)?;
                finding.repaired = Some("recounted".into());
            }
            self.add(finding)?;
        }
        self.breathe()
    }

    fn locks(&mut self) -> Result<()> {
        let view = self.client.fabric.view();
        let total = view.nodes.len() as u64;
        for (number, &state) in view.nodes.iter().enumerate() {
            self.tell(Step::Locks, number as u64, total);
            if state != NodeState::Dead {
                let node = NodeId(number as u16);
                self.unit(Place::Node(node), |fabric, found| locks::words(fabric, node, found))?;
                self.breathe()?;
            }
        }
        Ok(())
    }
}
