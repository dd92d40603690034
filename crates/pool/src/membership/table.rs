//! Reading the client table.

use artesian_bus::Identity;

use super::words;
use crate::address::ClientId;
use crate::config::{meta, record};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;

/// What a client's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds, or last held, the place.
    pub client: ClientId,
    /// One of the states in [`record`].
    pub state: u8,
    /// Its process.
    pub identity: Identity,
    /// The whole word at [`record::STATE`].
    pub word: u64,
    /// Until when it is trusted.
    pub lease: u64,
    /// What it is asked to do.
    pub mailbox: u64,
    /// What of that it has done.
    pub ack: u64,
}

impl Record {
    fn decode(bytes: &[u8]) -> Record {
        let at = |offset: u64| word(bytes, offset as usize);
        let (state, client) = record::split(at(record::STATE));
        Record {
            client,
            state,
            word: at(record::STATE),
            identity: Identity { pid: at(record::PID) as u32, started: at(record::STARTED) },
            lease: at(record::LEASE),
            mailbox: at(record::MAILBOX),
            ack: at(record::ACK),
        }
    }
}

/// Where a word of the record at `index` lies in the meta area.
pub(crate) fn offset(index: u16, of: u64) -> u64 {
    meta::CLIENT_TABLE + u64::from(index) * meta::CLIENT_RECORD + of
}

/// The record at `index`, which must be below the number of places.
pub(super) fn read_one(fabric: &Fabric, index: u16) -> Result<Record> {
    let mut bytes = [0; meta::CLIENT_RECORD as usize];
    words::read(fabric, offset(index, 0), &mut bytes)?;
    Ok(Record::decode(&bytes))
}

/// The records of all places but 0. One that does not name its own place is skipped.
pub fn read_all(fabric: &Fabric) -> Result<Vec<Record>> {
    let places = usize::from(fabric.config().max_clients);
    let mut bytes = vec![0; places * meta::CLIENT_RECORD as usize];
    words::read(fabric, meta::CLIENT_TABLE, &mut bytes)?;
    let numbered = bytes.chunks_exact(meta::CLIENT_RECORD as usize).map(Record::decode).enumerate();
    let named =
        numbered.skip(1).filter(|(index, record)| usize::from(record.client.index) == *index);
    Ok(named.map(|(_, record)| record).collect())
}
