//! Round trips of the operations.

use super::TestPool;
use crate::client::Client;
use crate::store::Expiry::Never;

/// The round trips of `f`, the least of some tries: now and then an operation also reports a
/// quiescent state or announces objects.
fn least(client: &mut Client, mut f: impl FnMut(&mut Client, u32)) -> u64 {
    let cost = |round| {
        let before = client.fabric().verbs().tally();
        f(client, round);
        (client.fabric().verbs().tally() - before).round_trips
    };
    (0..9).map(cost).min().unwrap()
}

fn costs(replicas: u8, cached: bool) -> [u64; 6] {
    let pool = TestPool::new(16 << 20, 3, replicas);
    let mut client = if cached { pool.client(1) } else { pool.uncached(1) };
    client.put(0, b"key", b"value", Never).unwrap();
    let mut into = Vec::new();
    let key = |round: u32| round.to_le_bytes();
    [
        least(&mut client, |client, _| assert!(client.get(0, b"key", &mut into).unwrap())),
        least(&mut client, |client, _| assert!(!client.contains(0, b"nobody").unwrap())),
        least(&mut client, |client, _| client.put(0, b"key", b"value", Never).unwrap()),
        least(&mut client, |client, _| assert!(client.update(0, b"key", b"other", Never).unwrap())),
        least(&mut client, |client, round| {
            assert!(client.insert(0, &key(round), b"value", Never).unwrap())
        }),
        least(&mut client, |client, round| assert!(client.delete(0, &key(round)).unwrap())),
    ]
}

#[test]
fn operations_cost_what_the_papers_say() {
    // get, get of nothing, put, update, insert, delete
    assert_eq!(costs(2, true), [1, 1, 4, 4, 4, 4]);
    assert_eq!(costs(3, true), [1, 1, 4, 4, 4, 4]);
    assert_eq!(costs(2, false), [2, 1, 5, 5, 4, 5]);
    let alone = costs(1, true);
    assert!(alone[0] == 1 && alone[2..].iter().all(|&trips| trips <= 3), "{alone:?}");
    assert_eq!(alone[2..4], [2, 2]);
}
