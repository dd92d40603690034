//! The namespace table and its quotas.

use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, Verb, Verbs};
use proptest::prelude::*;

use super::*;
use crate::config::record as client_record;
use crate::lifecycle::{format, join, leave};
use crate::membership::look_after;
use crate::PoolConfig;

const BYTES: u64 = 16 << 20;

fn pool() -> Arc<HeapNodes> {
    let memory = HeapNodes::new(3, BYTES as usize);
    format(&memory.connect(900), &PoolConfig::for_size(BYTES, 3, 2)).unwrap();
    memory
}

fn client(memory: &Arc<HeapNodes>, pid: u32) -> Fabric {
    join(Box::new(memory.connect(pid))).unwrap()
}

fn limits(quota: u64) -> Limits {
    Limits { quota, floor: 7, default_ttl_ms: 9 }
}

#[test]
fn namespaces_are_made_found_changed_and_dropped() {
    let memory = pool();
    let (one, two) = (client(&memory, 1), client(&memory, 2));
    let files = create(&one, "files", Kind::Store, limits(10)).unwrap();
    let pages = create(&two, "pages", Kind::Cache, Limits::default()).unwrap();
    assert_eq!((files.id, pages.id), (1, 2));
    let text = create(&two, "files", Kind::Tree, limits(0)).unwrap_err().to_string();
    assert!(text.contains("\"files\" already"), "{text}");
    assert_eq!(open(&two, "files").unwrap(), Some(files.clone()));
    for copy in spare(&one, &files, 3) {
        one.batch(&mut [Verb::write(copy, &[1; 8])]).unwrap();
    }
    let wider = set_limits(&two, "files", limits(20)).unwrap();
    assert_eq!(list(&one).unwrap(), [Namespace::default_space(), wider, pages]);
    assert_eq!(one.read_word(spare(&one, &files, 3)[0]).unwrap(), 0x0101_0101_0101_0101);
    drop(&one, "files").unwrap();
    assert_eq!(open(&one, "files").unwrap(), None);
    assert!(drop(&one, "files").unwrap_err().to_string().contains("no namespace \"files\""));
    let last = meta::NUM_NAMESPACES - 3;
    for number in 0..last {
        create(&one, &number.to_string(), Kind::Store, limits(0)).unwrap();
    }
    // Its number is the last one to be given away again.
    let again = create(&one, "others", Kind::Tree, limits(1)).unwrap();
    assert_eq!((again.id, again.generation), (files.id, files.generation + 1));
    assert_eq!(one.read_word(spare(&one, &again, 3)[0]).unwrap(), 0);
    (0..last).for_each(|number| drop(&one, &number.to_string()).unwrap());
    for text in [
        create(&one, DEFAULT, Kind::Store, limits(0)).unwrap_err(),
        set_limits(&one, DEFAULT, limits(9)).unwrap_err(),
        drop(&one, DEFAULT).unwrap_err(),
    ] {
        assert!(text.to_string().contains("\"default\""), "{text}");
    }
    assert!(create(&one, "", Kind::Tree, limits(1)).is_err());
    assert!(create(&one, &"x".repeat(65), Kind::Tree, limits(1)).is_err());
    assert!(create(&one, &"x".repeat(64), Kind::Tree, limits(1)).is_ok());
}

#[test]
fn threads_that_create_at_once_get_numbers_of_their_own() {
    let memory = pool();
    let threads: Vec<_> = (0..4_u32)
        .map(|pid| {
            let memory = Arc::clone(&memory);
            std::thread::spawn(move || {
                let fabric = client(&memory, pid);
                let own = (0..8).map(|at| format!("{pid} {at}"));
                own.for_each(
                    |name| assert!(create(&fabric, &name, Kind::Store, limits(0)).is_ok()),
                );
                create(&fabric, "shared", Kind::Store, limits(0)).is_ok()
            })
        })
        .collect();
    let made = threads.into_iter().map(|thread| thread.join().unwrap());
    assert_eq!(made.filter(|made| *made).count(), 1);
    let fabric = client(&memory, 9);
    let all = list(&fabric).unwrap();
    assert_eq!(all.len(), 34);
    for number in all.len()..meta::NUM_NAMESPACES as usize {
        create(&fabric, &number.to_string(), Kind::Store, limits(0)).unwrap();
    }
    let text = create(&fabric, "one more", Kind::Store, limits(0)).unwrap_err().to_string();
    assert!(text.contains("all 256 namespaces"), "{text}");
}

#[test]
fn the_lock_of_a_dead_client_is_taken_over() {
    let memory = pool();
    let (one, two) = (client(&memory, 1), client(&memory, 2));
    let at = one.meta(meta::NAMESPACE_LOCK)[0];
    one.cas(at, 0, one.me().word()).unwrap();
    let dead = client_record::state_word(client_record::DEAD, one.me());
    let state = one.client_record(one.me().index, client_record::STATE)[0];
    two.batch(&mut [Verb::write(state, &dead.to_le_bytes())]).unwrap();
    create(&two, "mine", Kind::Store, limits(0)).unwrap();
    assert_eq!(two.read_word(at).unwrap(), 0);
}

#[test]
fn usage_adds_up_over_clients_and_outlives_them() {
    let memory = pool();
    let (one, two) = (client(&memory, 1), client(&memory, 2));
    let files = create(&one, "files", Kind::Store, limits(1_000)).unwrap();
    let (mut first, mut second) = (Meter::new(&one).unwrap(), Meter::new(&two).unwrap());
    first.add(&files, 300);
    second.add(&files, 500);
    second.add(&files, -100);
    second.settle(&two).unwrap();
    assert_eq!(used(&one, &files).unwrap(), 0, "small changes are told later");
    first.flush(&one).unwrap();
    second.flush(&two).unwrap();
    assert_eq!(used(&one, &files).unwrap(), 700);
    leave(one).unwrap();
    let one = client(&memory, 1);
    let mut first = Meter::new(&one).unwrap();
    first.add(&files, -200);
    first.flush(&one).unwrap();
    assert_eq!(used(&two, &files).unwrap(), 500);
    recount(&two, &files, 450).unwrap();
    assert_eq!(used(&two, &files).unwrap(), 450);
    for number in 2..meta::NUM_NAMESPACES {
        create(&two, &number.to_string(), Kind::Store, limits(0)).unwrap();
    }
    drop(&two, "files").unwrap();
    let fresh = create(&two, "fresh", Kind::Store, limits(1_000)).unwrap();
    assert_eq!((fresh.id, used(&two, &fresh).unwrap()), (files.id, 0));
    first.add(&files, 77);
    first.add(&fresh, 5);
    first.flush(&one).unwrap();
    assert_eq!(used(&two, &fresh).unwrap(), 5, "what was kept back for the old one is forgotten");
}

#[test]
fn a_quota_holds_exactly_for_one_client_and_nearly_for_several() {
    let memory = pool();
    let fabrics = [client(&memory, 1), client(&memory, 2), client(&memory, 3)];
    let quota = 1_000_000;
    let files = create(&fabrics[0], "files", Kind::Store, limits(quota)).unwrap();
    let mut alone = Meter::new(&fabrics[0]).unwrap();
    let mut total = 0;
    let error = loop {
        match alone.admit(&fabrics[0], &files, 700) {
            Ok(()) => alone.add(&files, 700),
            Err(error) => break error,
        }
        total += 700;
    };
    assert!(total <= quota && total > quota - 700, "{total}");
    let told = PoolError::QuotaExceeded { namespace: "files".into(), used: total, quota };
    assert_eq!(error, told);
    alone.add(&files, -(total as i64));
    alone.flush(&fabrics[0]).unwrap();
    let mut meters: Vec<_> = fabrics.iter().map(|fabric| Meter::new(fabric).unwrap()).collect();
    let (mut total, mut full) = (0, 0);
    for step in 0.. {
        let (fabric, meter) = (&fabrics[step % 3], &mut meters[step % 3]);
        match meter.admit(fabric, &files, 1_000) {
            Ok(()) => {
                meter.add(&files, 1_000);
                total += 1_000;
                full = 0;
            }
            Err(_) => full += 1,
        }
        if full == 3 {
            break;
        }
    }
    assert!(total >= quota - 100_000 && total <= quota + quota / 10, "{total}");
    alone.admit(&fabrics[0], &Namespace { limits: limits(0), ..files }, u64::MAX).unwrap();
}

proptest! {
    #[test]
    fn garbage_never_panics(seed: [u8; 32], at in 0_usize..128, byte: u8) {
        let mut bytes = [0; 256];
        bytes[..32].copy_from_slice(&seed);
        let _ = record::decode(3, &bytes);
        let namespace = Namespace {
            id: 3, generation: 1, name: "n".into(), kind: Kind::Tree, limits: limits((1 << 48) - 1),
        };
        let mut bytes = record::encode(&namespace, -1);
        prop_assert_eq!(record::decode(3, &bytes).unwrap(), Some(namespace.clone()));
        // A limit's own check has 16 bits: it is not for damage.
        let damaged = bytes[at] != byte && !(8..32).contains(&at) && !(40..64).contains(&at);
        bytes[at] = byte;
        let decoded = record::decode(3, &bytes);
        prop_assert!(!damaged || decoded.is_err() || decoded == Ok(None));
    }
}

/// What somebody does to the table, before it is known whether it works.
type Change = fn(&Fabric) -> Result<()>;

#[test]
fn copies_are_equal_after_the_death_of_who_changed_them() {
    let changes: [Change; 3] = [
        |fabric| create(fabric, "new", Kind::Tree, limits(3)).map(|_| ()),
        |fabric| set_limits(fabric, "old", limits(30)).map(|_| ()),
        |fabric| drop(fabric, "old"),
    ];
    for change in changes {
        let memory = pool();
        let healthy = client(&memory, 1);
        create(&healthy, "old", Kind::Store, limits(10)).unwrap();
        let joined = client(&memory, 2).verbs().tally().verbs();
        for after in joined.. {
            let pid = 100 + after as u32;
            let plan =
                FaultPlan { after, torn_words: after as usize % 3, death: Death::Connection };
            let dying = join(Box::new(Faulty::new(memory.connect(pid), plan))).unwrap();
            let done = change(&dying).is_ok();
            memory.connect(900).fence(Identity { pid, started: 0 });
            look_after(&healthy).unwrap();
            let copies = healthy.meta(meta::NAMESPACE_TABLE);
            let tables: Vec<_> =
                copies.iter().map(|&at| read_copy(&healthy, at).unwrap()).collect();
            assert!(tables.iter().all(|table| *table == tables[0]), "after {after} verbs");
            list(&healthy).unwrap();
            if done {
                assert!(after > joined + 3, "a change takes more verbs");
                break;
            }
            let _ = drop(&healthy, "new");
            let _ = create(&healthy, "old", Kind::Store, limits(10));
        }
    }
}
