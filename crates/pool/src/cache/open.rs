//! Creating and opening caches; looking a table up again after the membership changed.

use artesian_bus::Verb;
use smallvec::SmallVec;

use super::layout::{self, Shape, EVICTIONS, FIXED, NUMBER, PIECES};
use super::notes::Notes;
use super::part;
use super::policy::{CounterCache, Policy, Registry};
use super::raze::refuse_closing;
use super::recount;
use super::sample::Sample;
use super::stats::Counts;
use super::table::Table;
use super::usage::Usage;
use super::{Cache, CacheConfig, COUNTER_BYTES};
use crate::address::PoolAddr;
use crate::alloc::{Allocation, Allocator};
use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::namespace::{self, Kind, Limits, Namespace};

/// The spare word of the namespace that names the table's root.
pub(super) const ROOT: u64 = 0;
/// How often an opening is begun anew because others or the membership changed things.
const ATTEMPTS: u32 = 16;

impl Client {
    /// Opens the cache of that name, or makes it; returns its namespace's number. A cache that
    /// exists stays as it was created, whatever `config` says.
    ///
    /// [`PoolError::Invalid`]: parameters that cannot be, an algorithm that does not exist, or a
    /// namespace of another kind. [`PoolError::Full`]: no room for the table.
    pub fn cache_open(&mut self, name: &str, config: &CacheConfig) -> Result<u16> {
        self.cache_open_with(name, config, &Registry::standard())
    }

    /// [`Client::cache_open`] with algorithms of one's own. All clients of a cache need them.
    pub fn cache_open_with(
        &mut self,
        name: &str,
        config: &CacheConfig,
        registry: &Registry,
    ) -> Result<u16> {
        config.validate()?;
        make_policy(config, registry, 0)?;
        let outcome = self.open_steadily(name, config, registry);
        self.settle_down()?;
        outcome
    }

    fn open_steadily(
        &mut self,
        name: &str,
        config: &CacheConfig,
        registry: &Registry,
    ) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            match self.open_once(name, config, registry) {
                Err(PoolError::ViewChanged) => {}
                outcome => return outcome,
            }
        }
        Err(PoolError::Timeout { what: "a membership that stays".into(), waited_ms: 0 })
    }

    fn open_once(&mut self, name: &str, config: &CacheConfig, registry: &Registry) -> Result<u16> {
        let id = self.namespace(name, Kind::Cache, Limits::default())?;
        let gone = || PoolError::Invalid(format!("the namespace {name:?} was dropped"));
        let namespace = self.spaces.get(id).cloned().ok_or_else(gone)?;
        let view = self.fabric.epoch();
        refuse_closing(&self.fabric, &namespace)?;
        let (place, table) = find_table(&self.fabric, &mut self.alloc, &namespace, config)?;
        let known = &table.shape.config;
        let seed = u64::from(id) << 32 | self.fabric.me().word();
        let mut cache = Cache {
            policy: make_policy(known, registry, seed)?,
            usage: Usage::new(known, self.fabric.config().max_clients),
            sample: Sample::new(known.sample, seed),
            counts: Counts::default(),
            namespace,
            place,
            table,
            view,
            counters: CounterCache::new(COUNTER_BYTES),
            notes: Notes::default(),
            evictions: 0,
            stock_pause: 0,
        };
        // A client that opens a cache a second time goes on with what it knows.
        if let Ok(known) = self.caches.take(id) {
            let same = known.namespace.generation == cache.namespace.generation;
            if same && known.place == cache.place {
                self.caches.put(known);
                return Ok(id);
            }
        }
        cache.load_shared(&self.fabric)?;
        cache.settle(&self.fabric)?;
        cache.recount_if_due(&self.fabric)?;
        self.caches.put(Box::new(cache));
        Ok(id)
    }
}

fn make_policy(config: &CacheConfig, registry: &Registry, seed: u64) -> Result<Policy> {
    let names: Vec<&str> = config.algorithms.iter().map(String::as_str).collect();
    Policy::new(&names, registry, config.remembered(), seed)
}

/// The table's root word and the table; made if there is none, or if its root was lost.
fn find_table(
    fabric: &Fabric,
    alloc: &mut Allocator,
    namespace: &Namespace,
    config: &CacheConfig,
) -> Result<(u64, Table)> {
    let place = read_place(fabric, namespace)?;
    let found = if place == 0 { None } else { load(fabric, place)? };
    if let Some(table) = found {
        copy_place(fabric, namespace, place)?;
        return Ok((place, table));
    }
    make(fabric, alloc, namespace, place, config)
}

/// The table of that root; `None` if the root was lost with its node.
fn load(fabric: &Fabric, place: u64) -> Result<Option<Table>> {
    match Table::load(fabric, place) {
        Ok(table) => Ok(Some(table)),
        Err(PoolError::Lost(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn read_place(fabric: &Fabric, namespace: &Namespace) -> Result<u64> {
    fabric.read_word(namespace::spare(fabric, namespace, ROOT)[0])
}

/// Makes the copies of the root word equal to the first one.
fn copy_place(fabric: &Fabric, namespace: &Namespace, place: u64) -> Result<()> {
    let bytes = place.to_le_bytes();
    let copies = namespace::spare(fabric, namespace, ROOT);
    let mut verbs: SmallVec<[Verb<'_>; 3]> =
        copies.iter().skip(1).map(|&copy| Verb::write(copy, &bytes)).collect();
    if verbs.is_empty() {
        return Ok(());
    }
    fabric.batch(&mut verbs)
}

/// Makes a table and puts it in the place of the root word `old`, unless somebody was quicker.
fn make(
    fabric: &Fabric,
    alloc: &mut Allocator,
    namespace: &Namespace,
    old: u64,
    config: &CacheConfig,
) -> Result<(u64, Table)> {
    let mut parts = Vec::new();
    let outcome = make_parts(fabric, alloc, config, &mut parts);
    let published = outcome.and_then(|(place, table)| {
        let at = namespace::spare(fabric, namespace, ROOT)[0];
        match fabric.cas(at, old, place) {
            Ok(found) if found == old => Ok((place, table)),
            Ok(_) => Err(PoolError::ViewChanged),
            // It may stand there, or not: whoever looks again finds out.
            Err(error) => match fabric.read_word(namespace::spare(fabric, namespace, ROOT)[0])? {
                now if now == place => Ok((place, table)),
                _ => Err(error),
            },
        }
    });
    for part in &parts {
        if published.is_err() {
            alloc.free(part.addr, part.class);
        }
        alloc.complete(part.sequence);
    }
    let (place, table) = published?;
    copy_place(fabric, namespace, place)?;
    Ok((place, table))
}

fn make_parts(
    fabric: &Fabric,
    alloc: &mut Allocator,
    config: &CacheConfig,
    parts: &mut Vec<Allocation>,
) -> Result<(u64, Table)> {
    let too_large = || {
        let limit = alloc.max_object_bytes();
        PoolError::TooLarge { what: "cache table", size: layout::root_bytes(0), limit }
    };
    let largest = alloc.max_object_bytes();
    let rooted = |shape: &Shape| layout::root_bytes(shape.num_pieces()) <= largest;
    let shape = Shape::of(config, alloc.piece_bytes()).filter(rooted);
    let shape = shape.or_else(|| Shape::of(config, largest)).filter(rooted);
    let shape = shape.ok_or_else(too_large)?;
    let mut pieces = Vec::new();
    for _ in 0..shape.num_pieces() {
        let part = part::write(fabric, alloc, shape.class.bytes(), &[])?;
        // Nothing of it needs recovery: a part of no table is free.
        alloc.complete(part.sequence);
        parts.push(part);
        pieces.push(part.addr);
    }
    let mut content = vec![0; (PIECES - FIXED) as usize];
    content[..layout::FIXED_BYTES].copy_from_slice(&shape.encode());
    let counted = (layout::COUNTED - FIXED) as usize;
    content[counted..counted + 8].copy_from_slice(&recount::due(fabric)?.to_le_bytes());
    for &piece in &pieces {
        content.extend_from_slice(&layout::place_word(shape.class, piece).to_le_bytes());
    }
    let root = part::write(fabric, alloc, layout::root_bytes(shape.num_pieces()), &content)?;
    parts.push(root);
    let place = layout::place_word(root.class, root.addr);
    Ok((place, Table { root: root.addr, shape, pieces }))
}

impl Cache {
    /// To be called before every try of an operation: looks up again what a change of the
    /// membership may have changed. A root that was lost is made anew, and with it the table.
    #[inline]
    pub(super) fn refresh(&mut self, fabric: &Fabric, alloc: &mut Allocator) -> Result<()> {
        if self.view == fabric.epoch() {
            return Ok(());
        }
        self.look_up_again(fabric, alloc)
    }

    #[cold]
    fn look_up_again(&mut self, fabric: &Fabric, alloc: &mut Allocator) -> Result<()> {
        let view = fabric.epoch();
        refuse_closing(fabric, &self.namespace)?;
        let config = self.table.shape.config.clone();
        let (place, table) = find_table(fabric, alloc, &self.namespace, &config)?;
        if place != self.place {
            self.counters.drain().for_each(drop);
            self.usage = Usage::new(&config, fabric.config().max_clients);
            self.notes.clear();
        }
        (self.place, self.table) = (place, table);
        self.load_shared(fabric)?;
        self.view = view;
        self.recount_if_due(fabric)
    }

    /// Reads the root's words that everybody changes.
    fn load_shared(&mut self, fabric: &Fabric) -> Result<()> {
        let (evictions, weights) =
            (self.table.root.add(EVICTIONS), self.table.root.add(layout::WEIGHTS));
        let mut number = [0; 8];
        let mut words = [0; 8 * super::policy::SHARED_WORDS];
        let mut verbs = [
            Verb::read(fabric.primary(evictions)?, &mut number),
            Verb::read(fabric.primary(weights)?, &mut words),
        ];
        fabric.batch(&mut verbs)?;
        self.evictions = u64::from_le_bytes(number) & NUMBER;
        self.policy.adopt(&super::learn::shared_words(&words));
        Ok(())
    }

    /// A piece of the table was lost with its node: finds the one that was made in its place, or
    /// makes it. Its entries are gone.
    #[cold]
    pub(super) fn replace_piece(
        &mut self,
        fabric: &Fabric,
        alloc: &mut Allocator,
        bucket: PoolAddr,
    ) -> Result<()> {
        let known = self.table.pieces.clone();
        self.table.load_pieces(fabric)?;
        if self.table.pieces != known {
            return Ok(());
        }
        let class = self.table.class();
        let within =
            |piece: &PoolAddr| (piece.0..piece.0 + class.bytes() as u64).contains(&bucket.0);
        let Some(number) = known.iter().position(within) else { return Ok(()) };
        let new = part::write(fabric, alloc, class.bytes(), &[])?;
        alloc.complete(new.sequence);
        let at = self.table.root.add(PIECES + 8 * number as u64);
        let [old, place] = [known[number], new.addr].map(|addr| layout::place_word(class, addr));
        let outcome = fabric.primary(at).and_then(|at| fabric.cas(at, old, place));
        if outcome != Ok(old) {
            self.table.load_pieces(fabric)?;
            if !self.table.pieces.contains(&new.addr) {
                alloc.free(new.addr, new.class);
                return Ok(());
            }
        }
        self.table.pieces[number] = new.addr;
        self.counts.lost_pieces += 1;
        part::copy_word(fabric, at, place)
    }
}
