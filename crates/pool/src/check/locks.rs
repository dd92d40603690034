//! The lock words of all nodes, and the logs behind them.

use artesian_bus::{GlobalAddr, NodeId, Verb};

use super::people::{People, State};
use super::report::{Finding, Place, What};
use crate::config::NUM_LOCKS;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;
use crate::rtx::Name;

/// Checks the lock words of `node`: each names a transaction of a client that is there.
pub(super) fn words(fabric: &Fabric, node: NodeId, found: &mut Vec<Finding>) -> Result<()> {
    let mut bytes = vec![0; NUM_LOCKS as usize * 8];
    let start = GlobalAddr::new(node, fabric.layout().locks);
    fabric.batch(&mut [Verb::read(start, &mut bytes)])?;
    let people = People::read(fabric)?;
    for (number, bytes) in bytes.chunks_exact(8).enumerate() {
        let name = Name(word(bytes, 0));
        if name.0 == 0 {
            continue;
        }
        let place = Place::Word(start.add(number as u64 * 8));
        if name.place().is_none() {
            let text = format!("{:#x} names no transaction", name.0);
            found.push(Finding::error(What::Lock, place, text));
        } else if people.state(fabric, name.owner()) == State::Gone {
            let text = format!("held by {:?}, who is not in the pool", name.owner());
            found.push(Finding::warning(What::Lock, place, text));
        }
    }
    Ok(())
}
