//! Descending: from a key to its node.
//!
//! Inner nodes are taken from the client's cache where it has them. Nothing that leads to a node
//! is trusted: the node itself tells its level and which keys belong to it. Whoever belongs behind
//! it goes right; whoever was led astray forgets what led there and descends again.

use artesian_bus::Verb;

use super::cache::NodeCache;
use super::node::{Bytes, Flaw, Node, Side, NODE_BYTES};
use super::root::{self, Known};
use super::rows::Rows;
use super::seek::Seek;
use crate::address::PoolAddr;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::rtx::{release_if_dead, Wait};

/// Nodes passed in one descent, to the right included.
const MOST_STEPS: usize = 1 << 16;
/// Looks without a pause: a descent may be led astray once a level.
const QUICK_LOOKS: u32 = 8;
/// Checks that found a node's lock free and the node unusable: then it is for good.
const MOST_CHECKS: u32 = 12;

/// What a client remembers of its trees.
pub struct Trees {
    pub(super) cache: NodeCache,
    known: Vec<Option<Known>>,
    /// The node that was read last.
    pub(super) page: Box<Bytes>,
    /// Nodes that their parents do not name, as far as this client has seen.
    pub(super) missing: Vec<Missing>,
    /// Of a scan.
    pub(super) leaves: Vec<Bytes>,
    pub(super) rows: Rows,
    patience: Patience,
}

/// How often the operation under way was led astray.
#[derive(Default)]
struct Patience {
    looks: u32,
    checks: u32,
    wait: Option<Wait>,
}

/// A node that was only reached from its left neighbour.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// The level of the parent.
    pub level: u8,
    /// The node's low fence.
    pub key: Vec<u8>,
    pub child: PoolAddr,
}

impl Trees {
    /// Caches at most about `cache_bytes` of inner nodes.
    pub fn new(cache_bytes: usize) -> Trees {
        Trees {
            cache: NodeCache::new(cache_bytes),
            known: vec![None; meta::NUM_NAMESPACES as usize],
            page: Box::new([0; NODE_BYTES]),
            missing: Vec::new(),
            leaves: Vec::new(),
            rows: Rows::default(),
            patience: Patience::default(),
        }
    }

    /// An operation begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.missing.clear();
        self.patience = Patience::default();
    }
}

/// A pointer to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub addr: PoolAddr,
    /// The inner node that led here; none for the root.
    pub parent: Option<PoolAddr>,
    /// That node was read just now.
    pub fresh: bool,
    /// The node in which the pointer stands: the parent, or the left neighbour.
    pub via: Option<PoolAddr>,
}

impl Route {
    /// The pointer to the root.
    fn to(root: PoolAddr) -> Route {
        Route { addr: root, parent: None, fresh: true, via: None }
    }

    /// Goes on to the right neighbour.
    pub fn turn_right(&mut self, next: PoolAddr) {
        self.via = Some(std::mem::replace(&mut self.addr, next));
    }
}

/// What a look at a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is the one.
    Here,
    /// The one is behind this one.
    Right(PoolAddr),
    /// This is none of the nodes that were looked for.
    Astray,
}

/// An inner node, seen on the way down.
struct Glance {
    level: u8,
    dead: bool,
    side: Side,
    right: PoolAddr,
    child: PoolAddr,
}

impl Glance {
    fn of(node: Node<'_>, seek: Seek<'_>) -> Result<Glance> {
        let side = seek.side(node);
        let child = match side {
            Side::Here if node.level() > 0 => node.child(seek.child(node)?)?,
            _ => PoolAddr::NULL,
        };
        let (level, dead, right) = (node.level(), node.is_dead(), node.right());
        Ok(Glance { level, dead, side, right, child })
    }
}

/// One operation's way through a tree.
pub(super) struct Walk<'a> {
    pub fabric: &'a Fabric,
    pub trees: &'a mut Trees,
    pub known: Known,
}

impl<'a> Walk<'a> {
    /// Starts in the tree of `namespace`; none if it has no root yet.
    #[inline]
    pub fn new(
        fabric: &'a Fabric,
        trees: &'a mut Trees,
        namespace: u16,
    ) -> Result<Option<Walk<'a>>> {
        fabric.pass_gate()?;
        let known = trees.known.get(namespace as usize).copied().flatten();
        let known = match known {
            Some(known) => known,
            None => {
                let (tree, root) = root::look_up(fabric, namespace)?;
                let Some(root) = root else { return Ok(None) };
                let known = Known { tree, root, flat: false };
                trees.known[namespace as usize] = Some(known);
                known
            }
        };
        Ok(Some(Walk { fabric, trees, known }))
    }

    /// Remembers whether the root is a leaf.
    pub fn set_flat(&mut self, flat: bool) {
        if self.known.flat != flat {
            self.known.flat = flat;
            self.trees.known[self.known.tree.namespace as usize] = Some(self.known);
        }
    }

    /// The way to the node of `level` at `seek`; none if the tree is not that high.
    #[inline]
    pub fn route(&mut self, seek: Seek<'_>, level: u8) -> Result<Option<Route>> {
        if level == 0 && self.known.flat {
            return Ok(Some(Route::to(self.known.root)));
        }
        loop {
            let mut route = Route::to(self.known.root);
            match self.descend(seek, level, &mut route)? {
                Some(true) => return Ok(Some(route)),
                Some(false) => return Ok(None),
                None => self.astray(route)?,
            }
        }
    }

    /// One descent: true if `route` leads to the node, false if the tree is too low, none if it
    /// was led astray by `route`.
    #[inline]
    fn descend(&mut self, seek: Seek<'_>, level: u8, route: &mut Route) -> Result<Option<bool>> {
        let mut expected = None;
        for _ in 0..MOST_STEPS {
            let (fresh, glance) = match self.trees.cache.get(route.addr) {
                Some(node) => (false, Glance::of(node, seek)?),
                None => match self.read_inner(route.addr, seek)? {
                    Some(glance) => (true, glance),
                    None => return Ok(None),
                },
            };
            match expected {
                Some(expected) if glance.level != expected => return Ok(None),
                None if glance.level < level && fresh => return Ok(Some(false)),
                None if glance.level < level => {
                    self.trees.cache.forget(route.addr);
                    continue;
                }
                _ if glance.level == level => return Ok(Some(true)),
                _ => {}
            }
            match glance.side {
                _ if glance.dead => return Ok(None),
                Side::Before => return Ok(None),
                Side::Behind if !fresh => {
                    self.trees.cache.forget(route.addr);
                    continue;
                }
                Side::Behind => {
                    self.miss(glance.level, *route);
                    route.turn_right(glance.right);
                    continue;
                }
                Side::Here => {}
            }
            let parent = Some(route.addr);
            *route = Route { addr: glance.child, parent, fresh, via: parent };
            if glance.level == level + 1 {
                return Ok(Some(true));
            }
            expected = Some(glance.level - 1);
        }
        Err(PoolError::Corrupt("an ordered index without end".into()))
    }

    /// Reads a node on the way down and keeps a copy of it, if it is an inner one.
    fn read_inner(&mut self, addr: PoolAddr, seek: Seek<'_>) -> Result<Option<Glance>> {
        let Some(node) = self.read(addr)? else { return Ok(None) };
        let glance = Glance::of(node, seek)?;
        if glance.level > 0 && !glance.dead {
            let Trees { cache, page, .. } = &mut *self.trees;
            cache.put(addr, page);
        }
        if addr == self.known.root {
            self.set_flat(glance.level == 0);
        }
        Ok(Some(glance))
    }

    /// Reads the node at `addr` into the page. Somebody may be writing it: then once more.
    #[inline]
    pub fn read(&mut self, addr: PoolAddr) -> Result<Option<Node<'_>>> {
        for _ in 0..4 {
            if !is_place(addr) {
                return Ok(None);
            }
            let at = self.fabric.primary(addr)?;
            self.fabric.batch(&mut [Verb::read(at, &mut self.trees.page[..])])?;
            match Node::open(&self.trees.page, addr, self.known.tree) {
                Ok(_) => return Ok(Some(Node::of(&self.trees.page))),
                Err(Flaw::Torn | Flaw::Unlinked) => {}
                Err(Flaw::Foreign) => return Ok(None),
                Err(Flaw::Corrupt) => return Err(corrupt(addr)),
            }
        }
        Ok(None)
    }

    /// What the bytes in the page, read at `addr`, are to one who looks for `seek` on `level`.
    pub fn judge(&self, addr: PoolAddr, seek: Seek<'_>, level: u8) -> Result<Sight> {
        match Node::open(&self.trees.page, addr, self.known.tree) {
            Ok(node) => Ok(sight(node, seek, level)),
            Err(Flaw::Corrupt) => Err(corrupt(addr)),
            Err(_) => Ok(Sight::Astray),
        }
    }

    /// Reads the node of `level` at `seek` into the page; its address, or none if the tree is not
    /// that high.
    #[inline]
    pub fn find(&mut self, seek: Seek<'_>, level: u8) -> Result<Option<PoolAddr>> {
        loop {
            let Some(mut route) = self.route(seek, level)? else { return Ok(None) };
            for _ in 0..MOST_STEPS {
                let Some(node) = self.read(route.addr)? else { break };
                match sight(node, seek, level) {
                    Sight::Here => return Ok(Some(route.addr)),
                    Sight::Right(next) => {
                        self.miss(level, route);
                        route.turn_right(next);
                    }
                    Sight::Astray => break,
                }
            }
            self.astray(route)?;
        }
    }

    /// The node in the page, to which `route` led, is not the last one: if its parent does not
    /// know that, somebody is to tell it.
    pub fn miss(&mut self, level: u8, route: Route) {
        let Some(parent) = route.parent else { return };
        if !route.fresh {
            // An old copy: perhaps the parent knows by now.
            self.trees.cache.forget(parent);
        } else if self.trees.missing.is_empty() {
            let node = Node::of(&self.trees.page);
            if let Some(key) = node.high_key() {
                let (level, child) = (level + 1, node.right());
                self.trees.missing.push(Missing { level, key, child });
            }
        }
    }

    /// To be called when `route` led to something else: forgets what it came from, and pauses if
    /// that happens often. Finishes what a dead client left there.
    #[cold]
    pub fn astray(&mut self, route: Route) -> Result<()> {
        self.trees.cache.forget(route.addr);
        match route.parent {
            Some(parent) => self.trees.cache.forget(parent),
            None => self.reopen()?,
        }
        let Patience { looks, checks, wait } = &mut self.trees.patience;
        *looks += 1;
        if *looks <= QUICK_LOOKS {
            return self.fabric.pass_gate();
        }
        let wait = wait.get_or_insert_with(Wait::new);
        if wait.is_check_due() && is_place(route.addr) {
            // A new node is locked together with the one that names it, and by that one's lock.
            let mut free = true;
            for addr in [Some(route.addr), route.via].into_iter().flatten() {
                free &= release_if_dead(self.fabric, self.fabric.lock_of(addr)?)?;
            }
            *checks = if free { *checks + 1 } else { 0 };
            if *checks > MOST_CHECKS {
                return Err(corrupt(route.addr));
            }
        }
        wait.pause(self.fabric, "a node of an ordered index")
    }

    /// The tree may have been dropped and made anew.
    fn reopen(&mut self) -> Result<()> {
        let namespace = self.known.tree.namespace;
        self.trees.known[namespace as usize] = None;
        match root::look_up(self.fabric, namespace)? {
            (tree, Some(root)) => {
                self.known = Known { tree, root, flat: false };
                self.trees.known[namespace as usize] = Some(self.known);
                Ok(())
            }
            // Begin again: there is no tree any more.
            (_, None) => Err(PoolError::ViewChanged),
        }
    }
}

/// Whether a node can lie at an address that was found in memory.
fn is_place(addr: PoolAddr) -> bool {
    !addr.is_null() && addr.0 < PoolAddr::LIMIT - NODE_BYTES as u64
}

/// What `node` is to one who looks for `seek` on `level`.
#[inline]
fn sight(node: Node<'_>, seek: Seek<'_>, level: u8) -> Sight {
    if node.is_dead() || node.level() != level {
        return Sight::Astray;
    }
    match seek.side(node) {
        Side::Before => Sight::Astray,
        Side::Here => Sight::Here,
        Side::Behind => Sight::Right(node.right()),
    }
}

fn corrupt(addr: PoolAddr) -> PoolError {
    PoolError::Corrupt(format!("the node at {addr:?} of an ordered index does not verify"))
}
