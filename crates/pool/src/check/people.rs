//! Who is in the pool, without changing anything about it.

use crate::address::ClientId;
use crate::config::record;
use crate::error::Result;
use crate::fabric::Fabric;
use crate::membership::table::{self, Record};

/// What became of a client, as far as one look at its record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is at work, or about to be.
    Live,
    /// It has ended, and what it began is not finished.
    Dying,
    /// It has left, or was recovered, or never was.
    Gone,
}

/// The client table.
#[derive(Clone, Debug)]
pub(super) struct People {
    me: ClientId,
    records: Vec<Record>,
}

impl People {
    pub fn read(fabric: &Fabric) -> Result<People> {
        Ok(People { me: fabric.me(), records: table::read_all(fabric)? })
    }

    /// Records that are in use.
    pub fn present(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.state != record::FREE)
    }

    /// Clients but the own that are there, or whose work is not finished.
    pub fn others(&self) -> usize {
        self.present().filter(|record| record.client != self.me).count()
    }

    /// Whether the same clients are there in the same states.
    pub fn is_same(&self, other: &People) -> bool {
        let states = |people: &People| -> Vec<(ClientId, u8)> {
            people.records.iter().map(|record| (record.client, record.state)).collect()
        };
        states(self) == states(other)
    }

    /// What became of `client`.
    pub fn state(&self, fabric: &Fabric, client: ClientId) -> State {
        if client == self.me {
            return State::Live;
        }
        let known = self.records.iter().find(|record| record.client == client);
        known.map_or(State::Gone, |record| state_of(fabric, record))
    }
}

/// What became of the client of `record`.
pub(super) fn state_of(fabric: &Fabric, found: &Record) -> State {
    match found.state {
        record::JOINING => State::Live,
        record::LIVE if found.client == fabric.me() => State::Live,
        record::LIVE if fabric.verbs().is_alive(found.identity) => State::Live,
        record::FREE => State::Gone,
        _ => State::Dying,
    }
}
