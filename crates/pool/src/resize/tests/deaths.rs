//! A mover that dies anywhere: another client goes on.

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::{Identity, Verbs};

use super::*;

/// Runs `first` with a client that dies after so many verbs, then `next` with a healthy one.
fn with_death(
    pool: &TestPool,
    client: &mut Client,
    after: u64,
    first: impl FnOnce(&mut Client) -> Result<Progress> + Send,
    next: impl FnOnce(&mut Client) -> Result<Progress>,
) -> bool {
    let pid = 1_000 + after as u32;
    let plan = FaultPlan { after, torn_words: 3, death: Death::Connection };
    let verbs = Faulty::new(pool.memory.connect(pid), plan);
    let memory = &pool.memory;
    let finished = std::thread::scope(|scope| {
        let mover = scope.spawn(move || {
            let outcome = Client::with_cache(Box::new(verbs), 1 << 12).and_then(|mut dying| {
                first(&mut dying)?;
                dying.leave()
            });
            // Its process has ended: the others are to find out at once.
            memory.connect(9_997).fence(Identity { pid, started: 0 });
            outcome.is_ok()
        });
        while !mover.is_finished() {
            client.tick().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        mover.join().unwrap()
    });
    for _ in 0..3 {
        client.tick().unwrap();
    }
    next(client).unwrap();
    finished
}

fn deaths(replicas: u8, step: u64) {
    let mut after = step;
    loop {
        let pool = TestPool::new(2, 1, replicas);
        let mut client = pool.client(1);
        let model = fill(&mut client, 300);
        let mut finished = with_death(
            &pool,
            &mut client,
            after,
            |mover| add_node(mover, node(2), &mut |_| {}),
            |client| add_node(client, node(2), &mut |_| {}),
        );
        finished &= with_death(
            &pool,
            &mut client,
            after + 1,
            |mover| drain_node(mover, node(0), &mut |_| {}),
            |client| drain_node(client, node(0), &mut |_| {}),
        );
        let seen = status(client.fabric());
        assert_eq!((seen.nodes[0].state, seen.lost, seen.lacking), (NodeState::Dead, 0, 0));
        assert_eq!(seen.filling, None);
        assert_holds(&mut client, &model);
        let options = check::Options { repair: true };
        check::run(&mut client, options, &mut |_| {}).unwrap();
        assert_well(&mut client, false);
        if finished {
            return;
        }
        after += step;
    }
}

#[test]
fn another_client_goes_on_for_a_mover_that_died() {
    deaths(1, 397);
    deaths(2, 499);
}

#[test]
#[ignore = "slow: hundreds of deaths"]
fn another_client_goes_on_for_many_movers_that_died() {
    deaths(1, 23);
    deaths(2, 29);
}
