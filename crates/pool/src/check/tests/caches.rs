//! Caches: well, and damaged.

use artesian_bus::NodeId;

use super::damage::write;
use super::{check, Random, TestPool};
use crate::cache::{self, CacheConfig};
use crate::check::What;
use crate::client::Client;
use crate::store::Expiry::Never;

#[test]
fn caches_are_accounted_for_and_their_damage_is_found() {
    for (nodes, replicas) in [(1, 1), (2, 2), (4, 3)] {
        let pool = TestPool::new(16 << 20, nodes, replicas);
        let mut client = pool.client(1);
        let id = client.cache_open("c", &CacheConfig::of_objects(200)).unwrap();
        let mut random = Random(9);
        for step in 0..3_000_u64 {
            let key = random.below(600).to_le_bytes();
            match random.below(8) {
                0 => drop(client.cache_delete(id, &key).unwrap()),
                _ => client.cache_put(id, &key, &[step as u8; 60], Never).unwrap(),
            }
        }
        let report = check(&mut client, false);
        assert_eq!(report.findings, [], "{nodes} nodes, {replicas} copies");
        assert_eq!(report.counts.keys[&id].keys, client.cache_stats(id).unwrap().objects);
        assert_eq!((report.counts.leaked.objects, report.counts.held.objects), (0, 0));
        assert_eq!(check(&mut client, true).findings, []);
        let mut slots = Vec::new();
        cache::for_each_slot(&client.fabric, |at, slot| {
            slots.extend(slot.class().map(|_| (at, slot)));
            Ok(())
        })
        .unwrap();
        let [(_, first), (second, _)] = slots[..2] else { panic!("{} objects", slots.len()) };
        write(&client.fabric, &client.fabric.copies(first.addr().add(40)), 0xbad);
        write(&client.fabric, &client.fabric.copies(second), 0xfd << 40 | 1);
        let kinds: Vec<What> =
            check(&mut client, false).findings.iter().map(|finding| finding.what).collect();
        assert!(kinds.contains(&What::Object), "{kinds:?}");
        assert!(kinds.contains(&What::SlotValue), "{kinds:?}");
    }
}

#[test]
fn what_lost_slots_had_named_is_taken_back() {
    let mut leaked = 0;
    for victim in 0..3 {
        let pool = TestPool::new(16 << 20, 3, 1);
        let mut client = pool.client(1);
        let id = client.cache_open("c", &CacheConfig::of_objects(2_000)).unwrap();
        let put = |client: &mut Client, key: u64| {
            client.cache_put(id, &key.to_le_bytes(), &[1; 100], Never).unwrap();
        };
        (0..1_500).for_each(|key| put(&mut client, key));
        pool.memory.kill_node(NodeId(victim));
        (0..1_500).for_each(|key| put(&mut client, key));
        client.leave().unwrap();
        let Ok(mut client) = Client::with_cache(Box::new(pool.memory.connect(2)), 0) else {
            // The hash index was lost too: nobody can join.
            continue;
        };
        leaked += check(&mut client, true).counts.leaked.objects;
        let after = check(&mut client, false);
        assert_eq!(after.counts.leaked.objects, 0, "{:?}", after.findings);
        let id = client.cache_open("c", &CacheConfig::of_objects(2_000)).unwrap();
        (0..1_500).for_each(|key| put(&mut client, key));
        assert!(client.cache_stats(id).unwrap().objects > 1_000);
    }
    assert!(leaked > 0);
}
