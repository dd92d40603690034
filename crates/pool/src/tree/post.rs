//! Telling a parent about a child that was so far reached from its left neighbour only.

use super::edit::{Draft, Entry};
use super::locked::{write_changes, Tree};
use super::node::{child_payload, Node, CHILD_BYTES};
use super::seek::Seek;
use super::split::Arrival;
use super::walk::Missing;
use crate::error::{PoolError, Result};

/// How often a change of the upper levels is tried. Nothing depends on it: whoever comes by next
/// tries again.
pub(super) const ATTEMPTS: u32 = 6;

/// Whether an attempt at a change that somebody else may make later has come to its end.
pub(super) fn is_over(outcome: Result<bool>) -> Result<bool> {
    match outcome {
        Err(PoolError::Conflict | PoolError::ViewChanged) => Ok(false),
        outcome => outcome,
    }
}

impl Tree<'_> {
    /// Tells the parents of all nodes that were found missing.
    pub fn post_all(&mut self) -> Result<()> {
        // Each may split its parent, and so on up to the root.
        for _ in 0..4 * super::node::MAX_LEVELS {
            let Some(missing) = self.walk.trees.missing.pop() else { break };
            self.post(&missing)?;
        }
        Ok(())
    }

    /// Tells the parent of one.
    fn post(&mut self, missing: &Missing) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let outcome = self.post_once(missing);
            if is_over(outcome)? {
                break;
            }
        }
        Ok(())
    }

    fn post_once(&mut self, missing: &Missing) -> Result<bool> {
        let (level, seek) = (missing.level, Seek::At(&missing.key));
        let Some(route) = self.walk.route(seek, level)? else { return Ok(true) };
        let Some((mut rtx, addr)) = self.lock(route, seek, level, None)? else { return Ok(false) };
        let old = *self.walk.trees.page;
        let node = Node::of(&old);
        let index = match node.find(&missing.key)? {
            Err(index) if index > 0 && missing.key != node.low() => index,
            _ => {
                rtx.abort()?;
                self.remember(addr, &old);
                return Ok(true);
            }
        };
        // Who unlinks the child locks the parent: it stays what it is until the end.
        let child = self.walk.read(missing.child)?;
        let fits = |child: &Node<'_>| {
            !child.is_dead() && child.level() + 1 == level && child.low() == missing.key
        };
        if !child.is_some_and(|child| fits(&child)) {
            rtx.abort()?;
            return Ok(true);
        }
        let (tag, payload) = (CHILD_BYTES as u8, child_payload(missing.child));
        let (mut new, rest) = (old, &missing.key[node.prefix().len()..]);
        let mut draft = Draft(&mut new);
        if !draft.insert(index, rest, tag, &payload)? {
            let entry = Entry::new(&missing.key, tag, &payload);
            let arrival = Arrival { index, replaces: false, entry, gives_up: None };
            return self.split(rtx, addr, &old, &arrival);
        }
        draft.seal(addr);
        write_changes(&mut rtx, addr, &old, &new)?;
        rtx.commit()?;
        self.remember(addr, &new);
        Ok(true)
    }
}
