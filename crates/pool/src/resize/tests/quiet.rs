//! One client alone.

use super::*;
use crate::pin::Pins;
use crate::PoolAddr;

#[test]
fn a_node_that_comes_carries_its_share() {
    for (nodes, replicas) in [(1, 1), (2, 1), (2, 2), (3, 3)] {
        let pool = TestPool::new(nodes, 1, replicas);
        let mut client = pool.client(1);
        let model = fill(&mut client, 3_000);
        let before = status(client.fabric());
        let mut last = 0;
        let done = add_node(&mut client, node(nodes), &mut |progress| {
            assert!(progress.copies >= last || progress.bytes == 0);
            last = progress.copies;
        });
        let done = done.unwrap();
        assert!(done.copies > 0 && done.bytes > 0 && done.left == 0, "{done:?}");
        let after = status(client.fabric());
        assert_eq!(after.nodes.len(), usize::from(nodes) + 1);
        assert_eq!(after.regions, before.regions + done.regions_added);
        let used: Vec<u64> = after.nodes.iter().map(|node| node.used).collect();
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(*least > 0 && *most <= after.nodes[0].places, "{used:?}");
        assert!(done.regions_added * u64::from(replicas) + 2 >= before.nodes[0].places, "{done:?}");
        assert_eq!((after.lost, after.lacking, after.filling), (0, 0, None));
        assert_holds(&mut client, &model);
        assert_well(&mut client, false);
        // Whoever joins now finds the same.
        assert_found(&pool, &model);
        let again = quietly(|progress| add_node(&mut client, node(nodes), progress));
        assert_eq!((again.copies, again.regions_added), (0, 0));
    }
}

#[test]
fn a_drained_node_may_go() {
    for (nodes, replicas) in [(1, 1), (2, 1), (2, 2), (3, 2)] {
        let pool = TestPool::new(nodes, 1, replicas);
        let mut client = pool.client(1);
        let mut model = fill(&mut client, 1_000);
        quietly(|progress| add_node(&mut client, node(nodes), progress));
        // Node 0 carries the first copy of the tables.
        let done = quietly(|progress| drain_node(&mut client, node(0), progress));
        assert!(done.copies > 0 && done.left == 0);
        let after = status(client.fabric());
        assert_eq!((after.nodes[0].state, after.nodes[0].used), (NodeState::Dead, 0));
        assert_eq!((after.lost, after.lacking), (0, 0));
        assert!(!after.nodes[0].has_tables);
        pool.memory.kill_node(node(0));
        assert_holds(&mut client, &model);
        model.extend(fill(&mut client, 1_500));
        assert_found(&pool, &model);
        assert_well(&mut client, false);
        assert_eq!(
            quietly(|progress| drain_node(&mut client, node(0), progress)),
            Progress::default()
        );
    }
}

#[test]
fn lost_copies_are_made_again() {
    for (nodes, replicas, victims) in [(3, 2, [2, 0]), (4, 3, [1, 0])] {
        let pool = TestPool::new(nodes, 0, replicas);
        let mut client = pool.client(1);
        // Few keys: most regions hold nothing and give up their places.
        let model = fill(&mut client, 30);
        for victim in victims {
            pool.memory.kill_node(node(victim));
            client.put(0, &0_u32.to_le_bytes(), &model[&0], Never).unwrap();
            assert_holds(&mut client, &model);
            let broken = status(client.fabric());
            assert!(broken.lacking > 0 && broken.lost == 0, "{broken:?}");
            let live = broken.nodes.iter().filter(|node| node.state == NodeState::Live).count();
            let full = live >= usize::from(replicas);
            let done = quietly(|progress| restore_replicas(&mut client, progress));
            assert!(done.copies > 0 || !full);
            let after = status(client.fabric());
            assert!(!full || after.lacking == 0 && after.retired > 0, "{after:?}");
            assert_holds(&mut client, &model);
            assert_well(&mut client, !full);
        }
    }
}

#[test]
fn a_new_node_makes_up_for_a_lost_one() {
    let pool = TestPool::new(3, 1, 2);
    let mut client = pool.client(1);
    let model = fill(&mut client, 1_500);
    pool.memory.kill_node(node(1));
    assert_holds(&mut client, &model);
    let text = restore_replicas(&mut client, &mut |_| {}).unwrap_err().to_string();
    assert!(text.contains("no node has room for another copy of region"), "{text}");
    quietly(|progress| add_node(&mut client, node(3), progress));
    let after = status(client.fabric());
    assert_eq!((after.lacking, after.lost), (0, 0));
    assert_well(&mut client, false);
    pool.memory.kill_node(node(0));
    assert_holds(&mut client, &model);
    assert_found(&pool, &model);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let pool = TestPool::new(2, 2, 2);
    let mut client = pool.client(1);
    let model = fill(&mut client, 500);
    let says = |outcome: Result<Progress>, part: &str| {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    let mut quiet = |_: Progress| {};
    says(add_node(&mut client, node(3), &mut quiet), "the next memory node is number 2");
    says(drain_node(&mut client, node(9), &mut quiet), "no memory node 9");
    says(drain_node(&mut client, node(0), &mut quiet), "no node has room for another copy");
    assert_eq!(status(client.fabric()).lost, 0);
    quietly(|progress| add_node(&mut client, node(2), progress));
    // What was begun goes on, and the node that was to go comes back.
    quietly(|progress| add_node(&mut client, node(0), progress));
    let after = status(client.fabric());
    assert!(after.nodes.iter().all(|node| node.state == NodeState::Live && node.used > 0));
    assert_holds(&mut client, &model);
    assert_well(&mut client, false);
    pool.memory.kill_node(node(2));
    client.put(0, &0_u32.to_le_bytes(), &model[&0], Never).unwrap();
    says(add_node(&mut client, node(2), &mut quiet), "numbers are used once");
}

#[test]
fn what_is_pinned_stays_where_it_is() {
    let pool = TestPool::new(1, 1, 1);
    let mut client = pool.client(1);
    let model = fill(&mut client, 400);
    let holder = pool.client(2);
    let places = status(client.fabric()).nodes[0].places;
    let mut pins = Pins::default();
    let pin = |region| {
        let addr = PoolAddr((region << pool.config.region_shift) + (1 << 14) + 128);
        pins.pin(holder.fabric(), addr).unwrap()
    };
    let mut held: Vec<_> = (0..places).map(pin).collect();
    let mut calls = 0;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        // The holder holds still when asked, as a client between two operations does.
        let (tell, told) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let mut pins = pins;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                crate::membership::tick(holder.fabric()).unwrap();
                if told.try_recv().is_ok() {
                    held.drain(..).for_each(|pin| pins.unpin(holder.fabric(), pin).unwrap());
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let moved = add_node(&mut client, node(1), &mut |progress| {
            calls += 1;
            assert!(calls > 6 || progress.copies == 0, "a pinned copy went");
            if calls == 6 {
                tell.send(()).unwrap();
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(moved.unwrap().copies > 0);
    });
    assert_holds(&mut client, &model);
}
