//! The client table, pins, the reclamation epoch, the words of the meta area.

use artesian_bus::{GlobalAddr, Verb};

use super::people::{state_of, People, State};
use super::report::{Counts, Finding, Place, What};
use crate::address::{ClientId, PoolAddr};
use crate::config::{area, meta, record};
use crate::error::Result;
use crate::fabric::Fabric;
use crate::object::word;

const RECORD: usize = meta::CLIENT_RECORD as usize;

/// Words of the meta area that are the same on all copies when nobody works. The epoch is not
/// among them: its copies go ahead.
const WORDS: [(u64, &str); 6] = [
    (meta::INDEX_ROOT, "the index's root"),
    (meta::MASTER, "the master"),
    (meta::TREE_ROOT, "the tree's root"),
    (meta::INDEX_LOCK, "the index's structural lock"),
    (meta::CHANGE, "the change of the view"),
    (meta::INDEX_SPLIT, "the split under way"),
];

/// Words of the record of a client that is there that are the same on all copies.
const RECORD_WORDS: [(u64, &str); 8] = [
    (record::STATE, "state"),
    (record::PID, "process"),
    (record::STARTED, "start of the process"),
    (record::REPORTED, "reported epoch"),
    (record::FLUSHED, "flushed operations"),
    (record::MAILBOX, "mailbox"),
    (record::ACK, "acknowledgement"),
    (record::PINNED, "pins"),
];

/// All copies of `len` bytes of the meta area.
pub(super) fn read_copies(fabric: &Fabric, offset: u64, len: usize) -> Result<Vec<Vec<u8>>> {
    let copies = fabric.meta(offset);
    let mut bytes = vec![vec![0; len]; copies.len()];
    let reads = copies.iter().zip(&mut bytes);
    let mut verbs: Vec<Verb<'_>> = reads.map(|(&at, into)| Verb::read(at, into)).collect();
    fabric.batch(&mut verbs)?;
    Ok(bytes)
}

/// Checks the whole client table.
pub(super) fn table(fabric: &Fabric, found: &mut Vec<Finding>) -> Result<Counts> {
    let places = usize::from(fabric.config().max_clients);
    let epoch = epoch(fabric, found)?;
    let copies = read_copies(fabric, meta::CLIENT_TABLE, places * RECORD)?;
    let people = People::read(fabric)?;
    let mut counts = Counts::default();
    for index in 1..places {
        let bytes = &copies[0][index * RECORD..(index + 1) * RECORD];
        let (state, client) = record::split(word(bytes, 0));
        let place = Place::Client(ClientId { index: index as u16, ..client });
        if usize::from(client.index) != index && word(bytes, 0) != 0 || state > record::RECOVERING {
            let text = format!("its record says {:#x}", word(bytes, 0));
            found.push(Finding::error(What::ClientRecord, place, text));
            continue;
        }
        if matches!(state, record::FREE | record::JOINING) {
            compare_record(&copies, index, &RECORD_WORDS[..1], found);
            continue;
        }
        compare_record(&copies, index, &RECORD_WORDS, found);
        reports(bytes, place, epoch, found);
        let Some(known) = people.present().find(|known| known.client == client) else { continue };
        if state_of(fabric, known) == State::Live {
            counts.clients += 1;
        } else {
            let text = match state {
                record::LIVE => "its process has ended",
                record::DEAD => "it is dead, and nobody recovers it",
                _ => "its recovery is not finished",
            };
            found.push(Finding::warning(What::DeadClient, place, text));
        }
        pins(fabric, client, word(bytes, record::PINNED as usize), found)?;
    }
    Ok(counts)
}

fn compare_record(
    copies: &[Vec<u8>],
    index: usize,
    words: &[(u64, &str)],
    found: &mut Vec<Finding>,
) {
    for &(offset, name) in words {
        let at = index * RECORD + offset as usize;
        // The largest mailbox counts, and who nudges a master may die between two of its copies.
        let nudge = u64::from(offset == record::MAILBOX);
        let first = word(&copies[0], at);
        let differs = |&word: &u64| word | nudge != first | nudge;
        if let Some(other) = copies.iter().map(|copy| word(copy, at)).find(differs) {
            let place = Place::Meta(meta::CLIENT_TABLE + at as u64);
            let text = format!("{name} of client {index}: {first:#x} and {other:#x}");
            found.push(Finding::warning(What::MetaCopies, place, text));
        }
    }
}

/// What a client says of the epoch and of its operations.
fn reports(bytes: &[u8], place: Place, epoch: u64, found: &mut Vec<Finding>) {
    let reported = word(bytes, record::REPORTED as usize);
    // It may lie far behind: the epoch jumps when its first copy is lost.
    if reported != u64::MAX && reported > epoch {
        let text = format!("it reported epoch {reported}; the epoch is {epoch}");
        found.push(Finding::error(What::Epoch, place, text));
    }
    let flushed = word(bytes, record::FLUSHED as usize);
    if flushed >= 1 << 48 {
        let text = format!("it claims {flushed} operations");
        found.push(Finding::error(What::ClientRecord, place, text));
    }
}

/// The reclamation epoch, and its copies: none may lie behind the first.
fn epoch(fabric: &Fabric, found: &mut Vec<Finding>) -> Result<u64> {
    let copies = read_copies(fabric, meta::EPOCH, 8)?;
    let epochs: Vec<u64> = copies.iter().map(|bytes| word(bytes, 0)).collect();
    if epochs[0] == 0 || epochs[0] >= 1 << 62 {
        let text = format!("it is {}", epochs[0]);
        found.push(Finding::error(What::Epoch, Place::Meta(meta::EPOCH), text));
    }
    if epochs.iter().any(|&copy| copy < epochs[0]) {
        let text = format!("copies lie behind the first: {epochs:?}");
        found.push(Finding::warning(What::Epoch, Place::Meta(meta::EPOCH), text));
    }
    Ok(epochs[0])
}

/// The hazard words of a client.
fn pins(fabric: &Fabric, client: ClientId, count: u64, found: &mut Vec<Finding>) -> Result<()> {
    let Some(&at) = fabric.client_area(client.index, area::PINS).first() else { return Ok(()) };
    let mut bytes = [0; area::NUM_PINS as usize * 8];
    fabric.batch(&mut [Verb::read(at, &mut bytes)])?;
    let pinned: Vec<u64> = bytes.chunks_exact(8).map(|bytes| word(bytes, 0)).collect();
    let held = pinned.iter().filter(|&&addr| addr != 0).count() as u64;
    if held != count {
        let text = format!("it counts {count} pins and holds {held}");
        found.push(Finding::warning(What::Pins, Place::Client(client), text));
    }
    let limit = (fabric.view().regions.len() as u64) << fabric.config().region_shift;
    if let Some(addr) = pinned.iter().find(|&&addr| addr >= limit) {
        let text = format!("it pins {:?}, which is nowhere", PoolAddr(*addr));
        found.push(Finding::warning(What::Pins, Place::Client(client), text));
    }
    Ok(())
}

/// Checks the words of the meta area.
pub(super) fn words(fabric: &Fabric, found: &mut Vec<Finding>) -> Result<()> {
    for (offset, name) in WORDS {
        let copies = read_copies(fabric, offset, 8)?;
        let first = word(&copies[0], 0);
        if let Some(other) = copies.iter().map(|copy| word(copy, 0)).find(|&word| word != first) {
            let text = format!("{name}: {first:#x} and {other:#x}");
            found.push(Finding::warning(What::MetaCopies, Place::Meta(offset), text));
        }
        let open = offset == meta::CHANGE && !first.is_multiple_of(2);
        if open {
            let text = format!("to the view of epoch {}", first / 2);
            found.push(Finding::warning(What::ChangeOpen, Place::Meta(offset), text));
        }
    }
    let people = People::read(fabric)?;
    for offset in [meta::INDEX_LOCK, meta::NAMESPACE_LOCK] {
        let Some(&at) = fabric.meta(offset).first() else { continue };
        holder(fabric, &people, at, Place::Meta(offset), found)?;
    }
    Ok(())
}

/// Checks a lock word that holds its owner's [`ClientId::word`].
fn holder(
    fabric: &Fabric,
    people: &People,
    at: GlobalAddr,
    place: Place,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let held = fabric.read_word(at)?;
    let owner = ClientId::from_word(held);
    let known = owner.word() == held && !owner.is_nobody();
    if held != 0 && (!known || people.state(fabric, owner) == State::Gone) {
        let text = format!("it names {held:#x}, who is not in the pool");
        found.push(Finding::warning(What::Lock, place, text));
    }
    Ok(())
}
