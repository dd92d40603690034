//! Blocks of dead clients.

use super::quota::die;
use super::TestPool;
use crate::alloc::table::{read_region, BlockState};
use crate::client::Client;
use crate::store::Expiry::Never;

/// Blocks that are not free, and wrecks among them.
fn blocks(client: &Client) -> (usize, usize) {
    let fabric = client.fabric();
    let regions = 0..fabric.view().regions.len();
    let words: Vec<_> = regions
        .flat_map(|region| read_region(fabric, region).unwrap())
        .map(|(_, word)| word)
        .collect();
    let count = |state| words.iter().filter(|word| word.state == state).count();
    (words.len() - count(BlockState::Free), count(BlockState::Wreck))
}

#[test]
fn ticks_take_the_blocks_of_the_dead_back() {
    let pool = TestPool::new(16 << 20, 2, 2);
    let mut client = pool.client(1);
    let (mut most, mut wrecks) = (0, 0);
    for death in 0..40_u64 {
        die(&pool, &mut client, 300 + death * 7, |dying| {
            let sizes = [30, 200, 1_000, 3_000];
            let mut put = |size: usize| dying.put(0, &size.to_le_bytes(), &vec![1; size], Never);
            sizes.into_iter().all(|size| put(size).is_ok())
        });
        wrecks += blocks(&client).1;
        for _ in 0..400 {
            client.sweeper = Default::default();
            client.tick().unwrap();
            client.alloc.settle(&client.fabric).unwrap();
        }
        let now = blocks(&client);
        assert_eq!(now.1, 0, "wrecks after death {death}");
        most = most.max(now.0);
    }
    assert!(wrecks > 80, "{wrecks}");
    assert!(most < 40, "{most} blocks in use");
    let report = crate::check::run(&mut client, Default::default(), &mut |_| {}).unwrap();
    let mut findings = report.findings;
    // The dead had not told what they had put.
    findings.retain(|finding| finding.what != crate::check::What::Usage);
    assert!(findings.is_empty(), "{findings:?}");
}
