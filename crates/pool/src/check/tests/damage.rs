//! Damage of every kind is found, and what can be is put right.

use artesian_bus::{GlobalAddr, NodeId, Verb};

use super::{check, work, Random, TestPool};
use crate::alloc::table::{word_addr, BlockState, BlockWord};
use crate::alloc::Geometry;
use crate::check::What;
use crate::client::Client;
use crate::config::{meta, record, NodeLayout};
use crate::fabric::Copies;
use crate::index::layout::{bucket_addr, BucketHeader, Root};
use crate::index::{self, KeyHash};
use crate::slot::{tag, Slot};
use crate::store::Expiry::Never;
use crate::{ClientId, Fabric, PoolAddr};

const KEY: &[u8] = b"the key";
const STRANGER: ClientId = ClientId { index: 9, incarnation: 77 };

/// A pool with some keys, all blocks of which are orphans, and its one client.
fn pool() -> (TestPool, Client) {
    let pool = TestPool::unhurried(8 << 20, 2, 2);
    let mut client = pool.client(1);
    work(&mut client, &mut Random(5), 200, 600);
    client.put(0, KEY, &[7; 100], Never).unwrap();
    client.disclose().unwrap();
    (pool, client)
}

/// Slot and value of [`KEY`].
fn slot(fabric: &Fabric) -> (PoolAddr, Slot) {
    let hash = KeyHash::of(0, KEY);
    let read = |at| (at, Slot(fabric.read_word(fabric.primary(at).unwrap()).unwrap()));
    let mut slots = index::candidates(fabric, hash).unwrap().into_iter().map(read);
    slots.find(|(_, slot)| slot.fingerprint() == hash.fingerprint() && !slot.is_vacant()).unwrap()
}

pub(super) fn write(fabric: &Fabric, copies: &[GlobalAddr], word: u64) {
    let word = word.to_le_bytes();
    let mut verbs: Vec<Verb<'_>> = copies.iter().map(|&at| Verb::write(at, &word)).collect();
    fabric.batch(&mut verbs).unwrap();
}

fn first(copies: &[GlobalAddr]) -> &[GlobalAddr] {
    &copies[..1]
}

fn second(copies: &[GlobalAddr]) -> &[GlobalAddr] {
    &copies[1..2]
}

fn meta_copies(fabric: &Fabric, offset: u64) -> Copies {
    fabric.meta(offset).into_iter().collect()
}

/// Word and bit of the object of [`KEY`] in its block's bitmap.
fn free_bit(fabric: &Fabric) -> (Copies, u64, u64) {
    let (_, slot) = slot(fabric);
    let place = Geometry::of(fabric.config()).place(slot.addr(), slot.class().unwrap()).unwrap();
    let copies = fabric.copies(place.word());
    let word = fabric.read_word(copies[0]).unwrap();
    (copies, word, place.bit())
}

/// The word of the block of the object of [`KEY`].
fn block_word(fabric: &Fabric) -> (Copies, BlockWord) {
    let copies = fabric.copies(word_addr(fabric.config(), slot(fabric).1.addr()));
    let word = BlockWord::decode(fabric.read_word(copies[0]).unwrap()).unwrap();
    (copies, word)
}

/// First insert lock and address of the subtable of [`KEY`].
fn header(fabric: &Fabric) -> (Copies, BucketHeader) {
    let entry = index::candidates(fabric, KeyHash::of(0, KEY)).unwrap()[0];
    let root = Root::from_word(fabric.read_word(fabric.meta(meta::INDEX_ROOT)[0]).unwrap());
    let at = fabric.primary(root.unwrap().unwrap().entry(0)).unwrap();
    let table = PoolAddr((fabric.read_word(at).unwrap() & ((1 << 40) - 1)) * 64);
    assert!(entry.0 > table.0);
    let copies = fabric.copies(bucket_addr(table, 0));
    (copies.clone(), BucketHeader::from_word(fabric.read_word(copies[0]).unwrap()))
}

/// Damages a pool, expects the finding; if it is `mended`, a repair leaves nothing to be found.
fn expect(what: What, mended: bool, damage: impl Fn(&TestPool, &Fabric)) {
    let (pool, mut client) = pool();
    damage(&pool, &client.fabric);
    let report = check(&mut client, false);
    let texts: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let kinds: Vec<What> = report.findings.iter().map(|finding| finding.what).collect();
    assert!(kinds.contains(&what), "no {what} in {texts:#?}");
    assert!(report.findings.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
    let report = check(&mut client, true);
    let repaired = report.findings.iter().find(|finding| finding.what == what);
    assert_eq!(repaired.and_then(|finding| finding.repaired.as_ref()).is_some(), mended, "{what}");
    if mended {
        let left: Vec<String> =
            check(&mut client, false).findings.iter().map(ToString::to_string).collect();
        assert!(left.is_empty(), "{what} was repaired, and there is {left:#?}");
        let mut value = Vec::new();
        assert!(client.get(0, KEY, &mut value).unwrap() && value == [7; 100], "{what}");
        work(&mut client, &mut Random(8), 200, 300);
        assert!(check(&mut client, false).findings.is_empty(), "{what}: later");
    }
}

#[test]
fn nodes_and_clients() {
    expect(What::Header, true, |pool, _| pool.change(NodeId(1), 40, |word| word ^ 1));
    expect(What::View, true, |pool, fabric| {
        pool.change(NodeId(1), fabric.layout().view + 16, |_| 0);
    });
    expect(What::ClientRecord, false, |_, fabric| {
        write(fabric, &fabric.client_record(3, record::STATE), 77 << 56 | 3);
    });
    expect(What::MetaCopies, true, |_, fabric| {
        write(fabric, second(&fabric.client_record(3, record::STATE)), 4 << 16 | 3);
    });
    expect(What::MetaCopies, true, |_, fabric| {
        write(fabric, second(&meta_copies(fabric, meta::INDEX_ROOT)), 5);
    });
    expect(What::ChangeOpen, true, |_, fabric| {
        write(fabric, &meta_copies(fabric, meta::CHANGE), 5);
    });
    expect(What::Epoch, false, |_, fabric| {
        write(fabric, second(&meta_copies(fabric, meta::EPOCH)), 0);
    });
}

#[test]
fn locks_of_nobody() {
    for offset in [meta::INDEX_LOCK, meta::NAMESPACE_LOCK] {
        expect(What::Lock, true, |_, fabric| {
            write(fabric, &meta_copies(fabric, offset), STRANGER.word());
        });
    }
    for (word, mended) in [(STRANGER.word() << 32 | 5 << 8 | 3, true), (0xff, true)] {
        expect(What::Lock, mended, |pool, _| {
            pool.change(NodeId(1), NodeLayout::of(&pool.config).locks + 80, |_| word);
        });
    }
    expect(What::BucketLock, true, |_, fabric| {
        let (copies, header) = header(fabric);
        write(fabric, first(&copies), BucketHeader { owner: STRANGER, ..header }.word());
    });
}

#[test]
fn blocks_and_free_bits() {
    expect(What::BlockWord, false, |_, fabric| write(fabric, &block_word(fabric).0, 3));
    expect(What::BlockWord, true, |_, fabric| {
        let (copies, word) = block_word(fabric);
        let taken = BlockWord { state: BlockState::Owned, owner: STRANGER, ..word };
        write(fabric, &copies, taken.encode());
    });
    expect(What::BlockCopies, true, |_, fabric| {
        write(fabric, second(&block_word(fabric).0), 0);
    });
    expect(What::FreedInUse, true, |_, fabric| {
        let (copies, word, bit) = free_bit(fabric);
        write(fabric, &copies, word | bit);
    });
    expect(What::FreeBitCopies, true, |_, fabric| {
        let (copies, word, bit) = free_bit(fabric);
        write(fabric, second(&copies), word | bit);
    });
    expect(What::FreeBits, true, |_, fabric| {
        let (_, slot) = slot(fabric);
        let geometry = Geometry::of(fabric.config());
        let shape = geometry.shape(slot.class().unwrap()).unwrap();
        let place = geometry.place(slot.addr(), slot.class().unwrap()).unwrap();
        let last = shape.words() as u64 - 1;
        assert_ne!(shape.mask(last as usize), u64::MAX);
        let copies = fabric.copies(place.block.add(64 + last * 8));
        let word = fabric.read_word(copies[0]).unwrap();
        write(fabric, &copies, word | 1 << 63);
    });
    expect(What::Leak, true, |_, fabric| {
        let (copies, word, _) = free_bit(fabric);
        assert_ne!(word, 0);
        write(fabric, &copies, word & (word - 1));
    });
}

#[test]
fn slots_and_objects() {
    expect(What::SlotCopies, true, |_, fabric| {
        write(fabric, second(&fabric.copies(slot(fabric).0)), 0x1234_5678);
    });
    expect(What::SlotValue, false, |_, fabric| {
        let (at, value) = slot(fabric);
        let odd = Slot::new(value.fingerprint(), 1, tag::HISTORY, value.addr());
        write(fabric, &fabric.copies(at), odd.0);
    });
    expect(What::SplitLeft, true, |_, fabric| {
        let (at, value) = slot(fabric);
        write(fabric, &fabric.copies(at), value.frozen().0);
    });
    for what in [What::Misplaced, What::ReferencedTwice] {
        expect(what, false, |_, fabric| {
            let (at, value) = slot(fabric);
            let (copies, header) = header(fabric);
            assert!(header.owner.is_nobody());
            let elsewhere: Vec<GlobalAddr> = copies.iter().map(|at| at.add(9 * 64 + 8)).collect();
            assert_ne!(fabric.primary(at).unwrap(), elsewhere[0]);
            write(fabric, &elsewhere, value.0);
        });
    }
    expect(What::KeyTwice, false, |_, fabric| {
        let (at, value) = slot(fabric);
        let places = index::candidates(fabric, KeyHash::of(0, KEY)).unwrap();
        let other = places.into_iter().rev().find(|&place| place != at).unwrap();
        write(fabric, &fabric.copies(other), value.0);
    });
    expect(What::ObjectCopies, true, |_, fabric| {
        let body = fabric.copies(slot(fabric).1.addr().add(32));
        write(fabric, first(&body), 0xbad);
    });
    expect(What::Object, false, |_, fabric| {
        write(fabric, &fabric.copies(slot(fabric).1.addr().add(32)), 0xbad);
    });
    expect(What::BucketHeader, false, |_, fabric| {
        let (copies, header) = header(fabric);
        write(fabric, &copies, BucketHeader { depth: 9, ..header }.word());
    });
    expect(What::IndexCopies, true, |_, fabric| {
        let (copies, header) = header(fabric);
        write(fabric, second(&copies), BucketHeader { depth: 9, ..header }.word());
    });
}

/// Who nudges a master may die between two copies of its mailbox. A copy that asks for another view
/// is another thing.
#[test]
fn a_nudge_that_was_cut_short_is_no_damage() {
    let (pool, mut client) = pool();
    let other = pool.client(2);
    let mailbox = other.fabric().client_record(2, record::MAILBOX)[1];
    pool.change(mailbox.node(), mailbox.offset(), |word| word | 1);
    let findings = check(&mut client, false).findings;
    assert!(findings.is_empty(), "{}", findings[0]);
    pool.change(mailbox.node(), mailbox.offset(), |word| word + 2);
    let findings = check(&mut client, false).findings;
    assert!(findings.iter().any(|finding| finding.what == What::MetaCopies), "{findings:?}");
}
