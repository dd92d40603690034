//! Nodes as bytes: what is built comes back, and garbage does not panic.

use proptest::prelude::*;

use super::super::edit::{changes, entries, separator, Draft, Entry, Frame};
use super::super::locked::stamp;
use super::super::node::{Bytes, Flaw, Node, Side, TreeId, CHECK, CHILD_BYTES, HEAD, NODE_BYTES};
use super::super::seek::Seek;
use crate::address::PoolAddr;

const ADDR: PoolAddr = PoolAddr(0x12_3440);
const TREE: TreeId = TreeId { namespace: 3, generation: 2 };

fn frame<'a>(level: u8, low: &'a [u8], high: Option<&'a [u8]>) -> Frame<'a> {
    let right = if high.is_some() { PoolAddr(64) } else { PoolAddr::NULL };
    Frame { tree: TREE, level, version: 7, right, low, high }
}

fn sample(level: u8) -> Bytes {
    let mut bytes = [0; NODE_BYTES];
    let tag = if level > 0 { CHILD_BYTES as u8 } else { 5 };
    let records = ["key b", "key f", "key x"].map(|key| Entry::new(key.as_bytes(), tag, b"12345"));
    frame(level, b"key a", Some(b"keys")).build(&records, &mut bytes).unwrap();
    stamp(&mut bytes, ADDR);
    bytes
}

#[test]
fn nodes_come_back_and_any_flipped_bit_is_noticed() {
    let mut bytes = sample(0);
    let node = Node::open(&bytes, ADDR, TREE).unwrap();
    assert_eq!((node.len(), node.prefix(), node.low()), (3, &b"key"[..], &b"key a"[..]));
    assert_eq!(node.high_key().unwrap(), b"keys");
    assert_eq!(node.find(b"key f").unwrap(), Ok(1));
    assert_eq!(node.find(b"key g").unwrap(), Err(2));
    assert_eq!(node.key(2).unwrap(), b"key x");
    assert_eq!(Node::open(&bytes, ADDR.add(64), TREE).err(), Some(Flaw::Torn));
    let mut unlinked = bytes;
    unlinked[CHECK..CHECK + 8].iter_mut().for_each(|byte| *byte = !*byte);
    assert_eq!(Node::open(&unlinked, ADDR, TREE).err(), Some(Flaw::Unlinked));
    for bit in 4 * 8..(CHECK + 8) * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Node::open(&bytes, ADDR, TREE).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn fences_and_seeks_agree() {
    let bytes = sample(1);
    let node = Node::open(&bytes, ADDR, TREE).unwrap();
    let sides = [("key", Side::Before), ("key a", Side::Here), ("key zz", Side::Here)];
    for (key, side) in sides.into_iter().chain([("keys", Side::Behind), ("l", Side::Behind)]) {
        assert_eq!(node.side(key.as_bytes()), side, "{key}");
    }
    let below = |key: &'static str| Seek::Below(key.as_bytes());
    assert_eq!(below("key a").side(node), Side::Before);
    assert_eq!(below("keys").side(node), Side::Here);
    assert_eq!(below("keyt").side(node), Side::Behind);
    assert_eq!(Seek::Last.side(node), Side::Behind);
    // Children begin at "key a" (whatever the first record says), "key f" and "key x".
    let children = [("key f", 0), ("key f!", 1), ("key x", 1), ("keys", 2)];
    for (key, child) in children {
        assert_eq!(below(key).child(node).unwrap(), child, "{key}");
    }
    assert_eq!(Seek::At(b"key f").child(node).unwrap(), 1);
    assert_eq!(Seek::At(b"key b").child(node).unwrap(), 0);
}

#[test]
fn separators_are_short_and_between() {
    assert_eq!(separator(b"abcd", b"abxyz"), b"abx");
    assert_eq!(separator(b"ab", b"abc"), b"abc");
    assert_eq!(separator(b"", b"abc"), b"a");
}

proptest! {
    /// Records put in one by one, replaced and taken out are those of the slow way.
    #[test]
    fn edits_in_place_are_those_of_a_sorted_list(
        steps in prop::collection::vec((0..40u8, 0..3u8, 0..30usize), 1..200),
        bounded: bool,
    ) {
        let mut bytes = [0; NODE_BYTES];
        let high = bounded.then_some(&b"kz"[..]);
        frame(0, b"k", high).build(&[], &mut bytes).unwrap();
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (key, what, size) in steps {
            let (before, key) = (bytes, [b"k", &vec![key; 1 + key as usize % 4][..]].concat());
            let value = vec![size as u8; size];
            let node = Node::of(&before);
            let rest = key[node.prefix().len()..].to_vec();
            let place = node.find(&key).unwrap();
            prop_assert_eq!(place, model.binary_search_by(|pair| pair.0.cmp(&key)));
            let mut draft = Draft(&mut bytes);
            match (place, what) {
                (Ok(at), 0) => {
                    draft.remove(at).unwrap();
                    model.remove(at);
                }
                (Ok(at), _) => if draft.replace(at, size as u8, &value).unwrap() {
                    model[at].1 = value;
                } else {
                    prop_assert_eq!(bytes, before);
                },
                (Err(at), _) => if draft.insert(at, &rest, size as u8, &value).unwrap() {
                    model.insert(at, (key, value));
                },
            }
            Draft(&mut bytes).seal(ADDR);
            let node = Node::open(&bytes, ADDR, TREE).unwrap();
            let found: Vec<_> = entries(node).unwrap().iter()
                .map(|entry| (entry.key(), entry.payload.to_vec())).collect();
            prop_assert_eq!(&found, &model);
            let mut patched = before;
            for range in changes(&before, &bytes) {
                patched[range.clone()].copy_from_slice(&bytes[range]);
            }
            prop_assert_eq!(patched, bytes);
        }
    }

    #[test]
    fn garbage_nodes_never_panic(
        level in 0..2u8,
        spots in prop::collection::vec((24..CHECK, any::<u8>()), 1..12),
        key in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = sample(level);
        for (at, byte) in spots {
            // Most of them where it matters.
            bytes[if at % 2 == 0 { 24 + at % (HEAD - 4) } else { at }] = byte;
        }
        stamp(&mut bytes, ADDR);
        if let Ok(node) = Node::open(&bytes, ADDR, TREE) {
            let _ = (node.side(&key), node.find(&key), node.high_key(), entries(node).is_ok());
            for seek in [Seek::At(&key), Seek::Below(&key), Seek::Last] {
                let _ = (seek.side(node), seek.child(node).and_then(|at| node.child(at)));
            }
            for index in 0..node.len() {
                let _ = (node.record(index), node.key(index), node.child(index));
            }
            for at in [0, node.len() / 2, node.len()] {
                let mut copy = bytes;
                let _ = Draft(&mut copy).insert(at.min(node.len()), &key, 3, b"abc");
                let mut copy = bytes;
                let _ = Draft(&mut copy).remove(at);
                let mut copy = bytes;
                let _ = Draft(&mut copy).replace(at, 9, b"123456789");
            }
        }
    }
}
