//! Money that moves between accounts: none is lost or made, whoever dies in between.

use std::sync::Arc;

use artesian_bus::fault::{Death, FaultPlan, Faulty};
use artesian_bus::heap::HeapNodes;
use artesian_bus::{Identity, NodeId, Verbs};

use super::*;
use crate::client::Client;
use crate::config::record;
use crate::error::{PoolError, Result};
use crate::lifecycle::format;
use crate::store::Expiry::Never;
use crate::PoolConfig;

const BYTES: u64 = 64 << 20;
const ACCOUNTS: u64 = 6;
const START: i64 = 1000;

fn pool(nodes: u16, replicas: u8, lease_ms: u32) -> Arc<HeapNodes> {
    let memory = HeapNodes::new(nodes, BYTES as usize);
    let config = PoolConfig { lease_ms, ..PoolConfig::for_size(BYTES, nodes, replicas) };
    format(&memory.connect(900), &config).unwrap();
    memory
}

fn client(memory: &Arc<HeapNodes>, pid: u32) -> Client {
    Client::with_cache(Box::new(memory.connect(pid)), 1 << 16).unwrap()
}

fn open_accounts(client: &mut Client) {
    for account in 0..ACCOUNTS {
        client.put(0, &account.to_le_bytes(), &START.to_le_bytes(), Never).unwrap();
    }
}

fn balance(transaction: &mut Transaction<'_>, account: u64) -> Result<i64> {
    let mut into = Vec::new();
    let there = transaction.get(0, &account.to_le_bytes(), &mut into)?;
    Ok(if there { i64::from_le_bytes(into[..8].try_into().unwrap()) } else { 0 })
}

/// An account without money is closed: its key goes.
fn set(transaction: &mut Transaction<'_>, account: u64, balance: i64) -> Result<()> {
    let key = account.to_le_bytes();
    match balance {
        0 => transaction.delete(0, &key),
        _ => transaction.put(0, &key, &balance.to_le_bytes(), Never),
    }
}

fn transfer(transaction: &mut Transaction<'_>, from: u64, to: u64, amount: i64) -> Result<()> {
    let (source, target) = (balance(transaction, from)?, balance(transaction, to)?);
    let amount = amount.min(source);
    if from != to {
        set(transaction, from, source - amount)?;
        set(transaction, to, target + amount)?;
    }
    Ok(())
}

fn total(client: &mut Client) -> Result<i64> {
    client.transact(|transaction| {
        let mut sum = 0;
        for account in 0..ACCOUNTS {
            sum += balance(transaction, account)?;
        }
        Ok(sum)
    })
}

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does() {
    for replicas in [1, 2] {
        let memory = pool(2, replicas, 5_000);
        let (mut one, mut two) = (client(&memory, 1), client(&memory, 2));
        let mut into = Vec::new();
        one.put(0, b"a", b"old", Never).unwrap();
        let mut transaction = one.transaction();
        transaction.put(0, b"a", b"new", Never).unwrap();
        transaction.put(0, b"b", b"born", Never).unwrap();
        transaction.delete(0, b"never there").unwrap();
        assert!(transaction.get(0, b"a", &mut into).unwrap() && into == b"new");
        assert!(two.get(0, b"a", &mut into).unwrap() && into == b"old");
        assert!(!two.contains(0, b"b").unwrap());
        transaction.commit().unwrap();
        assert!(two.get(0, b"a", &mut into).unwrap() && into == b"new");
        assert!(two.get(0, b"b", &mut into).unwrap() && into == b"born");
        let mut transaction = one.transaction();
        transaction.delete(0, b"a").unwrap();
        assert!(!transaction.get(0, b"a", &mut into).unwrap());
        drop(transaction);
        assert!(two.get(0, b"a", &mut into).unwrap());
        one.transact(|transaction| transaction.delete(0, b"a")).unwrap();
        assert!(!two.contains(0, b"a").unwrap());
        assert!(one.transaction().put(0, b"a", &vec![0; 1 << 20], Never).is_err());
    }
}

#[test]
fn what_was_read_must_still_hold() {
    let memory = pool(2, 2, 5_000);
    let (mut one, mut two) = (client(&memory, 1), client(&memory, 2));
    let mut into = Vec::new();
    for key in [&b"read"[..], b"absent"] {
        one.put(0, b"read", b"1", Never).unwrap();
        let mut transaction = one.transaction();
        transaction.get(0, key, &mut into).unwrap();
        transaction.put(0, b"written", b"x", Never).unwrap();
        two.put(0, key, b"2", Never).unwrap();
        assert_eq!(transaction.commit(), Err(PoolError::Conflict));
        assert!(!two.contains(0, b"written").unwrap());
    }
    // A read of a key that is written as well.
    let mut transaction = one.transaction();
    transaction.get(0, b"read", &mut into).unwrap();
    transaction.put(0, b"read", b"mine", Never).unwrap();
    two.put(0, b"read", b"theirs", Never).unwrap();
    assert_eq!(transaction.commit(), Err(PoolError::Conflict));
    assert!(one.get(0, b"read", &mut into).unwrap() && into == b"theirs");
}

#[test]
fn money_is_neither_lost_nor_made() {
    for (nodes, replicas) in [(1, 1), (2, 2), (3, 3)] {
        let memory = pool(nodes, replicas, 5_000);
        let mut first = client(&memory, 50);
        open_accounts(&mut first);
        first.leave().unwrap();
        std::thread::scope(|scope| {
            for pid in 1..4_u64 {
                let mut client = client(&memory, pid as u32);
                scope.spawn(move || {
                    for round in 0..250_u64 {
                        let (from, to) = (round * pid % ACCOUNTS, (round + pid) % ACCOUNTS);
                        let moves =
                            |tx: &mut Transaction<'_>| transfer(tx, from, to, 7 * pid as i64);
                        client.transact(moves).unwrap();
                        if round % 10 == 0 {
                            assert_eq!(total(&mut client).unwrap(), START * ACCOUNTS as i64);
                        }
                        client.tick().unwrap();
                    }
                });
            }
        });
        assert_eq!(total(&mut client(&memory, 60)).unwrap(), START * ACCOUNTS as i64);
    }
}

fn recover(client: &mut Client, index: u16) {
    for _ in 0..200 {
        client.tick().unwrap();
        let at = client.fabric().client_record(index, record::STATE)[0];
        let word = client.fabric().read_word(at).unwrap();
        if record::split(word).0 == record::FREE {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the client at place {index} is not recovered");
}

/// Changes a, takes b away, makes c.
fn try_all(client: &mut Client) -> Result<()> {
    client.transact(|transaction| {
        transaction.get(0, b"a", &mut Vec::new())?;
        transaction.put(0, b"a", b"new", Never)?;
        transaction.delete(0, b"b")?;
        transaction.put(0, b"c", b"new", Never)
    })
}

#[test]
fn death_at_any_verb_of_a_transaction_leaves_all_or_nothing() {
    for replicas in [1, 2] {
        let memory = pool(2, replicas, 60);
        let mut healthy = client(&memory, 1);
        let mut into = Vec::new();
        let (mut committed, mut tries) = (0, 0);
        // Verbs of joining, and of joining and the transaction.
        let mut dry = client(&memory, 99);
        healthy.put(0, b"b", b"old", Never).unwrap();
        let first = dry.fabric().verbs().tally().verbs();
        try_all(&mut dry).unwrap();
        let last = dry.fabric().verbs().tally().verbs();
        dry.leave().unwrap();
        for after in first - 2..last + 30 {
            for key in [b"a", b"b"] {
                healthy.put(0, key, b"old", Never).unwrap();
            }
            healthy.delete(0, b"c").unwrap();
            let pid = 100 + after as u32;
            let plan = FaultPlan { after, torn_words: 1, death: Death::Connection };
            let verbs = Faulty::new(memory.connect(pid), plan);
            let Ok(mut dying) = Client::with_cache(Box::new(verbs), 1 << 16) else {
                memory.connect(900).fence(Identity { pid, started: 0 });
                recover(&mut healthy, 2);
                continue;
            };
            let index = dying.fabric().me().index;
            let outcome = try_all(&mut dying);
            memory.connect(900).fence(Identity { pid, started: 0 });
            // A reader that meets an intent does not wait for the recovery.
            let new = healthy.get(0, b"a", &mut into).unwrap() && into == b"new";
            assert!(new || outcome.is_err(), "{after}: acknowledged and lost");
            assert_eq!(healthy.contains(0, b"b").unwrap(), !new, "{after}");
            assert_eq!(healthy.contains(0, b"c").unwrap(), new, "{after}");
            (committed, tries) = (committed + u32::from(new), tries + 1);
            recover(&mut healthy, index);
            assert_eq!(healthy.contains(0, b"c").unwrap(), new, "{after}");
        }
        assert!(committed > 5 && committed + 20 < tries, "{committed} of {tries} committed");
    }
}

#[test]
fn transactions_go_on_without_a_lost_node() {
    for victim in 0..3 {
        let memory = pool(3, 2, 5_000);
        let mut first = client(&memory, 50);
        open_accounts(&mut first);
        first.leave().unwrap();
        std::thread::scope(|scope| {
            for pid in 1..4_u64 {
                let mut client = client(&memory, pid as u32);
                scope.spawn(move || {
                    for round in 0..400_u64 {
                        let (from, to) = (round * pid % ACCOUNTS, (round + pid) % ACCOUNTS);
                        client.transact(|tx| transfer(tx, from, to, 5)).unwrap();
                        client.tick().unwrap();
                    }
                    client.leave().unwrap();
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(60));
            memory.kill_node(NodeId(victim));
        });
        assert_eq!(total(&mut client(&memory, 60)).unwrap(), START * ACCOUNTS as i64);
    }
}
