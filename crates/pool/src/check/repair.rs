//! Putting right what a check has found.
//!
//! Two kinds of repair: those that any client may do at any time (finishing what the dead began,
//! open rounds, a damaged copy of an object, whose bytes never change), and those that make copies
//! equal or take bits back, which only happen while nobody else is there.

use std::collections::BTreeSet;

use artesian_bus::{GlobalAddr, Verb};

use super::look::is_about_memory;
use super::report::{Finding, Place, What};
use crate::address::PoolAddr;
use crate::alloc::geometry::BLOCK_HEADER;
use crate::alloc::table::{self, word_addr, BlockState, BlockWord};
use crate::alloc::{abandon_blocks, Geometry};
use crate::class::SizeClass;
use crate::client::Client;
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::{Copies, Fabric};
use crate::index::layout::{bucket_addr, BucketHeader, BUCKET, BUCKETS};
use crate::index::{self, slots_of, KeyHash};
use crate::membership::{self, standing, Standing};
use crate::object::{self, HEADER_BYTES};
use crate::rtx::{release_dead, Name};
use crate::slot::{tag, Slot};
use crate::snapshot::Round;
use crate::store::InUse;
use crate::{lifecycle, namespace, snapshot, txn};

/// Steps that freeing what the dead left takes at most; most are of a millisecond or less.
const TURNS: usize = 20_000;

/// What [`begin`] puts right.
pub(super) fn is_for_members(what: What) -> bool {
    matches!(what, What::View | What::NodeLost | What::ChangeOpen | What::DeadClient)
}

/// Before anything else: the dead are recovered, lost nodes taken out of the view, and if `anew`,
/// the view is stored anew on all nodes.
pub(super) fn begin(client: &mut Client, anew: bool) -> Result<()> {
    let outcome = membership::look_after(&client.fabric).and_then(|()| {
        if anew {
            membership::refresh_view(&client.fabric)?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) | Err(PoolError::ViewChanged) => Ok(()),
        Err(error) if is_about_memory(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts right what a finding tells, if that is possible; says what was done. `alone`: nobody else
/// is there.
pub(super) fn mend(client: &mut Client, finding: &Finding, alone: bool) -> Result<Option<String>> {
    let outcome = match (finding.what, finding.place) {
        (What::Header, Place::Node(node)) => {
            let fabric = &client.fabric;
            let is_member = (node.0 as usize) < fabric.view().nodes.len();
            if !is_member {
                return Ok(None);
            }
            lifecycle::write_header(fabric.verbs(), fabric.config(), node)
                .map(|()| Some("written again"))
        }
        (What::Lock, Place::Word(at)) => lock_word(&client.fabric, at),
        (What::Lock, Place::Meta(offset)) => meta_lock(&client.fabric, offset),
        (What::SplitLeft, Place::Meta(_)) => {
            index::finish_of_dead(&client.fabric).map(|()| Some("carried out"))
        }
        (What::SplitLeft, Place::Slot(at)) => frozen_slot(&client.fabric, at),
        (What::Transaction, Place::Slot(at)) => intent(&client.fabric, at),
        (What::SlotCopies, Place::Slot(at)) => slot_copies(&client.fabric, at, alone),
        (What::BucketLock, Place::Slot(at)) => bucket_lock(&client.fabric, at),
        (What::BlockWord, Place::Block(at)) => orphaned(&client.fabric, at),
        (What::ObjectCopies, Place::Object(at)) => object_copies(&client.fabric, at),
        (What::BlockCopies, Place::Block(at)) if alone => {
            let at = word_addr(client.fabric.config(), at);
            equalise(&client.fabric, &client.fabric.copies(at), 8)
        }
        (What::FreeBitCopies | What::IndexCopies, Place::Slot(at)) if alone => {
            equalise(&client.fabric, &client.fabric.copies(at), 8)
        }
        (What::MetaCopies, Place::Meta(offset)) if alone => {
            let copies: Copies = client.fabric.meta(offset).into_iter().collect();
            let bytes = if offset == meta::INDEX_SPLIT { 32 } else { 8 };
            equalise(&client.fabric, &copies, bytes)
        }
        (What::MetaCopies | What::NamespaceRecord, Place::Namespace(id)) if alone => {
            namespace_record(&client.fabric, id)
        }
        (What::FreeBits, Place::Slot(at)) if alone => free_bits(&client.fabric, at),
        (What::FreedInUse, Place::Object(at)) if alone => take_back(&client.fabric, at),
        _ => Ok(None),
    };
    match outcome {
        Ok(done) => Ok(done.map(str::to_string)),
        Err(PoolError::ViewChanged) => Ok(None),
        Err(error) if is_about_memory(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

type Done = Result<Option<&'static str>>;

/// A lock word of a transaction whose client is gone.
fn lock_word(fabric: &Fabric, at: GlobalAddr) -> Done {
    let name = Name(fabric.read_word(at)?);
    if name.0 == 0 || standing(fabric, name.owner())? == Standing::Live {
        return Ok(None);
    }
    release_dead(fabric, at, name)?;
    Ok(Some("released"))
}

fn meta_lock(fabric: &Fabric, offset: u64) -> Done {
    if offset == meta::INDEX_LOCK {
        index::finish_of_dead(fabric)?;
        return Ok(Some("released"));
    }
    let at = fabric.meta(offset)[0];
    let held = fabric.read_word(at)?;
    fabric.cas(at, held, 0)?;
    Ok(Some("released"))
}

/// A round that nobody finishes. What is no proposal of anybody is replaced by what the first copy
/// has, if nobody can be about to propose something.
fn slot_copies(fabric: &Fabric, at: PoolAddr, alone: bool) -> Done {
    match snapshot::settle(fabric, at) {
        Ok(_) => Ok(Some("settled")),
        Err(error) if alone && is_about_memory(&error) => equalise(fabric, &fabric.copies(at), 8),
        Err(error) => Err(error),
    }
}

/// A slot that a split has frozen and nobody moves: it is thawed if its key still belongs there,
/// else it has been moved and gets emptied.
fn frozen_slot(fabric: &Fabric, at: PoolAddr) -> Done {
    index::finish_of_dead(fabric)?;
    let frozen = Slot(fabric.read_word(fabric.primary(at)?)?);
    let Some((thawed, class)) = frozen.thawed().and_then(|slot| Some((slot, slot.class()?))) else {
        return Ok(Some("carried out"));
    };
    let mut bytes = vec![0; class.bytes()];
    fabric.read(thawed.addr(), &mut bytes)?;
    let (header, key, _) = object::parse(&bytes, class)?;
    let places = index::candidates(fabric, KeyHash::of(header.namespace, key))?;
    let new = if places.contains(&at) { thawed } else { frozen.cleared() };
    snapshot::write(fabric, &mut [Round::new(at, frozen, new, PoolAddr::NULL, 0)])?;
    Ok(Some("ended"))
}

/// An intent of a transaction whose client is gone: the transaction is ended.
fn intent(fabric: &Fabric, at: PoolAddr) -> Done {
    let held = Slot(fabric.read_word(fabric.primary(at)?)?);
    if held.kind() != tag::INTENT {
        return Ok(Some("ended meanwhile"));
    }
    Ok(txn::resolve(fabric, at, held, false)?.then_some("ended"))
}

/// Makes all copies of some words like the first one.
fn equalise(fabric: &Fabric, copies: &[GlobalAddr], bytes: usize) -> Done {
    let Some((&first, rest)) = copies.split_first() else { return Ok(None) };
    let mut words = vec![0; bytes];
    fabric.batch(&mut [Verb::read(first, &mut words)])?;
    let mut writes: Vec<Verb<'_>> = rest.iter().map(|&at| Verb::write(at, &words)).collect();
    if !writes.is_empty() {
        fabric.batch(&mut writes)?;
    }
    Ok(Some("all copies made like the first"))
}

/// The object around an address, by its block's class.
fn object_around(fabric: &Fabric, at: PoolAddr) -> Result<Option<(PoolAddr, SizeClass)>> {
    let config = fabric.config();
    let block = PoolAddr(at.0 & !(config.block_bytes() - 1));
    let found = fabric.read_word(fabric.primary(word_addr(config, block))?)?;
    let Ok(found) = BlockWord::decode(found) else { return Ok(None) };
    let geometry = Geometry::of(config);
    let Some(shape) = geometry.shape(found.class) else { return Ok(None) };
    let within = (at.0 - block.0).checked_sub(u64::from(shape.data));
    let index = within.map(|within| within / u64::from(shape.bytes));
    let index = index.filter(|&index| index < u64::from(shape.objects));
    Ok(index.map(|index| (geometry.object(block, shape, index as u32), found.class)))
}

/// An insert lock of a client that is gone: its round may be half done, so all slots come first.
fn bucket_lock(fabric: &Fabric, at: PoolAddr) -> Done {
    let header = BucketHeader::from_word(fabric.read_word(fabric.primary(at)?)?);
    if header.owner.is_nobody() || standing(fabric, header.owner)? == Standing::Live {
        return Ok(None);
    }
    let Some((table, _)) = object_around(fabric, at)? else { return Ok(None) };
    let mut bytes = vec![0; (BUCKETS * BUCKET) as usize];
    fabric.read(bucket_addr(table, 0), &mut bytes)?;
    let slots: Vec<PoolAddr> = slots_of(table, &bytes).map(|(at, _)| at).collect();
    for some in slots.chunks(64) {
        snapshot::settle_many(fabric, some)?;
    }
    let free = BucketHeader { owner: crate::ClientId::NOBODY, ..header };
    fabric.cas(fabric.primary(at)?, header.word(), free.word())?;
    Ok(Some("released"))
}

/// A block of a client that is gone.
fn orphaned(fabric: &Fabric, block: PoolAddr) -> Done {
    let at = word_addr(fabric.config(), block);
    let found = BlockWord::decode(fabric.read_word(fabric.primary(at)?)?)?;
    if found.state != BlockState::Owned || standing(fabric, found.owner)? != Standing::Gone {
        return Ok(None);
    }
    abandon_blocks(fabric, found.owner)?;
    Ok(Some("declared a wreck"))
}

/// An object of which some copy verifies: its body is written to the others.
fn object_copies(fabric: &Fabric, at: PoolAddr) -> Done {
    let Some((start, class)) = object_around(fabric, at)? else { return Ok(None) };
    if start != at {
        return Ok(None);
    }
    let copies = fabric.copies(at);
    let mut bytes = vec![vec![0; class.bytes()]; copies.len()];
    let reads = copies.iter().zip(&mut bytes);
    let mut verbs: Vec<Verb<'_>> = reads.map(|(&at, into)| Verb::read(at, into)).collect();
    fabric.batch(&mut verbs)?;
    drop(verbs);
    let whole = bytes.iter().find_map(|bytes| {
        let (_, key, value) = object::parse(bytes, class).ok()?;
        Some(&bytes[..HEADER_BYTES + key.len() + value.len()])
    });
    let Some(body) = whole else { return Ok(None) };
    let mut writes: Vec<Verb<'_>> = copies.iter().map(|&at| Verb::write(at, body)).collect();
    fabric.batch(&mut writes)?;
    Ok(Some("written again from a copy that verifies"))
}

/// A namespace's record: the first copy of it that makes sense counts.
fn namespace_record(fabric: &Fabric, id: u16) -> Done {
    let copies = fabric.meta(meta::NAMESPACE_TABLE + u64::from(id) * meta::NAMESPACE_RECORD);
    let mut records = vec![vec![0; meta::NAMESPACE_RECORD as usize]; copies.len()];
    let reads = copies.iter().zip(&mut records);
    let mut verbs: Vec<Verb<'_>> = reads.map(|(&at, into)| Verb::read(at, into)).collect();
    fabric.batch(&mut verbs)?;
    drop(verbs);
    let whole = records.iter().find(|record| namespace::decode(id, record).is_ok());
    let Some(whole) = whole else { return Ok(None) };
    let mut writes: Vec<Verb<'_>> = copies.iter().map(|&at| Verb::write(at, whole)).collect();
    fabric.batch(&mut writes)?;
    Ok(Some("all copies made like one that makes sense"))
}

/// Bits that stand for no object.
fn free_bits(fabric: &Fabric, at: PoolAddr) -> Done {
    let config = fabric.config();
    let block = PoolAddr(at.0 & !(config.block_bytes() - 1));
    let found = fabric.read_word(fabric.primary(word_addr(config, block))?)?;
    let shape = Geometry::of(config).shape(BlockWord::decode(found)?.class);
    let number = (at.0 - block.0 - BLOCK_HEADER) / 8;
    let Some(shape) = shape.filter(|shape| number < shape.words() as u64) else { return Ok(None) };
    let bits = fabric.read_word(fabric.primary(at)?)? & shape.mask(number as usize);
    fabric.write_all(at, &bits.to_le_bytes())?;
    Ok(Some("cleared"))
}

/// An object in use that somebody has freed.
fn take_back(fabric: &Fabric, at: PoolAddr) -> Done {
    let Some((start, class)) = object_around(fabric, at)? else { return Ok(None) };
    let place = Geometry::of(fabric.config()).place(start, class)?;
    for copy in fabric.copies(place.word()) {
        if fabric.read_word(copy)? & place.bit() != 0 {
            fabric.batch(&mut [Verb::faa(copy, place.bit().wrapping_neg())])?;
        }
    }
    Ok(Some("its bit was cleared"))
}

/// Frees what is neither in use nor free in blocks of clients that left or died: they become
/// wrecks, whose objects are looked up one by one.
pub(super) fn reclaim(client: &mut Client, lost: &[Finding]) -> Result<Option<String>> {
    let blocks: BTreeSet<PoolAddr> = lost
        .iter()
        .filter_map(|finding| match finding.place {
            Place::Block(at) => Some(at),
            _ => None,
        })
        .collect();
    for &block in &blocks {
        let fabric = &client.fabric;
        let at = word_addr(fabric.config(), block);
        let found = BlockWord::decode(fabric.read_word(fabric.primary(at)?)?)?;
        if found.state == BlockState::Orphan {
            let wreck = BlockWord { state: BlockState::Wreck, ..found };
            table::change(fabric, block, found, wreck)?;
        }
    }
    for _ in 0..TURNS {
        if !client.alloc.clear_wreck(&client.fabric, &InUse)? {
            break;
        }
        membership::renew_lease(&client.fabric)?;
    }
    client.disclose()?;
    Ok(Some("looked up and freed".into()))
}
