//! Leaving a pool.

use artesian_bus::Verb;

use crate::config::record;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// Gives the client's place back. It must be in no operation, and its allocator is to
/// [give back](crate::alloc::Allocator::give_back) its blocks before: any that are left have to be
/// searched for what is free, as those of a dead client.
pub fn leave(fabric: Fabric) -> Result<()> {
    let me = fabric.me();
    crate::alloc::abandon_blocks(&fabric, me)?;
    let live = record::state_word(record::LIVE, me);
    let free = record::state_word(record::FREE, me);
    // The change of a view in between may bring other copies: then everything once more.
    for _ in 0..16 {
        match give_back_place(&fabric, live, free) {
            Err(PoolError::ViewChanged) => {}
            outcome => return outcome,
        }
    }
    Err(PoolError::Timeout { what: "a view that stays".into(), waited_ms: 0 })
}

fn give_back_place(fabric: &Fabric, live: u64, free: u64) -> Result<()> {
    let copies = fabric.client_record(fabric.me().index, 0);
    let idle = u64::MAX.to_le_bytes();
    let free_bytes = free.to_le_bytes();
    for &copy in &copies[1..] {
        let mut batch = [
            Verb::write(copy.add(record::REPORTED), &idle),
            Verb::write(copy.add(record::STATE), &free_bytes),
        ];
        fabric.batch(&mut batch)?;
    }
    let found = fabric.cas(copies[0].add(record::STATE), live, free)?;
    if found == live || found == free {
        return Ok(());
    }
    Err(PoolError::Invalid(format!("{:?} was declared dead before it left", fabric.me())))
}
