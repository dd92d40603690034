//! An ordered map with scans.
//!
//! [`OrderedMap`] demands that a scan shows the whole range at one moment; the keys cannot be
//! looked at apart, so it is for short histories. [`split_scans`] is the weaker demand that long
//! ones can be held to: each key, as a scan shows it or leaves it out, was so at some moment of
//! the scan.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Call, Model, Operation, Register, Reply};

/// What can be asked of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapCall {
    /// An operation on one key.
    One(u64, Call),
    /// The first keys at or after the given one, at most so many.
    Scan(u64, usize),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapReply {
    /// Of an operation on one key.
    One(Reply),
    /// Of a scan: keys and values in order.
    Pairs(Vec<(u64, u64)>),
}

/// The sequential ordered map.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderedMap;

impl OrderedMap {
    /// What `call` does to `state`: the reply and the new state.
    pub fn step(
        state: &BTreeMap<u64, u64>,
        call: &MapCall,
    ) -> (MapReply, Option<BTreeMap<u64, u64>>) {
        match call {
            MapCall::One(key, call) => {
                let held = state.get(key).copied();
                let (reply, after) = Register::step(held, call);
                let changed = (after != held).then(|| {
                    let mut state = state.clone();
                    match after {
                        Some(value) => state.insert(*key, value),
                        None => state.remove(key),
                    };
                    state
                });
                (MapReply::One(reply), changed)
            }
            MapCall::Scan(from, limit) => {
                let range = state.range(from..).take(*limit);
                (MapReply::Pairs(range.map(|(&key, &value)| (key, value)).collect()), None)
            }
        }
    }
}

impl Model for OrderedMap {
    type State = BTreeMap<u64, u64>;
    type Call = MapCall;
    type Reply = MapReply;

    fn initial(&self) -> BTreeMap<u64, u64> {
        BTreeMap::new()
    }

    fn apply(
        &self,
        state: &BTreeMap<u64, u64>,
        call: &MapCall,
        reply: Option<&MapReply>,
    ) -> Option<BTreeMap<u64, u64>> {
        let (gives, after) = OrderedMap::step(state, call);
        let fits = reply.is_none_or(|reply| *reply == gives);
        fits.then(|| after.unwrap_or_else(|| state.clone()))
    }
}

/// Turns each scan into reads of all keys it covers, so that the history falls apart by key.
pub fn split_scans(history: &[Operation<MapCall, MapReply>]) -> Vec<(u64, Operation<Call, Reply>)> {
    let mut keys = BTreeSet::new();
    for operation in history {
        match (&operation.call, &operation.reply) {
            (MapCall::One(key, _), _) => {
                keys.insert(*key);
            }
            (_, Some(MapReply::Pairs(pairs))) => keys.extend(pairs.iter().map(|pair| pair.0)),
            _ => {}
        }
    }
    let mut split = Vec::new();
    for operation in history {
        let Operation { client, called, returned, .. } = *operation;
        let part = |call, reply| Operation { client, call, reply, called, returned };
        match (&operation.call, &operation.reply) {
            (MapCall::One(key, call), reply) => {
                let reply = match reply {
                    Some(MapReply::One(reply)) => Some(*reply),
                    _ => None,
                };
                split.push((*key, part(*call, reply)));
            }
            (MapCall::Scan(from, limit), Some(MapReply::Pairs(pairs))) => {
                let shown: BTreeMap<u64, u64> = pairs.iter().copied().collect();
                let full = pairs.len() >= *limit;
                let last = pairs.last().map_or(*from, |pair| pair.0);
                let covered = keys.range(from..).take_while(|&&key| !full || key <= last);
                for key in covered {
                    let found = Reply::Found(shown.get(key).copied());
                    split.push((*key, part(Call::Get, Some(found))));
                }
            }
            _ => {}
        }
    }
    split
}
