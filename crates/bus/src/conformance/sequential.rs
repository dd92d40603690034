//! Checks of one client at a time.

use super::{at, word, Random, Rig, NODE_BYTES};
use crate::{BusError, Fate, GlobalAddr, NodeId, Tally, Verb};

/// All checks that need no threads, each with a new rig.
pub fn sequential<R: Rig>(make: impl Fn() -> R) {
    let checks: [fn(&dyn Rig); 8] = [
        order_in_a_batch,
        words_wrap,
        copies_equal_a_model,
        gathered_writes_equal_one,
        wrong_addresses_are_refused,
        a_lost_node_fails_alone,
        counts,
        mailboxes_and_time,
    ];
    for check in checks {
        check(&make());
    }
}

fn order_in_a_batch(rig: &dyn Rig) {
    let verbs = rig.connect();
    let mut before = [0; 8];
    let mut between = [0; 16];
    let mut after = [0; 8];
    let part = 4_u64.to_le_bytes();
    let parts: [&[u8]; 2] = [&part[..3], &part[3..]];
    let mut batch = [
        Verb::read(at(8), &mut before),
        Verb::write(at(8), &[1, 0, 0, 0, 0, 0, 0, 0]),
        Verb::faa(at(8), 1),
        Verb::cas(at(8), 2, 3),
        Verb::cas(at(8), 2, 9),
        Verb::read(at(0), &mut between),
        Verb::Gather { addr: at(8), parts: &parts },
        Verb::faa(at(8), 0),
        Verb::read(at(8), &mut after),
    ];
    verbs.batch(&mut batch).unwrap();
    let found: Vec<u64> = batch.iter().map(Verb::found).collect();
    assert_eq!(found, [0, 0, 1, 2, 3, 0, 0, 4, 0]);
    assert_eq!(u64::from_le_bytes(before), 0);
    assert_eq!(between[..8], [0; 8]);
    assert_eq!(between[8..], 3_u64.to_le_bytes());
    assert_eq!(u64::from_le_bytes(after), 4);
    verbs.batch(&mut []).unwrap();
}

fn words_wrap(rig: &dyn Rig) {
    let verbs = rig.connect();
    let mut batch = [Verb::faa(at(0), u64::MAX), Verb::faa(at(0), 3), Verb::cas(at(0), 2, 1 << 63)];
    verbs.batch(&mut batch).unwrap();
    assert_eq!(batch.map(|verb| verb.found()), [0, u64::MAX, 2]);
    assert_eq!(word(&*verbs, at(0)), 1 << 63);
    assert_eq!(word(&*verbs, at(8)), 0, "no carry into the next word");
}

fn copies_equal_a_model(rig: &dyn Rig) {
    let verbs = rig.connect();
    let mut random = Random(1);
    let mut model = vec![0_u8; 4096];
    let long = [255, 256, 511, 1023, 1024, 1025, 1040, 1500, 2047, 3000].repeat(4);
    for len in (0..=200).chain(long) {
        for shift in 0..8 {
            let start = random.below(128) * 8 + shift;
            // The private side is misaligned in all ways too.
            let skew = random.below(8);
            let from = random.bytes(skew + len);
            model[start..start + len].copy_from_slice(&from[skew..]);
            verbs.batch(&mut [Verb::write(at(start as u64), &from[skew..])]).unwrap();
            let mut all = vec![0; model.len()];
            let other = random.below(1024);
            let mut into = vec![0xee; skew + len + 1];
            let mut batch = [
                Verb::read(at(0), &mut all),
                Verb::read(at(other as u64), &mut into[skew..skew + len]),
            ];
            verbs.batch(&mut batch).unwrap();
            assert!(all == model, "a write of {len} bytes at {start}");
            assert!(into[skew..skew + len] == model[other..other + len], "{len} bytes at {other}");
            assert!(into[..skew].iter().all(|&byte| byte == 0xee) && into[skew + len] == 0xee);
        }
    }
}

fn gathered_writes_equal_one(rig: &dyn Rig) {
    let verbs = rig.connect();
    let mut random = Random(2);
    for round in 0..500 {
        let pieces: Vec<Vec<u8>> = (0..random.below(6))
            .map(|_| {
                let most = if round % 5 == 0 { 700 } else { 20 };
                let len = random.below(most);
                random.bytes(len)
            })
            .collect();
        let parts: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let addr = at(64 + random.below(16) as u64);
        let whole = parts.concat();
        // What lies around must stay.
        let background = random.bytes(4096);
        let mut expected = background.clone();
        expected[addr.offset() as usize..][..whole.len()].copy_from_slice(&whole);
        let mut found = vec![0; 4096];
        let mut batch = [
            Verb::write(at(0), &background),
            Verb::Gather { addr, parts: &parts },
            Verb::read(at(0), &mut found),
        ];
        verbs.batch(&mut batch).unwrap();
        let lens: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert!(found == expected, "parts of {lens:?} bytes at {addr:?}");
    }
}

fn wrong_addresses_are_refused(rig: &dyn Rig) {
    let verbs = rig.connect();
    let (_, size) = verbs.nodes()[0];
    assert!(size >= NODE_BYTES);
    let bytes = [1; 16];
    verbs.batch(&mut [Verb::write(at(size - 16), &bytes), Verb::write(at(size), &[])]).unwrap();
    let refuse = |verb: Verb<'_>| {
        let (addr, len) = (verb.addr(), verb.len());
        let outcome = verbs.batch(&mut [verb]);
        assert_eq!(outcome, Err(BusError::BadAddress { addr, len, size }));
    };
    for offset in [size - 15, size, size + 8, GlobalAddr::MAX_OFFSET, GlobalAddr::MAX_OFFSET - 7] {
        refuse(Verb::write(at(offset), &bytes));
        refuse(Verb::read(at(offset), &mut [0; 16]));
        refuse(Verb::Gather { addr: at(offset), parts: &[&bytes, &bytes] });
    }
    for offset in [1, 4, size - 4, size, size + 8, GlobalAddr::MAX_OFFSET - 7] {
        refuse(Verb::cas(at(offset), 0, 1));
        refuse(Verb::faa(at(offset), 1));
        assert_eq!(verbs.mailbox(at(offset)), 0);
    }
    assert_eq!(verbs.map(at(size - 8), 16), None);
    // A wrong verb does not keep the others from being executed.
    let outcome = verbs.batch(&mut [Verb::faa(at(4), 1), Verb::faa(at(8), 1)]);
    assert!(outcome.is_err());
    assert_eq!((word(&*verbs, at(0)), word(&*verbs, at(8))), (0, 1));
}

fn a_lost_node_fails_alone(rig: &dyn Rig) {
    let (verbs, other) = (rig.connect(), rig.connect());
    let gone = |node| Err(BusError::NodeLost(NodeId(node)));
    let lost = GlobalAddr::new(NodeId(1), 8);
    verbs.batch(&mut [Verb::faa(lost, 5), Verb::faa(at(8), 5)]).unwrap();
    rig.kill_node(NodeId(1));
    for verbs in [&verbs, &other] {
        for verb in [Verb::faa(lost, 1), Verb::cas(lost, 5, 6), Verb::write(lost, &[1])] {
            assert_eq!(verbs.batch(&mut [verb]), gone(1));
        }
        let outcome = verbs.batch(&mut [Verb::read(lost, &mut [0; 8]), Verb::faa(at(8), 1)]);
        assert_eq!(outcome, gone(1));
        assert_eq!((verbs.mailbox(lost), verbs.map(lost, 8)), (0, None));
        verbs.wait_mailbox(lost, 9, 1_000_000_000_000);
        let nodes: Vec<NodeId> = verbs.nodes().iter().map(|&(node, _)| node).collect();
        assert_eq!(nodes, [NodeId(0)]);
    }
    assert_eq!(word(&*verbs, at(8)), 7);
    let nowhere = GlobalAddr::new(NodeId(u16::MAX), 0);
    assert_eq!(verbs.batch(&mut [Verb::faa(nowhere, 1)]), gone(u16::MAX));
}

fn counts(rig: &dyn Rig) {
    let (verbs, other) = (rig.connect(), rig.connect());
    let before = verbs.tally();
    let mut into = [0; 10];
    let parts: [&[u8]; 2] = [&[1, 2], &[3]];
    let mut batch = [
        Verb::read(at(0), &mut into),
        Verb::write(at(0), &[1; 20]),
        Verb::Gather { addr: at(0), parts: &parts },
        Verb::cas(at(0), 0, 0),
        Verb::faa(at(0), 0),
    ];
    verbs.batch(&mut batch).unwrap();
    verbs.batch(&mut [Verb::faa(at(0), 0)]).unwrap();
    verbs.mailbox(at(0));
    let cost = verbs.tally() - before;
    let expected = Tally { reads: 1, writes: 2, cas: 1, faa: 2, round_trips: 2, bytes: 57 };
    assert_eq!(cost, expected);
    assert_eq!(other.tally(), Tally::default(), "each connection counts for itself");
}

fn mailboxes_and_time(rig: &dyn Rig) {
    let verbs = rig.connect();
    let start = verbs.now_ns();
    verbs.relax(1_500_000);
    verbs.wait_mailbox(at(16), 0, 1_500_000);
    assert!(verbs.now_ns() >= start + 3_000_000, "both waits take their time");
    // Only the upper half differs: still another word, and no wait.
    verbs.batch(&mut [Verb::faa(at(16), 1 << 40)]).unwrap();
    assert_eq!(verbs.mailbox(at(16)), 1 << 40);
    verbs.wait_mailbox(at(16), 0, u64::MAX / 4);
    verbs.wake_mailbox(at(16));
    let me = verbs.identity();
    assert_eq!(me, verbs.identity());
    assert!(verbs.is_alive(me));
    let other = rig.connect();
    assert!(other.is_alive(me), "a live client lives for others too");
    if other.fence(me) == Fate::Fenced {
        assert_eq!(verbs.batch(&mut [Verb::faa(at(24), 1)]), Err(BusError::Fenced));
        assert!(!other.is_alive(me));
        assert_eq!(other.fence(me), Fate::Fenced, "again is no harm");
        assert_eq!(word(&*other, at(24)), 0, "a fenced client's verbs have no effect");
    } else {
        assert!(other.is_alive(me), "out of reach is not dead");
        verbs.batch(&mut [Verb::faa(at(24), 1)]).unwrap();
    }
}
