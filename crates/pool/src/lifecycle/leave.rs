//! Leaving a pool.

use artesian_bus::Verb;

use crate::config::record;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::words;

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
    // As long as the first copy says live, the place is nobody else's.
    let found = fabric.read_word(fabric.client_record(fabric.me().index, record::STATE)[0])?;
    if found != live {
        return judge(fabric, found);
    }
    let copies = fabric.client_record(fabric.me().index, 0);
    let idle = u64::MAX.to_le_bytes();
    let free_bytes = free.to_le_bytes();
    // From here on others may take this client for gone, if the first copy is lost: it must not
    // pass the gate any more, where it could become the master.
    for &copy in &copies[1..] {
        let mut batch = [
            Verb::write(copy.add(record::REPORTED), &idle),
            Verb::write(copy.add(record::STATE), &free_bytes),
        ];
        words::post(fabric, &mut batch)?;
    }
    let mut first = [Verb::cas(copies[0].add(record::STATE), live, free)];
    if !words::post(fabric, &mut first)? {
        return if copies.len() > 1 { Ok(()) } else { Err(PoolError::ViewChanged) };
    }
    match first[0].found() {
        found if found == live => Ok(()),
        found => judge(fabric, found),
    }
}

/// The place is not this client's any more: it was given back, before the view changed, and may
/// have been taken by somebody else since; or the client was declared dead.
fn judge(fabric: &Fabric, found: u64) -> Result<()> {
    let (state, client) = record::split(found);
    if state == record::FREE || client != fabric.me() {
        return Ok(());
    }
    Err(PoolError::Invalid(format!("{client:?} was declared dead before it left")))
}
