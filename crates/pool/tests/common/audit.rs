//! Accounting of a pool whose clients have all left: nothing is locked, copies are equal, every
//! object is referred to or free.

use std::collections::HashMap;

use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};
use artesian_pool::alloc::table::{read_region, word_addr, BlockState, BlockWord};
use artesian_pool::alloc::{geometry, Allocator, Geometry};
use artesian_pool::client::Client;
use artesian_pool::config::{meta, record, NUM_LOCKS};
use artesian_pool::index::{self, BucketHeader};
use artesian_pool::membership::Standing;
use artesian_pool::object::{self, Header, Kind};
use artesian_pool::slot::tag;
use artesian_pool::store::large::{Manifest, Part};
use artesian_pool::store::InUse;
use artesian_pool::view::NodeState;
use artesian_pool::{cache, check, lifecycle, membership, namespace, tree};
use artesian_pool::{ClientId, Fabric, PoolAddr, SizeClass, Slot};

type Outcome<T> = Result<T, String>;

/// Turns after which all wrecks must have been looked through.
const TURNS: u32 = 2_000;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Looks through the blocks that dead clients left, as a client that needs room does, then leaves
/// and does the accounts. `connect` makes connections.
pub fn audit(connect: &dyn Fn() -> Box<dyn Verbs>) -> Outcome<()> {
    clear_wrecks(connect())?;
    accounts(connect())
}

/// [`audit`] for a pool that has lost a node's copies and clients: what an operation had replaced
/// in a slot whose primary copy is lost, nobody knows if its client is dead too. A check finds and
/// frees it.
#[allow(dead_code)] // Not all tests lose nodes.
pub fn audit_after_losses(connect: &dyn Fn() -> Box<dyn Verbs>) -> Outcome<()> {
    match audit(connect) {
        Err(text) if text.starts_with(LEAKED) => repair(connect())?,
        outcome => return outcome,
    }
    accounts(connect())
}

const LEAKED: &str = "leaked: ";

fn repair(verbs: Box<dyn Verbs>) -> Outcome<()> {
    let mut client = Client::with_cache(verbs, 0).map_err(text)?;
    check::run(&mut client, check::Options { repair: true }, &mut |_| {}).map_err(text)?;
    client.leave().map_err(text)
}

fn accounts(verbs: Box<dyn Verbs>) -> Outcome<()> {
    let node = verbs.nodes().first().map_or(NodeId(0), |node| node.0);
    let config = lifecycle::read_header(&*verbs, node).map_err(text)?;
    let view = membership::newest_view(&*verbs, &config).map_err(text)?;
    let fabric = Fabric::new(verbs, config, view, ClientId::NOBODY);
    let books = Books { geometry: Geometry::of(&config), fabric, used: HashMap::new() };
    books.close()
}

fn clear_wrecks(verbs: Box<dyn Verbs>) -> Outcome<()> {
    let fabric = lifecycle::join(verbs).map_err(text)?;
    let mut alloc = Allocator::new(&fabric).map_err(text)?;
    for _ in 0..TURNS {
        let found = alloc.inspect(&fabric, &InUse).map_err(text)?;
        if !found && count_wrecks(&fabric)? == 0 && !alloc.is_inspecting() {
            alloc.give_back(&fabric).map_err(text)?;
            return lifecycle::leave(fabric).map_err(text);
        }
        for _ in 0..8 {
            fabric.verbs().relax(1_000_000);
            alloc.quiesce(&fabric).map_err(text)?;
        }
    }
    Err("the blocks of dead clients are not cleared: the grace period does not end".into())
}

fn count_wrecks(fabric: &Fabric) -> Outcome<usize> {
    let mut count = 0;
    for region in 0..fabric.view().regions.len() {
        let blocks = read_region(fabric, region).map_err(text)?;
        count += blocks.iter().filter(|(_, word)| word.state == BlockState::Wreck).count();
    }
    Ok(count)
}

/// What is in use.
struct Books {
    fabric: Fabric,
    geometry: Geometry,
    /// Objects by address, with their class and who refers to them.
    used: HashMap<PoolAddr, (u8, String)>,
}

impl Books {
    fn close(mut self) -> Outcome<()> {
        self.places_are_free()?;
        self.nothing_is_locked()?;
        self.index()?;
        self.trees()?;
        self.caches()?;
        let mut blocks = 0;
        for region in 0..self.fabric.view().regions.len() {
            for (block, word) in read_region(&self.fabric, region).map_err(text)? {
                self.block(block, word)?;
                blocks += usize::from(word.state != BlockState::Free);
            }
        }
        match self.used.into_iter().next() {
            Some((addr, (_, whose))) => Err(format!("{whose} at {addr:?} lies in no block")),
            None if blocks == 0 => Err("no block is in use".into()),
            None => Ok(()),
        }
    }

    fn word(&self, at: GlobalAddr) -> Outcome<u64> {
        self.fabric.read_word(at).map_err(text)
    }

    /// The bytes of all copies of `len` bytes at `addr`; refused if they differ.
    fn same(&self, addr: PoolAddr, len: usize, what: &str) -> Outcome<Vec<u8>> {
        let mut first: Option<Vec<u8>> = None;
        for copy in self.fabric.copies(addr) {
            let mut bytes = vec![0; len];
            self.fabric.batch(&mut [Verb::read(copy, &mut bytes)]).map_err(text)?;
            match &first {
                None => first = Some(bytes),
                Some(first) if *first == bytes => {}
                Some(first) => {
                    let at = first.iter().zip(&bytes).position(|(a, b)| a != b).unwrap_or(0) & !7;
                    let (a, b) = (object::word(first, at), object::word(&bytes, at));
                    let text = format!("{what} at {addr:?}: copies differ at byte {at}");
                    return Err(format!("{text}: {a:#x} and, at {copy:?}, {b:#x}"));
                }
            }
        }
        first.ok_or_else(|| format!("{what} at {addr:?}: no copy is left"))
    }

    fn places_are_free(&self) -> Outcome<()> {
        for index in 1..self.fabric.config().max_clients {
            for at in self.fabric.client_record(index, record::STATE).into_iter().take(1) {
                let (state, client) = record::split(self.word(at)?);
                if state != record::FREE {
                    return Err(format!("{client:?} is in state {state} at {at:?}"));
                }
            }
        }
        Ok(())
    }

    fn nothing_is_locked(&self) -> Outcome<()> {
        for offset in [meta::INDEX_LOCK, meta::NAMESPACE_LOCK] {
            for at in self.fabric.meta(offset) {
                let holder = self.word(at)?;
                if holder != 0 {
                    return Err(format!("lock at {at:?} is held: {holder:#x}"));
                }
            }
        }
        let mut bytes = vec![0; NUM_LOCKS as usize * 8];
        let view = self.fabric.view();
        for (node, state) in view.nodes.iter().enumerate() {
            if *state == NodeState::Dead {
                continue;
            }
            let at = GlobalAddr::new(NodeId(node as u16), self.fabric.layout().locks);
            self.fabric.batch(&mut [Verb::read(at, &mut bytes)]).map_err(text)?;
            if let Some(byte) = bytes.iter().position(|&byte| byte != 0) {
                let word = object::word(&bytes, byte & !7);
                return Err(format!("lock word {} of node {node} is held: {word:#x}", byte / 8));
            }
        }
        Ok(())
    }

    fn use_object(&mut self, addr: PoolAddr, class: u8, whose: String) -> Outcome<()> {
        match self.used.insert(addr, (class, whose.clone())) {
            None => Ok(()),
            Some((_, other)) => Err(format!("{addr:?} is used twice, by {other} and {whose}")),
        }
    }

    /// All objects that the index refers to.
    fn index(&mut self) -> Outcome<()> {
        let mut slots = Vec::new();
        index::for_each_slot(&self.fabric, |at, slot| {
            slots.push((at, slot));
            Ok(())
        })
        .map_err(text)?;
        for addr in index::memory(&self.fabric).map_err(text)? {
            let class = self.class_of_table(addr)?;
            self.use_object(addr, class, "the index".into())?;
        }
        for (at, slot) in slots {
            if at.0 % 64 == 8 {
                self.header_is_free(PoolAddr(at.0 - 8))?;
            }
            let bytes = self.same(at, 8, "slot")?;
            if object::word(&bytes, 0) != slot.0 {
                return Err(format!("slot {at:?} changes"));
            }
            self.slot(at, slot)?;
        }
        Ok(())
    }

    /// All objects of the ordered namespaces.
    fn trees(&mut self) -> Outcome<()> {
        for space in namespace::list(&self.fabric).map_err(text)? {
            if space.kind != namespace::Kind::Tree {
                continue;
            }
            let mut found = Vec::new();
            let mut add = |addr, class: SizeClass| found.push((addr, class.0));
            let report = tree::tree_check(&self.fabric, space.id, &mut add).map_err(text)?;
            if let Some(fault) = report.faults.first() {
                return Err(format!("tree {}: {:?}: {}", space.name, fault.at, fault.text));
            }
            for (addr, class) in found {
                self.use_object(addr, class, format!("tree {}", space.name))?;
            }
        }
        Ok(())
    }

    /// All objects that caches refer to.
    fn caches(&mut self) -> Outcome<()> {
        let mut slots = Vec::new();
        cache::for_each_slot(&self.fabric, |at, slot| {
            slots.push((at, slot));
            Ok(())
        })
        .map_err(text)?;
        for addr in cache::memory(&self.fabric).map_err(text)? {
            let class = self.class_of_table(addr)?;
            self.use_object(addr, class, "a cache's table".into())?;
        }
        for (at, slot) in slots {
            self.same(at, 8, "slot of a cache")?;
            self.slot(at, slot)?;
        }
        Ok(())
    }

    /// The lock of a client that died before its object was written is only found by the next one
    /// who wants to insert.
    fn header_is_free(&self, at: PoolAddr) -> Outcome<()> {
        let at = self.fabric.primary(at).map_err(text)?;
        let header = BucketHeader::from_word(self.word(at)?);
        let standing = membership::standing(&self.fabric, header.owner).map_err(text)?;
        if header.owner.is_nobody() || standing == Standing::Gone {
            Ok(())
        } else {
            Err(format!("insert lock at {at:?} is held: {header:?}"))
        }
    }

    fn class_of_table(&self, addr: PoolAddr) -> Outcome<u8> {
        let block = PoolAddr(addr.0 & !(self.fabric.config().block_bytes() - 1));
        let at = word_addr(self.fabric.config(), block);
        let word = self.word(self.fabric.primary(at).map_err(text)?)?;
        Ok(BlockWord::decode(word).map_err(text)?.class.0)
    }

    fn slot(&mut self, at: PoolAddr, slot: Slot) -> Outcome<()> {
        if slot.is_vacant() && slot.logged_class().is_none() {
            return Ok(());
        }
        let Some(class) = slot.logged_class().filter(|_| slot.kind() != tag::INTENT) else {
            return Err(format!("slot {at:?} was left as {slot:?}"));
        };
        let bytes = self.same(slot.addr(), class.bytes() - object::LOG_BYTES, "object")?;
        let header = Header::decode(&bytes, class).map_err(text)?;
        let value = slot.class().is_some();
        if value != matches!(header.kind, Kind::Value | Kind::Manifest) {
            return Err(format!("slot {at:?} ({slot:?}) names a {:?}", header.kind));
        }
        let parsed = object::parse(&bytes, class);
        let (_, _, value) = parsed.map_err(|error| format!("slot {at:?} ({slot:?}): {error}"))?;
        if header.kind == Kind::Manifest {
            self.pieces(at, value)?;
        }
        self.use_object(slot.addr(), class.0, format!("slot {at:?} ({slot:?})"))
    }

    fn pieces(&mut self, at: PoolAddr, manifest: &[u8]) -> Outcome<()> {
        let manifest = Manifest::decode(manifest).map_err(text)?;
        for (addr, class) in manifest.parts.iter().filter_map(Part::object) {
            let bytes = self.same(addr, class.bytes() - object::LOG_BYTES, "piece")?;
            object::parse(&bytes, class).map_err(|error| format!("piece {addr:?}: {error}"))?;
            self.use_object(addr, class.0, format!("value in slot {at:?}"))?;
        }
        Ok(())
    }

    /// Every object of the block is in use or free, on all copies alike.
    fn block(&mut self, block: PoolAddr, word: BlockWord) -> Outcome<()> {
        let at = word_addr(self.fabric.config(), block);
        self.same(at, 8, "word of a block")?;
        match word.state {
            BlockState::Free => return Ok(()),
            BlockState::Orphan => {}
            _ => return Err(format!("block {block:?} was left as {word:?}")),
        }
        let Some(shape) = self.geometry.shape(word.class) else {
            return Err(format!("block {block:?}: no such class, {word:?}"));
        };
        let bits = block.add(geometry::BLOCK_HEADER);
        let bits = self.same(bits, shape.words() * 8, "bitmap")?;
        for index in 0..shape.objects {
            let addr = self.geometry.object(block, shape, index);
            let at = index as usize;
            let free = object::word(&bits, at / 64 * 8) >> (at % 64) & 1 == 1;
            match self.used.remove(&addr) {
                Some((class, whose)) if class != word.class.0 => {
                    return Err(format!("{whose}: {addr:?} lies in a block of {:?}", word.class));
                }
                Some((_, whose)) if free => return Err(format!("{addr:?} of {whose} is free")),
                None if !free => return Err(self.leaked(addr, word)),
                _ => {}
            }
        }
        Ok(())
    }

    fn leaked(&self, addr: PoolAddr, word: BlockWord) -> String {
        let mut bytes = vec![0; word.class.bytes()];
        let read = self.fabric.read(addr, &mut bytes);
        let header = read.map(|()| Header::decode(&bytes, word.class));
        let log = object::LogEntry::decode(&bytes[bytes.len() - object::LOG_BYTES..]);
        format!("{LEAKED}{addr:?} of {:?}: {header:?}, {log:?}", word.class)
    }
}
